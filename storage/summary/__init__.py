"""The figures of a report: what happened in a period, asked of a private copy of a ledger.

`scope.py` says what is asked for and prepares the copy; `volume.py`, `outages.py`, `records.py`, `meters.py` and
`hands.py` ask; `whole.py` puts the answers together. Nothing here knows how they are shown.
"""
