"""The way of a record to the server, whatever it speaks, and what is written down about each try.

The way: `Kept` by a listener -> `take_over` -> sent at once while online, else when `pump` takes it (marked as sent on
stable storage first) -> `send_record` -> `delivered`, `refused`, `in_doubt`, `unanswered` or `cut` -> a `Delivery` is
kept. A record counts as in flight until its delivery is on stable storage, so one cut leaves at most one window to send
again. Order and pace are the forwarder's (`proxy/forward.py`), the wire the dialect's, the server's state the
upstream's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.commands import Command, Keep, Tell
from proxy.events import Event, Kept, Moment, NotKept
from proxy.forward import Forwarder, after_unanswered
from storage.answers import OutboxItem, RecordFacts, Stored, Taken
from storage.records import Delivery, Mode, OutboxState, Record, Take

RETRY_STORAGE = 1.0
UNKEPT = 0
"""The sequence of a record that could not be stored and is relayed all the same: nothing is written about it."""


class Waiter(Protocol):
    """A device's request that waits for the server's answer to the record it carried."""

    def answered(self, attributes: object, at: Moment) -> list[Command]:
        """The server took the record; `attributes` is what its answer carried, in the dialect's own form."""

    def unanswered(self, at: Moment) -> list[Command]:
        """The server will not answer in time; the record waits in the outbox."""


@dataclass(frozen=True, slots=True)
class TakeAsked:
    """Token: these records were to be marked as sent."""

    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeliveryAsked:
    """Token: what the server said to a record was to be written down."""

    delivery: Delivery


