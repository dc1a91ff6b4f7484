"""Traps and informs of copiers: kept in the ledger, acknowledged when they are kept, forwarded in order as they came.

While the server is there a message is forwarded as soon as it is kept; while it is away it waits in the ledger. What
waited goes out octet for octet as it came, and before it a notification of ours, LOCUM-MIB::locumTrapKept, that says
when it arrived and from where: into a message itself nothing can be put, least of all into one of SNMPv3. That
notification has the message's own community; a message of SNMPv3 is not read, so it is marked in the ledger alone, and
an inform of SNMPv3 is not acknowledged here.

Nobody confirms a trap, and an outage is noticed only after a while. So what was sent waits once more where the network
refused it, or where the server turns out to be away soon after: it may arrive twice then, behind a mark.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocols.errors import Malformed, NotAuthentic, ProtocolError
from protocols.snmp import messages, usm
from protocols.snmp.messages import Message, Pdu, Varbind
from proxy.commands import Command, Keep, Open, Send
from proxy.events import Channel, Event, Kept, Moment, NotKept, Received, Refused, Ticked
from proxy.snmp import oids
from proxy.snmp.agent import refused
from proxy.snmp.engine import pdu_of
from proxy.snmp.settings import TrapSettings
from proxy.tally import Tally
from storage import times
from storage.answers import Stored
from storage.records import Trap, TrapForwarded

TRAP_V1 = 0xA4
A_TICK = 50
"""Messages forwarded in one go: some thousand a second."""
PAUSE = 5.0
ANSWER_WITHIN = 2.0
TRIES = 3
MOST_REMEMBERED = 4096
REPEATED_WITHIN = 60.0
LARGEST = 65_507


@dataclass(frozen=True, slots=True)
class Waiting:
    """A kept message. `seq`: its entry; `inform`: the request-id to be acknowledged; `late`: it waited while the server
    was away.
    """

    seq: int
    raw: bytes
    client: str
    at: int
    inform: int | None
    late: bool


@dataclass(frozen=True, slots=True)
class _Came:
    raw: bytes
    client: str
    at: int
    inform: int | None
    digest: bytes


class TrapStore:
    """`there`: whether the server can be reached now; `unnoticed`: seconds for which it may be away before that is
    known; `waiting`: what an earlier run of Locum left.
    """

    def __init__(
        self,
        settings: TrapSettings,
        there: Callable[[], bool],
        tally: Tally,
        device_of: Callable[[str], str],
        unnoticed: float,
        waiting: Sequence[Waiting] = (),
    ) -> None:
        self.front: Channel = ("snmp", "traps")
        self.kept = 0
        self.forwarded = 0
        self._back: Channel = ("snmp", "traps", "server")
        self._settings = settings
        self._there = there
        self._tally = tally
        self._device_of = device_of
        self._waiting = deque(waiting)
        self._unnoticed = unnoticed
        self._sent: deque[tuple[float, Waiting, str]] = deque()
        self._asking: tuple[Waiting, float, int] | None = None
        self._under_way = 0
        self._informs: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()
        self._not_before = 0.0
        self._room = settings.rate * 10
        self._filled = 0.0

    def way(self) -> list[Command]:
        """The way to the server."""
        return [Open(self._back, self, self._settings.server, self._settings.port, largest=LARGEST)]

    @property
    def waiting(self) -> int:
        """How many wait to be forwarded."""
        return len(self._waiting) + self._under_way

    def handle(self, event: Event) -> list[Command]:
        match event:
            case Received(channel=channel) if channel == self.front:
                return self._came(event)
            case Received(channel=channel) if channel == self._back:
                return self._acknowledged(event)
            case Kept(token=_Came() as came, outcome=Stored(seq=seq), at=at):
                return self._is_kept(came, seq, at)
            case NotKept(token=_Came() as came):
                return self._not_kept(came)
            case Refused(channel=channel, at=at) if channel == self._back:
                return self._was_refused(at)
            case Ticked(at=at):
                return self._ticked(at)
            case _:
                return []

    # From copiers

    def _came(self, event: Received) -> list[Command]:
        try:
            version, kind, inform, answer = self._read(event.data)
        except ProtocolError as error:
            return refused(self._tally, error.reason, event, str(error))
        address, at = event.peer[0], event.at
        digest = hashlib.sha256(f"{event.peer[:2]}".encode() + event.data).digest()
        if answer:
            known = self._informs.get(digest)
            if known is not None and at.now - known[0] < REPEATED_WITHIN:
                # Its acknowledgement may have been lost; while it is being kept there is none yet.
                self._tally.counts["trap-repeated"] += 1
                return [Send(event.channel, answer, event.peer)] if known[1] else []
        if self.waiting >= self._settings.most:
            return refused(self._tally, "trap-too-many", event, "too many traps wait for the server")
        if not self._has_room(at):
            return refused(self._tally, "trap-too-fast", event, "traps come too fast")
        if answer:
            self._informs[digest] = (at.now, False)
            if len(self._informs) > MOST_REMEMBERED:
                self._informs.popitem(last=False)
        self._under_way += 1
        kept = Trap(at.wall, self._device_of(address), address, version, kind, event.data)
        came = _Came(event.data, address, at.wall, inform, digest)
        then = (Send(event.channel, answer, event.peer),) if answer else ()
        return [Keep(kept, self, came, then=then)]

    def _read(self, data: bytes) -> tuple[str, str, int | None, bytes]:
        """Version, trap or inform, an inform's request-id, and the acknowledgement to give. Raises ProtocolError."""
        version = messages.version_of(data)
        if version == messages.V3:
            usm.decode(data)
            return "3", "opaque", None, b""
        if version not in (messages.V1, messages.V2C):
            raise Malformed("snmp-version", f"version {version}")
        tag, place, community = pdu_of(data)
        known = self._settings.communities
        if known and not any(hmac.compare_digest(community, each) for each in known):
            raise NotAuthentic("snmp-wrong-community", "the community is wrong")
        if version == messages.V1:
            if tag != TRAP_V1:
                raise Malformed("snmp-pdu", "no trap")
            return "1", "trap", None, b""
        message = messages.decode(data)
        if message.pdu is Pdu.TRAP:
            return "2c", "trap", None, b""
        if message.pdu is Pdu.INFORM:
            # The answer to an inform is the inform itself, called a response (RFC 3416 section 4.2.7).
            return "2c", "inform", message.request, data[:place] + bytes((Pdu.RESPONSE,)) + data[place + 1 :]
        raise Malformed("snmp-pdu", "neither trap nor inform")

    def _has_room(self, at: Moment) -> bool:
        rate = self._settings.rate
        self._room = min(rate * 10, self._room + (at.now - self._filled) * rate)
        self._filled = at.now
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _is_kept(self, came: _Came, seq: int, at: Moment) -> list[Command]:
        self._under_way -= 1
        self.kept += 1
        if came.digest in self._informs:
            self._informs[came.digest] = (at.now, True)
        late = not self._there() or bool(self._waiting) or at.now < self._not_before
        self._waiting.append(Waiting(seq, came.raw, came.client, came.at, came.inform, late))
        return self._forward(at)

    def _not_kept(self, came: _Came) -> list[Command]:
        """A ledger that cannot store must not cost the server what it can have now. An inform comes again."""
        self._under_way -= 1
        self._informs.pop(came.digest, None)
        self._tally.counts["trap-not-kept"] += 1
        return [Send(self._back, came.raw)] if self._there() and came.inform is None else []

    # To the server

    def _forward(self, at: Moment) -> list[Command]:
        commands: list[Command] = []
        for _ in range(A_TICK):
            if not self._waiting or self._asking is not None or at.now < self._not_before or not self._there():
                break
            item = self._waiting.popleft()
            if item.late:
                commands += self._mark(item, at)
            commands.append(Send(self._back, item.raw))
            if item.inform is None:
                self._sent.append((at.now, item, "sent"))
            else:
                self._asking = item, at.now, 1
        return commands

    def _mark(self, item: Waiting, at: Moment) -> list[Command]:
        """The notification that says when a message arrived; none for what is not read."""
        if messages.version_of(item.raw) == messages.V3:
            return []
        community = pdu_of(item.raw)[2]
        varbinds = mark_of(item, int(at.now * 100) & 0xFFFFFFFF)
        number = int.from_bytes(at.random(4, f"mark {item.seq}"), "big") >> 1
        return [Send(self._back, messages.encode(Message(messages.V2C, community, Pdu.TRAP, number, 0, 0, varbinds)))]

    def _acknowledged(self, event: Received) -> list[Command]:
        if self._asking is None:
            return []
        item = self._asking[0]
        try:
            answer = messages.decode(event.data)
        except ProtocolError as error:
            self._tally.counts[error.reason] += 1
            return []
        if answer.pdu is not Pdu.RESPONSE or answer.request != item.inform:
            return []
        self._asking = None
        return [*self._settled(item, "acknowledged", event.at), *self._forward(event.at)]

    def _ticked(self, at: Moment) -> list[Command]:
        if not self._there():
            self._take_back()
            return []
        commands: list[Command] = []
        while self._sent and (at.now - self._sent[0][0] >= self._unnoticed or len(self._sent) > self._settings.most):
            _, item, outcome = self._sent.popleft()
            commands += self._settled(item, outcome, at)
        if self._asking is not None and at.now - self._asking[1] >= ANSWER_WITHIN:
            item, _, tries = self._asking
            if tries >= TRIES:
                self._asking = None
                self._sent.append((at.now, item, "unanswered"))
            else:
                self._asking = item, at.now, tries + 1
                commands.append(Send(self._back, item.raw))
        return commands + self._forward(at)

    def _was_refused(self, at: Moment) -> list[Command]:
        """Nobody listens there now."""
        self._take_back()
        self._not_before = at.now + PAUSE
        return []

    def _take_back(self) -> None:
        """What was just sent waits again, in order."""
        again = [item for _, item, _ in self._sent]
        self._sent.clear()
        if self._asking is not None:
            again.append(self._asking[0])
            self._asking = None
        self._waiting.extendleft(_late(item) for item in reversed(again))

    def _settled(self, item: Waiting, outcome: str, at: Moment) -> list[Command]:
        self.forwarded += 1
        return [Keep(TrapForwarded(at.wall, item.seq, outcome), wait=False)]


