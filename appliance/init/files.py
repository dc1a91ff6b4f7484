"""Writes what `locum init` makes: beside its place first, then moved there.

Modes: the configuration 640 with the group locum where there is one, else 600; secrets and keys 600; the state
directory 750 with that group, else 700. Where root makes them and there is a user locum, secrets and state are its own.
"""

import grp
import os
import pwd
import re
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance import state_dir
from appliance.config import ConfigError, load
from appliance.init import text
from appliance.init.answers import Answers
from appliance.init.certificate import self_signed

CONFIG = "locum.toml"
CONSOLE_PASSWORD = "console.password"
USER = "locum"


class CannotInit(Exception):
    """Nothing was written. The text is one line: what, where, what to do; `usage` if an answer is wrong."""

    def __init__(self, text: str, usage: bool = False) -> None:
        super().__init__(text)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Written:
    """What is there now."""

    config: Path
    files: tuple[Path, ...]
    state_dir: Path


@dataclass(frozen=True, slots=True)
class _Owners:
    """Numbers for chown; -1 leaves it as it is."""

    user: int
    group: int


def write(directory: Path, answers: Answers, force: bool) -> Written:
    """Write everything into `directory`. Raises CannotInit; then each file is as it was."""
    contents = _contents(answers)
    places = [directory / name for name in contents]
    if answers.unlock_hash:
        places.append(answers.state_dir / state_dir.UNLOCK_CODE_NAME)
    there = [place for place in places if place.exists()]
    if there and not force:
        raise CannotInit(f"{there[0]} is there already; add --force to write it anew, or name another --dir")
    owners = _owners()
    made: list[Path] = []
    try:
        _make(directory, owners, made, for_root=True)
        with tempfile.TemporaryDirectory(prefix=".init-", dir=directory) as name:
            staged = Path(name)
            for file, content in contents.items():
                _put(staged / file, content, owners)
            _judge(staged / CONFIG)
            _make(answers.state_dir, owners, made)
            state_dir.prepare(answers.state_dir)
            for file in contents:  # the configuration last: it names the others
                (staged / file).rename(directory / file)
        made.clear()
        state_dir.signing_key(answers.state_dir)
        if answers.unlock_hash:
            state_dir.keep_unlock_hash(answers.state_dir, answers.unlock_hash)
    except state_dir.StateDirError as problem:
        raise CannotInit(str(problem)) from None
    except OSError as problem:
        where = f"{problem.filename or directory}: cannot be written ({problem.strerror})"
        raise CannotInit(f"{where}; run as root or name another --dir") from None
    finally:
        for each in reversed(made):
            with suppress(OSError):
                each.rmdir()
    return Written(directory / CONFIG, tuple(directory / file for file in contents), answers.state_dir)


def _contents(answers: Answers) -> dict[str, bytes]:
    """Each file's name and bytes, the configuration last."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", answers.upstream_name):
        raise CannotInit("--upstream-name must be a short name of letters, digits, '.', '_' and '-'", usage=True)
    made: dict[str, bytes] = {}
    if name := text.secret_name(answers):
        made[name] = answers.secret + b"\n"
    if "radius" in answers.listens:
        made[text.COPIERS] = (answers.copier_secret or secrets.token_urlsafe(24).encode()) + b"\n"
    if "terminal" in answers.listens and answers.tls:
        try:
            made[text.CERTIFICATE], made[text.KEY] = self_signed(answers.name, answers.bind)
        except ValueError:
            raise CannotInit(f"--bind {answers.bind} is no IP address; write for example 0.0.0.0", usage=True) from None
    made[CONSOLE_PASSWORD] = secrets.token_urlsafe(15).encode() + b"\n"
    made[CONFIG] = text.configuration(answers).encode()
    return made


def _judge(config: Path) -> None:
    """Read the configuration as the appliance will."""
    try:
        load(config)
    except ConfigError as error:
        raise CannotInit(error.problems[0].text.replace(f"{config.parent}/", ""), usage=True) from None


def _put(file: Path, content: bytes, owners: _Owners) -> None:
    is_config = file.name == CONFIG
    mode = 0o640 if is_config and owners.group >= 0 else 0o644 if file.name == text.CERTIFICATE else 0o600
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(descriptor, mode)
        with suppress(PermissionError):
            os.fchown(descriptor, -1 if is_config else owners.user, owners.group)
        os.fsync(descriptor)


def _make(directory: Path, owners: _Owners, made: list[Path], for_root: bool = False) -> None:
    """Make a directory, closed to others, and what is missing above it; one that is there is left as it is."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o755)
        made.append(each)
    if not missing:
        return
    directory.chmod(0o700)
    with suppress(PermissionError):
        os.chown(directory, -1 if for_root else owners.user, owners.group)
    if owners.group >= 0:
        directory.chmod(0o750)


def _owners() -> _Owners:
    """The user and the group of the service, as far as they are there and this user may give files to them."""
    user = group = -1
    with suppress(KeyError):
        group = grp.getgrnam(USER).gr_gid
        if os.geteuid() != 0 and group not in os.getgroups():
            group = -1
    if os.geteuid() == 0:
        with suppress(KeyError):
            user = pwd.getpwnam(USER).pw_uid
    return _Owners(user, group)
