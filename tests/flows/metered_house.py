"""A reader beside a copier whose meters Locum reads: `ReaderHouse` with a machine that answers, or does not.

The machine is the simulator's; what is asked of it is answered at once, or after `slow` seconds. What is made at it is
told by `make`, what the ledger has of it by `pages_by_card`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from appliance.config import Config, SnmpConfig
from appliance.simulator.machine import Machine, respond
from protocols.snmp.asking import Asking
from protocols.snmp.messages import V2C, Message, Varbind
from proxy.commands import Command, ReadMeters
from proxy.events import MetersRead, MetersUnread, Ticked
from proxy.metering.agents import Agent
from tests.flows.house import TICK
from tests.flows.reader_house import DEVICE, ReaderHouse


@dataclass
class MeteredHouse(ReaderHouse):
    """`plain`: the machine has the Printer MIB only. `lies`: objects that it answers otherwise than they are."""

    plain: bool = False
    slow: float = 0.0
    lies: dict[str, Varbind] = field(default_factory=dict)
    asked: int = 0
    most_under_way: int = 0

    def __post_init__(self) -> None:
        self.machine = Machine("1", plain=self.plain)
        self.machine.make("copy", 1000, 100)
        self.machine.make("print", 2000, 50)
        self._under_way: list[tuple[float, ReadMeters]] = []
        super().__post_init__()

    def config(self) -> Config:
        return replace(super().config(), snmp=SnmpConfig({DEVICE: Agent("10.7.0.31")}))

    def restart(self, down_for: float = 0.0, **how: Any) -> None:
        self._under_way.clear()
        super().restart(down_for, **how)

    def run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, ReadMeters):
                self.asked += 1
                self._under_way.append((self.now + self.slow, command))
                self.most_under_way = max(self.most_under_way, len(self._under_way))
            else:
                super().run([command])

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            super().pass_time(TICK)
            self.dispatch(self.assembly.metering, Ticked(self.moment()))
            due = [each for each in self._under_way if each[0] <= self.now]
            self._under_way = [each for each in self._under_way if each[0] > self.now]
            for _, command in due:
                self._answer(command)

    def _answer(self, command: ReadMeters) -> None:
        if self.machine.asleep:
            why = "no answer from 10.7.0.31"
            self.dispatch(command.owner, MetersUnread(command.device, command.token, "silent", why, self.moment()))
            return
        has = {**self.machine.objects(self.now), **self.lies}
        asking = Asking(command.oids, command.walks)
        while (request := asking.next_request()) is not None:
            asked = tuple(Varbind(oid, "null") for oid in request.oids)
            answer = respond(Message(V2C, b"public", request.pdu, 1, 0, request.repetitions, asked), has)
            asking.answered(answer.status, answer.index, answer.varbinds)
        event = MetersRead(command.device, command.token, asking.found, tuple(asking.troubles), self.moment())
        self.dispatch(command.owner, event)

    # What is made, and what the ledger has

    def make(self, kind: str, pages: int, color: int = 0, wait: float = 1.0) -> None:
        self.machine.make(kind, pages, color)
        self.pass_time(wait)

    def pages_by_card(self) -> dict[str, dict[str, int]]:
        """Pages of each card ("": nobody's) by kind."""
        found: dict[str, dict[str, int]] = {}
        for card, kind, pages in self.rows(
            "SELECT coalesce(p.card, ''), j.kind, sum(j.pages) FROM jobs j LEFT JOIN personal p USING (seq)"
            " GROUP BY 1, 2 ORDER BY 1, 2"
        ):
            found.setdefault(card, {})[kind] = pages
        return found

    def jobs(self) -> list[tuple[Any, ...]]:
        """Card, mode, kind, pages, colour pages, and whether it is for the server, of each job in order."""
        return self.rows(
            "SELECT p.card, j.mode, j.kind, j.pages, j.color_pages FROM jobs j JOIN personal p USING (seq) ORDER BY seq"
        )

    def readings(self) -> list[tuple[Any, ...]]:
        """Counter, value and event of each reading that was kept, in order."""
        return self.rows("SELECT counter, value, event FROM meters ORDER BY seq")

    def pages(self) -> int:
        """All pages on paper that the ledger has."""
        return int(self.rows("SELECT coalesce(sum(pages), 0) FROM jobs WHERE kind <> 'scan'")[0][0])
