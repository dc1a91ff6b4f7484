"""RADIUS as it is seen passing: requests, and the answers that belong to them by address, port and identifier.

RFC 2865, RFC 2866. With the secret of the two, what they say is checked, and not without. On ports that are not
RADIUS's own a datagram counts as a request only if it can hardly be anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.seeing.said import Fact, Private, Said
from protocols.capture.streams import Peer
from protocols.errors import NotAuthentic, ProtocolError
from protocols.radius import accounting, request, values
from protocols.radius.accounting import AccountingRequest, JobMapping, default_mapping
from protocols.radius.packet import Code, Packet, Type, parse
from protocols.radius.secrets import verify_accounting_request, verify_message_authenticator, verify_response
from proxy.dialects.radius.clients import device_of

DIALECT = "radius"
PORTS = frozenset({1812, 1813, 1645, 1646})
PATIENCE = 60_000
"""Milliseconds for an answer; a device has given up by then."""
MOST_OPEN = 16_384

LONG_NUMBER = 6
"""What has so many digits may be a card number, whatever the site's pattern says."""

_REQUESTS = frozenset({Code.ACCESS_REQUEST, Code.ACCOUNTING_REQUEST, Code.STATUS_SERVER})
_NAMES = {code: "-".join(word.capitalize() for word in code.name.split("_")) for code in Code}
_TELLING = (Type.USER_NAME, Type.NAS_IDENTIFIER, Type.NAS_IP_ADDRESS, Type.ACCT_STATUS_TYPE)

SecretsOf = Callable[[str, str], Sequence[bytes]]
"""The secrets that a device's and a server's address may share, as far as they are known."""
IsCard = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class RadiusRequest:
    """An Accounting-Request as it was read, with its packet; of an Access-Request the packet alone."""

    packet: Packet
    accounting: AccountingRequest | None = None


