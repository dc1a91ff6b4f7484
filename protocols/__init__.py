"""Wire formats: bytes to values and back.

No sockets, no clock, no random numbers, no files, no Twisted, and nothing of ours but itself.
"""
