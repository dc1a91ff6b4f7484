"""A copier terminal written from the dialect's description alone: struct and zlib, none of our code.

`Terminal` is one connection with many requests outstanding; `Worker` is a copier that reports jobs for as long as it
takes: when the connection breaks or no answer comes it connects anew and sends the same job again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import time
import zlib
from dataclasses import dataclass, field

HEAD = struct.Struct(">2sBBIH")
HELLO, LOGIN, UNLOCK, JOB, LOGOUT, PING, QUERY, RECORD = range(1, 9)
REPLY = 0x80
ERROR = 0xFF
GRANTED, REFUSED, LOCKED, METHOD, UNAVAILABLE, LIMIT = range(6)
STORED, ALREADY, NOT_TAKEN, LATER = range(4)
ONLINE, OFFLINE, OFFLINE_LOCKED, NO_SERVER = range(4)
NO_BALANCE = -(2**63)


class Lost(Exception):
    """The connection has ended, or no answer came."""


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return bytes((len(data),)) + data


def frame(kind: int, sequence: int, payload: bytes = b"") -> bytes:
    body = HEAD.pack(b"CT", 1, kind, sequence, len(payload)) + payload
    return body + struct.pack(">I", zlib.crc32(body))


def hello(device: str, model: str = "test", firmware: str = "1", capabilities: int = 15) -> bytes:
    return text(device) + text(model) + text(firmware) + struct.pack(">H", capabilities)


def login(card: str, method: int = 1, secret: str = "") -> bytes:
    return bytes((method,)) + text(card) + text(secret)


def job(
    session: int,
    number: int,
    *,
    pages: int = 1,
    kind: int = 1,
    color: int = 0,
    sheets: int = 1,
    copies: int = 1,
    started: int = 0,
    ended: int = 0,
    flags: int = 0,
    paper: str = "A4",
    document: str | bytes = "",
    account: str = "",
) -> bytes:
    head = struct.pack(">QQBQQIIIHH", session, number, kind, started, ended, pages, color, sheets, copies, flags)
    return head + text(paper) + text(document) + text(account)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it came."""

    kind: int
    sequence: int
    payload: bytes

    @property
    def status(self) -> int:
        """The status of LOGIN_RESULT, UNLOCK_RESULT and QUERY_RESULT, the state of PONG, the code of ERROR."""
        return self.payload[0]


@dataclass(frozen=True, slots=True)
class LoginReply:
    status: int
    session: int
    user: str
    message: str
    balance: int
    permissions: int


def read_login(reply: Reply) -> LoginReply:
    assert reply.kind == LOGIN | REPLY, f"not a LOGIN_RESULT: {reply}"
    status, session = struct.unpack_from(">BQ", reply.payload)
    user, rest = _take(reply.payload[9:])
    message, rest = _take(rest)
    balance, permissions = struct.unpack(">qH", rest)
    return LoginReply(status, session, user, message, balance, permissions)


def read_ack(reply: Reply) -> tuple[int, int]:
    """Job number and status of a JOB_ACK."""
    assert reply.kind == JOB | REPLY, f"not a JOB_ACK: {reply}"
    number, status = struct.unpack(">QB", reply.payload)
    return number, status


def read_welcome(reply: Reply) -> tuple[str, int, int]:
    """Server name, heartbeat and state."""
    assert reply.kind == HELLO | REPLY, f"not a WELCOME: {reply}"
    name, rest = _take(reply.payload)
    heartbeat, _, state = struct.unpack(">HQB", rest)
    return name, heartbeat, state


def read_unlock(reply: Reply) -> tuple[int, int]:
    """Status and retry_after."""
    assert reply.kind == UNLOCK | REPLY, f"not an UNLOCK_RESULT: {reply}"
    status, retry_after = struct.unpack(">BH", reply.payload)
    return status, retry_after


def _take(data: bytes) -> tuple[str, bytes]:
    size = data[0]
    return data[1 : 1 + size].decode(), data[1 + size :]


