"""The files of an export: made in a folder of their own beside the place where they go, and put there when all is done.

Until then there is nothing at that place, and afterwards everything: whatever goes wrong in between, the folder goes
away with all that is in it. Files are for their owner alone; made by root, they belong to whoever asked root (sudo).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from storage.export.output import CannotExport, WrongPlace

MANIFEST = "manifest.json"
_MIB = 1 << 20


def refuse(target: Path, state_dir: Path | None, sources: tuple[Path, ...], directory: bool, force: bool) -> None:
    """Raises WrongPlace where nothing can or may be put at `target`."""
    folder = target.parent
    if not folder.is_dir():
        raise WrongPlace(f"{folder}: there is no such directory; make it first")
    if not target.name or target.name in (".", ".."):
        raise WrongPlace(f"{target}: is a directory; name the export in it")
    if state_dir is not None and folder.resolve().is_relative_to(state_dir.resolve()):
        raise WrongPlace(f"{target}: lies in the state directory, which is the appliance's; name another place")
    if any(target.resolve() == source.resolve() for source in sources):
        raise WrongPlace(f"{target}: is the ledger itself; name another place")
    if not os.path.lexists(target):
        return
    if not force:
        raise WrongPlace(f"{target}: is there already; name another place, or give --force")
    if target.is_symlink() or target.is_dir() != directory or not (directory or target.is_file()):
        raise WrongPlace(f"{target}: is no export of this format; move it away")
    if directory and not (target / MANIFEST).is_file():
        raise WrongPlace(f"{target}: is a directory that holds no export; name another place")


@contextmanager
def workshop(target: Path) -> Iterator[Path]:
    """A folder beside `target` for the time of a `with`, in which it is made. Raises CannotExport."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise CannotExport(f"{target.parent}: cannot be written to ({error.strerror}); check its owner") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(made: Path) -> None:
    """Bring a file, or a directory of files, to stable storage, with its mode and owner. Raises OSError."""
    for path in [*(made.iterdir() if made.is_dir() else ()), made]:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, 0o700 if path.is_dir() else 0o600)
            owner = _whose()
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def put(made: Mapping[Path, Path], aside: Path) -> None:
    """Move each of what was made to its place; what is there goes into the folder `aside`, and comes back if the rest
    cannot be moved or somebody interrupts. Raises OSError.
    """
    olds = {place: aside / f"old-{number}" for number, place in enumerate(made.values())}
    try:
        for path, place in made.items():
            if os.path.lexists(place):
                place.rename(olds[place])
            path.rename(place)
    except BaseException:
        for path, place in made.items():
            if place.exists() and not path.exists():
                place.rename(path)
            if olds[place].exists():
                olds[place].rename(place)
        raise
    for folder in {place.parent for place in made.values()}:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def digest(path: Path) -> str:
    """Hex of a file's SHA-256. Raises OSError."""
    found = sha256()
    with path.open("rb") as file:
        while piece := file.read(_MIB):
            found.update(piece)
    return found.hexdigest()


def _whose() -> tuple[int, int] | None:
    """Whoever asked root, None if nobody did."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    return (int(user), int(group)) if os.geteuid() == 0 and user.isdecimal() and group.isdecimal() else None
