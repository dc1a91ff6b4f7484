"""Who may ask Locum by SNMP: the authoritative engine of RFC 3414, and communities where they are allowed.

A message of a user is taken once: beside the time window of USM, which lets a copy through for 150 seconds, the digests
of that time are remembered. SNMPv1 is never taken, SNMPv2c only with a community that is configured. What is refused is
an error with its reason, or a report for the other side, and is counted by whoever asks.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from protocols.errors import Malformed, NotAuthentic
from protocols.snmp import ber, messages, usm
from protocols.snmp.messages import Message, Pdu, Varbind
from proxy.events import Moment
from proxy.snmp.settings import Access

MOST_REMEMBERED = 65_536
LARGEST = 65_507
LEAST = 484
"""Octets that every SNMP entity takes (RFC 3417 section 3.2.1)."""

_STATS = "1.3.6.1.6.3.15.1.1."
_REPORTS = {
    "snmp-security-level": "1",
    "snmp-not-in-window": "2",
    "snmp-unknown-user": "3",
    "snmp-unknown-engine": "4",
    "snmp-wrong-digest": "5",
    "snmp-decryption": "6",
}
"""usmStats, by reason."""
WORDS = {
    "snmp-security-level": "asks without the authentication and encryption that its user needs",
    "snmp-not-in-window": "a message of SNMPv3 is out of its time: a replay, or the other side lost its state",
    "snmp-unknown-user": "an unknown user of SNMPv3",
    "snmp-unknown-engine": "",
    "snmp-wrong-digest": "the authentication key of SNMPv3, or its kind, is wrong",
    "snmp-decryption": "the privacy key of SNMPv3, or its kind, is wrong",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was let in. `secured`, `context`: where it came by SNMPv3."""

    message: Message
    secured: usm.Secured | None = None
    context: bytes = b""

    @property
    def largest(self) -> int:
        """Octets that the other side takes."""
        return LARGEST if self.secured is None else max(LEAST, min(self.secured.largest, LARGEST))


@dataclass(frozen=True, slots=True)
class Reported:
    """A message of SNMPv3 that was not let in; `data`, if any, tells the other side why. `reason`: "snmp-..."."""

    reason: str
    data: bytes = b""


