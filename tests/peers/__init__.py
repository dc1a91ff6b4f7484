"""The ends that Locum is tested against: real servers, real clients, and plain sockets of our own.

Nothing here imports protocols, storage or proxy: a fault of theirs must not hide itself by being made twice.
"""
