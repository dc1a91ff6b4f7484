"""Every pair of a listener's dialect and a server's dialect, in one house each, with the same words for all.

A `PairHouse` is built through `appliance.assembly` as `House` is. What devices do is said without a dialect (`login`,
`job`, `code`), and so is what came of it; the servers of the dialects terminal and papercut are those of their own
houses, put at the other end of this one's wire.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from appliance.config import (
    Config,
    PapercutUpstreamConfig,
    Secret,
    TerminalListenConfig,
    TerminalUpstreamConfig,
)
from protocols.radius.packet import Code, Type
from protocols.terminal import frames
from protocols.terminal.messages import JobAck, Login, LoginResult, Unlock, UnlockResult
from proxy.commands import Close, Command, Connect, Send
from proxy.link import State
from tests.flows import papercut_house, terminal_house, terminal_server_house
from tests.flows.house import CODE, HERE, TICK, House

CARD = "0A1B2C3D"
SLOW_CARD = "51000051"
SLOW_JOB = 999
ANSWERED_WITHIN = 1.25
TERMINAL_WORDS = {0: "granted", 1: "refused", 2: "locked", 3: "refused", 4: "unavailable", 5: "refused"}
UNLOCK_WORDS = {0: "unlocked", 1: "wrong", 2: "too many", 3: "not offline"}
JOB_WORDS = {0: "acknowledged", 1: "acknowledged", 2: "refused", 3: "later"}


class TerminalWire(terminal_server_house.ServerHouse):
    """A terminal server; what it is told goes through the house that it serves."""

    def __init__(self, house: PairHouse) -> None:
        self.house = house
        self.settings = terminal_server_house.Settings(9790, None, house.timeout, 10.0, "house")
        self.chunk, self.up, self.state_byte = 0, True, 0
        self.down, self.refusing, self.silent = set(), set(), set()
        self.record_status, self.book = {}, {}
        self.answer = lambda asked: None
        self.asked, self.connects = [], []
        self.connections, self.hanging = {}, {}

    def __getattr__(self, name: str) -> Any:
        """Time and the running of commands are the house's."""
        return getattr(self.house, name)

    def moment(self) -> Any:
        return self.house.moment()

    def dispatch(self, flow: Any, event: Any) -> None:
        self.house.dispatch(flow, event)

    def connect(self, command: Connect) -> None:
        self._connect(command)

    def sent(self, send: Send) -> None:
        connection = self.connections.get(send.channel)
        if connection is not None and self.reachable(connection.address):
            self._read(connection, send.data)
        elif connection is not None:
            connection.unread += send.data

    def close_channel(self, command: Close) -> None:
        self.connections.pop(command.channel, None)
        self.hanging.pop(command.channel, None)

    def tick(self) -> None:
        for channel, (command, until) in list(self.hanging.items()):
            if channel in self.hanging and self.reachable(command.address):
                del self.hanging[channel]
                self._accept(command)
            elif channel in self.hanging and self.house.now >= until:
                del self.hanging[channel]
                closed = terminal_server_house.Closed(channel, "no answer", self.moment())
                self.dispatch(command.owner, closed)

    def set_up(self, up: bool) -> None:
        if up and not self.up:
            self.come_back()
        self.up = up

    def hold_slow(self, held: bool) -> None:
        """While held, the record of the job SLOW_JOB is put off."""
        self.record_status = {SLOW_JOB: 3} if held else {}

    def silence_logins(self) -> None:
        self.silent = {frames.Type.LOGIN}

    def logins(self) -> int:
        return sum(isinstance(each.message, Login) and each.message.credential == CARD for each in self.asked)


class PapercutWire(papercut_house.House):
    """A PaperCut server; what it is told goes through the house that it serves."""

    def __init__(self, house: PairHouse) -> None:
        self.house = house
        self.server = papercut_house.Server()
        self.server.person("ann", CARD)
        self.server.person("slow", SLOW_CARD)
        self.sent_calls: list[tuple[float, str]] = []
        self._conns, self._later, self._order = {}, [], count()

    @property
    def now(self) -> float:  # type: ignore[override]
        return self.house.now

    @property
    def sent(self) -> Any:  # type: ignore[override]
        return self.sent_calls

    def moment(self) -> Any:
        return self.house.moment()

    def dispatch(self, flow: Any, event: Any) -> None:
        self.house.dispatch(flow, event)

    def connect(self, command: Connect) -> None:
        self._connect(command)

    def sent_on(self, send: Send) -> None:
        self._at_server(send)

    def close_channel(self, command: Close) -> None:
        self._conns.pop(command.channel, None)

    def tick(self) -> None:
        while self._later and self._later[0][0] <= self.house.now:
            heapq.heappop(self._later)[2]()

    def set_up(self, up: bool) -> None:
        self.server.down = not up

    def hold_slow(self, held: bool) -> None:
        """While held, whose card SLOW_CARD is cannot be said."""

        def fault(asked: dict[str, str]) -> str:
            return "java.lang.Exception: try again" if asked[""] == SLOW_CARD else ""

        self.server.faults = {"lookUpUserNameByCardNo": fault} if held else {}

    def silence_logins(self) -> None:
        self.server.silent = {"lookUpUserNameByCardNo"}

    def logins(self) -> int:
        return sum(call == ("lookUpUserNameByCardNo", (CARD,)) for call in self.server.calls)


