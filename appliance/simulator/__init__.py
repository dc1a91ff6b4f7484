"""The two ends that Locum stands between, for the demo and for a lab: an Application Server and copiers.

`users.py` and `book.py` are what the server knows and what it was sent; `server.py` holds them for every dialect that
it speaks, `radius.py` is the first of these. `copier.py` is one copier, `lab.py` many of them.
"""
