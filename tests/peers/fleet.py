"""Many old copiers in one process: each a machine that answers SNMP and a card reader that listens, at an own address.

`python -m tests.peers.fleet COUNT SNMP_PORT READER_PORT`. Copier n is at `address_of(n)`. Each line of standard input
is a deed: `swipe` (every reader reads its card), `copy` (each machine makes a page), `asked`; what is printed after it
is how many requests were answered, how many beeps were heard and how many readers are connected.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from typing import Any

from appliance.simulator.machine import Machine
from tests.peers.ports import free_port
from tests.peers.skips import ROOT

FIRST_CARD = 0xCA000000


def address_of(number: int) -> str:
    return f"127.1.{number // 250}.{number % 250 + 1}"


def card_of(number: int) -> str:
    return f"{FIRST_CARD + number:08X}"


class Fleet:
    """The process, as a test holds it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.snmp_port, self.reader_port = free_port(), free_port()
        arguments = map(str, (count, self.snmp_port, self.reader_port))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.peers.fleet", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def swipe(self) -> None:
        self._say("swipe")

    def copy(self) -> None:
        self._say("copy")

    def asked(self) -> dict[str, int]:
        """`answers`: SNMP requests; `beeps`; `connected`: readers."""
        told: dict[str, int] = json.loads(self._say("asked"))
        return told

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _say(self, deed: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(deed + "\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


class _Work:
    def __init__(self, count: int, snmp_port: int, reader_port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._machines = [Machine(str(number)) for number in range(count)]
        self._readers: dict[int, socket.socket] = {}
        self._answers = self._beeps = 0
        self._numbers = {address_of(number): number for number in range(count)}
        for number, machine in enumerate(self._machines):
            agent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            agent.bind((address_of(number), snmp_port))
            agent.setblocking(False)
            self._selector.register(agent, selectors.EVENT_READ, machine)
        listener = socket.create_server(("0.0.0.0", reader_port), backlog=count)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, "listener")
        self._selector.register(sys.stdin, selectors.EVENT_READ, "typed")

    def run(self) -> None:
        print("ready", flush=True)
        while True:
            for key, _ in self._selector.select():
                ready: Any = key.fileobj
                if isinstance(key.data, Machine):
                    self._ask(ready, key.data)
                elif key.data == "listener":
                    made, _ = ready.accept()
                    made.setblocking(False)
                    self._readers[self._numbers[made.getsockname()[0]]] = made
                    self._selector.register(made, selectors.EVENT_READ, "reader")
                elif key.data == "reader":
                    self._hear(ready)
                else:
                    line = ready.readline()
                    if not line:
                        return
                    self._do(line.strip())

    def _ask(self, agent: socket.socket, machine: Machine) -> None:
        data, peer = agent.recvfrom(65_535)
        said = machine.answer(data, time.monotonic())
        if said is not None:
            agent.sendto(said, peer)
            self._answers += 1

    def _hear(self, reader: socket.socket) -> None:
        data = reader.recv(4096)
        self._beeps += data.count(b"b")
        if not data:
            self._selector.unregister(reader)
            self._readers = {number: each for number, each in self._readers.items() if each is not reader}
            reader.close()

    def _do(self, deed: str) -> None:
        if deed == "swipe":
            for number, reader in self._readers.items():
                reader.send(card_of(number).encode() + b"\n")
        elif deed == "copy":
            for machine in self._machines:
                machine.make("copy", 1)
        told = {"answers": self._answers, "beeps": self._beeps, "connected": len(self._readers)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    _Work(*map(int, sys.argv[1:4])).run()