class Engine:
    """One port's authoritative engine. `engine_id`: 5 to 32 octets, of this installation; `boots`: how often Locum was
    started; `began`: when, in monotonic seconds.
    """

    def __init__(self, engine_id: bytes, boots: int, began: Moment, access: Access) -> None:
        self.id = engine_id
        self._boots = boots
        self._began = began.now
        self._communities = access.communities
        self._keys = {
            each.name.encode(): usm.keys_of(each.auth, each.auth_key, each.priv, each.priv_key, engine_id)
            for each in access.users
        }
        self._reports = dict.fromkeys(_REPORTS, 0)
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._salt = int.from_bytes(began.random(8, "snmp salt"), "big")
        self._number = int.from_bytes(began.random(4, "snmp number"), "big") >> 1

    def uptime(self, at: Moment) -> int:
        """Hundredths of a second since Locum was started, as TimeTicks."""
        return int((at.now - self._began) * 100) & 0xFFFFFFFF

    def read(self, data: bytes, at: Moment) -> Asked | Reported:
        """Let a message in or not. Raises Malformed, TooLarge, NotAuthentic (a wrong community)."""
        version = messages.version_of(data)
        if version == messages.V3:
            return self._secured(data, at)
        if version != messages.V2C or not self._communities:
            raise NotAuthentic("snmp-version", f"SNMPv{'1' if version == 0 else '2c'} is not taken here")
        message = messages.decode(data)
        known = [hmac.compare_digest(message.community, each) for each in self._communities]
        if not any(known):
            raise NotAuthentic("snmp-wrong-community", "the community is wrong")
        return Asked(message)

    def answer(self, asked: Asked, status: int, index: int, varbinds: Sequence[Varbind], at: Moment) -> bytes:
        """The answer to a request; tooBig where the other side cannot take it."""
        message = replace(asked.message, pdu=Pdu.RESPONSE, status=status, index=index, varbinds=tuple(varbinds))
        data = self._sealed(asked, message, at)
        if len(data) > asked.largest:
            data = self._sealed(asked, replace(message, status=messages.Status.TOO_BIG, index=0, varbinds=()), at)
        return data

    def notification(self, user: str, varbinds: Sequence[Varbind], at: Moment) -> bytes:
        """A trap of SNMPv3 from this engine, by one of its users."""
        self._number = (self._number + 1) & 0x7FFFFFFF
        message = Message(messages.V3, b"", Pdu.TRAP, self._number, 0, 0, tuple(varbinds))
        keys = self._keys[user.encode()]
        return self._encoded(self._number, keys.flags, user.encode(), keys, b"", message, at)

    def _secured(self, data: bytes, at: Moment) -> Asked | Reported:
        message = usm.decode(data)
        if message.engine != self.id:
            return self._report("snmp-unknown-engine", message, None, at)
        keys = self._keys.get(message.user)
        if keys is None:
            return self._report("snmp-unknown-user", message, None, at)
        if message.flags & (usm.AUTHENTICATED | usm.ENCRYPTED) != keys.flags:
            return self._report("snmp-security-level", message, None, at)
        if keys.auth:
            try:
                usm.check(data, message, keys)
            except NotAuthentic as error:
                return self._report(error.reason, message, None, at)
            if message.boots != self._boots or abs(message.time - self._time(at)) > usm.WINDOW:
                return self._report("snmp-not-in-window", message, keys, at)
        try:
            plain = usm.decrypted(message, keys) if keys.priv else message.data
        except Malformed as error:
            return self._report(error.reason, message, None, at)
        if keys.auth and self._again(message.digest, at):
            raise NotAuthentic("snmp-replayed", "a message of SNMPv3 came a second time")
        _, context, pdu = usm.unscoped(plain)
        return Asked(messages.decode_pdu(pdu), message, context)

    def _again(self, digest: bytes, at: Moment) -> bool:
        """Whether this digest has come within the window; remembered from now on."""
        while self._seen and (
            len(self._seen) >= MOST_REMEMBERED or next(iter(self._seen.values())) < at.now - 2 * usm.WINDOW
        ):
            self._seen.popitem(last=False)
        if digest in self._seen:
            return True
        self._seen[digest] = at.now
        return False

    def _report(self, reason: str, message: usm.Secured, keys: usm.Keys | None, at: Moment) -> Reported:
        self._reports[reason] += 1
        if not message.flags & usm.REPORTABLE:
            return Reported(reason)
        counter = Varbind(f"{_STATS}{_REPORTS[reason]}.0", "counter32", self._reports[reason])
        report = Message(messages.V3, b"", Pdu.REPORT, 0, 0, 0, (counter,))
        flags = usm.AUTHENTICATED if keys is not None else 0
        return Reported(reason, self._encoded(message.number, flags, message.user, keys, b"", report, at))

    def _sealed(self, asked: Asked, message: Message, at: Moment) -> bytes:
        secured = asked.secured
        if secured is None:
            return messages.encode(message)
        flags = secured.flags & (usm.AUTHENTICATED | usm.ENCRYPTED)
        keys = self._keys[secured.user]
        return self._encoded(secured.number, flags, secured.user, keys, asked.context, message, at)

    def _encoded(
        self, number: int, flags: int, user: bytes, keys: usm.Keys | None, context: bytes, message: Message, at: Moment
    ) -> bytes:
        self._salt = (self._salt + 1) & 0xFFFFFFFFFFFFFFFF
        salt = self._salt.to_bytes(8, "big")
        data = usm.scoped(self.id, context, messages.encode_pdu(message))
        wrapped = usm.Secured(number, LARGEST, flags, self.id, self._boots, self._time(at), user, b"", salt, data)
        return usm.encode(wrapped, keys)

    def _time(self, at: Moment) -> int:
        return int(at.now - self._began)


def pdu_of(data: bytes) -> tuple[int, int, bytes]:
    """PDU's tag, where that stands, and the community of a message of SNMPv1 or SNMPv2c. Raises Malformed."""
    _, place, end = ber.header(data, 0, len(data))
    _, _, place = ber.header(data, place, end)
    _, start, place = ber.header(data, place, end)
    ber.header(data, place, end)
    return data[place], place, data[start:place]
