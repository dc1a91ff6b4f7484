"""A network of the test's own: a loopback interface, and nothing else."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.peers.skips import need_program, need_root, skip

_NEW_NETWORK = 0x40000000


@contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace of its own. Skips where there cannot be one."""
    need_root()
    need_program("ip", "iproute2")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_NEW_NETWORK):
            skip(f"no network namespaces here: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            if libc.setns(before, _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "the network of before cannot be gone back to")
    finally:
        os.close(before)
