"""Whose a record is: its card looked up at the server at forwarding time, and the unknown user where nobody has it.

In this order: the converted number, then the one that was read - the server's own name for the unknown user, or ours -
whether that user exists - or else it is created. A look-up under way is shared, and what it said is remembered for a
minute or until the drain ends. Where the server fails, nobody is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from protocols.papercut.calls import Fault, Value
from protocols.papercut.cards import numbers_to_try
from proxy.commands import Command, Tell
from proxy.dialects.papercut.calls import Ended, Kind, Server, ask, broke, is_true, text_of, words_of
from proxy.dialects.papercut.http import Status
from proxy.events import Moment

REMEMBERED_FOR = 60.0
UNKNOWN_USER_VALUE = "ext-device.unknown-offline-username"
JOB_COUNT = "print-stats.job-count"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a card belongs to. `unknown`: nobody has it, and `user` is the unknown user. `matched`: what of the number
    did it ("converted", "as read", "").
    """

    user: str
    unknown: bool = False
    matched: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The server could not be asked, or could not say. `said`: it answered, but with an error of its own. `broke`: the
    connection ended, so it may be asked again soon.
    """

    words: str
    said: bool
    broke: bool = False


Answer = Owner | Failed
Then = Callable[[Answer, Moment], list[Command]]


@dataclass(frozen=True, slots=True)
class CardRules:
    """How numbers are made of what readers give, and who is unknown where the server does not say."""

    pattern: re.Pattern[str] | None = None
    converters: tuple[str, ...] = ()
    unknown_username: str = "unknown"

    def numbers(self, card: str) -> tuple[tuple[str, str], ...]:
        """What to look up, in order, and what it is."""
        found = numbers_to_try(card, self.pattern, self.converters)
        return tuple((number, "as read" if number == card else "converted") for number in found)


def failure(ended: Ended) -> Failed:
    """A call that gave no value, as a failure."""
    if isinstance(ended, Value):
        return Failed("an answer that makes no sense", said=True)
    return Failed(words_of(ended), said=isinstance(ended, Fault | Status), broke=broke(ended))


class LookUp:
    """One card's way through the server: each number in turn."""

    def __init__(self, server: Server, kind: Kind, numbers: tuple[tuple[str, str], ...], then: Then) -> None:
        self._server, self._kind = server, kind
        self._left = list(numbers)
        self._then = then

    def go_on(self, at: Moment) -> list[Command]:
        """Ask for the next number; without one left, nobody has the card (an Owner without a user)."""
        if not self._left:
            return self._then(Owner("", unknown=True), at)
        number, matched = self._left.pop(0)

        def said(ended: Ended, at: Moment) -> list[Command]:
            if not isinstance(ended, Value) or not isinstance(ended.value, str | None):
                return self._then(failure(ended), at)
            user = text_of(ended)
            return self._then(Owner(user, matched=matched), at) if user else self.go_on(at)

        return ask(self._server, self._kind, said, at, "lookUpUserNameByCardNo", number)


class Resolver:
    """Owners of cards, for records."""

    def __init__(self, server: Server, name: str, rules: CardRules) -> None:
        self.rules = rules
        self._server = server
        self._name = name
        self._known: dict[str, tuple[Owner, float]] = {}
        self._asking: dict[str, list[Then]] = {}
        self._drain = 0

    def resolve(self, card: str, then: Then, at: Moment) -> list[Command]:
        """Tell `then` whose the card is, now or later. "": the unknown user."""
        known = self._known.get(card)
        if known is not None and at.now < known[1]:
            return then(known[0], at)
        if card in self._asking:
            self._asking[card].append(then)
            return []
        self._asking[card] = [then]
        if not card:
            return _UnknownUser(self._server, self._name, self.rules, self._found(card)).find(at)

        def looked_up(answer: Answer, at: Moment) -> list[Command]:
            if isinstance(answer, Owner) and answer.unknown:
                return self.resolve("", self._found(card), at)
            return self._found(card)(answer, at)

        return LookUp(self._server, Kind.RECORD, self.rules.numbers(card), looked_up).go_on(at)

    def forget(self) -> None:
        """The drain has ended: the next one asks anew."""
        self._known.clear()
        self._drain += 1

    def _found(self, card: str) -> Then:
        drain = self._drain

        def found(answer: Answer, at: Moment) -> list[Command]:
            if isinstance(answer, Owner) and drain == self._drain:
                self._known[card] = (answer, at.now + REMEMBERED_FOR)
            commands: list[Command] = []
            for then in self._asking.pop(card, []):
                commands += then(answer, at)
            return commands

        return found


