"""A whole Locum on a fake clock: real flows, a real ledger, and the two ends of the wire in the test's hands.

The flows are built by `appliance.assembly`, at the start and at every restart, as the service does it. Commands are
run as the driver runs them, but in this thread: at once, or, while `holding`, when `sync` is called. The server answers
while it is up; devices' requests are built and answers read with `protocols`. Nothing sleeps: `pass_time` ticks the
clock on.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from appliance import assembly
from appliance import device_hands as by_hand
from appliance.config import (
    ClientConfig,
    Config,
    DeviceConfig,
    OfflineConfig,
    RadiusConfig,
    RadiusListenConfig,
    RadiusUpstreamConfig,
    Secret,
    TestLogin,
)
from protocols.radius.packet import Attributes, Code, Packet, Type, parse, vendor_attribute
from protocols.radius.secrets import hide_password, sign_accounting_request, sign_request, sign_response
from proxy.commands import Close, Command, Keep, Open, Send, Tell, Verify
from proxy.dialects.radius.host import ACCT, AUTH, ProbeLogin
from proxy.events import Channel, Event, Flow, Kept, Moment, NotKept, Received, Refused, Ticked, Verified
from proxy.link import Clock, State
from storage.database import open_reader
from storage.errors import StorageError
from storage.ledger import Ledger
from storage.reader import Reader
from storage.records import AppLogLine
from storage.space import Level, may_be_kept

COPIER = b"copier-secret"
SERVER = b"server-secret"
TICK = 1 / 16
"""Seconds from tick to tick; exact in binary, so that half seconds are met to the tick."""
EPOCH = 1_795_000_000_000
HERE = "192.0.2.1"
THERE = "192.0.2.2"
CODE = "246813"
"""The unlock code."""
BOOKS = "192.0.2.9"
"""The address of the second upstream, `books`, which only takes records."""


class Unanswered(Exception):
    """An admin's command has no answer yet."""


@dataclass
class ToServer:
    """A datagram that reached the server."""

    channel: Channel
    packet: Packet
    data: bytes
    at: float

    @property
    def port(self) -> str:
        return str(self.channel[2])

    @property
    def address(self) -> str:
        return str(self.channel[1])