def _late(item: Waiting) -> Waiting:
    return Waiting(item.seq, item.raw, item.client, item.at, item.inform, True)


def mark_of(item: Waiting, uptime: int) -> tuple[Varbind, ...]:
    """The objects of locumTrapKept, with the copier's address as RFC 3584 section 3.1 has it."""
    found = [
        Varbind(oids.SYS_UPTIME, "timeticks", uptime),
        Varbind(oids.SNMP_TRAP, "oid", oids.TRAP_KEPT),
        Varbind(oids.KEPT_ENTRY, "counter64", item.seq),
        Varbind(oids.KEPT_ARRIVED, "octets", times.text(item.at).encode()),
        Varbind(oids.KEPT_FROM, "octets", item.client.encode()),
        Varbind(oids.KEPT_DIGEST, "octets", hashlib.sha256(item.raw).digest()),
    ]
    numbers = item.client.split(".")
    if len(numbers) == 4:
        found.append(Varbind(oids.SNMP_TRAP_ADDRESS, "address", bytes(map(int, numbers))))
    return tuple(found)


def inform_of(version: str, kind: str, raw: bytes) -> int | None:
    """The request-id of a kept inform; None for what is none. Raises ProtocolError."""
    return messages.decode(raw).request if (version, kind) == ("2c", "inform") else None
