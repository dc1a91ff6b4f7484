"""Unlock codes and their Argon2id hashes (RFC 9106): made for the command line, compared for the flows.

A comparison takes some tens of milliseconds and 19 MiB by design, so it is done in a thread of its own, one at a time.
The thread and argon2-cffi come with the first comparison. A code is never logged.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from twisted.logger import Logger

from proxy.commands import Verify

MEMORY = 19 * 1024
"""KiB; with two passes one of the settings that OWASP's password storage cheat sheet recommends."""
TIME = 2
PARALLELISM = 1
NICE = 10
LARGE = 1 << 20
_M_MMAP_THRESHOLD = -3

log = Logger()


def hash_code(code: str) -> str:
    """The hash of a code in PHC form ($argon2id$v=19$...), with a fresh salt. Blocks for some tens of milliseconds."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=TIME, memory_cost=MEMORY, parallelism=PARALLELISM).hash(code)


def is_right(code: str, hashed: str) -> bool:
    """Whether this is the code that was hashed. Blocks for some tens of milliseconds; what is no hash fits no code."""
    from argon2.exceptions import VerifyMismatchError
    from argon2.low_level import Type, verify_secret

    try:
        return verify_secret(hashed.encode(), code.encode(), Type.ID)
    except VerifyMismatchError:
        return False
    except Exception as error:  # whatever it is, the code is not known to be right
        log.error("an unlock code could not be compared ({kind}); set it anew", kind=type(error).__name__)
        return False


class Verifier:
    """`done(verify, right)` is called on the reactor's thread for each comparison that was asked for, in order."""

    def __init__(self, reactor: Any, done: Callable[[Verify, bool], None]) -> None:
        self._reactor = reactor
        self._done = done
        self._queue: SimpleQueue[Verify | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def verify(self, verify: Verify) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="unlock-codes", daemon=True)
            self._thread.start()
        self._queue.put(verify)

    def stop(self) -> None:
        """Compare no more, after those that were asked for."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread = None

    def _work(self) -> None:
        give_memory_back()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (verify := self._queue.get()) is not None:
            try:
                right = is_right(verify.code, verify.hash)
            except ImportError:
                log.error("unlock codes need the package argon2-cffi, which is not installed")
                right = False
            self._reactor.callFromThread(self._done, verify, right)


def give_memory_back() -> None:
    """Have the C library return large pieces of memory as soon as they are free (mallopt(3)).

    Without this it would keep the 19 MiB of a comparison for the next one.
    """
    from ctypes import CDLL

    with suppress(OSError, AttributeError):
        CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
