"""One SNMP agent as it is asked, in its own version: requests made, answers read, nothing waited for.

SNMPv3 first asks for the agent's engine and its clock, and again when the agent says that they are others (RFC 3414
section 4); `Again` says that the same must then be asked once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from protocols.errors import Malformed, NotAuthentic
from protocols.snmp import messages, usm
from protocols.snmp.messages import Message, Pdu, Varbind
from proxy.events import Moment
from proxy.metering.agents import Agent

_STATS = "1.3.6.1.6.3.15.1.1."
_WORDS = {
    "1": "it does not take this security level for the user",
    "3": "it does not know the user",
    "5": "the authentication key or its kind is wrong",
    "6": "the privacy key or its kind is wrong",
}
_NOT_IN_WINDOW, _UNKNOWN_ENGINE = "2", "4"


@dataclass(frozen=True, slots=True)
class Again:
    """More is known of the agent's engine now: ask once more."""


class Towards:
    """See above. `at` seeds its numbers."""

    def __init__(self, agent: Agent, at: Moment) -> None:
        self.agent = agent
        self._version = {1: messages.V1, 2: messages.V2C}.get(agent.version, messages.V3)
        self._number = int.from_bytes(at.random(4, f"snmp {agent.address} {agent.port}"), "big") >> 1
        self._salt = int.from_bytes(at.random(8, f"snmp salt {agent.address} {agent.port}"), "big")
        self._engine = b""
        self._keys: usm.Keys | None = None
        self._boots = self._time = 0
        self._learned = 0.0

    @property
    def bulk(self) -> bool:
        """Whether it knows GETBULK."""
        return self._version != messages.V1

    def request(self, pdu: Pdu, varbinds: Sequence[Varbind], at: Moment, status: int = 0, index: int = 0) -> bytes:
        """A request with a number of its own. Raises ValueError for a user that cannot be, TooLarge."""
        self._number = (self._number + 1) & 0x7FFFFFFF
        message = Message(self._version, self.agent.community, pdu, self._number, status, index, tuple(varbinds))
        if self._version != messages.V3:
            return messages.encode(message)
        user = self.agent.user
        if user is None:
            raise ValueError("SNMPv3 needs a user")
        self._salt = (self._salt + 1) & 0xFFFFFFFFFFFFFFFF
        flags, name, keys = usm.REPORTABLE, b"", self._keys
        if keys is not None:
            flags, name = flags | keys.flags, user.name.encode()
        else:
            message = replace(message, pdu=Pdu.GET, status=0, index=0, varbinds=())
        data = usm.scoped(self._engine, b"", messages.encode_pdu(message))
        salt, now = self._salt.to_bytes(8, "big"), self._now(at)
        wrapped = usm.Secured(
            self._number, messages.LARGEST, flags, self._engine, self._boots, now, name, b"", salt, data
        )
        return usm.encode(wrapped, keys)

    def read(self, data: bytes, at: Moment) -> Message | Again:
        """The answer to the last request. Raises Malformed, TooLarge for what is none, NotAuthentic where the agent
        says no, or somebody else answers.
        """
        if self._version == messages.V3:
            return self._secured(data, at)
        message = messages.decode(data)
        if message.version != self._version or message.community != self.agent.community:
            raise NotAuthentic("snmp-wrong-community", "an answer with another community or version")
        return self._mine(message)

    def _mine(self, message: Message) -> Message:
        if message.pdu != Pdu.RESPONSE or message.request != self._number:
            raise Malformed("snmp-no-answer-to-this", "no answer to the last request")
        return message

    def _secured(self, data: bytes, at: Moment) -> Message | Again:
        message = usm.decode(data)
        if message.number != self._number:
            raise Malformed("snmp-no-answer-to-this", "no answer to the last request")
        keys = self._keys
        if keys is not None and message.flags & usm.AUTHENTICATED:
            if message.engine != self._engine:
                raise NotAuthentic("snmp-unknown-engine", "another engine answers")
            usm.check(data, message, keys)
        plain = message.data
        if message.flags & usm.ENCRYPTED:
            if keys is None or not keys.priv:
                raise Malformed("snmp-decryption", "an answer that nobody asked to encrypt")
            plain = usm.decrypted(message, keys)
        found = messages.decode_pdu(usm.unscoped(plain)[2])
        if found.pdu == Pdu.REPORT:
            return self._told(found, message, at)
        if keys is None or message.flags & (usm.AUTHENTICATED | usm.ENCRYPTED) != keys.flags:
            raise NotAuthentic("snmp-security-level", "an answer that is not secured as the request")
        # Of the agent's time only what goes back is a replay: it may have been started anew.
        behind = message.boots == self._boots and message.time < self._now(at) - usm.WINDOW
        if keys.auth and (message.boots < self._boots or behind):
            raise NotAuthentic("snmp-not-in-window", "an answer out of its time")
        self._learn(message, at)
        return self._mine(found)

    def _told(self, report: Message, message: usm.Secured, at: Moment) -> Again:
        oid = report.varbinds[0].oid if report.varbinds else ""
        which = oid.removeprefix(_STATS).removesuffix(".0")
        if which == _UNKNOWN_ENGINE or (which == _NOT_IN_WINDOW and message.flags & usm.AUTHENTICATED):
            if not 5 <= len(message.engine) <= 32:
                raise Malformed("snmp-unknown-engine", "an engine without a name")
            user = self.agent.user
            if user is not None and message.engine != self._engine:
                self._engine = message.engine
                self._keys = usm.keys_of(user.auth, user.auth_key, user.priv, user.priv_key, message.engine)
            self._learn(message, at)
            return Again()
        raise NotAuthentic("snmp-denied", _WORDS.get(which, "it does not take what it is asked"))

    def _learn(self, message: usm.Secured, at: Moment) -> None:
        self._boots, self._time, self._learned = message.boots, message.time, at.now

    def _now(self, at: Moment) -> int:
        return self._time + int(at.now - self._learned) if self._engine else 0