class Handover(ABC):
    """The records of one upstream on their way to it. `name`: the upstream's; `window`: how many may be in flight."""

    marks_when_taken = True
    """Whether records are marked as sent the moment they are taken; else the dialect does it, before it sends them."""
    repeats_are_known = True
    """Whether the server can recognise a record that it is sent twice; else a lost answer leaves it in doubt."""

    def __init__(self, name: str, window: int) -> None:
        self.name = name
        self.outbox = Forwarder(window)
        self._held: dict[str, list[tuple[int, str]]] = {}
        self._last_answer = 0
        self._unwritten: list[Delivery] = []
        self._write_again = float("inf")

    @abstractmethod
    def handle(self, event: Event) -> list[Command]:
        """What comes from the server, from storage and from the clock."""

    @property
    @abstractmethod
    def takes_records(self) -> bool:
        """Whether records that wait can be handed over now."""

    @abstractmethod
    def send_record(self, item: OutboxItem, at: Moment, waiter: Waiter | None) -> list[Command]:
        """Put a record on the wire. `waiter`: the device's request that waits for the answer, if one does."""

    @abstractmethod
    def cut_records(self) -> list[tuple[OutboxItem, Waiter | None]]:
        """Stop waiting for the answers to the records in flight; gives them with who waited."""

    @property
    def wants_facts(self) -> bool:
        """Whether what the ledger knows of a record is needed to send it, beside the device's own bytes."""
        return False

    def order_key(self, device: str, session: str, card: str, user: str) -> str:
        """Records that share this are sent one after the other: those of a session, where the dialect has no other."""
        return f"{device}|{session}"

    def unforwardable(self, record: Record) -> str:
        """Why the server takes no such record at all; "" if it does."""
        return ""

    @property
    def relays_records(self) -> bool:
        """Whether a record that comes in now may go out at once."""
        return self.takes_records

    def window(self) -> int:
        """How many records may be in flight now."""
        return self.outbox.window

    @property
    def unwritten(self) -> bool:
        """Whether how a try ended could not be written down yet."""
        return bool(self._unwritten)

    def may_relay(self, order_key: str) -> bool:
        """Whether a record of this key may go out at once."""
        return self.relays_records and self.outbox.is_free(order_key)

    def place_of(self, record: Record, *, relays: bool) -> OutboxState | None:
        """Where a new record begins: handed over at once (only where the device may wait for the server: `relays`),
        waiting, or nowhere.
        """
        if self.unforwardable(record):
            return None
        may = relays and record.mode is not Mode.DRILL and self.may_relay(record.order_key)
        return OutboxState.SENT if may else OutboxState.WAITING

    def take_over(
        self, record: Record, stored: Stored, waiter: Waiter, at: Moment, *, drill: bool = False
    ) -> tuple[list[Command], bool]:
        """A new record is on stable storage: send it, or let it wait. Gives what to do, and whether the server's answer
        is to be waited for. `drill`: a drill runs on its device, and holds it back to its end.
        """
        if record.outbox is None:
            why = self.unforwardable(record)
            kept = Delivery(at.wall, stored.seq, self.name, "not-forwardable", None, 0, why)
            return ([Keep(kept, wait=False)] if why else []), False
        if drill and record.mode is Mode.DRILL:
            self.hold(stored.seq, record.order_key, record.device)
            return [], False
        if record.outbox is OutboxState.WAITING:
            self.outbox.add(stored.seq, record.order_key)
            return [], False
        sent = self.adopt(item_of(record, stored), at, waiter)
        return sent or [], sent is not None

    def hold(self, seq: int, order_key: str, device: str) -> None:
        """A record of a drill waits for the drill's end."""
        self._held.setdefault(device, []).append((seq, order_key))

    def release(self, running: Callable[[str], bool]) -> None:
        """Drills have ended: what waited for that goes to the outbox."""
        for device in [device for device in self._held if not running(device)]:
            for seq, order_key in self._held.pop(device):
                self.outbox.add(seq, order_key)

    @property
    def empty(self) -> bool:
        """Whether nothing waits for this server at all, drills' records included."""
        return self.outbox.empty and not self._held

    def adopt(self, item: OutboxItem, at: Moment, waiter: Waiter) -> list[Command] | None:
        """A record was kept as sent: send it at once if it still may go. None: it waits, nobody need wait for an
        answer.
        """
        if not self.may_relay(item.order_key):
            self.outbox.add(item.seq, item.order_key)
            return None
        self.outbox.add_sent(item.seq, item.order_key)
        return self.send_record(item, at, waiter)

    def pump(self, at: Moment, least: int = 1) -> list[Command]:
        """Take from the outbox what the window has room for, if that is at least `least`."""
        if not self.takes_records:
            return []
        seqs = self.outbox.due(at.now, self.window(), least)
        taking = Take(at.wall, self.name, seqs, mark=self.marks_when_taken, facts=self.wants_facts)
        return [Keep(taking, self, TakeAsked(seqs))] if seqs else []

    def kept(self, event: Kept) -> list[Command]:
        """Stable storage has what this upstream asked for."""
        if isinstance(event.token, TakeAsked) and isinstance(event.outcome, Taken):
            return self._taken(event.token.seqs, event.outcome, event.at)
        if isinstance(event.token, DeliveryAsked):
            self.outbox.gone(event.token.delivery.seq)
            return self.pump(event.at, max(1, self.window() // 8))
        return []

    def not_kept(self, event: NotKept) -> list[Command]:
        """Stable storage refused: what was to be taken or written down is so in a second."""
        again = event.at.now + RETRY_STORAGE
        if isinstance(event.token, TakeAsked):
            for seq in event.token.seqs:
                self.outbox.pause(seq, again)
        elif isinstance(event.token, DeliveryAsked):
            self._unwritten.append(event.token.delivery)
            self._write_again = again
        return []

    def delivered(
        self,
        item: OutboxItem,
        at: Moment,
        *,
        user: str = "",
        maybe_twice: bool = False,
        unknown_card: bool = False,
        answer: str = "",
    ) -> list[Command]:
        """The server has acknowledged the record. `maybe_twice`: it was sent more than once, so it may stand there
        twice. `user`: whom it was logged against; `unknown_card`: nobody has its card.
        """
        self._last_answer = at.wall
        return self._write(
            item,
            "delivered",
            None,
            item.tries + 1,
            at,
            answer=answer,
            user=user,
            maybe_twice=maybe_twice,
            unknown_card=unknown_card,
        )

    def in_doubt(
        self, item: OutboxItem, why: str, at: Moment, *, user: str = "", unknown_card: bool = False
    ) -> list[Command]:
        """The server may or may not have taken the record, and cannot be asked: a person must find out.

        `user`: whom it was sent under; `unknown_card`: nobody has its card.
        """
        text = f"{self.name}: it is not known whether the server took a record ({why}); see 'locum outbox list'"
        told = Tell("error", text, {"record": item.id}, alarm="in-doubt")
        tries, state = item.tries + 1, OutboxState.IN_DOUBT
        kept = self._write(
            item, "unknown", state, tries, at, answer=why, user=user, unknown_card=unknown_card, maybe_twice=True
        )
        return [*kept, told]

    def refused(self, item: OutboxItem, answer: str, at: Moment) -> list[Command]:
        """The server refused the record for itself: it is set aside, with the server's words, and the others go on."""
        text = f"{self.name}: the server refused a record; see 'locum outbox list'"
        told = Tell("error", text, {"record": item.id}, alarm="refused")
        return [*self._write(item, "refused", OutboxState.REJECTED, item.tries + 1, at, answer=answer), told]

    def unanswered(self, item: OutboxItem, at: Moment) -> list[Command]:
        """A try ran out without an answer, though contact was not lost."""
        if item.seq == UNKEPT:
            return []
        verdict = after_unanswered(item, self._last_answer > (item.first_try or item.at), at)
        if verdict.state is OutboxState.REJECTED:
            words = f"{self.name}: a record went unanswered {verdict.tries} times while others were answered; set aside"
            told = Tell("error", words, {"record": item.id}, alarm="refused")
            answer = f"no answer, {verdict.tries} times"
            return [*self._write(item, "unanswered", OutboxState.REJECTED, verdict.tries, at, answer=answer), told]
        self.outbox.pause(item.seq, at.now + verdict.pause)
        next_try = at.wall + int(verdict.pause * 1000)
        return [self._put_back(item, "no answer", verdict.tries, next_try, at)]

    def retry(self, seq: int, order_key: str, at: Moment) -> list[Command]:
        """An admin wants this record tried now: one that pauses, or one that was set aside and waits again."""
        if self.outbox.knows(seq):
            self.outbox.hurry(seq)
        elif not self.outbox.queues(seq, order_key):
            self.outbox.add(seq, order_key)
        return self.pump(at)

    def cut(self, why: str, at: Moment) -> list[Command]:
        """Contact was lost: what is in flight waits again, and is named, for the server may have it already."""
        return self.put_back(self.cut_records(), why, at)

    def put_back(self, cut: list[tuple[OutboxItem, Waiter | None]], why: str, at: Moment) -> list[Command]:
        """These records were in flight and wait again."""
        commands: list[Command] = []
        for item, waiter in cut:
            if item.seq != UNKEPT:
                self.outbox.cut(item.seq)
                commands.append(self._put_back(item, why, item.tries, 0, at))
            if waiter is not None:
                commands += waiter.unanswered(at)
        return commands

    def write_again(self, at: Moment) -> list[Command]:
        """What could not be written down is tried again, once it is time."""
        if at.now < self._write_again:
            return []
        unwritten, self._unwritten, self._write_again = self._unwritten, [], float("inf")
        return [Keep(delivery, self, DeliveryAsked(delivery), wait=False) for delivery in unwritten]

    def _taken(self, asked: tuple[int, ...], taken: Taken, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for seq in set(asked) - {item.seq for item in taken.items}:
            self.outbox.gone(seq)
        for item in taken.items:
            if self.takes_records:
                commands += self.send_record(item, at, None)
                continue
            self.outbox.cut(item.seq)
            if self.marks_when_taken:
                back = Delivery(at.wall, item.seq, self.name, "unsent", OutboxState.WAITING, item.tries, "contact lost")
                commands.append(Keep(back, wait=False))
        return commands

    def _write(
        self,
        item: OutboxItem,
        outcome: str,
        state: OutboxState | None,
        tries: int,
        at: Moment,
        *,
        answer: str = "",
        user: str = "",
        maybe_twice: bool = False,
        unknown_card: bool = False,
    ) -> list[Command]:
        if item.seq == UNKEPT:
            return []
        delivery = Delivery(
            at=at.wall,
            seq=item.seq,
            upstream=self.name,
            outcome=outcome,
            state=state,
            tries=tries,
            answer=answer,
            user=user,
            maybe_twice=maybe_twice,
            unknown_card=unknown_card,
        )
        return [Keep(delivery, self, DeliveryAsked(delivery))]

    def _put_back(self, item: OutboxItem, why: str, tries: int, next_try: int, at: Moment) -> Keep:
        state, name = OutboxState.WAITING, self.name
        back = Delivery(at.wall, item.seq, name, "unanswered", state, tries, why, "", next_try, maybe_twice=True)
        return Keep(back, wait=False)


def item_of(record: Record, stored: Stored) -> OutboxItem:
    """A record that was just kept, as it goes to the server; all that the ledger knows of it included."""
    said = record.personal
    facts = RecordFacts(
        record.client,
        record.event,
        record.session,
        record.mode,
        said.card,
        said.user,
        said.document,
        said.account,
        record.job_number,
        record.counts,
        record.started_at,
        record.ended_at,
    )
    names = (record.upstream, record.dialect, record.device, record.order_key)
    return OutboxItem(stored.seq, stored.id, record.at, *names, tries=0, first_try=0, raw=said.raw, facts=facts)
