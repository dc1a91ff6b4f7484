"""Gathers all parts and writes them into one tar.gz that only its owner may read."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from appliance.config import ConfigError, state_dir_of
from appliance.doctor import redacting
from appliance.doctor.parts import CANNOT, Part, parts

FOLDER = "locum-doctor"
README = "README.txt"
_LEFT_OUT = """\
Not in here: secrets, tokens, passwords and codes; the ledger and whatever it keeps of people (cards, users, documents);
who did something by hand, and why; comments and unknown keys of the configuration.
In here: names and addresses of servers and devices. Look through it before you send it.
"""


def gathered(config: Path, state_dir: Path | None, progress: Callable[[Part], None]) -> dict[str, str]:
    """Each file's name and text, the README first. `progress` is told what is asked next."""
    removed: frozenset[str] = frozenset()

    def shown() -> str:
        nonlocal removed
        redacted = redacting.config(config)
        removed = redacted.removed
        return redacted.text

    if state_dir is None:
        with suppress(ConfigError):
            state_dir = state_dir_of(config)
    found: dict[str, str] = {}
    told: list[str] = []
    for part in parts(config, state_dir, shown):
        progress(part)
        told.append(f"{part.name:<14} {part.about}")
        try:
            found[part.name] = part.ask()
        except CANNOT as error:
            found[part.name] = f"(this cannot be told: {error})"
    if state_dir is None:
        told.append("Nothing of the state directory: the configuration does not say where it is.")
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    opening = f"Gathered by locum doctor on {made}.\n\n" + "\n".join(told) + f"\n\n{_LEFT_OUT}"
    cleaned = {name: redacting.without(text, removed).rstrip() + "\n" for name, text in found.items()}
    return {README: opening, **cleaned}


def write(file: Path, contents: Iterable[tuple[str, str]]) -> int:
    """Write a new tar.gz with mode 600; its size in bytes. Raises OSError, FileExistsError among them."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    now = int(time.time())
    try:
        with open(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for name, text in contents:
                about = tarfile.TarInfo(f"{FOLDER}/{name}")
                content = text.encode("utf-8", "replace")
                about.size, about.mode, about.mtime = len(content), 0o600, now
                archive.addfile(about, io.BytesIO(content))
    except OSError:
        with suppress(OSError):
            file.unlink()
        raise
    return file.stat().st_size