class RadiusTalk:
    """All RADIUS of a capture."""

    def __init__(self, secrets_of: SecretsOf, is_card: IsCard, mapping: JobMapping | None = None) -> None:
        self._secrets_of = secrets_of
        self._is_card = is_card
        self._mapping = mapping or default_mapping()
        self._open: dict[tuple[Peer, Peer, int], Said] = {}
        self._servers: set[Peer] = set()

    def heard(self, at: int, source: Peer, target: Peer, data: bytes) -> Said | None:
        """What a datagram says; None if it is no RADIUS. Raises ProtocolError if it is, and cannot be read."""
        ours = target[1] in PORTS or source[1] in PORTS or target in self._servers or source in self._servers
        try:
            packet = parse(data)
        except ProtocolError:
            if ours:
                raise
            return None
        # It stays: a request that was sent twice is answered twice.
        asked = self._open.get((target, source, packet.identifier))
        if asked is not None and (packet.code in _REQUESTS or abs(at - asked.at) > PATIENCE):
            asked = None
        if packet.code not in _REQUESTS:
            return self._answer(at, source, target, packet, data, asked) if ours or asked else None
        if not ours and not _is_surely_radius(packet, data):
            return None
        return self._request(at, source, target, packet, data)

    def _request(self, at: int, source: Peer, target: Peer, packet: Packet, data: bytes) -> Said:
        secrets = self._secrets_of(source[0], target[0])
        authentic, secret = _checked(packet, data, secrets)
        if packet.code == Code.ACCOUNTING_REQUEST:
            read = accounting.read(packet, self._mapping)
            facts, device = self._record(read, source[0])
            message = RadiusRequest(packet, read)
        else:
            facts, device = self._login(packet, source[0], secret)
            message = RadiusRequest(packet)
        name = _NAMES[Code(packet.code)]
        said = Said(at, source, target, DIALECT, name, facts, True, device, message, data, None, authentic)
        self._servers.add(target)
        if len(self._open) >= MOST_OPEN:
            del self._open[next(iter(self._open))]
        self._open.pop((source, target, packet.identifier), None)
        self._open[source, target, packet.identifier] = said
        return said

    def _answer(self, at: int, source: Peer, target: Peer, packet: Packet, data: bytes, asked: Said | None) -> Said:
        facts: dict[str, Fact] = {}
        authentic = None
        if asked is not None and isinstance(asked.message, RadiusRequest):
            facts["after_ms"] = at - asked.at
            secrets = self._secrets_of(target[0], source[0])
            if secrets:
                authentic = any(_answers_truly(packet, data, asked.message.packet, each) for each in secrets)
        else:
            facts["request"] = "not in the capture"
        if (text := packet.get(Type.REPLY_MESSAGE)) is not None:
            facts["message"] = values.text(text)
        if (timeout := packet.get(Type.SESSION_TIMEOUT)) is not None and len(timeout) == 4:
            facts["session_timeout"] = int.from_bytes(timeout, "big")
        name = _NAMES[Code(packet.code)] if packet.code in _NAMES else f"code {packet.code}"
        device = asked.device if asked is not None else ""
        return Said(at, source, target, DIALECT, name, facts, False, device, packet, data, asked, authentic)

    def _login(self, packet: Packet, source: str, secret: bytes | None) -> tuple[dict[str, Fact], str]:
        if packet.code == Code.STATUS_SERVER:
            return {}, source
        try:
            read = request.read(packet, secret or b"")
        except ProtocolError as error:
            return {"unreadable": error.reason}, source
        facts = self._named(read.user_name)
        device = device_of(read.nas_identifier, read.nas_address, source)
        facts |= {"device": device, "method": read.method.value}
        if read.calling_station:
            facts["calling_station"] = read.calling_station
        if secret is not None and read.password is not None:
            facts["password"] = Private(read.password.decode("utf-8", "replace"), whole=True)
        return facts, device

    def _record(self, read: AccountingRequest, source: str) -> tuple[dict[str, Fact], str]:
        device = device_of(read.nas_identifier, read.nas_address, source)
        facts: dict[str, Fact] = {"event": read.status.value, **self._named(read.user_name or ""), "device": device}
        if read.session_id:
            facts["session"] = read.session_id
        if (job := read.job) is not None:
            told = {name: getattr(job, name) for name in ("kind", "pages", "color_pages", "copies", "job_id")}
            facts |= {name: value for name, value in told.items() if value not in (None, "")}
        if read.problem:
            facts["problem"] = read.problem
        return facts, device

    def _named(self, name: str) -> dict[str, Fact]:
        if not name:
            return {}
        return {"card": Private(name)} if self._is_card(name) else {"user": name}


def card_rule(pattern: re.Pattern[str]) -> IsCard:
    """Whether a name is a card number, or may be one."""
    return lambda name: pattern.fullmatch(name) is not None or sum(map(str.isdigit, name)) >= LONG_NUMBER


def _is_surely_radius(packet: Packet, data: bytes) -> bool:
    """Whether this is a request, on whatever port: not padded, and with an attribute that only requests have."""
    whole = len(data) == int.from_bytes(data[2:4], "big")
    return whole and packet.code != Code.STATUS_SERVER and any(packet.get(number) is not None for number in _TELLING)


def _checked(packet: Packet, data: bytes, secrets: Sequence[bytes]) -> tuple[bool | None, bytes | None]:
    """Whether one of the secrets fits, and which. None: nothing in the packet tells, so it is read with the first."""
    for secret in secrets:
        try:
            if packet.code == Code.ACCOUNTING_REQUEST:
                verify_accounting_request(data, packet, secret)
            elif not verify_message_authenticator(data, packet, secret):
                return None, secret
        except NotAuthentic:
            continue
        return True, secret
    return (False, None) if secrets else (None, None)


def _answers_truly(packet: Packet, data: bytes, asked: Packet, secret: bytes) -> bool:
    try:
        verify_response(data, packet, asked.authenticator, secret)
    except NotAuthentic:
        return False
    return True
