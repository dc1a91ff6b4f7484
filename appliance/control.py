"""The control socket: one JSON object and a line break each way, for root and the group `locum` only.

Who asked is taken from the kernel (SO_PEERCRED, unix(7)), never from what the client says, and goes into the ledger
with everything done by hand.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from appliance.client import SOCKET_NAME, control_socket
from appliance.log import Events

GROUP = "locum"
LONGEST_REQUEST = 1 << 20
PATIENCE = 10.0
"""Seconds for a whole request."""
ANSWERED_WITHIN = 60.0
"""Seconds for the answer to leave; whoever asks waits less."""
_PEER = struct.Struct("3i")

events = Events("control")

Handler = Callable[[dict[str, Any], str], Any]


class Refusal(Exception):
    """The command cannot be done; the text is one line for a person."""


class Asker(Protocol):
    """One connection: reads a request, answers it, closes."""

    def __init__(self, reactor: Any, handlers: dict[str, Handler]) -> None:
        self._reactor = reactor
        self._handlers = handlers
        self._read = b""
        self._patience: Any = None

    def connectionMade(self) -> None:
        self._patience = self._reactor.callLater(PATIENCE, self.transport.abortConnection)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()

    def dataReceived(self, data: bytes) -> None:
        self._read += data
        if len(self._read) > LONGEST_REQUEST:
            self._answer({"ok": False, "error": "the request is too long"})
        elif b"\n" in data:
            line, self._read = self._read.partition(b"\n")[0], b""
            if self._patience is not None and self._patience.active():
                self._patience.reset(ANSWERED_WITHIN)
            self._request(line)

    def _request(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            handler = self._handlers[request["command"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            self._answer({"ok": False, "error": f"no such command; known are {', '.join(sorted(self._handlers))}"})
            return
        try:
            result = handler(request, self._who())
        except Refusal as refusal:
            self._answer({"ok": False, "error": str(refusal)})
            return
        except Exception as error:  # a bug in one answer must not cost the asker an answer
            events.failure("a command met a bug; please report it", error)
            self._answer({"ok": False, "error": "the appliance met a bug; its log says where"})
            return
        if isinstance(result, Deferred):
            result.addCallbacks(self._done, self._failed)
        else:
            self._done(result)

    def _done(self, result: Any) -> None:
        self._answer({"ok": True, "result": result})

    def _failed(self, failure: Failure) -> None:
        if failure.check(Refusal) is None:  # type: ignore[no-untyped-call]
            events.failure("a command failed", failure.value)  # type: ignore[arg-type]
        self._answer({"ok": False, "error": str(failure.value)})

    def _answer(self, answer: dict[str, Any]) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
            transport.loseConnection()

    def _who(self) -> str:
        transport: Any = self.transport
        pid, uid, _ = _PEER.unpack(transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = "?"
        return f"{name} (uid {uid}, pid {pid})"


class Control:
    """The listening socket in the state directory."""

    def __init__(self, reactor: Any, state_dir: Path, handlers: dict[str, Handler]) -> None:
        self._reactor = reactor
        self._state_dir = state_dir
        self._handlers = handlers
        self._port: Any = None

    def open(self) -> None:
        """Listen. The lock on the ledger has been taken, so a socket that is there is a dead one's. Raises OSError."""
        path = self._state_dir / SOCKET_NAME
        with suppress(FileNotFoundError):
            path.unlink()
        factory: Any = Factory.forProtocol(lambda: Asker(self._reactor, self._handlers))
        listening = socket.socket(socket.AF_UNIX)
        listening.setblocking(False)
        before = os.umask(0o117)
        try:
            with control_socket(self._state_dir) as short:
                listening.bind(short)
                listening.listen(16)
                # Twisted opens what it adopts to everybody, by the name that it was bound by.
                self._port = self._reactor.adoptStreamPort(listening.fileno(), socket.AF_UNIX, factory)
        finally:
            os.umask(before)
        path.chmod(0o660)
        with suppress(KeyError, PermissionError):
            group = grp.getgrnam(GROUP).gr_gid
            os.chown(path, -1, group)
            os.chown(self._state_dir, -1, group)
        listening.close()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._port is not None:
            stopped = self._port.stopListening()
            if stopped is not None:
                # Twisted unlinks the name that it was bound by, which may be one that is gone.
                stopped.addErrback(lambda failure: failure.trap(OSError))
            with suppress(OSError):
                (self._state_dir / SOCKET_NAME).unlink()
