"""Locum's frames alone, in a process of its own: the flow, the driver, a ledger, two real interfaces, and one link.

The test sets the link's state. It is told by lines of JSON (`child.py`), {"signal": ...} or {}, and answers with how
each address stands.
"""

from __future__ import annotations

import json
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall

from proxy.commands import Side, Tell
from proxy.link import Clock, Link, Signal
from proxy.neighbours import Guarded, Neighbours
from proxy.net.driver import TICK, Driver, this_moment
from proxy.net.reactor import lean_reactor
from storage.database import open_reader
from storage.ledger import Ledger
from storage.reader import Reader
from tests.peers.child import Commands

CLIENTS = (ip_network("10.9.0.0/24"), ip_network("fd00:9::/64"))


class Answering:
    def __init__(self, folder: Path, copiers: str, servers: str, addresses: list[str]) -> None:
        self.reactor: Any = lean_reactor()
        self.told: list[Tell] = []
        ledger = Ledger.open(folder / "ledger.db", this_moment().wall)
        reader = Reader(ledger.path, open_reader(ledger.path))
        self.driver = Driver(self.reactor, ledger, self.told.append)
        self.link = Link("hq", 0.0, Clock("boot", 0), proven=True, began=this_moment())
        self.flow = Neighbours(reader.memory)
        self.driver.flows.append(self.flow)
        self.driver.open_packets(Side.COPIERS, copiers, self.flow)
        self.driver.open_packets(Side.SERVERS, servers, self.flow)
        self.driver.run(self.flow.configure([Guarded(self.link, each, CLIENTS) for each in addresses]))
        self.driver.writer.start()
        self._commands = Commands()

    def run(self) -> None:
        LoopingCall(self.driver.tick).start(TICK)
        self.reactor.addReader(self)
        self.reactor.callWhenRunning(self._answer)
        self.reactor.run()

    def fileno(self) -> int:
        return 0

    def logPrefix(self) -> str:
        return "commands"

    def doRead(self) -> None:
        try:
            commands = self._commands.read()
        except EOFError:
            self.reactor.stop()
            return
        for command in commands:
            if "signal" in command:
                self.link.handle(Signal(command["signal"]), "the test says so", this_moment())
            self._answer()

    def connectionLost(self, reason: object) -> None:
        """The test has ended."""

    def _answer(self) -> None:
        standing = {
            str(each.address): [each.stage.value, each.mac.hex(":") if each.mac else "", each.answered]
            for each in self.flow.presences()
        }
        Commands.answer(
            standing=standing,
            alarms=[tell.text for tell in self.told if tell.alarm],
            lost=self.driver.losses(),
            now=this_moment().now,
        )


if __name__ == "__main__":
    Answering(Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])).run()
