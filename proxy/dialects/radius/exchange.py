"""Requests under way to one port of a server: identifiers, source ports, answers matched and checked.

An identifier is one octet, so each source port carries 256 requests at a time (RFC 2865 section 3); more ports are
opened as they are needed. An identifier is not used again before its request was answered or is half a minute old: a
late answer must find its own request. Probes have a source port of their own, so that a refusal tells which of the two
was refused. In line a request goes out as a device, from a port of its address and under its secret (`lent.py`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from protocols.errors import NotAuthentic, TooLarge
from protocols.radius.packet import HEADER_SIZE, LARGEST_PACKET, Attributes, Packet, parse, size_of
from protocols.radius.secrets import sign_accounting_request, sign_encoded_request, verify_response
from proxy.commands import Close, Command, Open, Send
from proxy.dialects.radius.lent import LentPorts, Sender, Slot
from proxy.events import Channel, Flow

LATE = 30.0
MOST_PORTS = 64
MAC_SIZE = 18
"""A Message-Authenticator, in octets."""


@dataclass(slots=True)
class Pending:
    """A request that expects an answer. `about` is whatever the owner wants to find again."""

    channel: Channel
    identifier: int
    authenticator: bytes
    data: bytes
    first_sent: float
    about: Any
    secret: bytes
    sent_again: int = 0
    key: tuple[Channel, int] = field(init=False)

    def __post_init__(self) -> None:
        self.key = (self.channel, self.identifier)


class Exchange:
    """One port (authentication or accounting) of one server address, as seen from here. `secret`: Locum's own there;
    where a `sender` is given, that one's counts.
    """

    def __init__(self, owner: Flow, prefix: Channel, address: str, port: int, secret: bytes) -> None:
        self.address = address
        self.port = port
        self.secret = secret
        self.live: dict[tuple[Channel, int], Pending] = {}
        self._owner = owner
        self._prefix = prefix
        self._late: dict[tuple[Channel, int], Pending] = {}
        self._free: deque[tuple[Channel, int]] = deque()
        self._free_probes: deque[tuple[Channel, int]] = deque()
        self._channels: list[Channel] = []
        self._ports = 0
        self._lent = LentPorts(owner, prefix, (address, port))

    def access(
        self,
        code: int,
        authenticator: bytes,
        body: bytes,
        about: Any,
        now: float,
        *,
        probe: bool = False,
        sender: Sender | None = None,
    ) -> tuple[Pending | None, list[Command]]:
        """Send an Access-Request or Status-Server. None if all identifiers are under way. Raises TooLarge.

        `body`: the attributes as octets, without Message-Authenticator.
        """
        _check_size(HEADER_SIZE + MAC_SIZE + len(body))
        slot, commands = self._allocate(probe) if sender is None else self._lent.take(sender, now, probe=probe)
        if slot is None:
            return None, commands
        secret = self.secret if sender is None else sender.secret
        data = sign_encoded_request(code, slot[1], authenticator, body, secret)
        return self._send(Pending(*slot, authenticator, data, now, about, secret), commands)

    def accounting(
        self, attributes: Attributes, about: Any, now: float, sender: Sender | None = None
    ) -> tuple[Pending | None, list[Command]]:
        """Send an Accounting-Request. None if all identifiers are under way. Raises TooLarge."""
        _check_size(size_of(attributes))
        slot, commands = self._allocate(False) if sender is None else self._lent.take(sender, now, probe=False)
        if slot is None:
            return None, commands
        secret = self.secret if sender is None else sender.secret
        data = sign_accounting_request(slot[1], attributes, secret)
        return self._send(Pending(*slot, data[4:20], data, now, about, secret), commands)

    def answer(self, channel: Channel, datagram: bytes) -> tuple[Pending, Packet, bool, bool]:
        """The request that this datagram answers, the answer, whether it had a Message-Authenticator, whether it is
        late.

        Raises Malformed, TooLarge, or NotAuthentic if it answers nothing that was asked or was not made with the
        secret.
        """
        packet = parse(datagram)
        key = (channel, packet.identifier)
        pending, late = self.live.get(key), False
        if pending is None:
            pending, late = self._late.get(key), True
        if pending is None:
            raise NotAuthentic("answers-nothing", "an answer to no request under way")
        signed = verify_response(datagram, packet, pending.authenticator, pending.secret)
        return pending, packet, signed, late

    def settle(self, pending: Pending) -> None:
        """It was answered: its identifier may serve again."""
        if self.live.pop(pending.key, None) is None and self._late.pop(pending.key, None) is None:
            return
        if not self._lent.free(pending.key):
            (self._free_probes if pending.channel[-1] == "probe" else self._free).append(pending.key)

    def let_go(self, pending: Pending) -> None:
        """Nobody waits for its answer any more; a late one is still recognised."""
        if self.live.pop(pending.key, None) is not None:
            self._late[pending.key] = pending

    def again(self, pending: Pending) -> list[Command]:
        """The same bytes from the same source port: the server sees a retransmission (RFC 5080 section 2.2.1)."""
        pending.sent_again += 1
        return [Send(pending.channel, pending.data)]

    def expire(self, now: float) -> list[Command]:
        """Free the identifiers of what is too old for even a late answer, and close lent ports that nobody uses."""
        for table in (self._late, self.live):
            for pending in self._older_than(table, now - LATE):
                self.settle(pending)
        return self._lent.expire(now)

    def close(self) -> list[Command]:
        """Close every source port; whatever is under way is nobody's then."""
        commands: list[Command] = [Close(channel) for channel in self._channels]
        commands += self._lent.close()
        self._channels, self._ports = [], 0
        self._free.clear()
        self._free_probes.clear()
        self.live.clear()
        self._late.clear()
        return commands

    @staticmethod
    def _older_than(table: dict[tuple[Channel, int], Pending], limit: float) -> list[Pending]:
        found = []
        for pending in table.values():
            if pending.first_sent > limit:
                break
            found.append(pending)
        return found

    def _allocate(self, probe: bool) -> tuple[Slot | None, list[Command]]:
        free = self._free_probes if probe else self._free
        if free:
            return free.popleft(), []
        if self._ports >= MOST_PORTS or (probe and self._has_probe_port):
            return None, []
        channel: Channel = (*self._prefix, "probe" if probe else self._ports)
        self._ports += not probe
        self._channels.append(channel)
        free.extend((channel, identifier) for identifier in range(256))
        return free.popleft(), [Open(channel, self._owner, self.address, self.port)]

    @property
    def _has_probe_port(self) -> bool:
        return (*self._prefix, "probe") in self._channels

    def _send(self, pending: Pending, commands: list[Command]) -> tuple[Pending, list[Command]]:
        self.live[pending.key] = pending
        commands.append(Send(pending.channel, pending.data))
        return pending, commands


def _check_size(size: int) -> None:
    if size > LARGEST_PACKET:
        raise TooLarge("too-long", f"{size} octets, at most {LARGEST_PACKET}")
