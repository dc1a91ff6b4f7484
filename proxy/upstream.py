"""One Application Server as Locum sees it, whatever it speaks: its state, its outbox, and who must be told.

A dialect's upstream inherits from this and adds the wire: how to probe, how to send a record, what is authentic. The
base owns the link (state), the steadiness of contact, the forwarder (order and pace) and what is written down about
each try. What needs no dialect at all (who has this card?) is asked through it too.

The way of a record: `Kept` by a listener -> `adopt` -> sent at once while online, else when `pump` takes it (marked as
sent on stable storage first) -> `send_record` -> `delivered`, `refused`, `unanswered` or `cut` -> a `Delivery` is kept.
A record counts as in flight until its delivery is on stable storage, so one cut leaves at most one window to send
again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.asking import CardQuestion
from proxy.commands import Command, Keep, Tell
from proxy.events import Event, Kept, Moment, NotKept
from proxy.forward import Forwarder, after_unanswered
from proxy.link import Link, Signal, State
from storage.answers import OutboxItem, RecordFacts, Stored, Taken
from storage.records import Delivery, Mode, Note, OutageStep, OutboxState, Record, Take

RETRY_STORAGE = 1.0
UNKEPT = 0
"""The sequence of a record that could not be stored and is relayed all the same: nothing is written about it."""


class Subscriber(Protocol):
    """Whoever acts on an upstream's state: the listeners whose logins go there."""

    def state_changed(self, at: Moment) -> list[Command]: ...


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


