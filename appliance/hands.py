"""What is asked through the control socket (what is done there to the outbox is in `outbox_hands`), and the few things
that are learnt while running.
"""

from __future__ import annotations

import json
import sqlite3

from appliance.assembly import Assembly
from appliance.control import Handler
from appliance.keeper import Keeper
from appliance.outbox_hands import OutboxHands
from appliance.status import StatusBoard
from proxy.commands import Keep, Tell
from proxy.events import Moment
from proxy.net.driver import Driver
from storage.outbox import Outbox
from storage.records import Remember
from storage.space import Level

LEVEL_WORDS = {
    Level.LOW: "the disk is getting full: less than 10 % is free",
    Level.VERY_LOW: "the disk is nearly full: less than 5 % is free; make room",
    Level.FULL: "the disk is full: nothing more is acknowledged or granted; make room now",
}


class Hands:
    """The commands of the control socket."""

    def __init__(self, assembly: Assembly, driver: Driver, board: StatusBoard, connection: sqlite3.Connection) -> None:
        self._assembly = assembly
        self._driver = driver
        self._board = board
        self._outbox = Outbox(connection)
        self._outbox_hands = OutboxHands(assembly, driver, board, connection)
        self._addresses: dict[str, list[str]] = {}
        self._level = Level.ENOUGH
        self._error = ""

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "status": lambda request, who: self._board.status(),
            "devices": lambda request, who: self._board.devices(),
            **self._outbox_hands.handlers(),
        }

    def addresses_of(self, name: str) -> list[str]:
        """What a server's name resolved to last, in this run or an earlier one."""
        if name not in self._addresses:
            self._addresses[name] = self._assembly.remembered_addresses(name)
        return self._addresses[name]

    def forsaken(self) -> dict[str, int]:
        """Records that wait for an upstream that the config does not have any more, by its name."""
        return {
            name: found for name, found in self._outbox.by_upstream().items() if name not in self._assembly.upstreams
        }

    def learn(self, name: str, addresses: list[str]) -> bool:
        """A name was resolved; whether that is news."""
        if self._addresses.get(name) == addresses:
            return False
        self._addresses[name] = addresses
        return True

    def remember(self, name: str) -> Keep:
        return Keep(Remember(f"addresses:{name}", json.dumps(self._addresses[name])), wait=False)

    def waits(self, upstream: str, seq: int, order_key: str) -> None:
        """A record came into the outbox by hand."""
        flow = self._assembly.upstreams.get(upstream)
        if flow is not None:
            flow.outbox.add(seq, order_key)

    def storage_said(self, keeper: Keeper, at: Moment) -> None:
        """Tell at once when room runs out or storing fails, and when it is well again."""
        level = keeper.space.level if keeper.space is not None else Level.ENOUGH
        if level != self._level:
            worse, self._level = level > self._level, level
            words = LEVEL_WORDS.get(level, "the disk has room again")
            severity = "error" if level is Level.FULL else "warning" if worse else "info"
            self._driver.run([Tell(severity, words, alarm="disk")])
        if keeper.error != self._error:
            self._error = keeper.error
            text = f"storing fails: {self._error}" if self._error else "storing works again"
            self._driver.run([Tell("error" if self._error else "info", text, alarm="disk")])
