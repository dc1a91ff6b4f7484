"""File systems of a test's own: a small one that fills up, and one whose power can be cut.

Both need root. `SmallDisk` is a tmpfs of a given size. `CuttableDisk` is ext4 in an image file on a loop device;
`cut` copies the image as it stands at that moment, without unmounting or syncing: what the copy holds is what the
device had been given by then, as after a power cut. The copy is mounted (the journal is replayed) and read.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from tests.peers.skips import need_loop_mounts, need_root


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class SmallDisk:
    """A tmpfs at `at` that holds `size` bytes."""

    def __init__(self, at: Path, size: int) -> None:
        need_root()
        self.at = at
        at.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "locum-test", str(at))

    def free(self) -> int:
        """Bytes that can still be written."""
        told = os.statvfs(self.at)
        return told.f_bavail * told.f_frsize

    def fill(self, leave: int) -> Path:
        """Take all but `leave` bytes; the file may be removed to give them back. Others may write meanwhile."""
        ballast = self.at / "ballast"
        with ballast.open("ab", buffering=0) as file:
            while (more := self.free() - leave) > 0:
                try:
                    file.write(bytes(more))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
        return ballast

    def grow(self, size: int) -> None:
        """Give it another size."""
        _run("mount", "-o", f"remount,size={size}", str(self.at))

    def read_only(self) -> None:
        """Nothing may be written from now on."""
        _run("mount", "-o", "remount,ro", str(self.at))

    def unmount(self) -> None:
        """Away with it and all in it."""
        _run("umount", "-l", str(self.at))


class CuttableDisk:
    """An ext4 file system in an image of `size` bytes, mounted at `folder`/disk."""

    def __init__(self, folder: Path, size: int = 96 << 20) -> None:
        need_loop_mounts()
        self.folder = folder
        self.image = folder / "disk.img"
        self.at = folder / "disk"
        self._mounted: list[Path] = []
        self._cuts = 0
        folder.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self._mount(self.image, self.at)
        self.at.chmod(0o700)

    def _mount(self, image: Path, at: Path) -> None:
        at.mkdir()
        # Direct I/O on the loop device, where it may be had: what was flushed is in the image, not in a cache above it.
        loop = subprocess.run(
            ["losetup", "--find", "--show", "--direct-io=on", str(image)], capture_output=True, text=True, check=False
        )
        if loop.returncode:
            loop = subprocess.run(
                ["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=True
            )
        device = loop.stdout.strip()
        try:
            _run("mount", "-t", "ext4", device, str(at))
        finally:
            # Detached as soon as it is unmounted; nothing is left behind if the test dies.
            _run("losetup", "--detach", device)
        self._mounted.append(at)

    def cut(self) -> Path:
        """The image as it stands this moment, as another disk; returns where that is mounted."""
        self._cuts += 1
        copy = self.folder / f"cut-{self._cuts}.img"
        with self.image.open("rb") as there, copy.open("wb") as here:
            while part := there.read(1 << 22):
                here.write(part)
        after = self.folder / f"after-{self._cuts}"
        self._mount(copy, after)
        return after

    def unmount(self) -> None:
        """Unmount the disk and every cut of it."""
        while self._mounted:
            _run("umount", "-l", str(self._mounted.pop()))
