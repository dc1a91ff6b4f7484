"""Loopback ports that nobody listens on, for servers that must be told their port before they start.

A port is bound on both families, remembered and let go again; this process never gives the same one twice. Ports come
from below the kernel's ephemeral range, so that no client socket takes one by chance while its server is dead.
"""

from __future__ import annotations

import os
import random
import socket

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
LOWEST, HIGHEST = 20000, 32000
SLICES = 6
_slice = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % SLICES
_SIZE = (HIGHEST - LOWEST) // SLICES
"""Each of pytest-xdist's workers has a slice of its own: none takes a port that another is about to use."""

_given: set[int] = set()
_order = random.Random(os.getpid())


def _is_free(port: int) -> bool:
    for family, host in ((socket.AF_INET, LOOPBACK[4]), (socket.AF_INET6, LOOPBACK[6])):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(family, kind) as probe:
                try:
                    probe.bind((host, port))
                except OSError:
                    return False
    return True


def free_port() -> int:
    """A port that is free on 127.0.0.1 and ::1, UDP and TCP, and was not given before."""
    while True:
        port = LOWEST + _slice * _SIZE + _order.randrange(_SIZE)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def free_ports(count: int) -> list[int]:
    """`count` different ports, each as from `free_port`."""
    return [free_port() for _ in range(count)]
