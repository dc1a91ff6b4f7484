"""Drills: offline mode for one device, or for all, while the server is up, so that an admin can show that it works.

A drill is a flag beside the device's state. It ends by itself, at most four hours later; what its sessions brought is
forwarded then. A real outage takes over from it. Drills survive a restart, and are never silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.commands import Command, Keep, Tell
from proxy.events import Moment
from storage.records import DrillStep

LONGEST = 4 * 3600
ALL = "*"


@dataclass(frozen=True, slots=True)
class Drill:
    """`ends`: monotonic seconds; `until`: the same in milliseconds UTC."""

    ends: float
    until: int
    reason: str


class Drills:
    """The drills that run. `ended` are told, with a test for what still runs, whenever one ends."""

    def __init__(self) -> None:
        self.ended: list[Callable[[Callable[[str], bool], Moment], list[Command]]] = []
        self._running: dict[str, Drill] = {}
        self._spared: set[str] = set()

    def on(self, device: str) -> bool:
        """Whether a drill runs on this device."""
        return device in self._running or (ALL in self._running and device not in self._spared)

    @property
    def any(self) -> bool:
        """Whether a drill runs at all."""
        return bool(self._running)

    def running(self) -> dict[str, Drill]:
        """The drills by device; "*" is the one on all."""
        return dict(self._running)

    def start(self, device: str, seconds: float, reason: str, who: str, at: Moment) -> list[Command]:
        """Begin a drill, or set another end to the one that runs."""
        seconds = min(seconds, LONGEST)
        drill = Drill(at.now + seconds, at.wall + int(seconds * 1000), reason)
        self._running[device] = drill
        self._spared = set() if device == ALL else self._spared - {device}
        step = DrillStep(at.wall, device, "start", drill.until, reason, who)
        text = f"a drill began on {_named(device)}, for {_lasting(seconds)}: Locum answers for the server there"
        return [Keep(step), Tell("warning", text, {"who": who, "reason": reason}, alarm="drill")]

    def stop(self, device: str, why: str, who: str, at: Moment) -> list[Command]:
        """End the drill on a device, or with "*" all drills. Nothing if none runs there."""
        if device == ALL:
            ending = list(self._running)
        elif device in self._running or self.on(device):
            ending = [device]
        else:
            return []
        return self._end(ending, why, who, at)

    def tick(self, at: Moment) -> list[Command]:
        """End what has run its time."""
        return self._end(
            [name for name, drill in self._running.items() if drill.ends <= at.now], "its time is over", "", at
        )

    def _end(self, names: list[str], why: str, who: str, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for name in names:
            if self._running.pop(name, None) is None or (name != ALL and ALL in self._running and who):
                self._spared.add(name)
            commands.append(Keep(DrillStep(at.wall, name, "stop", at.wall, why, who)))
            text = f"the drill on {_named(name)} has ended; its records are forwarded"
            commands.append(Tell("info", text, {"why": why}, alarm="drill"))
        if ALL not in self._running:
            self._spared.clear()
        for tell in self.ended if names else ():
            commands += tell(self.on, at)
        return commands

    def restore(self, steps: Iterable[DrillStep], at: Moment) -> None:
        """Go on with what a restart found, from the steps in their order; a clock that was set back prolongs nothing
        beyond the longest. What has run its time meanwhile ends, and says so, at the next `tick`.
        """
        for step in steps:
            if step.did == "start":
                left = min((step.until - at.wall) / 1000, (step.until - step.at) / 1000, LONGEST)
                self._spared = set() if step.device == ALL else self._spared - {step.device}
                self._running[step.device] = Drill(at.now + left, step.until, step.reason)
            elif self._running.pop(step.device, None) is None or (ALL in self._running and step.who):
                self._spared.add(step.device)
        if ALL not in self._running:
            self._spared.clear()


def _lasting(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:g} minutes" if minutes >= 1 and minutes == int(minutes) else f"{seconds:g} s"


def _named(device: str) -> str:
    return "all devices" if device == ALL else device
