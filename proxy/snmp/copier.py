"""The SNMP proxy of one copier: asked at a port of its own, by SNMPv3 or SNMPv2c, and asking the copier in its version.

The same request is sent to the copier once: while its answer is under way all who ask for the same wait for it, and for
`max_age` seconds afterwards it is answered from memory. Never more than one request is under way. When the copier does
not answer, the last answer to the same request is given, or none, as configured; two objects of our own (`AGE`,
`SOURCE`), asked for beside others, say how old an answer is and where it is from. Error-status of SNMPv1 is passed on
as it is (RFC 3584 section 3.1.2).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from protocols.errors import ProtocolError
from protocols.snmp.messages import Message, Pdu, Status, Varbind
from proxy.commands import Close, Command, Open, Send
from proxy.events import Channel, Event, Moment, Peer, Received, Refused, Ticked
from proxy.metering.agents import Agent
from proxy.snmp.agent import refused, reported
from proxy.snmp.engine import LARGEST, Asked, Engine, Reported
from proxy.snmp.oids import AGE, OURS, SOURCE
from proxy.snmp.settings import ProxySettings
from proxy.snmp.towards import Again, Towards
from proxy.snmp.tree import NOT_WRITABLE
from proxy.tally import Tally

MOST_KEPT = 4096
"""Answers remembered of a copier."""
MOST_QUEUED = 64
"""Different requests that wait for a copier."""
MOST_WAITING = 64
"""Askers that wait for the same answer."""
MOST_REPETITIONS = 32
MOST_VARBINDS = 128
MOST_AGAIN = 3
MOST_STRANGE = 16
SILENT_FOR = 10.0
"""Seconds in which a copier that did not answer is not waited for again where there is an older answer."""

FRESH, REMEMBERED, SILENT = 1, 2, 3
"""What `SOURCE` says: from the copier now, from memory, or the last answer of a copier that is silent."""

_READS = (Pdu.GET, Pdu.GET_NEXT, Pdu.GET_BULK)

Key = tuple[Pdu, int, int, tuple[Varbind, ...]]


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer of the copier; `at`: monotonic seconds."""

    status: int
    index: int
    varbinds: tuple[Varbind, ...]
    at: float


@dataclass(slots=True)
class Figures:
    """What became of requests, for the MIB. `heard`: when the copier last answered (ms), 0 never."""

    asked: int = 0
    from_memory: int = 0
    sent: int = 0
    from_silent: int = 0
    unanswered: int = 0
    heard: int = 0


@dataclass(slots=True)
class _UnderWay:
    key: Key
    sent: float
    tries: int = 1
    again: int = 0
    strange: int = 0