class Upstream(ABC):
    """The dialect-free half of an upstream. Times as in `Moment`, `answer_timeout` in seconds.

    `before_subscribers` is told of a change of state first. `trouble`: what is wrong although the server answers, in
    words, for status; "" nothing.
    """

    marks_when_taken = True
    """Whether records are marked as sent the moment they are taken; else the dialect does it, before it sends them."""
    wants_facts = False
    """Whether records are sent by what the ledger knows of them, instead of by the device's own bytes."""
    repeats_are_known = True
    """Whether the server can recognise a record that it is sent twice; else a lost answer leaves it in doubt."""

    def __init__(self, name: str, dialect: str, link: Link, window: int) -> None:
        self.name = name
        self.dialect = dialect
        self.link = link
        self.outbox = Forwarder(window)
        self.subscribers: list[Subscriber] = []
        self.before_subscribers: Callable[[Upstream, Moment], list[Command]] = lambda upstream, at: []
        self.answer_timeout = 3.0
        self.trouble = ""
        self._held: dict[str, list[tuple[int, str]]] = {}
        self._last_answer = 0
        self._unwritten: list[Delivery] = []
        self._write_again = float("inf")

    @abstractmethod
    def handle(self, event: Event) -> list[Command]:
        """What comes from the server, from storage and from the clock."""

    @abstractmethod
    def send_record(self, item: OutboxItem, at: Moment, waiter: Waiter | None) -> list[Command]:
        """Put a record on the wire. `waiter`: the device's request that waits for the answer, if one does."""

    @abstractmethod
    def cut_records(self) -> list[tuple[OutboxItem, Waiter | None]]:
        """Stop waiting for the answers to the records in flight; gives them with who waited."""

    @abstractmethod
    def reach(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        """Use these addresses (numeric), in this order. Those that stay keep what is known of them; none: close all."""

    @abstractmethod
    def unreachable(self, cause: str, at: Moment) -> list[Command]:
        """There may be no address at all to send to: its name does not resolve and never did."""

    @abstractmethod
    def tries_first(self, now: float) -> bool:
        """Whether an offline login goes to the server first: contacts succeed already."""

    def details(self) -> dict[str, Any]:
        """What `locum status` shows of this dialect's own, by key."""
        return {}

    def order_key(self, device: str, session: str, card: str, user: str) -> str:
        """Records that share this are sent one after the other: those of a session, where the dialect has no other."""
        return f"{device}|{session}"

    def unforwardable(self, record: Record) -> str:
        """Why the server takes no such record at all; "" if it does."""
        return ""

    def ask_card(self, question: CardQuestion, at: Moment) -> list[Command]:
        """Ask the server whose card this is. Only for a server that listeners of other dialects may have."""
        raise NotImplementedError(f"a {self.dialect} server is not asked about cards")

    @property
    def contact_holds(self) -> bool:
        """Whether nothing speaks against the server's being there: an outage does not end by the cut that ends it."""
        return True

    @property
    def unwritten(self) -> bool:
        """Whether how a try ended could not be written down yet."""
        return bool(self._unwritten)

    def count_jobs(self, user: str, told: Callable[[int | None, Moment], list[Command]], at: Moment) -> list[Command]:
        """How many jobs of a user the server has by now: evidence for records in doubt. None: it does not say."""
        return told(None, at)

    @property
    def state(self) -> State:
        return self.link.state

    @property
    def takes_records(self) -> bool:
        """Whether records that wait can be handed over now."""
        return self.link.state.relays

    @property
    def relays_records(self) -> bool:
        """Whether a record that comes in now may go out at once."""
        return self.takes_records

    def window(self) -> int:
        """How many records may be in flight now."""
        return self.outbox.window

    def signal(self, signal: Signal, cause: str, at: Moment) -> list[Command]:
        """Tell the link; keep and tell what changed, and pass it on."""
        return self._entered(self.link.handle(signal, cause, at), at)

    def set_proven(self, proven: bool, at: Moment) -> list[Command]:
        """Whether the server was heard with its present address and secret, after either may have changed."""
        if proven:
            self.link.proven = True
            return []
        return self._entered(self.link.unprove(at), at)

    def _entered(self, steps: list[OutageStep], at: Moment) -> list[Command]:
        if not steps:
            return []
        commands: list[Command] = []
        for step in steps:
            commands.append(Keep(kept_as(step), wait=False))
        commands += self._words(self.link.state, self.link.cause)
        if not self.link.state.relays:
            commands += self.cut("contact lost", at)
        commands += self.before_subscribers(self, at)
        for subscriber in self.subscribers:
            commands += subscriber.state_changed(at)
        return commands + self.nothing_waits(at)

    def contact(self, steady: bool, at: Moment) -> list[Command]:
        """Something authentic came from the server; `steady`: not for the first time (`proxy.contact.Steadiness`)."""
        if not self.link.proven:
            self.link.prove()
        if steady and not self.link.state.relays:
            return self.signal(Signal.CONTACT_STEADY, "the server answers steadily", at)
        return []

    def contact_failed(self, cause: str, at: Moment) -> list[Command]:
        """Contact with every address of the server has failed."""
        return self.signal(Signal.CONTACT_FAILED, cause, at)

    def tick(self, at: Moment) -> list[Command]:
        """What time alone brings: the end of grace, pauses that are over."""
        commands: list[Command] = []
        if self.link.proven and self.link.delay_has_passed(at.now):
            commands += self.signal(Signal.DELAY_PASSED, f"{self.link.cause}; the delay has passed", at)
        if at.now >= self._write_again:
            unwritten, self._unwritten, self._write_again = self._unwritten, [], float("inf")
            commands += [Keep(delivery, self, DeliveryAsked(delivery), wait=False) for delivery in unwritten]
        return commands + self.nothing_waits(at) + self.pump(at)

    def nothing_waits(self, at: Moment) -> list[Command]:
        """End of recovery, once the outbox is empty."""
        if self.link.state is State.RECOVERING and self.outbox.empty and self.contact_holds:
            return self.signal(Signal.NOTHING_WAITS, "nothing waits", at)
        return []

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
            return self.pump(event.at, max(1, self.window() // 8)) + self.nothing_waits(event.at)
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
        return [self._put_back(item, "unanswered", "no answer", verdict.tries, next_try, at)]

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
                commands.append(self._put_back(item, "unanswered", why, item.tries, 0, at))
            if waiter is not None:
                commands += waiter.unanswered(at)
        return commands

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

    def _put_back(self, item: OutboxItem, outcome: str, why: str, tries: int, next_try: int, at: Moment) -> Keep:
        waiting = OutboxState.WAITING
        delivery = Delivery(at.wall, item.seq, self.name, outcome, waiting, tries, why, "", next_try, maybe_twice=True)
        return Keep(delivery, wait=False)

    def _words(self, state: State, cause: str) -> list[Command]:
        name = self.name
        grace = f"; offline in {self.link.delay:g} s unless it comes back" if self.link.delay else ""
        if not self.link.proven:
            grace = "; it was never heard with this address and secret, so nobody is let in: check both"
        away = "outage" if self.link.proven else "unproven"
        words = {
            State.GRACE: ("warning", f"{name}: the server does not answer ({cause}){grace}", away),
            State.OFFLINE: ("warning", f"{name}: offline mode: Locum answers for the server ({cause})", "outage"),
            State.RECOVERING: ("info", f"{name}: the server is back; forwarding what waits", "recovery"),
            State.ONLINE: ("info", f"{name}: online; nothing waits", "recovery"),
        }
        level, text, alarm = words[state]
        return [Tell(level, text, {"upstream": name, "state": state.value}, alarm=alarm)]


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


def kept_as(step: OutageStep) -> OutageStep | Note:
    """How a change of state is kept: as a step of its outage, or, where there is none, as a note."""
    if step.outage is not None:
        return step
    return Note(step.at, "state", {"upstream": step.upstream, "state": step.state, "cause": step.cause})
