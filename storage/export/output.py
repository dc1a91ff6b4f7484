"""What all writers of formats share: what they are told, what they give back, files for one pair of eyes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from storage.errors import StorageError

Tell = Callable[[int], None]
"""Hears after a while how many rows are done."""

EVERY = 2_000
"""Rows between two such words."""


class CannotExport(StorageError):
    """The export could not be made; nothing of it is left. One line."""


class WrongPlace(StorageError):
    """Nothing may be put where the export is wanted. One line."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer made: rows by subject or table, cells that had to be altered, and other files beside the export by
    what is appended to its name.
    """

    counts: dict[str, int]
    altered: int = 0
    beside: dict[str, Path] = field(default_factory=dict)


def private(path: Path) -> IO[str]:
    """A new text file that only its owner may read. UTF-8; line ends are written as they are."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="", buffering=1 << 18)
