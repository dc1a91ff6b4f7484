"""SNMP agents that misbehave, each on a port of its own: silent, strange, looping, endless, too large."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from protocols.snmp.messages import Message, Pdu, Varbind, decode, encode
from tests.peers.ports import LOOPBACK
from tests.peers.skips import ROOT

Behaviour = Callable[[Message, bytes], list[bytes]]


class Agent:
    """Answers every request with what `behaviour` makes of it: the message that was read, and its octets."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK[4], 0))
        self.port = self.socket.getsockname()[1]
        self.asked: list[Message] = []
        self._behaviour = behaviour
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self.socket.recvfrom(65_535)
            except OSError:
                return
            if not data:
                return
            message = decode(data)
            self.asked.append(message)
            for answer in self._behaviour(message, data):
                self.socket.sendto(answer, peer)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (LOOPBACK[4], self.port))
        self._thread.join(5)
        self.socket.close()


def answer(asked: Message, *varbinds: Varbind, status: int = 0, index: int = 0) -> bytes:
    return encode(replace(asked, pdu=Pdu.RESPONSE, status=status, index=index, varbinds=varbinds))


def read_meters(agents: list[dict[str, Any]], within: float = 90.0) -> dict[str, Any]:
    """What Locum's manager makes of these agents: see `tests.peers.meter_reader`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.peers.meter_reader"],
        input=json.dumps(agents),
        capture_output=True,
        text=True,
        timeout=within,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told
