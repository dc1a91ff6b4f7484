"""The two ends that Locum stands between, for the demo and for a lab: an Application Server and copiers.

The server: `users.py` reads the users' file, `state.py` is what it knows and does, `book.py` and `rows.py` are what
stays of it, `server.py` holds them together, and each dialect is a face: `radius.py`, `terminal_face.py` and
`papercut.py` with `webservices.py`. The copiers: `copier.py` speaks RADIUS, `terminal.py` the terminal dialect, and
`lab.py` has many of them.
"""
