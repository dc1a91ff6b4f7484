"""Exports: what an auditor is given, made from the ledger while it is being written to.

`making.py` leads the way: a snapshot (`snapshot.py`), what of it is wanted (`filters.py`), a writer for each format,
and the manifest that says what was made (`manifest.py`).
"""
