"""SNMPv3 (RFC 3414, RFC 3826) towards agents, by pysnmp on Twisted.

One pysnmp engine for each user with its keys: two devices may know different keys under one name. What the agent
reports (unknown user, wrong digest, not in its time window) tells a wrong key from a silent device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.entity.rfc3413 import cmdgen
from pysnmp.error import PySnmpError
from pysnmp.proto import errind

from protocols.snmp.asking import Request
from protocols.snmp.messages import ABSENT, Pdu, Varbind
from proxy.metering.agents import Agent, User
from proxy.net.snmp.carrier import DOMAIN_NAME, DOMAIN_NAME_6, TwistedDispatcher, UdpTransport
from proxy.net.snmp.results import Answer, Failure

AUTH = {
    "": config.USM_AUTH_NONE,
    "md5": config.USM_AUTH_HMAC96_MD5,
    "sha1": config.USM_AUTH_HMAC96_SHA,
    "sha224": config.USM_AUTH_HMAC128_SHA224,
    "sha256": config.USM_AUTH_HMAC192_SHA256,
    "sha384": config.USM_AUTH_HMAC256_SHA384,
    "sha512": config.USM_AUTH_HMAC384_SHA512,
}
PRIV = {
    "": config.USM_PRIV_NONE,
    "des": config.USM_PRIV_CBC56_DES,
    "aes128": config.USM_PRIV_CFB128_AES,
    "aes192": config.USM_PRIV_CFB192_AES,
    "aes256": config.USM_PRIV_CFB256_AES,
}
KINDS = {
    "Integer32": "integer", "Integer": "integer", "OctetString": "octets", "ObjectIdentifier": "oid",
    "ObjectName": "oid", "IpAddress": "address", "Counter32": "counter32", "Gauge32": "gauge32",
    "Unsigned32": "gauge32", "TimeTicks": "timeticks", "Opaque": "opaque", "Counter64": "counter64",
    "NoSuchObject": "no-such-object", "NoSuchInstance": "no-such-instance", "EndOfMibView": "end-of-mib",
    "Null": "null",
}  # fmt: skip
"""pysnmp's classes of values."""
MOST_HEARD = 65_536
NOT_TAKEN = "the privacy key or its kind is wrong, or the context"
DENIED: tuple[tuple[type, str], ...] = (
    (errind.UnknownUserName, "it does not know the user"),
    (errind.WrongDigest, "the authentication key or its kind is wrong"),
    (errind.AuthenticationFailure, "the authentication key or its kind is wrong"),
    (errind.DecryptionError, "the privacy key or its kind is wrong"),
    (errind.UnsupportedSecurityLevel, "it does not take this security level for the user"),
    (errind.NotInTimeWindow, "its clock and counter of boots do not fit (a replay?)"),
    (errind.NoSuchContext, "it does not know the context"),
)


