"""Going into the line and out of it: all of it or nothing, and only what Locum made is ever removed.

What was done is written down in `inline.json` in the state directory, before each step, so that a process that is
killed in the middle leaves something that `down` can take back. After a restart of the machine nothing of it is there
any more, and the note of it is void.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.inline.kernel import Kernel, KernelRefuses
from appliance.inline.steps import Rules, Step

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
        found = msgspec.json.decode(file.read_bytes(), type=Standing)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise KernelRefuses(f"{file} cannot be read ({error}); it says what Locum set up here") from error
    return found if found.boot == _boot() else None


def must_fit(stood: Standing, steps: Sequence[Step]) -> None:
    """Raises KernelRefuses if Locum stands in line in another way than these steps lead to."""
    foreign = _words(stood.steps) - _words(steps)
    if foreign:
        raise KernelRefuses(
            f"Locum stands in line in another way ({min(foreign)}); go out of it first: locum inline down --all"
        )


def go(state_dir: Path, steps: Sequence[Step], kernel: Kernel) -> None:
    """Take all steps that are not taken yet; how Locum stands must fit them. If one fails, those before it are taken
    back. Other rules than those in force take their place. Raises KernelRefuses.
    """
    stood = standing(state_dir) or Standing(_boot(), [])
    rules = next((step for step in stood.steps if isinstance(step, Rules)), None)
    taken: list[Step] = []
    try:
        for step in steps:
            if isinstance(step, Rules):
                stood.steps = [each for each in stood.steps if each is not rules]
            elif step.words in _words(stood.steps):
                continue
            step.look(kernel)
            taken.append(step)
            _write(state_dir, Standing(stood.boot, [*stood.steps, *taken]))
            step.take(kernel)
    except (KernelRefuses, OSError) as error:
        left = _take_back(taken, kernel)
        if rules is not None and not left:
            stood.steps.append(rules)
            rules.take(kernel)
        _write(state_dir, Standing(stood.boot, [*stood.steps, *(taken if left else [])]))
        also = f"; what could not be undone: {'; '.join(left)}" if left else "; nothing is changed"
        raise KernelRefuses(f"{error}{also}") from error


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
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    with open(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(stood))
    fresh.rename(state_dir / NOTE)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