class _UnknownUser:
    """The user against whom cards that nobody has are logged: found at the server, or created there."""

    def __init__(self, server: Server, name: str, rules: CardRules, then: Then) -> None:
        self._server, self._name, self._rules = server, name, rules
        self._then = then
        self._user = ""
        self._fault = ""

    def find(self, at: Moment) -> list[Command]:
        return ask(self._server, Kind.RECORD, self._named, at, "getConfigValue", UNKNOWN_USER_VALUE)

    def _named(self, ended: Ended, at: Moment) -> list[Command]:
        if not isinstance(ended, Value | Fault):
            return self._then(failure(ended), at)
        # A server that refuses to tell its own name for this user has none that can be read.
        said = text_of(ended).strip() if isinstance(ended, Value) else ""
        self._user = said or self._rules.unknown_username
        return self._look(at)

    def _look(self, at: Moment) -> list[Command]:
        return ask(self._server, Kind.RECORD, self._exists, at, "isUserExists", self._user)

    def _exists(self, ended: Ended, at: Moment) -> list[Command]:
        if not isinstance(ended, Value):
            return self._then(failure(ended), at)
        if is_true(ended.value):
            return self._then(Owner(self._user, unknown=True), at)
        if self._fault:
            return self._then(Failed(self._fault, said=True), at)
        password = at.random(24, "password of the unknown user").hex()
        new = (self._user, password, "", "", "", "")
        return ask(self._server, Kind.RECORD, self._created, at, "addNewInternalUser", *new)

    def _created(self, ended: Ended, at: Moment) -> list[Command]:
        if isinstance(ended, Fault):
            # Somebody was faster, or it cannot be created: whether it is there now decides.
            self._fault = f"the user '{self._user}' cannot be created: {ended.text}"
            return self._look(at)
        if not isinstance(ended, Value):
            return self._then(failure(ended), at)
        text = f"{self._name}: the user '{self._user}' did not exist at the server and was created, for unknown cards"
        return [Tell("warning", text, {"upstream": self._name}), *self._then(Owner(self._user, unknown=True), at)]


@dataclass(slots=True)
class _Count:
    jobs: int | None
    read_at: int
    delivered: int = 0


def count_jobs(
    server: Server, user: str, told: Callable[[int | None, Moment], list[Command]], at: Moment
) -> list[Command]:
    """Ask how many jobs the server has logged for a user; None: it did not say."""
    return ask(server, Kind.PROBE, lambda ended, at: told(_whole(ended), at), at, "getUserProperty", user, JOB_COUNT)


def _whole(ended: Ended) -> int | None:
    number = text_of(ended).strip() if isinstance(ended, Value) else ""
    return int(number) if number.isdecimal() and len(number) < 19 else None


class Evidence:
    """How many jobs the server had logged for a user before the first one of this drain, and how many were delivered
    since: it helps a person to find out whether one more was taken.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._counts: dict[str, _Count] = {}
        self._asking: dict[str, list[Callable[[Failed | None, Moment], list[Command]]]] = {}

    def read(self, user: str, then: Callable[[Failed | None, Moment], list[Command]], at: Moment) -> list[Command]:
        """Have the count of this user read; `then` is told when it is, or why it cannot be asked for now."""
        if user in self._counts:
            return then(None, at)
        if user in self._asking:
            self._asking[user].append(then)
            return []
        self._asking[user] = [then]

        def said(ended: Ended, at: Moment) -> list[Command]:
            failed: Failed | None = None
            if isinstance(ended, Value | Fault):
                # A fault is no reason to wait: the job itself will tell what the server thinks of this user.
                self._counts[user] = _Count(_whole(ended), at.wall)
            else:
                failed = failure(ended)
            commands: list[Command] = []
            for each in self._asking.pop(user, []):
                commands += each(failed, at)
            return commands

        return ask(self._server, Kind.RECORD, said, at, "getUserProperty", user, JOB_COUNT)

    def delivered(self, user: str) -> None:
        """One more job of this user was taken."""
        if user in self._counts:
            self._counts[user].delivered += 1

    def of(self, user: str) -> dict[str, int | str | None]:
        """What is known, for the outbox: user, job_count (None: the server did not tell it), read_at (ms),
        delivered_since.
        """
        count = self._counts.get(user)
        if count is None:
            return {"user": user}
        return {
            "user": user,
            "job_count": count.jobs,
            "read_at": count.read_at,
            "delivered_since": count.delivered,
        }

    def forget(self) -> None:
        """The drain has ended."""
        self._counts.clear()