class HearingTransport(UdpTransport):
    """Remembers who was heard in it, so that one who does not understand us is told from one who is silent."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.heard: set[tuple[str, int]] = set()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if len(self.heard) < MOST_HEARD:
            self.heard.add(tuple(addr[:2]))
        super().datagramReceived(datagram, addr)


class Secure:
    """The engines of all users."""

    def __init__(self, reactor: Any, counts: Counter[str]) -> None:
        self._reactor = reactor
        self._counts = counts
        self._engines: dict[User, tuple[Any, dict[int, HearingTransport]]] = {}
        self._targets = 0

    def channel(self, agent: Agent) -> SecureChannel:
        """A way to this agent. Raises ValueError for a user that cannot be."""
        user = agent.user
        if user is None:
            raise ValueError("SNMPv3 needs a user")
        if user not in self._engines:
            self._engines[user] = self._new_engine(user)
        self._targets += 1
        engine, transports = self._engines[user]
        heard = transports[6 if ":" in agent.address else 4].heard
        return SecureChannel(engine, agent, f"t{self._targets}", self._counts, heard)

    def close(self) -> None:
        for engine, _ in self._engines.values():
            engine.transport_dispatcher.close_dispatcher()
        self._engines.clear()

    def _new_engine(self, user: User) -> tuple[Any, dict[int, HearingTransport]]:
        engine = SnmpEngine()
        dispatcher = TwistedDispatcher(self._reactor)
        engine.register_transport_dispatcher(dispatcher)
        transports = {4: HearingTransport(self._reactor), 6: HearingTransport(self._reactor)}
        dispatcher.register_transport(DOMAIN_NAME, transports[4].open_at())
        dispatcher.register_transport(DOMAIN_NAME_6, transports[6].open_at("::"))
        try:
            config.add_v3_user(
                engine,
                user.name,
                AUTH[user.auth],
                user.auth_key.decode() or None,
                PRIV[user.priv],
                user.priv_key.decode() or None,
            )
            level = "authPriv" if user.priv else "authNoPriv" if user.auth else "noAuthNoPriv"
            config.add_target_parameters(engine, "locum", user.name, level)
        except (PySnmpError, UnicodeDecodeError) as error:
            dispatcher.close_dispatcher()
            raise ValueError(f"this user of SNMPv3 cannot be: {error}") from error
        return engine, transports


class SecureChannel:
    """One agent. `heard`: whoever has sent anything to our socket."""

    bulk = True

    def __init__(
        self, engine: Any, agent: Agent, target: str, counts: Counter[str], heard: set[tuple[str, int]]
    ) -> None:
        self._engine = engine
        self._agent = agent
        self._target = target
        self._counts = counts
        self._heard = heard
        self._ever = False
        six = ":" in agent.address
        config.add_target_address(
            engine,
            target,
            DOMAIN_NAME_6 if six else DOMAIN_NAME,
            (agent.address, agent.port),
            "locum",
            timeout=int(agent.timeout * 100),
            retryCount=agent.retries,
        )

    def ask(self, request: Request, done: Callable[[Answer | Failure], None]) -> None:
        """Send it; `done` is told the answer, or why there is none."""

        def told(engine: Any, handle: Any, error: Any, status: Any, index: Any, varbinds: Any, context: Any) -> None:
            done(self._answer(error, int(status or 0), int(index or 0), varbinds))

        asked = [(tuple(map(int, oid.split("."))), None) for oid in request.oids]
        try:
            if request.pdu is Pdu.GET:
                generator = cmdgen.GetCommandGenerator()
                generator.send_varbinds(self._engine, self._target, None, self._agent.context, asked, told)
            else:
                bulk = cmdgen.BulkCommandGeneratorSingleRun()
                repetitions = max(1, request.repetitions)
                context = self._agent.context
                bulk.send_varbinds(self._engine, self._target, None, context, 0, repetitions, asked, told)
        except PySnmpError as error:
            done(Failure("denied", f"no request can be made: {error}"))

    def close(self) -> None:
        config.delete_target_address(self._engine, self._target)

    def _answer(self, error: Any, status: int, index: int, varbinds: Sequence[Any]) -> Answer | Failure:
        if error:
            return self._failure(error)
        self._ever = True
        rows = varbinds[0] if varbinds and isinstance(varbinds[0], list) else varbinds
        return Answer(status, index, tuple(_varbind(name, value) for name, value in rows))

    def _failure(self, error: Any) -> Failure:
        for kind, words in DENIED:
            if isinstance(error, kind):
                self._counts["snmp-denied"] += 1
                return Failure("denied", f"{self._agent.address}: {words}")
        if isinstance(error, errind.RequestTimedOut):
            if not self._ever and (self._agent.address, self._agent.port) in self._heard:
                # It has told its engine, and then said nothing: it could not read what we encrypted.
                self._counts["snmp-denied"] += 1
                return Failure("denied", f"{self._agent.address}: it does not take what we say; {NOT_TAKEN}")
            more = "" if self._ever else "; SNMPv3 may be switched off there"
            return Failure("silent", f"no answer from {self._agent.address}: it is off or asleep{more}")
        self._counts["snmp-unreadable"] += 1
        return Failure("unreadable", f"{self._agent.address}: {error}")


def _varbind(name: Any, value: Any) -> Varbind:
    oid = ".".join(map(str, tuple(name)))
    kind = KINDS.get(type(value).__name__, "null")
    if kind in ABSENT:
        return Varbind(oid, kind)
    if kind in ("octets", "address", "opaque"):
        return Varbind(oid, kind, bytes(value))
    return Varbind(oid, kind, ".".join(map(str, tuple(value))) if kind == "oid" else int(value))
