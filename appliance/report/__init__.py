"""The report: what the ledger says of a period, as one page for people who were not there.

`making.py` leads the way: a private copy of the ledger, its summary (`storage.summary`), sentences (`sentences.py`),
charts (`charts.py`, `chapters.py`), the page (`page.py`) and, where it is wanted, the PDF (`pdf.py`).
"""