class CopierProxy:
    """`front`: the channel where it is asked; a channel of its own leads to the copier."""

    def __init__(
        self, device: str, engine: Engine, agent: Agent, settings: ProxySettings, tally: Tally, at: Moment
    ) -> None:
        self.device = device
        self.engine = engine
        self.figures = Figures()
        self.front: Channel = ("snmp", "proxy", device)
        self._back: Channel = ("snmp", "copier", device)
        self._agent = agent
        self._settings = settings
        self._tally = tally
        self._towards = Towards(agent, at)
        self._memory: OrderedDict[Key, Remembered] = OrderedDict()
        self._waiting: dict[Key, deque[tuple[Peer, Asked]]] = {}
        self._queue: deque[Key] = deque()
        self._under_way: _UnderWay | None = None
        self._silent_until = float("-inf")
        self._heard = float("-inf")

    def way(self) -> list[Command]:
        """The way to the copier."""
        return [Open(self._back, self, self._agent.address, self._agent.port, largest=LARGEST)]

    def reconfigure(self, agent: Agent, at: Moment) -> list[Command]:
        """The copier is asked another way from now on; who waits for an answer asks again."""
        if agent == self._agent:
            return []
        self._agent, self._towards = agent, Towards(agent, at)
        self._under_way = None
        self._waiting.clear()
        self._queue.clear()
        return [Close(self._back), *self.way()]

    @property
    def silent(self) -> bool:
        """Whether the copier did not answer when it was last asked."""
        return self._silent_until > float("-inf")

    def handle(self, event: Event) -> list[Command]:
        match event:
            case Received(channel=channel) if channel == self.front:
                return self._asked(event)
            case Received(channel=channel) if channel == self._back:
                return self._answered(event)
            case Refused(channel=channel) if channel == self._back and self._under_way is not None:
                return self._gave_up(event.at)
            case Ticked(at=at):
                return self._ticked(at)
            case _:
                return []

    # Towards the management side

    def _asked(self, event: Received) -> list[Command]:
        try:
            asked = self.engine.read(event.data, event.at)
        except ProtocolError as error:
            return refused(self._tally, error.reason, event, str(error))
        if isinstance(asked, Reported):
            return reported(self._tally, asked, event)
        message = asked.message
        if message.pdu not in _READS and message.pdu is not Pdu.SET:
            return refused(self._tally, "snmp-pdu", event, "what is no request")
        self.figures.asked += 1
        if message.pdu is Pdu.SET and not self._settings.writes:
            self._tally.counts["snmp-write"] += 1
            answer = self.engine.answer(asked, NOT_WRITABLE, 1 if message.varbinds else 0, message.varbinds, event.at)
            return [Send(self.front, answer, event.peer)]
        if len(message.varbinds) > MOST_VARBINDS:
            answer = self.engine.answer(asked, Status.TOO_BIG, 0, (), event.at)
            return [Send(self.front, answer, event.peer)]
        return self._serve(event.peer, asked, event.at)

    def _serve(self, peer: Peer, asked: Asked, at: Moment) -> list[Command]:
        key = _key(asked.message)
        if not key[3] and asked.message.varbinds:
            age = max(0.0, at.now - self._heard)
            source = SILENT if self.silent else REMEMBERED
            return [self._send(peer, asked, Remembered(0, 0, (), at.now - min(age, 4e7)), source, at)]
        known = self._known(key)
        if known is not None and at.now - known.at <= self._settings.max_age:
            self.figures.from_memory += 1
            return [self._send(peer, asked, known, REMEMBERED, at)]
        if known is not None and self._settings.last and at.now < self._silent_until:
            self.figures.from_silent += 1
            return [self._send(peer, asked, known, SILENT, at)]
        waiting = self._waiting.get(key)
        if waiting is None:
            if len(self._queue) >= MOST_QUEUED:
                self._tally.counts["snmp-too-many"] += 1
                return []
            waiting = self._waiting[key] = deque()
            self._queue.append(key)
        if len(waiting) >= MOST_WAITING:
            self._tally.counts["snmp-too-many"] += 1
            return []
        waiting.append((peer, asked))
        return self._next(at)

    def _send(self, peer: Peer, asked: Asked, found: Remembered, source: int, at: Moment) -> Send:
        varbinds: Sequence[Varbind] = found.varbinds
        index = found.index
        if asked.message.pdu is Pdu.GET and any(each.oid in OURS for each in asked.message.varbinds):
            varbinds, index = _with_ours(asked.message, found, source, at)
        elif found.status:
            varbinds = asked.message.varbinds
        return Send(self.front, self.engine.answer(asked, found.status, index, varbinds, at), peer)

    # Towards the copier

    def _next(self, at: Moment) -> list[Command]:
        if self._under_way is not None or not self._queue:
            return []
        self._under_way = _UnderWay(self._queue.popleft(), at.now)
        return self._ask(self._under_way, at)

    def _ask(self, under_way: _UnderWay, at: Moment) -> list[Command]:
        pdu, status, index, varbinds = under_way.key
        if pdu is Pdu.GET_BULK and not self._towards.bulk:
            # RFC 3584 section 4.1: what an agent of SNMPv1 can answer of it is the first row.
            pdu, status, index = Pdu.GET_NEXT, 0, 0
        under_way.sent = at.now
        self.figures.sent += 1
        try:
            return [Send(self._back, self._towards.request(pdu, varbinds, at, status, index))]
        except (ProtocolError, ValueError):
            self._tally.counts["snmp-not-sent"] += 1
            return self._gave_up(at)

    def _answered(self, event: Received) -> list[Command]:
        under_way, at = self._under_way, event.at
        if under_way is None:
            self._tally.counts["snmp-late"] += 1
            return []
        try:
            found = self._towards.read(event.data, at)
        except ProtocolError as error:
            under_way.strange += 1
            told = refused(self._tally, error.reason, _from(event, self._agent.address), f"its answer: {error}")
            if error.reason == "snmp-denied" or under_way.strange >= MOST_STRANGE:
                return told + self._gave_up(at)
            return told
        if isinstance(found, Again):
            under_way.again += 1
            return self._ask(under_way, at) if under_way.again <= MOST_AGAIN else self._gave_up(at)
        pdu = under_way.key[0]
        self._heard, self._silent_until = at.now, float("-inf")
        self.figures.heard = at.wall
        answer = Remembered(found.status, found.index, found.varbinds, at.now)
        if pdu is Pdu.SET:
            self._memory.clear()
        elif found.status in (Status.NO_ERROR, Status.NO_SUCH_NAME):
            self._remember(under_way.key, answer)
        return self._settle(under_way.key, answer, FRESH, at)

    def _ticked(self, at: Moment) -> list[Command]:
        under_way = self._under_way
        if under_way is None or at.now - under_way.sent < self._agent.timeout:
            return self._next(at)
        # What may have been written is not written again.
        if under_way.tries > self._agent.retries or under_way.key[0] is Pdu.SET:
            return self._gave_up(at)
        under_way.tries += 1
        return self._ask(under_way, at)

    def _gave_up(self, at: Moment) -> list[Command]:
        """The copier is silent: nobody waits any longer, not those either who wait for other answers."""
        under_way = self._under_way
        if under_way is None:
            return []
        self._silent_until = at.now + SILENT_FOR
        commands = self._unanswered(under_way.key, at)
        while self._queue:
            commands += self._unanswered(self._queue.popleft(), at)
        return commands

    def _unanswered(self, key: Key, at: Moment) -> list[Command]:
        known = self._known(key) if self._settings.last else None
        if known is not None:
            self.figures.from_silent += len(self._waiting.get(key, ()))
            return self._settle(key, known, SILENT, at)
        self.figures.unanswered += len(self._waiting.pop(key, ()))
        self._over(key)
        return []

    def _settle(self, key: Key, answer: Remembered, source: int, at: Moment) -> list[Command]:
        waiting = self._waiting.pop(key, ())
        self._over(key)
        commands: list[Command] = [self._send(peer, asked, answer, source, at) for peer, asked in waiting]
        return commands if source == SILENT else commands + self._next(at)

    def _over(self, key: Key) -> None:
        if self._under_way is not None and self._under_way.key == key:
            self._under_way = None

    def _known(self, key: Key) -> Remembered | None:
        """What is remembered: the answer to this request, or of a GET each object from whichever answer had it."""
        known = self._memory.get(key)
        if key[0] is not Pdu.GET or known is not None:
            return known
        found = [self._memory.get((Pdu.GET, 0, 0, (each,))) for each in key[3]]
        parts = [each for each in found if each is not None and not each.status]
        if len(parts) < len(found) or not parts:
            return None
        varbinds = tuple(varbind for each in parts for varbind in each.varbinds)
        return Remembered(0, 0, varbinds, min(each.at for each in parts))

    def _remember(self, key: Key, answer: Remembered) -> None:
        if key[0] is Pdu.GET and not answer.status and [each.oid for each in answer.varbinds] == _names(key):
            for asked, each in zip(key[3], answer.varbinds, strict=True):
                self._keep((Pdu.GET, 0, 0, (asked,)), Remembered(0, 0, (each,), answer.at))
        else:
            self._keep(key, answer)

    def _keep(self, key: Key, answer: Remembered) -> None:
        self._memory[key] = answer
        self._memory.move_to_end(key)
        if len(self._memory) > MOST_KEPT:
            self._memory.popitem(last=False)


