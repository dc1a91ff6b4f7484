"""One Application Server as Locum sees it, whatever it speaks: its state, and who must be told.

A dialect's upstream inherits from this and adds the wire: how to probe, how to send a record, what is authentic. The
base owns the link (state) and turns its changes into what is kept and told; the way of a record is `proxy/handover.py`.
What needs no dialect at all (who has this card?) is asked through it too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from proxy.asking import CardQuestion
from proxy.commands import Command, Keep, Source, Tell
from proxy.events import Kept, Moment
from proxy.handover import Handover
from proxy.lender import Lender
from proxy.link import Link, Signal, State
from storage.records import Note, OutageStep

HEARS_AGAIN = 1.0
"""Seconds for the first answers, once they come here again."""


class Subscriber(Protocol):
    """Whoever acts on an upstream's state: the listeners whose logins go there."""

    def state_changed(self, at: Moment) -> list[Command]: ...


class Upstream(Handover):
    """The dialect-free half of an upstream. Times as in `Moment`, `answer_timeout` in seconds.

    `before_subscribers` is told of a change of state first. `trouble`: what is wrong although the server answers, in
    words, for status; "" nothing. `lender`: in line, as whom Locum speaks for itself; None: it does not stand there.
    `deaf_until` (monotonic): in line, until when silence says nothing, for answers pass by Locum.
    """

    def __init__(self, name: str, dialect: str, link: Link, window: int) -> None:
        super().__init__(name, window)
        self.dialect = dialect
        self.link = link
        self.subscribers: list[Subscriber] = []
        self.before_subscribers: Callable[[Upstream, Moment], list[Command]] = lambda upstream, at: []
        self.answer_timeout = 3.0
        self.trouble = ""
        self.lender: Lender | None = None
        self.deaf_until = float("-inf")

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

    def ask_card(self, question: CardQuestion, at: Moment) -> list[Command]:
        """Ask the server whose card this is. Only for a server that listeners of other dialects may have."""
        raise NotImplementedError(f"a {self.dialect} server is not asked about cards")

    def doubted(self, at: Moment) -> list[Command]:
        """The server did not answer on a way of its own, or closed it: look at once whether it is there."""
        return []

    def device_spoke(self, address: str, at: Moment) -> list[Command]:
        """A device that is known here has sent something: in line its address may be borrowed."""
        return [] if self.lender is None else self.lender.heard(address, at)

    def may_speak(self, server: str) -> bool:
        """Whether there is somebody as whom to speak to this address for Locum itself."""
        return self.lender is None or self.lender.towards(server) is not None

    def own_source(self, server: str) -> Source | None:
        """The source of what Locum itself sends to this address; None: its own."""
        return None if self.lender is None else self.lender.towards(server)

    def passed_by(self, at: Moment) -> None:
        """In line, nothing is diverted: neither logins nor answers come here. What was asked last stays without one."""
        self.deaf_until = at.now + self.answer_timeout + HEARS_AGAIN

    def is_deaf(self, at: Moment) -> bool:
        return at.now < self.deaf_until

    @property
    def contact_holds(self) -> bool:
        """Whether nothing speaks against the server's being there: an outage does not end by the cut that ends it."""
        return True

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
        if self.is_deaf(at):
            return []
        return self.signal(Signal.CONTACT_FAILED, cause, at)

    def tick(self, at: Moment) -> list[Command]:
        """What time alone brings: the end of grace, pauses that are over."""
        commands: list[Command] = []
        if self.link.proven and self.link.delay_has_passed(at.now) and not self.is_deaf(at):
            commands += self.signal(Signal.DELAY_PASSED, f"{self.link.cause}; the delay has passed", at)
        return commands + self.write_again(at) + self.nothing_waits(at) + self.pump(at)

    def kept(self, event: Kept) -> list[Command]:
        """Stable storage has what this upstream asked for; it may have been the last that waited."""
        return super().kept(event) + self.nothing_waits(event.at)

    def nothing_waits(self, at: Moment) -> list[Command]:
        """End of recovery, once the outbox is empty."""
        if self.link.state is State.RECOVERING and self.outbox.empty and self.contact_holds:
            return self.signal(Signal.NOTHING_WAITS, "nothing waits", at)
        return []

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


def kept_as(step: OutageStep) -> OutageStep | Note:
    """How a change of state is kept: as a step of its outage, or, where there is none, as a note."""
    if step.outage is not None:
        return step
    return Note(step.at, "state", {"upstream": step.upstream, "state": step.state, "cause": step.cause})
