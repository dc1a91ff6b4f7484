"""Handing records over by `processJob`, which has no key: what cannot be known is never sent a second time.

Each record in hand: its user found out, its evidence read, its turn come, the mark at the server written, itself marked
as sent on stable storage - then the call, once. Then one of these: delivered (a value came back); refused (a fault, and
a call without arguments works after it); back to waiting (no connection, or a refusal of every call); in doubt (all
else). What such an end says of other records, and when the drain pauses, stands in `judging.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from protocols.papercut.calls import Fault, Value, encode_call
from protocols.papercut.jobs import job_details
from protocols.papercut.times import local_text
from proxy.commands import Command, Keep, Tell
from proxy.dialects.papercut.calls import Call, Ended, Kind, Lost, broke, words_of
from proxy.dialects.papercut.handing import Books, Carrier, MarkedAsSent, PutBack, job_of
from proxy.dialects.papercut.judging import AFTER_DOUBTS, TRY_EVERY, Judge
from proxy.dialects.papercut.outbox import Outbox
from proxy.dialects.papercut.parcels import Parcel, Parcels, Stage
from proxy.dialects.papercut.resolving import Answer, Evidence, Failed, Resolver
from proxy.dialects.papercut.settings import Settings
from proxy.dialects.papercut.watermark import Watermark
from proxy.events import Flow, Kept, Moment, NotKept
from proxy.forward import after_unanswered
from proxy.handover import Waiter
from storage.answers import OutboxItem, RecordFacts, Taken
from storage.records import Delivery, OutboxState, Personal, Take

PATIENCE = 10
"""How many times the answer timeout an answer to a record is waited for: late is far better than not known."""
SOON = 1.0


class Desk:
    """The records in hand, and what is done with each."""

    def __init__(
        self,
        books: Books,
        owner: Flow,
        server: Carrier,
        outbox: Outbox,
        settings: Settings,
        watermark: Watermark,
    ) -> None:
        self.settings = settings
        self.watermark = watermark
        self.resolver = Resolver(server, books.name, settings.cards)
        self.evidence = Evidence(server)
        self.parcels = Parcels()
        self.judge = Judge()
        self._books, self._owner, self._server, self._outbox = books, owner, server, outbox
        self._unwritten: list[tuple[float, PutBack]] = []
        self._quiet_since = 0.0

    @property
    def takes(self) -> bool:
        """Whether more records may be taken in hand."""
        return not self.watermark.stopped and self.judge.lets_go

    def configure(self, settings: Settings) -> None:
        """Other settings: nothing that the server said counts any more."""
        self.settings = settings
        self.resolver.rules = settings.cards
        self.forget()
        self.watermark.lapse()
        self.judge.release()

    def forget(self) -> None:
        """What was looked up is asked anew next time."""
        self.resolver.forget()
        self.evidence.forget()

    # Taking in hand

    def take(self, item: OutboxItem, waiter: Waiter | None, at: Moment) -> list[Command]:
        """One more record. With a waiter it was kept as sent already, and its user is known."""
        patient_until = at.now + self.settings.answer_timeout
        parcel = Parcel(item, waiter, waiter is not None, bool(self.judge.held), patient_until)
        self.judge.taken(at.now)
        self.parcels.add(parcel)
        self._quiet_since = at.now
        facts = item.facts
        if facts is None or facts.counts is None:
            return self._settled(parcel, self._books.refused(item, "no job: the server takes jobs only", at), at)
        user = dict(item.corrections).get("user") or facts.user
        if user:
            parcel.user = user
            return self._read_evidence(parcel, at)

        def resolved(answer: Answer, at: Moment) -> list[Command]:
            if self.parcels.get(parcel.seq) is not parcel:
                return []
            if isinstance(answer, Failed):
                return self._postpone(parcel, answer, at)
            parcel.user, parcel.matched = answer.user, answer.matched
            parcel.unknown = answer.unknown
            return self._read_evidence(parcel, at)

        return self.resolver.resolve(facts.card, resolved, at)

    def _read_evidence(self, parcel: Parcel, at: Moment) -> list[Command]:
        if parcel.marked:
            self.parcels.resolved(parcel)
            return []

        def read(failed: Failed | None, at: Moment) -> list[Command]:
            if self.parcels.get(parcel.seq) is not parcel:
                return []
            if failed is not None:
                return self._postpone(parcel, failed, at)
            self.parcels.resolved(parcel)
            return []

        return self.evidence.read(parcel.user, read, at)

    def _postpone(self, parcel: Parcel, failed: Failed, at: Moment) -> list[Command]:
        """The server could not be asked whose it is: the record is nobody's yet, and waits with growing pauses."""
        why = f"not looked up yet: {failed.words}"
        if failed.broke:
            return self._put_back(parcel, why, at, SOON)
        verdict = after_unanswered(parcel.item, False, at)
        return self._put_back(parcel, why, at, verdict.pause, tries=verdict.tries)

    # Sending

    def advance(self, at: Moment, *, may_send: bool) -> list[Command]:
        """Send what may go now. All that goes in one turn is marked together."""
        commands = self._refuse(self.judge.left_over(self.parcels), at)
        if self.judge.must_ask:
            commands += self._server.confirm(at)
        if self.watermark.stopped and self.parcels:
            commands += self.withdraw(self.watermark.stopped, at)
        if not may_send:
            return commands
        highest = self.parcels.highest_ready
        if highest >= 0 and self.watermark.wants(highest, at.now):
            lowest = min(parcel.seq for parcel in self.parcels)
            commands += self.watermark.begin(lowest, max(highest, self._outbox.highest), at)
        # One whose fate is known makes room at once: the ledger keeps the order, so nothing that is marked after it was
        # answered stands there as sent before its fate does. Unless that could not be stored.
        settling = (Stage.SETTLING,) if self._books.unwritten else ()
        busy = self.parcels.count(Stage.MARKING, Stage.CALLING, Stage.JUDGING, *settling)
        room = self.judge.room(min(self._outbox.window - busy, self.watermark.left), self.parcels)
        chosen = self.parcels.next(room, lambda parcel: self.watermark.allows(parcel.seq, at.now))
        self.watermark.used(len(chosen))
        to_mark = [parcel for parcel in chosen if not parcel.marked]
        for parcel in chosen:
            if parcel.marked:
                commands += self._call(parcel, at)
        if to_mark:
            seqs = tuple(parcel.seq for parcel in to_mark)
            evidence = tuple((parcel.seq, json.dumps(self.evidence.of(parcel.user))) for parcel in to_mark)
            taking = Take(at.wall, self._books.name, seqs, mark=True, evidence=evidence)
            commands.append(Keep(taking, self._owner, MarkedAsSent(seqs)))
        return commands

    def kept(self, event: Kept, *, may_send: bool) -> list[Command]:
        """Stable storage has what this desk asked for."""
        commands: list[Command] = []
        if isinstance(event.token, MarkedAsSent) and isinstance(event.outcome, Taken):
            found = {item.seq: item for item in event.outcome.items}
            for seq in event.token.seqs:
                parcel = self.parcels.get(seq)
                if parcel is not None and parcel.stage is Stage.MARKING:
                    commands += self._marked(parcel, found.get(seq), may_send, event.at)
        elif isinstance(event.token, PutBack):
            parcel = self.parcels.get(event.token.delivery.seq)
            if parcel is not None:
                self._free(parcel, event.token.until)
        return commands

    def _marked(self, parcel: Parcel, item: OutboxItem | None, may_send: bool, at: Moment) -> list[Command]:
        if item is None:
            self.parcels.remove(parcel)
            self._outbox.gone(parcel.seq)
            return self._nobody_waits(parcel, at)
        parcel.marked = True
        if item.corrections != parcel.item.corrections:
            return self._put_back(parcel, "it was corrected meanwhile", at)
        if not may_send or (self.judge.held and not parcel.trial):
            return self._put_back(parcel, "the drain pauses" if self.judge.held else "contact lost", at)
        if self.judge.asking(at.now):
            return self._put_back(parcel, "a connection broke", at)
        return self._call(parcel, at)

    def not_kept(self, event: NotKept) -> list[Command]:
        """Stable storage refused: nothing was sent, and what was to be written down is so in a second."""
        again = event.at.now + SOON
        if isinstance(event.token, MarkedAsSent):
            for seq in event.token.seqs:
                parcel = self.parcels.get(seq)
                if parcel is not None:
                    self._free(parcel, again)
        elif isinstance(event.token, PutBack):
            self._unwritten.append((again, event.token))
        return []

    def settled(self, seq: int) -> None:
        """How this record ended is on stable storage."""
        parcel = self.parcels.get(seq)
        if parcel is not None:
            self.parcels.remove(parcel)

    def _call(self, parcel: Parcel, at: Moment) -> list[Command]:
        item = parcel.item
        try:
            details = job_details(job_of(item, parcel.user, self.settings.printers), self.settings.time_zone)
        except (OverflowError, ValueError) as error:
            return self._settled(parcel, self._books.refused(item, f"it cannot be sent: {error}", at), at)

        def ended(how: Ended, at: Moment) -> list[Command]:
            return self._ended(parcel, how, at)

        body = encode_call("api.processJob", self._server.token, details)
        timeout = self.settings.answer_timeout * PATIENCE
        parcel.stage, parcel.called_at = Stage.CALLING, at.now
        parcel.call = Call(Kind.RECORD, body, ended, timeout, once=True)
        return self._server.submit(parcel.call, at)

    # How it ended

    def _ended(self, parcel: Parcel, how: Ended, at: Moment) -> list[Command]:
        parcel.call = None
        self.judge.ended(how)
        if isinstance(how, Value):
            return self._delivered(parcel, at)
        if isinstance(how, Fault):
            self.judge.accuse(parcel, how.text, at.now)
            return self._server.confirm(at)
        if isinstance(how, Lost) and not how.written:
            return self._put_back(parcel, f"not delivered: {how.words}", at, SOON)
        return self._in_doubt(parcel, words_of(how), broke(how), at)

    def _in_doubt(self, parcel: Parcel, why: str, cut: bool, at: Moment) -> list[Command]:
        """Nobody knows. A server that is there and gives no answer to any record gets no more of them for a while."""
        doubted = self._books.in_doubt(parcel.item, why, at, user=parcel.user, unknown_card=parcel.unknown)
        commands = self._settled(parcel, doubted, at)
        if not self.judge.counts(parcel, cut=cut):
            return commands
        if cut:
            self.judge.broke(at.now, self.settings.answer_timeout)
            commands += self._server.confirm(at)
        if self.judge.doubted(parcel.user):
            text = f"{self._books.name}: it is not known of several records whether the server took them ({why})"
            self.judge.hold(why, AFTER_DOUBTS, at.now, for_doubts=True)
            commands += self._pause(text, at)
        return commands

    def _delivered(self, parcel: Parcel, at: Moment) -> list[Command]:
        item, facts = parcel.item, parcel.item.facts
        commands = parcel.waiter.answered((), at) if parcel.waiter else []
        parcel.waiter = None
        self.evidence.delivered(parcel.user)
        unknown = parcel.unknown and facts is not None and bool(facts.card)
        answer = f"the card number matched {parcel.matched}" if parcel.matched else ""
        done = self._books.delivered(item, at, user=parcel.user, unknown_card=unknown, answer=answer)
        commands += self._settled(parcel, done, at)
        if parcel.unknown and facts is not None:
            commands.append(self._unknown(parcel, facts))
        if self.judge.held:
            text = f"{self._books.name}: the server takes records again"
            commands.append(Tell("info", text, {"upstream": self._books.name}))
        self.judge.release()
        return commands + self._refuse(self.judge.suspects(), at)

    def _unknown(self, parcel: Parcel, facts: RecordFacts) -> Command:
        item, name = parcel.item, self._books.name
        who = "nobody has the card of this job" if facts.card else "a job names neither card nor user"
        context: dict[str, str | int] = {"upstream": name, "device": item.device, "record": item.id}
        context["time"] = local_text(item.at, self.settings.time_zone)
        if facts.counts is not None:
            context |= {"kind": facts.counts.kind, "pages": facts.counts.pages}
        text = f"{name}: {who}: it was logged against '{parcel.user}'"
        return Tell("warning", text, context, personal=Personal(card=facts.card))

    def confirmed(self, well: bool, words: str, asked_at: float, at: Moment) -> list[Command]:
        """Whether the server takes calls at all, asked at `asked_at`: it decides what earlier faults meant."""
        commands: list[Command] = []
        for parcel in self.judge.answered(asked_at):
            commands += self._weigh(parcel, at) if well else self._put_back(parcel, f"not delivered: {words}", at)
        return commands

    def _weigh(self, parcel: Parcel, at: Moment) -> list[Command]:
        verdict = self.judge.weigh(parcel)
        commands = self._refuse(verdict.refused, at)
        for each in verdict.waiting:
            commands += self._put_back(each, f"not delivered: {each.fault}", at, verdict.pause)
        if verdict.holds:
            text = f"{self._books.name}: the server refuses the records of several users with the same words"
            self.judge.hold(parcel.fault, TRY_EVERY, at.now)
            commands += self._pause(f"{text} ({parcel.fault})", at)
        return commands

    def _refuse(self, parcels: Iterable[Parcel], at: Moment) -> list[Command]:
        commands: list[Command] = []
        for parcel in parcels:
            commands += self._settled(parcel, self._books.refused(parcel.item, parcel.fault, at), at)
        return commands

    def _pause(self, text: str, at: Moment) -> list[Command]:
        told = f"{text}; forwarding pauses, one record a minute is tried"
        return [
            *self.withdraw("the drain pauses", at),
            Tell("error", told, {"upstream": self._books.name}, alarm="server"),
        ]

    def contact_lost(self, at: Moment) -> list[Command]:
        """The server is away: what it cannot have waits again. What was sent is left to its own time."""
        self.judge.contact_lost(at.now)
        self.watermark.lapse()
        # A card may have another owner when the server is back.
        self.forget()
        return self.withdraw("contact lost", at)

    # Back to waiting

    def withdraw(self, why: str, at: Moment) -> list[Command]:
        """Nothing more may be sent: all that the server cannot have waits again."""
        commands: list[Command] = []
        for parcel in self.parcels:
            taken_back = parcel.stage is Stage.CALLING and parcel.call is not None and self._server.cancel(parcel.call)
            if taken_back or parcel.stage in (Stage.RESOLVING, Stage.READY):
                commands += self._put_back(parcel, why, at)
        return commands

    def _put_back(
        self, parcel: Parcel, why: str, at: Moment, pause: float = 0.0, tries: int | None = None
    ) -> list[Command]:
        item, until = parcel.item, at.now + pause if pause else 0.0
        parcel.call = None
        commands = self._nobody_waits(parcel, at)
        if not parcel.marked and tries is None:
            self._free(parcel, until)
            return commands
        delivery = Delivery(
            at.wall,
            item.seq,
            self._books.name,
            "unsent",
            OutboxState.WAITING,
            item.tries if tries is None else tries,
            why,
            next_try=at.wall + int(pause * 1000) if pause else 0,
        )
        self._hand_over(parcel)
        return [*commands, Keep(delivery, self._owner, PutBack(delivery, until))]

    def _hand_over(self, parcel: Parcel) -> None:
        """Only stable storage has a say in it now."""
        self.parcels.out_of_turn(parcel)
        parcel.stage = Stage.SETTLING

    def _free(self, parcel: Parcel, until: float) -> None:
        self.parcels.remove(parcel)
        if until:
            self._outbox.pause(parcel.seq, until)
        else:
            self._outbox.cut(parcel.seq)

    def _settled(self, parcel: Parcel, commands: list[Command], at: Moment) -> list[Command]:
        self._hand_over(parcel)
        return commands + self._nobody_waits(parcel, at)

    def _nobody_waits(self, parcel: Parcel, at: Moment) -> list[Command]:
        waiter, parcel.waiter = parcel.waiter, None
        return waiter.unanswered(at) if waiter is not None else []

    # Time

    def tick(self, at: Moment, *, may_send: bool) -> list[Command]:
        """Who has waited long enough; what can be written down again; the trial of a minute; the end of a drain."""
        commands: list[Command] = []
        for parcel in self.parcels:
            if parcel.waiter is None or at.now < parcel.patient_until:
                continue
            if parcel.stage is Stage.READY:
                commands += self._put_back(parcel, "it could not be sent at once", at)
            else:
                commands += self._nobody_waits(parcel, at)
        due = [token for when, token in self._unwritten if at.now >= when]
        self._unwritten = [(when, token) for when, token in self._unwritten if at.now < when]
        commands += [Keep(token.delivery, self._owner, token) for token in due]
        if not self.parcels:
            self.judge.idle(at.now)
        if self.parcels or not self._outbox.empty:
            self._quiet_since = at.now
            return commands
        if at.now >= self._quiet_since + SOON:
            self.forget()
        if may_send and self.watermark.unsettled and at.now >= self._quiet_since + 2 * SOON:
            commands += self.watermark.begin(self._outbox.highest + 1, self._outbox.highest, at)
        return commands
