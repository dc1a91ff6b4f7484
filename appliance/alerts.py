"""Alarms that leave the box: remote syslog (RFC 5424) over UDP (RFC 5426) or TCP with octet counting (RFC 6587 section
3.4.1).

What cannot be sent now waits, at most 1,000 messages a target, and is tried again with growing pauses; over TCP what a
broken connection may have lost is sent again, so a message may come twice. Nothing here holds up the service. Only an
alarm's words and context leave, never what is personal. TLS (RFC 5425) is left out.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from appliance.config.values import SyslogTarget
from appliance.log import Events
from proxy.commands import Tell
from proxy.net.names import Names, is_numeric
from proxy.net.stream import unsent, watch_over
from proxy.net.udp import family_of
from proxy.net.why import why_not_connected

LOCAL0 = 16
SEVERITIES = {"error": 3, "warning": 4, "info": 6}
NOTICE = 5
LONGEST = 2048
"""Octets of a message: what RFC 5426 section 3.2 says that every receiver should take."""
LONGEST_CONTEXT = 1024
LONGEST_VALUE = 255
MOST_WAITING = 1000
MOST_UNSENT = 65536
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
CONNECT_WITHIN = 10.0
EVERY = 1.0

_NOT_IN_NAMES = re.compile(r"[^!#-<>-\\^-~]")
_NOT_IN_HEADER = re.compile(r"[^!-~]")
_TO_ESCAPE = re.compile(r'(["\\\]])')

events = Events("alerts")


def message(tell: Tell, appliance: str, host: str, process: int, seconds: float) -> bytes:
    """An alarm as a syslog message (RFC 5424 section 6), cut to LONGEST octets. `seconds`: UTC since 1970."""
    priority = LOCAL0 * 8 + SEVERITIES.get(tell.level, NOTICE)
    at = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    kind = _NOT_IN_HEADER.sub("_", tell.alarm)[:32] or "-"
    host = _NOT_IN_HEADER.sub("_", host)[:255] or "-"
    data = f'[locum@32473 appliance="{_value(appliance)}"'
    for key, value in tell.context.items():
        pair = f' {_NOT_IN_NAMES.sub("_", key)[:32] or "_"}="{_value(str(value))}"'
        if len((data + pair).encode()) <= LONGEST_CONTEXT:
            data += pair
    line = f"<{priority}>1 {at} {host} locum {process} {kind} {data}] {_shown(tell.text)}".encode()
    return line[:LONGEST].decode(errors="ignore").encode()


def _value(text: str) -> str:
    """RFC 5424 section 6.3.3."""
    return _TO_ESCAPE.sub(r"\\\1", _shown(text)[:LONGEST_VALUE])


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


class Alerts:
    """Sends alarms to every target. `dropped` counts messages that had to give way to newer ones."""

    def __init__(self, reactor: Any, targets: Sequence[SyslogTarget], name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._host = socket.gethostname()
        self._bugs = 0
        self._targets = [(_Tcp if each.kind == "tcp" else _Udp)(reactor, each) for each in targets]
        self._names = Names(reactor, self._resolved, self._unresolved)
        self._names.watch({each.host for each in targets if not is_numeric(each.host)})
        self._timer: Any = reactor.callLater(0, self._tick) if targets else None

    def send(self, tell: Tell) -> None:
        """Send an alarm, now or as soon as it can be; never raises."""
        try:
            line = message(tell, self._name, self._host, os.getpid(), time.time())
            for target in self._targets:
                target.send(line)
        except Exception as error:  # an alarm that cannot be told must not cost the service its work
            self._bugs += 1
            events.failure("an alarm met a bug; please report it", error)

    @property
    def dropped(self) -> int:
        return self._bugs + sum(target.dropped for target in self._targets)

    def stop(self) -> None:
        """Send no more; what a connection has taken still leaves."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for target in self._targets:
            target.stop()

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(EVERY, self._tick)
        now = time.monotonic()
        self._names.tick(now)
        for target in self._targets:
            target.tick(now)

    def _resolved(self, name: str, addresses: list[str]) -> None:
        for target in self._targets:
            if target.host == name:
                target.addresses = addresses
                target.pump()

    def _unresolved(self, name: str, why: str) -> None:
        for target in self._targets:
            if target.host == name and not target.addresses:
                target.failed(f"the name does not resolve ({why})")