class Terminal:
    """One connection. `request` may be called many times at once."""

    def __init__(
        self, port: int, device: str, *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.device = device
        self._where = (address, port, tls)
        self._sequence = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self.unasked: list[Reply] = []
        self.state = -1

    async def connect(self, within: float = 5.0) -> Terminal:
        """Connect and say HELLO. Raises Lost."""
        address, port, tls = self._where
        try:
            reader, self._writer = await asyncio.wait_for(
                asyncio.open_connection(address, port, ssl=tls, server_hostname="localhost" if tls else None), within
            )
        except (OSError, TimeoutError) as error:
            raise Lost(str(error)) from error
        self._reading = asyncio.ensure_future(self._read(reader))
        welcome = await self.request(HELLO, hello(self.device), within)
        if welcome.kind == ERROR:
            raise Lost(welcome.payload[2:].decode())
        _, self.heartbeat, self.state = read_welcome(welcome)
        return self

    async def request(self, kind: int, payload: bytes = b"", within: float = 5.0) -> Reply:
        """Send a request and wait for its reply. Raises Lost."""
        self._sequence += 1
        return await self.send_as(self._sequence, kind, payload, within)

    async def send_as(self, sequence: int, kind: int, payload: bytes, within: float = 5.0) -> Reply:
        if self._writer is None or self._writer.is_closing():
            raise Lost("not connected")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[sequence] = future
        self._writer.write(frame(kind, sequence, payload))
        try:
            return await asyncio.wait_for(future, within)
        except TimeoutError as error:
            raise Lost("no answer") from error
        finally:
            self._waiting.pop(sequence, None)

    async def swipe(self, card: str, within: float = 5.0, method: int = 1, secret: str = "") -> LoginReply:
        return read_login(await self.request(LOGIN, login(card, method, secret), within))

    async def unlock(self, code: str, scope: int = 1, within: float = 5.0) -> tuple[int, int]:
        return read_unlock(await self.request(UNLOCK, bytes((scope,)) + text(code), within))

    async def job(self, session: int, number: int, within: float = 5.0, **what: object) -> int:
        """Report a job; gives the status of its acknowledgement."""
        named, status = read_ack(await self.request(JOB, job(session, number, **what), within))  # type: ignore[arg-type]
        assert named == number
        return status

    async def logout(self, session: int, within: float = 5.0) -> None:
        reply = await self.request(LOGOUT, struct.pack(">Q", session), within)
        assert reply.kind == LOGOUT | REPLY
        assert reply.payload == struct.pack(">Q", session)

    async def ping(self, within: float = 5.0) -> int:
        """The state that PONG says."""
        reply = await self.request(PING, b"", within)
        assert reply.kind == PING | REPLY
        return reply.status

    def write_raw(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    async def ended(self, within: float = 5.0) -> None:
        """Wait until the other side has closed."""
        assert self._reading is not None
        await asyncio.wait_for(asyncio.shield(self._reading), within)

    @property
    def is_open(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(self._writer.wait_closed(), 2)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                head = await reader.readexactly(HEAD.size)
                magic, version, kind, sequence, length = HEAD.unpack(head)
                payload = await reader.readexactly(length)
                (check,) = struct.unpack(">I", await reader.readexactly(4))
                assert (magic, version) == (b"CT", 1)
                assert check == zlib.crc32(head + payload), "a frame with a wrong checksum"
                reply = Reply(kind, sequence, payload)
                future = self._waiting.get(sequence)
                if future is not None and not future.done():
                    future.set_result(reply)
                else:
                    self.unasked.append(reply)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Lost("the connection ended"))


@dataclass(slots=True)
class Acknowledged:
    """A job that was acknowledged: by what status, after how many tries, in how many seconds."""

    number: int
    status: int
    tries: int
    seconds: float


@dataclass
class Worker:
    """A copier whose person swipes and copies, whatever happens on the way."""

    port: int
    device: str
    card: str
    address: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    within: float = 5.0
    acknowledged: list[Acknowledged] = field(default_factory=list)
    logins: list[LoginReply] = field(default_factory=list)
    session: int = 0
    line: Terminal | None = None

    async def log_in(self, until: float) -> LoginReply:
        """Swipe until somebody decides; the time is monotonic."""
        while time.monotonic() < until:
            try:
                line = await self._connected()
                reply = await line.swipe(self.card, self.within)
            except Lost:
                await self._broken()
                continue
            if reply.status != UNAVAILABLE:
                self.logins.append(reply)
                self.session = reply.session
                return reply
            await asyncio.sleep(0.2)
        raise AssertionError(f"{self.device}: nobody decided the login")

    async def report(self, number: int, until: float, **what: object) -> Acknowledged:
        """Report a job until it is acknowledged."""
        began, tries = time.monotonic(), 0
        while time.monotonic() < until:
            tries += 1
            try:
                line = await self._connected()
                status = await line.job(self.session, number, self.within, **what)
            except Lost:
                await self._broken()
                continue
            if status in (STORED, ALREADY):
                done = Acknowledged(number, status, tries, time.monotonic() - began)
                self.acknowledged.append(done)
                return done
            assert status == LATER, f"{self.device}: job {number} was refused"
            await asyncio.sleep(0.2)
        raise AssertionError(f"{self.device}: job {number} was not acknowledged in {tries} tries")

    async def close(self) -> None:
        if self.line is not None:
            await self.line.close()
            self.line = None

    async def _connected(self) -> Terminal:
        if self.line is None or not self.line.is_open:
            await self.close()
            self.line = Terminal(self.port, self.device, address=self.address, tls=self.tls)
            await self.line.connect(self.within)
        return self.line

    async def _broken(self) -> None:
        await self.close()
        await asyncio.sleep(0.1)
