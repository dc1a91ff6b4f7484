"""Secrets: from a file of their own, or from the configuration file, and only where not everybody can read them.

A file's last line break is not part of the secret. "Everybody" is the last digit of the mode: a secret that others
may read, write or run is refused, because who can read it can be a copier or a server. Owner and group are the admin's
business (root and the group locum, as installed).
"""

import stat
from pathlib import Path

from appliance.config.lines import Path as KeyPath
from appliance.config.reading import Reader
from appliance.config.values import Secret

MAX_SECRET_BYTES = 1024
_MOST = 1 << 16


def read_secret(reader: Reader, at: KeyPath, text: str | None, file: str | None, key: str = "secret") -> Secret | None:
    """The secret that a table gives as `key` or `key_file`, or None with the reason noted."""
    if text is not None and file is not None:
        reader.problem((*at, key), f"both {key} and {key}_file are given; remove one of them")
        return None
    if file is not None:
        return _from_file(reader, (*at, f"{key}_file"), reader.file.parent / file, f"{key}_file")
    if text is None:
        reader.problem(at, f'no {key} is given; add {key}_file = "/etc/locum/NAME.{key}"')
        return None
    if _others_may(reader.file):
        reader.problem(
            (*at, key),
            f"the file holds a {key} and others may read it; run: chmod o-rwx {reader.file}, or use {key}_file",
        )
        return None
    return Secret(text.encode())


def read_file(reader: Reader, at: KeyPath, file: Path, key: str, most: int, else_: str) -> bytes | None:
    """The bytes of a file that `key` names, at most `most`; None with the reason noted.

    `else_` says what to do if it is missing.
    """
    try:
        if file.exists() and not file.is_file():
            reader.problem(at, f"{key} {file} is not a regular file; name a file that holds it")
            return None
        with file.open("rb") as stream:
            value = stream.read(most + 1)
    except FileNotFoundError:
        reader.problem(at, f"{key} {file} does not exist; {else_}")
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reader.problem(at, f"{key} {file} cannot be read ({reason}); name a file that this user may read")
        return None
    if len(value) > most:
        reader.problem(at, f"{key} {file} is longer than {most} bytes; is it the right file?")
        return None
    return value


def read_closed(reader: Reader, at: KeyPath, file: Path, key: str, most: int, else_: str) -> bytes | None:
    """As `read_file`, for a file that must be closed to others."""
    value = read_file(reader, at, file, key, most, else_)
    if value is not None and _others_may(file):
        reader.problem(at, f"{key} {file} is open to everybody; run: chmod o-rwx {file}")
        return None
    return value


def _from_file(reader: Reader, at: KeyPath, file: Path, key: str) -> Secret | None:
    advice = f"write the secret into it and run: chmod 640 {file}"
    value = read_closed(reader, at, file, key, _MOST, advice)
    if value is None:
        return None
    value = value.removesuffix(b"\n").removesuffix(b"\r")
    if not value.strip():
        reader.problem(at, f"{key} {file} is empty; write the secret into it")
        return None
    if len(value) > MAX_SECRET_BYTES:
        reader.problem(at, f"{key} {file} is longer than {MAX_SECRET_BYTES} bytes; is it the right file?")
        return None
    return Secret(value)


def _others_may(file: Path) -> bool:
    return bool(stat.S_IMODE(file.stat().st_mode) & 0o007)
