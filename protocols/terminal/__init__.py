"""The copier terminal dialect, version 1, as functions and values, without I/O.

Frames over a stream: card logins, unlocking, jobs, and the records that Locum hands on. `docs/terminal.md` has it all.
"""
