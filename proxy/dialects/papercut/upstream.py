"""A PaperCut server as upstream: people asked about by their cards, jobs handed over.

How contact is watched stands in `watched.py`, how a record is handed over in `delivering.py`. Left out: logins by name,
identity number or PIN, which have no call in this API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.asking import CardQuestion
from proxy.commands import Command, Keep
from proxy.dialects.papercut.delivering import Desk
from proxy.dialects.papercut.outbox import Outbox
from proxy.dialects.papercut.questions import ask_about
from proxy.dialects.papercut.resolving import count_jobs
from proxy.dialects.papercut.settings import Settings
from proxy.dialects.papercut.watched import WatchedUpstream
from proxy.dialects.papercut.watermark import WHAT_TO_DO, MarkKept, Watermark
from proxy.events import Closed, Connected, Event, Kept, Moment, NotKept, Received, Ticked
from proxy.handover import DeliveryAsked, Waiter
from proxy.link import Link
from proxy.tally import Tally
from storage.answers import OutboxItem
from storage.records import Delivery, OutboxState, Record

AHEAD = 4
"""So many windows are taken in hand: users are looked up for later records while earlier ones are being sent."""
NO_JOB = "no job: the server takes jobs only"
NO_PAGES = "a job of no pages is not logged by the server"


class PapercutUpstream(WatchedUpstream):
    """One PaperCut server. `fingerprint` names an address with url, token and CA without giving the token away;
    `hash_of` gives the hash of an entry of the ledger; `remembered` is what was last kept under `claim:<name>`.
    """

    marks_when_taken = False
    wants_facts = True
    repeats_are_known = False

    def __init__(
        self,
        name: str,
        link: Link,
        settings: Settings,
        tally: Tally,
        fingerprint: Callable[[str], str],
        hash_of: Callable[[int], bytes | None],
        remembered: str = "",
        recover_after: int = 3,
        window: int = 32,
    ) -> None:
        super().__init__(name, link, settings, tally, fingerprint, recover_after, window)
        self.outbox: Outbox = Outbox(window)
        mark = Watermark(self, self, name, settings.appliance, hash_of, remembered)
        self.desk = Desk(self, self, self, self.outbox, settings, mark)
        self._inside = False
        self._owed: list[Command] = []

    def handle(self, event: Event) -> list[Command]:
        commands, self._owed, self._inside = self._owed, [], True
        try:
            commands += self._handle(event)
            commands += self.desk.advance(event.at, may_send=self._may_begin)
        finally:
            self._inside = False
        return commands + self._say_trouble(event.at)

    def _handle(self, event: Event) -> list[Command]:
        if isinstance(event, Received):
            return self.pool.received(event)
        if isinstance(event, Connected):
            return self.pool.connected(event)
        if isinstance(event, Closed):
            return self.pool.closed(event)
        if isinstance(event, Kept):
            return self.kept(event)
        if isinstance(event, NotKept):
            return self.not_kept(event)
        return self._ticked(event.at) if isinstance(event, Ticked) else []

    # Addresses and settings

    def configure(self, settings: Settings, at: Moment) -> list[Command]:
        """A reload. Another url, CA or token: nothing that was known of the server counts any more."""
        before, self.settings = self.settings, settings
        self.answer_timeout = settings.answer_timeout
        self._size_pool()
        commands: list[Command] = []
        addresses = [host.address for host in self.hosts]
        if (before.target, before.token) != (settings.target, settings.token):
            commands += self.desk.withdraw("the settings were changed", at)
            commands += self.pool.renew(settings.target)
            self._refuses_all = ""
            self._odd.clear()
            self._settings_since = at.now
            self.hosts.replace([])
        self.desk.configure(settings)
        commands += self.reach(addresses, at)
        for host in self.hosts:
            host.contact.timeout = settings.answer_timeout
            host.steadiness.recover_after = self.recover_after
        return commands

    def claim(self, at: Moment) -> list[Command]:
        """`locum outbox claim`: this appliance takes over, whatever mark stands at the server."""
        self.desk.watermark.claim()
        return self._say_trouble(at) + self.pump(at)

    # Asking about people

    def ask_card(self, question: CardQuestion, at: Moment) -> list[Command]:
        return ask_about(self, self.settings.cards, question, at)

    def count_jobs(self, user: str, told: Callable[[int | None, Moment], list[Command]], at: Moment) -> list[Command]:
        if not self.link.state.relays or not user:
            return told(None, at)
        return count_jobs(self, user, told, at)

    # Records

    def order_key(self, device: str, session: str, card: str, user: str) -> str:
        if user:
            return f"user|{user.casefold()}"
        return f"card|{card.upper()}" if card else super().order_key(device, session, card, user)

    def unforwardable(self, record: Record) -> str:
        if record.counts is None:
            return NO_JOB
        return NO_PAGES if record.counts.pages <= 0 else ""

    def place_of(self, record: Record, *, relays: bool) -> OutboxState | None:
        return super().place_of(record, relays=relays and bool(record.personal.user))

    @property
    def _may_send(self) -> bool:
        may = bool(self.hosts) and self.may_speak(self.hosts.used.address)
        return may and self.link.state.relays and not self._refuses_all

    @property
    def _may_begin(self) -> bool:
        """Not while it is being found out whether the server refuses everything."""
        return self._may_send and not self._confirming

    @property
    def takes_records(self) -> bool:
        return self._may_send and self.desk.takes

    @property
    def relays_records(self) -> bool:
        return self.takes_records and not self.desk.judge.held

    def window(self) -> int:
        return 1 if self.desk.judge.held else self.outbox.window * AHEAD

    def send_record(self, item: OutboxItem, at: Moment, waiter: Waiter | None) -> list[Command]:
        commands = self.desk.take(item, waiter, at)
        return commands if self._inside else commands + self.desk.advance(at, may_send=self._may_begin)

    def adopt(self, item: OutboxItem, at: Moment, waiter: Waiter) -> list[Command] | None:
        sent = super().adopt(item, at, waiter)
        if sent is None:
            # It was kept as sent and was not: after a crash that would be a doubt without a reason.
            why = "something of the same user went first"
            back = Delivery(at.wall, item.seq, self.name, "unsent", OutboxState.WAITING, item.tries, why)
            self._owed.append(Keep(back, wait=False))
        return sent

    def cut_records(self) -> list[tuple[OutboxItem, Waiter | None]]:
        """None: what was sent is left to its own time, for its answer may still come."""
        return []

    def cut(self, why: str, at: Moment) -> list[Command]:
        # What it answered before says nothing about a server that is away.
        self._refuses_all = ""
        self._odd.clear()
        return self.desk.contact_lost(at)

    def retry(self, seq: int, order_key: str, at: Moment) -> list[Command]:
        self.desk.judge.release()
        return super().retry(seq, order_key, at)

    def kept(self, event: Kept) -> list[Command]:
        if isinstance(event.token, MarkKept):
            return self.desk.watermark.kept(event.token.mark, event.at)
        if isinstance(event.token, DeliveryAsked):
            self.desk.settled(event.token.delivery.seq)
        return super().kept(event) + self.desk.kept(event, may_send=self._may_send)

    def not_kept(self, event: NotKept) -> list[Command]:
        if isinstance(event.token, MarkKept):
            return self.desk.watermark.not_kept(event.token.mark, event.at)
        return super().not_kept(event) + self.desk.not_kept(event)

    # Time, and what is said

    def _ticked(self, at: Moment) -> list[Command]:
        commands = self.watch(at) + self.desk.tick(at, may_send=self._may_send)
        return commands + self.tick(at)

    def withdraw(self, why: str, at: Moment) -> list[Command]:
        return self.desk.withdraw(why, at)

    def confirmed(self, well: bool, words: str, asked_at: float, at: Moment) -> list[Command]:
        return self.desk.confirmed(well, words, asked_at, at)

    def _say_trouble(self, at: Moment) -> list[Command]:
        mark, held = self.desk.watermark, self.desk.judge.held
        stopped = f"{mark.stopped}; {WHAT_TO_DO}" if mark.stopped else ""
        self.trouble = self._refuses_all or stopped or mark.hindered or "; ".join(self._odd.values())
        if not self.trouble and held:
            self.trouble = f"forwarding pauses, one record a minute is tried: {held}"
        if self._refuses_all:
            return self._say("refuses all", f"{self.name}: {self._refuses_all}", at)
        if mark.hindered and not mark.stopped:
            return self._say("mark", f"{self.name}: {mark.hindered}; nothing is forwarded meanwhile", at)
        return []

    def details(self) -> dict[str, Any]:
        used = self.hosts.used.address if self.hosts else ""
        return {
            "addresses": [host.address for host in self.hosts],
            "address_in_use": used,
            "connections": len(self.pool),
            "records_in_hand": len(self.desk.parcels),
        }