class _Target:
    """What both ways share: the queue, the pauses, and what the admin is told of it."""

    def __init__(self, reactor: Any, target: SyslogTarget) -> None:
        self.host = target.host
        self.addresses = [target.host] if is_numeric(target.host) else []
        self.dropped = 0
        self._reactor = reactor
        self._port = target.port
        self._where = f"{target.kind}://{target.host}:{target.port}"
        self._waiting: deque[bytes] = deque()
        self._pause = FIRST_PAUSE
        self._not_before = 0.0
        self._ill = False
        self._stopped = False

    def send(self, line: bytes) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(line)
        self.pump()

    def tick(self, now: float) -> None:
        self.pump()

    def pump(self) -> None:
        """Send what waits, if that may be tried now."""
        if self._waiting and self.addresses and not self._stopped and time.monotonic() >= self._not_before:
            self._send_waiting()

    def stop(self) -> None:
        self._stopped = True

    def failed(self, why: str) -> None:
        """Wait, twice as long as the last time; say so once."""
        self._not_before = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self.addresses = self.addresses[1:] + self.addresses[:1]
        if not self._ill:
            self._ill = True
            events.warning("alarms cannot be sent now; they wait", target=self._where, why=why)

    def _works(self) -> None:
        self._pause = FIRST_PAUSE
        if self._ill:
            self._ill = False
            events.info("alarms are sent again", target=self._where)

    def _send_waiting(self) -> None:
        raise NotImplementedError


class _Udp(_Target):
    """Each message in a datagram. That it left is all that can be known."""

    def _send_waiting(self) -> None:
        try:
            with socket.socket(family_of(self.addresses[0]), socket.SOCK_DGRAM) as port:
                port.setblocking(False)
                while self._waiting:
                    port.sendto(self._waiting[0], (self.addresses[0], self._port))
                    self._waiting.popleft()
        except OSError as error:
            self.failed(error.strerror or type(error).__name__)
        else:
            self._works()


class _Tcp(_Target):
    """Messages in frames on one connection, opened when the first is to be sent and again when it is lost."""

    def __init__(self, reactor: Any, target: SyslogTarget) -> None:
        super().__init__(reactor, target)
        self._connection: Any = None
        self._connecting: Any = None
        self._written = 0
        self._unconfirmed: deque[tuple[int, bytes]] = deque()

    def tick(self, now: float) -> None:
        if self._unconfirmed and self._connection is not None:
            self._confirm()
        super().tick(now)

    def stop(self) -> None:
        super().stop()
        if self._connection is not None:
            self._connection.loseConnection()
        elif self._connecting is not None:
            self._connecting.disconnect()

    def connected(self, connection: Any) -> None:
        self._connecting, self._connection, self._written = None, connection, 0
        watch_over(connection.getHandle())
        self._send_waiting()

    def lost(self, why: str) -> None:
        """There is no connection (any more). What the other side has not confirmed is sent again."""
        self._connecting = self._connection = None
        again = [line for _, line in self._unconfirmed]
        self._unconfirmed.clear()
        self._waiting.extendleft(reversed(again))
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        if not self._stopped:
            self.failed(why)

    def _send_waiting(self) -> None:
        if self._connection is None:
            if self._connecting is None:
                factory: Any = _Factory(self)
                address = self.addresses[0]
                self._connecting = self._reactor.connectTCP(address, self._port, factory, CONNECT_WITHIN)
            return
        while self._waiting and unsent(self._connection) < MOST_UNSENT:
            line = self._waiting.popleft()
            frame = b"%d %b" % (len(line), line)
            self._written += len(frame)
            self._unconfirmed.append((self._written, line))
            self._connection.write(frame)

    def _confirm(self) -> None:
        """Forget what the other side's kernel has acknowledged (tcp(7), SIOCOUTQ)."""
        with suppress(OSError):
            (unacknowledged,) = struct.unpack("i", ioctl(self._connection.getHandle().fileno(), TIOCOUTQ, bytes(4)))
            confirmed = self._written - unsent(self._connection) - unacknowledged
            while self._unconfirmed and self._unconfirmed[0][0] <= confirmed:
                self._unconfirmed.popleft()
                self._works()


class _Connection(Protocol):
    def __init__(self, target: _Tcp) -> None:
        self._target = target

    def connectionMade(self) -> None:
        self._target.connected(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._target.lost("the connection was lost")


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, target: _Tcp) -> None:
        self._target = target

    def buildProtocol(self, addr: object) -> _Connection:
        return _Connection(self._target)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._target.lost(why_not_connected(reason.value)[0])
