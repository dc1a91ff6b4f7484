"""A ring of capture files: a new one when the last is full, the oldest deleted when there are too many.

pcapng, written by scapy. Files are closed to others, and hold whole frames only, also when the disk is full: what of a
frame was written is cut off again.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.seeing.files import Frame

_NAME = re.compile(r"locum-\d{8}T\d{6}-\d{6}\.pcapng")
_HALF_A_TICK = 5e-7
"""scapy rounds down what a float makes of a time."""
_BLOCK = 32
"""Octets around a frame, at most 3 more to fill it up."""


class CannotWrite(Exception):
    """The capture cannot be written. The text is one line: what, where, what to do."""


class Ring:
    """Writes frames into `directory`: at most `files` files of `size` octets. `frames` and `octets`: written so far."""

    def __init__(self, directory: Path, files: int, size: int) -> None:
        # Now, and not with the first frame: a process that has given up its rights may not be able to read it.
        from scapy.utils import RawPcapNgWriter

        self._new_writer = RawPcapNgWriter
        self._directory = directory
        self._files = files
        self._size = size
        self._writer: Any = None
        self._path: Path | None = None
        self._written = 0
        self._number = 0
        self.frames = 0
        self.octets = 0

    def write(self, frame: Frame) -> None:
        """Add a frame. Raises CannotWrite; then what was written so far can be read."""
        try:
            if self._writer is None or self._written + len(frame.data) + _BLOCK > self._size:
                self._begin(frame)
            seconds, rest = divmod(frame.at, 1000)
            self._writer.write_packet(frame.data, sec=seconds + rest / 1000 + _HALF_A_TICK)
            self._writer.flush()
        except OSError as error:
            self._cut_off()
            raise CannotWrite(
                f"{self._directory}: cannot be written ({error.strerror}); make room or name another --dir"
            ) from error
        self._written = os.fstat(self._writer.fileno()).st_size
        self.frames += 1
        self.octets += len(frame.data)

    def close(self) -> None:
        """Bring the last file to stable storage. Raises CannotWrite."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.flush()
            os.fsync(writer.fileno())
        except OSError as error:
            raise CannotWrite(f"{self._path}: cannot be written ({error.strerror}); make room") from error
        finally:
            with suppress(OSError):
                writer.close()

    def _begin(self, frame: Frame) -> None:
        self.close()
        self._number += 1
        began = datetime.fromtimestamp(frame.at / 1000, UTC)
        self._path = self._directory / f"locum-{began:%Y%m%dT%H%M%S}-{self._number:06d}.pcapng"
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._writer = self._new_writer(str(self._path))
        self._writer.linktype = frame.link
        self._writer.write_header(None)
        self._written = 0
        self._forget()

    def _forget(self) -> None:
        mine = sorted(path for path in self._directory.iterdir() if _NAME.fullmatch(path.name))
        for path in mine[: -self._files]:
            path.unlink()

    def _cut_off(self) -> None:
        """Leave whole frames only; nothing can be done about a disk that takes not even that."""
        writer, self._writer = self._writer, None
        if writer is None or self._path is None:
            return
        with suppress(OSError):
            writer.close()
        with suppress(OSError):
            os.truncate(self._path, self._written)
            if not self._written:
                self._path.unlink()