def _key(message: Message) -> Key:
    """What makes two requests the same to the copier: our own objects and values of reads do not."""
    if message.pdu is Pdu.SET:
        return message.pdu, 0, 0, message.varbinds
    asked = tuple(Varbind(each.oid, "null") for each in message.varbinds if _is_for_copier(message, each))
    if message.pdu is not Pdu.GET_BULK:
        return message.pdu, 0, 0, asked
    alone = max(0, min(message.status, len(asked)))
    return message.pdu, alone, max(0, min(message.index, MOST_REPETITIONS)), asked


def _names(key: Key) -> list[str]:
    return [each.oid for each in key[3]]


def _is_for_copier(message: Message, each: Varbind) -> bool:
    return message.pdu is not Pdu.GET or each.oid not in OURS


def _with_ours(message: Message, found: Remembered, source: int, at: Moment) -> tuple[tuple[Varbind, ...], int]:
    """The objects in the order in which they were asked, ours among them, and the error-index that this gives."""
    ours = {
        AGE: Varbind(AGE, "timeticks", int(max(0.0, at.now - found.at) * 100) & 0xFFFFFFFF),
        SOURCE: Varbind(SOURCE, "integer", source),
    }
    others = iter(found.varbinds)
    made: list[Varbind] = []
    index, place = 0, 0
    for number, each in enumerate(message.varbinds, 1):
        if each.oid in ours:
            made.append(ours[each.oid])
            continue
        place += 1
        index = number if place == found.index else index
        made.append(each if found.status else next(others, Varbind(each.oid, "no-such-object")))
    return tuple(made), index


def _from(event: Received, address: str) -> Received:
    return replace(event, peer=(address, 0, ""))