@dataclass
class House:
    """One upstream `hq`, one listener, devices at 10.7.0.x; with `records_to="books"` a second one for the records.

    `policy` holds what differs from the defaults of [offline], `devices` the same by device, `pins` addresses by
    device; `clients` more clients by network. `server_secret` is the server's own word on the secret. `unlock_code`
    is "" while none is set; `compared` are the codes that were hashed, while `holding_codes` none is.
    """

    folder: Path
    delay: float = 2.0
    timeout: float = 1.0
    addresses: Sequence[str] = (HERE,)
    policy: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    role: str = "copier"
    signed: bool = True
    ignore_password: bool = False
    require_signature: Any = "auto"
    test_login: ProbeLogin | None = None
    pins: dict[str, str] = field(default_factory=dict)
    clients: Sequence[ClientConfig] = ()
    records_to: str = "hq"
    secret: bytes = SERVER
    auth_port: int = 1812
    window: int = 256
    recover_after: int = 3
    unlock_code: str = CODE
    now: float = 1000.0
    wall: int = EPOCH

    def __post_init__(self) -> None:
        self.server_up = True
        self.accounting_up = True
        self.answers_status = True
        self.server_signs = True
        self.server_secret = SERVER
        self.server_adds: Attributes = ((Type.REPLY_MESSAGE, b"welcome"),)
        self.silent_for: set[bytes] = set()
        self.silent_for_session: set[bytes] = set()
        self.refused_sessions: set[bytes] = set()
        self.down: set[str] = set()
        self.refusing = False
        self.refusing_at: set[str] = set()
        self.disk_full = False
        self.disk_dead = False
        self.holding = False
        self.holding_codes = False
        self.compared: list[str] = []
        self.granted = {b"0A1B2C3D", b"00112233"}
        self.boot = Clock("boot", 0)
        self.to_server: list[ToServer] = []
        self.to_devices: list[tuple[tuple[str, int, str], Packet, bytes]] = []
        self.told: list[Tell] = []
        self.book: list[Packet] = []
        self._identifier = 0
        self._events: deque[tuple[Flow, Event]] = deque()
        self._held: deque[Keep] = deque()
        self._held_codes: deque[Verify] = deque()
        self._owners: dict[Channel, Flow] = {}
        self._drawn = 0
        self._odd = False
        self.start()

    def start(self) -> None:
        """Open the ledger and build the flows on what it holds, as the service does."""
        self.ledger = Ledger.open(self.folder / "ledger.db", self.wall)
        self.in_flight = self.ledger.settle_sent(self.wall)
        self.reader = open_reader(self.ledger.path)
        config = self.config()
        with patch.object(assembly, "this_boot", lambda: self.boot):
            self.assembly = assembly.Assembly(
                config,
                self.reader,
                Reader(self.ledger.path, self.reader),
                bytes(32),
                self.moment(),
                self.hash,
            )
        self._hands = by_hand.DeviceHands(self.assembly, self, lambda name: self.hash).handlers()
        self.ledger.commit(self.assembly.notes)
        self.tally, self.site = self.assembly.tally, self.assembly.site
        self.upstream = self.assembly.upstreams["hq"]
        channel, listening = self.assembly.new_listener(config.listens[0])
        self.assembly.listeners[channel] = listening
        self.listener = listening.flow
        self._reach(config)

    def close(self) -> None:
        self.reader.close()
        self.ledger.close()

    def restart(self, down_for: float = 0.0, *, reboot: bool = False, wall_step: float = 0.0, **changes: Any) -> None:
        """End without a word and start again `down_for` seconds later, perhaps after a reboot and with another config.

        What was given to storage and not yet kept (`holding`) is lost, and so is what is in memory.
        """
        self.close()
        self._events.clear()
        self._held.clear()
        self._held_codes.clear()
        self._owners.clear()
        self.now += down_for
        self.wall += int((down_for + wall_step) * 1000)
        if reboot:
            self.boot, self.now = Clock(self.boot.boot_id + "+", 0), 20.0
        for name, value in changes.items():
            setattr(self, name, value)
        self.start()

    def fresh(self, **changes: Any) -> None:
        """Start again with an empty ledger: a Locum that has never heard its server."""
        self.folder = self.folder / "fresh"
        self.folder.mkdir()
        self.restart(**changes)

    def reload(self, **changes: Any) -> None:
        """SIGHUP: another config, in place, as the service takes it over."""
        for name, value in changes.items():
            setattr(self, name, value)
        config, moment = self.config(), self.moment()
        self.run(self.assembly.reconfigure(config, moment))
        self._reach(config)

    def config(self) -> Config:
        """The configuration, as the file would say it."""
        offline = replace(OfflineConfig(), delay=self.delay, drain_window=self.window, recover_after=self.recover_after)
        offline = replace(offline, **_compiled(self.policy))
        test = self.test_login
        hq = RadiusUpstreamConfig(
            name="hq",
            dialect="radius",
            addresses=tuple(self.addresses),
            secret=Secret(self.secret),
            auth_port=self.auth_port,
            answer_timeout=self.timeout,
            require_message_authenticator=self.require_signature,
            test_login=None if test is None else TestLogin(test.user.decode(), Secret(test.password)),
        )
        upstreams = [hq]
        if self.records_to == "books":
            upstreams.append(replace(hq, name="books", addresses=(BOOKS,)))
        copiers = ClientConfig(ip_network("10.7.0.0/24"), Secret(COPIER), self.role, self.signed, self.ignore_password)
        listen = RadiusListenConfig("radius", "0.0.0.0", "hq", self.records_to, (copiers, *self.clients))
        devices = [
            DeviceConfig(name, self.pins.get(name), name, replace(offline, **_compiled(self.devices.get(name, {}))))
            for name in sorted({*self.devices, *self.pins})
        ]
        return Config(
            path=self.folder / "locum.toml",
            digest="sha256:00",
            name="house",
            state_dir=self.folder,
            upstreams=tuple(upstreams),
            listens=(listen,),
            offline=offline,
            devices=tuple(devices),
            radius=RadiusConfig(32473, (), MappingProxyType({})),
        )

    def _reach(self, config: Config) -> None:
        for upstream in config.upstreams:
            self.run(self.assembly.upstreams[upstream.name].reach(upstream.addresses, self.moment()))

    # Time

    def moment(self) -> Moment:
        self._drawn += 1
        return Moment(self.now, self.wall, hashlib.blake2b(str(self._drawn).encode(), digest_size=32).digest())

    def pass_time(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self._odd = not self._odd
            self.wall += 62 + self._odd
            moment = self.moment()
            flows: list[Flow] = [self.site, *self.assembly.upstreams.values(), self.listener]
            for flow in flows:
                self.dispatch(flow, Ticked(moment))

    def until(self, state: State, most: float = 60.0) -> None:
        """Let time pass until the upstream is in this state."""
        began = self.now
        while self.state is not state:
            assert self.now - began < most, f"still {self.state} after {most} s, waiting for {state}"
            self.pass_time(TICK)

    @property
    def state(self) -> State:
        return self.upstream.link.state

    # By hand

    @property
    def hash(self) -> str:
        """What stands for the Argon2id hash of the code here."""
        return f"hash of {self.unlock_code}" if self.unlock_code else ""

    def hand(self, command: str, **request: Any) -> dict[str, Any]:
        """An admin's command, as it comes through the control socket. Raises Refusal, or Unanswered as yet."""
        with patch.object(by_hand, "this_moment", self.moment):
            answer = self._hands[command](request, "admin")
        said: list[Any] = [answer]
        if isinstance(answer, Deferred):
            said.clear()
            answer.addBoth(said.append)
        if not said:
            raise Unanswered
        result = said[0]
        if isinstance(result, Failure):
            result.raiseException()
        found: dict[str, Any] = result
        return found

    # The devices' side

    def swipe(
        self,
        name: str,
        *attributes: tuple[int, bytes],
        device: str = "copier-1",
        host: int = 31,
        password: bytes | None = None,
        packet: bytes | None = None,
    ) -> bytes:
        """A login; gives the datagram, to send the same again with `packet`. What came back is in `answers`."""
        if packet is None:
            self._identifier = (self._identifier + 1) % 256
            authenticator = self.moment().random(16, "device")
            sent: Attributes = ((Type.USER_NAME, name.encode()), (Type.NAS_IDENTIFIER, device.encode()), *attributes)
            if password is not None:
                sent += ((Type.USER_PASSWORD, hide_password(password, authenticator, COPIER)),)
            packet = sign_request(Code.ACCESS_REQUEST, self._identifier, authenticator, sent, COPIER)
        self.datagram(AUTH, packet, f"10.7.0.{host}")
        return packet

    def state_in(self, request: bytes) -> bytes:
        """The State of the challenge that came back."""
        (challenge,) = self.answers(request)
        assert challenge.code == Code.ACCESS_CHALLENGE, challenge
        return challenge.get(Type.STATE) or b""

    def give_code(
        self, code: str, state: bytes, *attributes: tuple[int, bytes], scope: int | None = None, **how: Any
    ) -> bytes:
        """The answer to a challenge; `how` as in `swipe`. Gives the datagram."""
        asked = () if scope is None else (vendor_attribute(32473, 11, scope.to_bytes(4, "big")),)
        name = how.pop("name", "0A1B2C3D")
        return self.swipe(name, (Type.STATE, state), *asked, *attributes, password=code.encode(), **how)

    def unlock(self, code: str = CODE, *, scope: int | None = None, **how: Any) -> bytes:
        """Swipe at a locked device and answer its challenge; gives the answering datagram."""
        name = how.pop("name", "0A1B2C3D")
        return self.give_code(code, self.state_in(self.swipe(name, **how)), scope=scope, name=name, **how)

    def account(
        self,
        *attributes: tuple[int, bytes],
        status: int = 3,
        session: str = "s1",
        job: str = "",
        pages: int | None = 1,
        name: str = "0A1B2C3D",
        device: str = "copier-1",
        host: int = 31,
        packet: bytes | None = None,
    ) -> bytes:
        """An accounting record, a job unless `pages` is None; gives the datagram."""
        if packet is None:
            self._identifier = (self._identifier + 1) % 256
            sent: Attributes = (
                (Type.ACCT_STATUS_TYPE, status.to_bytes(4, "big")),
                (Type.USER_NAME, name.encode()),
                (Type.NAS_IDENTIFIER, device.encode()),
                (Type.ACCT_SESSION_ID, session.encode()),
            )
            if pages is not None:
                sent += (
                    vendor_attribute(32473, 1, (1).to_bytes(4, "big")),
                    vendor_attribute(32473, 3, pages.to_bytes(4, "big")),
                )
            if job:
                sent += (vendor_attribute(32473, 2, job.encode()),)
            packet = sign_accounting_request(self._identifier, (*sent, *attributes), COPIER)
        self.datagram(ACCT, packet, f"10.7.0.{host}")
        return packet

    def move(self, state: State) -> None:
        """Bring about a state from ONLINE or OFFLINE; RECOVERING lasts, for the session `slow` is never answered."""
        if state in (State.OFFLINE, State.RECOVERING) and self.state is State.ONLINE:
            self.server_up = False
            self.until(State.OFFLINE)
        if state is State.RECOVERING:
            self.silent_for_session.add(b"slow")
            self.account(session="slow", job="of slow", device="copier-9")
        if state is not State.OFFLINE:
            self.server_up = True
            self.until(State.RECOVERING if state is State.RECOVERING else State.ONLINE)
        if state is State.GRACE:
            self.reload(delay=30.0)
            self.server_up = False
            self.until(State.GRACE)
        self.told.clear()
        self.to_server.clear()
        self.to_devices.clear()

    def answers(self, request: bytes) -> list[Packet]:
        """What came back to this request, checked with the device's secret."""
        found = []
        for _, packet, data in self.to_devices:
            if packet.identifier == request[1]:
                digest = hashlib.md5(data[:4] + request[4:20] + data[20:] + COPIER).digest()
                if digest == data[4:20]:
                    found.append(packet)
        return found

    def line(self, request: bytes) -> str:
        """The words that came back."""
        (answer,) = self.answers(request)
        return (answer.get(Type.REPLY_MESSAGE) or b"").decode()

    def code(self, request: bytes) -> int | None:
        """The code of the one answer that came back; None while there is none."""
        codes = {packet.code for packet in self.answers(request)}
        assert len(codes) < 2
        return next(iter(codes), None)

    def datagram(self, port: str, data: bytes, address: str = "10.7.0.31", source: int = 40000) -> None:
        """Any bytes come in on a port for devices."""
        flow = self.listener.logins if port == AUTH else self.listener.accounting
        self.dispatch(self.listener, Received(flow.channel, (address, source, ""), data, self.moment()))

    # The ledger

    def rows(self, query: str, *given: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.ledger.path)) as connection:
            return connection.execute(query, given).fetchall()

    def count(self, query: str, *given: object) -> int:
        return int(self.rows(query, *given)[0][0])

    # The server's side

    def late_answer(self, sent: ToServer, code: int, attributes: Attributes = ()) -> None:
        """The server's answer to a request comes now."""
        data = sign_response(
            code,
            sent.packet.identifier,
            attributes,
            sent.packet.authenticator,
            self.server_secret,
            message_authenticator=True,
        )
        self._from_server(sent.channel, data)

    def logins_at_server(self) -> list[ToServer]:
        return [sent for sent in self.to_server if sent.packet.code == Code.ACCESS_REQUEST]

    def records_at_server(self) -> list[ToServer]:
        return [sent for sent in self.to_server if sent.packet.code == Code.ACCOUNTING_REQUEST]

    # Running commands

    def dispatch(self, flow: Flow, event: Event) -> None:
        self._events.append((flow, event))
        if len(self._events) > 1:
            return
        while self._events:
            owner, what = self._events[0]
            self.run(owner.handle(what))
            self._events.popleft()

    def run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Keep):
                self._keep(command)
            elif isinstance(command, Send) and command.peer is not None:
                self.to_devices.append((command.peer, parse(command.data), command.data))
            elif isinstance(command, Send):
                self._at_server(command)
            elif isinstance(command, Open):
                self._owners[command.channel] = command.owner
            elif isinstance(command, Close):
                self._owners.pop(command.channel, None)
            elif isinstance(command, Verify):
                self._held_codes.append(command)
                if not self.holding_codes:
                    self.compare()
            elif isinstance(command, Tell):
                self.told.append(command)
                if command.keep and not self.disk_dead:
                    self.ledger.commit([AppLogLine(self.wall, command.level, command.text, command.context)])

    def sync(self, most: int = 1_000_000) -> None:
        """Commit what is held, at most so many changes; what is asked for meanwhile is held in its turn."""
        for _ in range(min(most, len(self._held))):
            self._commit(self._held.popleft())

    def compare(self) -> None:
        """Compare the codes that are held, one by one."""
        while self._held_codes:
            asked = self._held_codes.popleft()
            self.compared.append(asked.code)
            right = bool(asked.hash) and asked.hash == f"hash of {asked.code}"
            self.dispatch(asked.owner, Verified(asked.token, right, self.moment()))

    @property
    def held(self) -> list[Keep]:
        """What waits to be committed."""
        return list(self._held)

    def _keep(self, keep: Keep) -> None:
        if self.holding:
            self._held.append(keep)
        else:
            self._commit(keep)

    def _commit(self, keep: Keep) -> None:
        if self.disk_dead or (self.disk_full and not may_be_kept(keep.change, Level.FULL)):
            if keep.token is not None and keep.owner is not None:
                self.dispatch(keep.owner, NotKept(keep.token, "the disk is full", self.moment()))
            return
        (outcome,) = self.ledger.commit([keep.change])
        assert not isinstance(outcome, StorageError), f"{outcome}: {keep.change}"
        self.run(keep.then)
        if keep.token is not None and keep.owner is not None:
            self.dispatch(keep.owner, Kept(keep.token, outcome, self.moment()))

    def _at_server(self, send: Send) -> None:
        if send.channel not in self._owners:
            return  # as the driver does with a channel that nobody opened
        address, port = send.channel[1], send.channel[2]
        packet = parse(send.data)
        self.to_server.append(ToServer(send.channel, packet, send.data, self.now))
        if self.refusing or address in self.refusing_at:
            self.dispatch(self._owners[send.channel], Refused(send.channel, "connection refused", self.moment()))
        up = self.server_up and address not in self.down and (port == AUTH or self.accounting_up)
        if up and (packet.code != Code.STATUS_SERVER or self.answers_status):
            self._serve(send.channel, packet)

    def _serve(self, channel: Channel, packet: Packet) -> None:
        name = packet.get(Type.USER_NAME) or b""
        session = packet.get(Type.ACCT_SESSION_ID)
        if name in self.silent_for or session in self.silent_for_session:
            return
        states = tuple((Type.PROXY_STATE, value) for value in packet.get_all(Type.PROXY_STATE))
        code: int = Code.ACCESS_ACCEPT
        if packet.code == Code.ACCESS_REQUEST and name not in self.granted:
            code = Code.ACCESS_REJECT
        if channel[2] == ACCT:
            code = Code.ACCESS_REJECT if session in self.refused_sessions else Code.ACCOUNTING_RESPONSE
            if packet.code == Code.ACCOUNTING_REQUEST and code == Code.ACCOUNTING_RESPONSE:
                self.book.append(packet)
        attributes: Attributes = (*self.server_adds, *states) if channel[2] == AUTH else states
        data = sign_response(
            code,
            packet.identifier,
            attributes,
            packet.authenticator,
            self.server_secret,
            message_authenticator=self.server_signs,
        )
        self._from_server(channel, data)

    def _from_server(self, channel: Channel, data: bytes) -> None:
        owner = self._owners.get(channel)
        if owner is not None:
            self.dispatch(owner, Received(channel, ("", 0, ""), data, self.moment()))


def _compiled(policy: dict[str, Any]) -> dict[str, Any]:
    pattern = policy.get("card_pattern")
    return policy | {"card_pattern": re.compile(pattern)} if isinstance(pattern, str) else policy
