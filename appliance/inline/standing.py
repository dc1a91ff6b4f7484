"""Going into the line and out of it: all of it or nothing, and only what Locum made is ever removed.

What was done is written down in `inline.json` in the state directory, before each step, so that a process that is
killed in the middle leaves something that `down` can take back. After a restart of the machine nothing of it is there
any more, and the note of it is void.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from appliance.inline.kernel import Kernel, KernelRefuses
from appliance.inline.steps import Rules, Step

UNIT = Path("/usr/lib/systemd/system/locum-inline.service")
WANTED = Path("/etc/systemd/system/multi-user.target.wants/locum-inline.service")
AT_BOOT = "nothing passes when this machine starts anew: systemctl enable locum-inline"
NOTE = "inline.json"


class Standing(msgspec.Struct):
    """The steps taken, in their order; `boot`: in which run of this machine."""

    boot: str
    steps: list[Step]

    @property
    def diverts(self) -> bool:
        """Whether the rules are among them; without, there is a plain bridge."""
        return any(isinstance(step, Rules) for step in self.steps)


def standing(state_dir: Path) -> Standing | None:
    """How Locum stands in line now; None if it does not. Raises KernelRefuses if the note of it cannot be read."""
    file = state_dir / NOTE
    try:
        found = msgspec.json.decode(_trusted(file), type=Standing)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise KernelRefuses(f"{file} cannot be read ({error}); it says what Locum set up here") from error
    return found if found.boot == _boot() else None


def lost(stood: Standing, kernel: Kernel) -> list[str]:
    """The steps that are not in force any more, in words: others took them back."""
    return [_shortly(step) for step in stood.steps if not step.holds(kernel)]


def must_fit(stood: Standing, steps: Sequence[Step]) -> None:
    """Raises KernelRefuses if Locum stands in line in another way than these steps lead to."""
    foreign = _words(stood.steps) - _words(steps)
    if foreign:
        raise KernelRefuses(
            f"Locum stands in line in another way ({min(foreign)}); go out of it first: locum inline down --all"
        )


def go(state_dir: Path, steps: Sequence[Step], kernel: Kernel) -> None:
    """Take all steps that are not taken yet, or not in force any more; how Locum stands must fit them. If one fails,
    those before it are taken back. Other rules than those in force take their place. Raises KernelRefuses.
    """
    stood = standing(state_dir) or Standing(_boot(), [])
    known = {step.words: step for step in stood.steps}
    rules = next((step for step in stood.steps if isinstance(step, Rules)), None)
    taken: list[Step] = []
    try:
        for step in steps:
            if isinstance(step, Rules):
                stood.steps = [each for each in stood.steps if each is not rules]
            elif (noted := known.get(step.words)) is not None:
                if not noted.holds(kernel):
                    noted.take(kernel)
                continue
            step.look(kernel)
            taken.append(step)
            _write(state_dir, Standing(stood.boot, [*stood.steps, *taken]))
            step.take(kernel)
        if gone := lost(Standing(stood.boot, [*stood.steps, *taken]), kernel):
            raise KernelRefuses(f"this did not last: {'; '.join(gone)}")
    except (KernelRefuses, OSError) as error:
        left = _take_back(taken, kernel)
        if rules is not None and not left:
            stood.steps.append(rules)
            rules.take(kernel)
        also = f"; what could not be undone: {'; '.join(left)}" if left else "; nothing is changed"
        try:
            _write(state_dir, Standing(stood.boot, [*stood.steps, *(taken if left else [])]))
        except OSError as unwritten:
            also += f"; {state_dir / NOTE} is not up to date ({unwritten.strerror})"
        raise KernelRefuses(f"{error}{also}") from error


def back(state_dir: Path, before: Standing | None, kernel: Kernel) -> None:
    """To how it stood before: the rules that were in force then, or nothing of it at all. Raises KernelRefuses."""
    now = standing(state_dir)
    if now is None:
        return
    kept = before.steps if before is not None else []
    words = _words(kept)
    rules = next((step for step in kept if isinstance(step, Rules)), None)
    going = [step for step in now.steps if (rules is None if isinstance(step, Rules) else step.words not in words)]
    if left := _take_back(going, kernel):
        raise KernelRefuses(f"not everything could be undone: {'; '.join(left)}; run 'locum inline down --all'")
    if rules is not None:
        rules.take(kernel)
    if before is not None:
        _write(state_dir, before)
    else:
        (state_dir / NOTE).unlink(missing_ok=True)


def gone_at_boot() -> bool:
    """Whether the package's unit is here, and would not put Locum in line when the machine starts anew."""
    return UNIT.exists() and not os.path.lexists(WANTED)


@contextmanager
def alone(state_dir: Path) -> Iterator[None]:
    """Nobody else goes into the line or out of it meanwhile. Raises KernelRefuses."""
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise KernelRefuses("another 'locum inline up' or 'down' is at work; wait until it has ended") from error
    finally:
        os.close(descriptor)


def leave(state_dir: Path, stood: Standing, kernel: Kernel, *, wire: bool) -> list[str]:
    """Take everything back, as far as it can be, with `wire` the bridge too; what could not, in words."""
    going = [step for step in stood.steps if wire or not step.wire]
    left = _take_back(going, kernel)
    staying = stood.steps if left else [step for step in stood.steps if step not in going]
    if staying:
        _write(state_dir, Standing(stood.boot, staying))
    else:
        (state_dir / NOTE).unlink(missing_ok=True)
    return left


def _take_back(steps: Sequence[Step], kernel: Kernel) -> list[str]:
    wrong: list[str] = []
    for step in reversed(steps):
        try:
            step.take_back(kernel)
        except KernelRefuses as error:
            wrong.append(str(error))
    return wrong


def _words(steps: Sequence[Step]) -> set[str]:
    return {step.words for step in steps if not isinstance(step, Rules)}


def _write(state_dir: Path, stood: Standing) -> None:
    fresh = state_dir / f"{NOTE}.new"
    fresh.unlink(missing_ok=True)
    # The directory is the service's: whatever stands there under this name is not written through.
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    with open(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(stood))
    fresh.rename(state_dir / NOTE)


def _trusted(file: Path) -> bytes:
    """What root does by this note must have been written by root. Raises OSError or KernelRefuses."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        about = os.fstat(descriptor)
        if about.st_uid != 0 or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or not stat.S_ISREG(about.st_mode):
            raise KernelRefuses(
                f"{file} is not root's alone, so nothing is done by it; look who wrote it, then remove it and undo by "
                "hand what 'locum inline plan' prints"
            )
        return stream.read()


def _shortly(step: Step) -> str:
    return "the rules of nftables" if isinstance(step, Rules) else step.words.splitlines()[0]


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