@dataclass
class PairHouse(House):
    """A house whose listener speaks `devices_speak`, and whose server speaks `server_speaks`."""

    devices_speak: str = "radius"
    server_speaks: str = "radius"

    def __post_init__(self) -> None:
        self.connections = 0
        self.ends: dict[Any, terminal_house.Device] = {}
        self.at_device: dict[str, terminal_house.Device] = {}
        self.session_on: dict[str, int] = {}
        self.wire: TerminalWire | PapercutWire | None = None
        if self.server_speaks == "terminal":
            self.wire = TerminalWire(self)
        elif self.server_speaks == "papercut":
            self.wire = PapercutWire(self)
        super().__post_init__()

    def config(self) -> Config:
        config = super().config()
        if self.server_speaks == "terminal":
            hq: Any = TerminalUpstreamConfig(
                name="hq", dialect="terminal", addresses=(HERE,), answer_timeout=self.timeout, port=9790, tls=None
            )
            config = replace(config, upstreams=(hq,))
        elif self.server_speaks == "papercut":
            hq = PapercutUpstreamConfig(
                name="hq",
                dialect="papercut",
                addresses=(HERE,),
                answer_timeout=self.timeout,
                url="http://papercut.example:9191/rpc/api/xmlrpc",
                host=HERE,
                port=9191,
                path="/rpc/api/xmlrpc",
                tls=None,
                token=Secret(papercut_house.TOKEN.encode()),
                time_zone="UTC",
                card_regex=None,
                card_converters=(),
                drain_window=32,
            )
            config = replace(config, upstreams=(hq,))
        if self.devices_speak == "terminal":
            listen = TerminalListenConfig(
                dialect="terminal", bind="0.0.0.0", upstream="hq", records_to="hq", port=9790, tls=None
            )
            config = replace(config, listens=(listen,))
        return config

    def restart(self, down_for: float = 0.0, **how: Any) -> None:
        self.ends.clear()
        self.at_device.clear()
        if isinstance(self.wire, TerminalWire):
            self.wire.connections.clear()
            self.wire.hanging.clear()
        elif isinstance(self.wire, PapercutWire):
            self.wire._conns.clear()
            self.wire._later.clear()
        super().restart(down_for, **how)

    # The wire

    def run(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Send) and command.channel in self.ends:
                self.ends[command.channel].heard(command.data)
            elif isinstance(command, Close) and command.channel in self.ends:
                self.ends.pop(command.channel).closed = True
            elif isinstance(command, Connect) and self.wire is not None:
                self.wire.connect(command)
            elif isinstance(command, Close) and self.wire is not None:
                self.wire.close_channel(command)
            elif isinstance(command, Send) and command.peer is None and self.wire is not None:
                if isinstance(self.wire, TerminalWire):
                    self.wire.sent(command)
                else:
                    self.wire.sent_on(command)
            else:
                super().run([command])

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            super().pass_time(TICK)
            if self.wire is not None:
                self.wire.tick()

    def set_server(self, up: bool) -> None:
        """The server goes, or comes back."""
        self.server_up = up
        if self.wire is not None:
            self.wire.set_up(up)

    def hold_slow(self, held: bool) -> None:
        """While held, the one record of `copier-9` cannot be delivered; the server is there."""
        if self.wire is not None:
            self.wire.hold_slow(held)
        elif held:
            self.silent_for_session.add(b"slow")
        else:
            self.silent_for_session.clear()

    def silence_logins(self) -> None:
        """The server is there, and answers no login any more."""
        if self.wire is not None:
            self.wire.silence_logins()
        else:
            self.silent_for.add(CARD.encode())

    def logins(self) -> int:
        """How many logins of CARD the server has seen."""
        if self.wire is not None:
            return self.wire.logins()
        return len({sent.data for sent in self.logins_at_server() if sent.packet.get(Type.USER_NAME) == CARD.encode()})

    def move(self, state: State) -> None:
        """As `House.move`."""
        if state in (State.OFFLINE, State.RECOVERING):
            self.set_server(False)
            self.until(State.OFFLINE)
        if state is State.RECOVERING:
            self.hold_slow(True)
            self.slow_job()
            self.set_server(True)
            self.until(State.RECOVERING)
            self.pass_time(1)
        if state is State.GRACE:
            self.reload(delay=30.0)
            self.set_server(False)
            self.until(State.GRACE)
        assert self.state is state
        self.told.clear()

    def slow_job(self) -> None:
        if self.devices_speak == "radius":
            self.account(session="slow", job=str(SLOW_JOB), name=SLOW_CARD, device="copier-9")
            return
        device = self.terminal("copier-9")
        result = self.asked_of(device, Login(1, SLOW_CARD, ""))
        assert isinstance(result, LoginResult)
        assert result.status == 0
        device.ask(terminal_house.job(result.session, SLOW_JOB))
        self.pass_time(TICK)

    # What devices do, without a dialect

    def terminal(self, name: str) -> terminal_house.Device:
        """The terminal of this name, connected and greeted."""
        device = self.at_device.get(name)
        if device is None or device.closed:
            device = self.at_device[name] = terminal_house.Device(self, name, 31, "", 0)  # type: ignore[arg-type]
            device.hello()
        return device

    def asked_of(self, device: terminal_house.Device, message: Any) -> Any:
        """The answer to a terminal's request, waited for as long as a terminal may have to; None: silence."""
        sequence = device.ask(message)
        for _ in range(round(ANSWERED_WITHIN / TICK)):
            if device.answers(sequence):
                return device.answer(sequence)
            self.pass_time(TICK)
        return None

    def waited_for(self, packet: bytes) -> Any:
        """The answer to a datagram, as `asked_of`."""
        for _ in range(round(ANSWERED_WITHIN / TICK)):
            if self.answers(packet):
                return self.answers(packet)[0]
            self.pass_time(TICK)
        return None

    def _said(self, answer: Any, before: int, rows: int) -> str:
        relayed = "relayed, " if self.logins() > before else ""
        if answer is None:
            return f"{relayed}silence"
        if isinstance(answer, LoginResult):
            word = TERMINAL_WORDS[answer.status]
        else:
            codes = {Code.ACCESS_ACCEPT: "granted", Code.ACCESS_REJECT: "refused", Code.ACCESS_CHALLENGE: "locked"}
            word = codes[Code(answer.code)]
        if word in ("locked", "unavailable"):
            return f"{relayed}{word}"
        self.sync()
        by = self.rows("SELECT decided_by FROM logins WHERE seq > ? ORDER BY seq DESC LIMIT 1", rows)
        if not by:
            return f"{relayed}{word}, not written down"
        return f"{relayed}{word} by {'Locum' if by[0][0] == 'locum' else by[0][0]}"

    def last_seq(self) -> int:
        return self.count("SELECT coalesce(max(seq), 0) FROM entries")

    def login(self, device: str = "copier-5", name: str = CARD, password: str = "") -> str:
        """Who answered a login, and what; whether the server has seen it."""
        before, rows = self.logins(), self.last_seq()
        if self.devices_speak == "terminal":
            request = Login(2 if password else 1, name, password)
            answer = self.asked_of(self.terminal(device), request)
            if isinstance(answer, LoginResult) and answer.status == 0:
                self.session_on[device] = answer.session
            return self._said(answer, before, rows)
        packet = self.swipe(name, device=device, password=password.encode() if password else None)
        return self._said(self.waited_for(packet), before, rows)

    def code(self, code: str = CODE, device: str = "copier-5") -> str:  # type: ignore[override]
        """What a code at a device is answered with, after a swipe that asks for it (if the dialect does)."""
        if self.devices_speak == "terminal":
            answer = self.asked_of(self.terminal(device), Unlock(1, code))
            assert isinstance(answer, UnlockResult)
            return UNLOCK_WORDS[answer.status]
        challenged = self.waited_for(self.swipe(CARD, device=device))
        if challenged is None or challenged.code != Code.ACCESS_CHALLENGE:
            return "not offline"
        packet = self.give_code(code, challenged.get(Type.STATE) or b"", device=device)
        answer = self.waited_for(packet)
        return {Code.ACCESS_ACCEPT: "unlocked", Code.ACCESS_REJECT: "wrong"}[Code(answer.code)]

    def job(self, number: int, session: str = "s7", device: str = "copier-8", *, again: bool = False) -> str:
        """What became of a job, and what the device was told. It is of the device's session, if one began there.
        `again`: the device says it twice.
        """
        said = []
        if self.devices_speak == "terminal":
            frame = terminal_house.job(self.session_on.get(device, 0), number)
            for _ in range(1 + again):
                answer = self.asked_of(self.terminal(device), frame)
                assert isinstance(answer, JobAck | None)
                said.append("silence" if answer is None else JOB_WORDS[answer.status])
        else:
            packet = self.account(session=session, job=str(number), device=device)
            said.append("silence" if self.waited_for(packet) is None else "acknowledged")
            if again:
                self.to_devices.clear()
                self.account(packet=packet)
                said.append("silence" if self.waited_for(packet) is None else "acknowledged")
        query = "SELECT state FROM jobs LEFT JOIN outbox USING (seq) WHERE job_number = ?"
        found = self.rows(query, str(number))
        assert len(found) < 2, "kept twice"
        where = f"kept, {found[0][0] or 'delivered'}" if found else "not kept"
        return ", again ".join([f"{where}, {said[0]}", *said[1:]])
