"""Copiers whose page meters are read by SNMP, for a lab: each answers on a port of its own, and people copy at them.

What is typed is done: "copy 3 1" at the first machine (three pages, one of them in colour), "2 reset" at the second.
See `machine.py` for all that a machine does. Jobs come by themselves with a number of jobs and a rate.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

from appliance.simulator.machine import DEEDS, FUNCTIONS, Machine

LARGEST = 65_535
MOST_PAGES = 20


class AgentPort(DatagramProtocol):
    """One machine's agent."""

    transport: Any

    def __init__(self, reactor: Any, machine: Machine) -> None:
        self._reactor = reactor
        self._machine = machine

    def datagramReceived(self, datagram: bytes, addr: tuple[Any, ...]) -> None:
        answer = self._machine.answer(datagram, self._reactor.seconds())
        if answer is not None:
            self.transport.write(answer, addr[:2])


class Typed(LineReceiver):
    """Lines of standard input. `over` is told when there are no more."""

    delimiter = b"\n"

    def __init__(self, said: Callable[[str], None]) -> None:
        self._said = said

    def lineReceived(self, line: bytes) -> None:
        self._said(line.decode("utf-8", "replace"))


class MeteredLab:
    """`count` machines from `port` on. `say` gets what is to be shown."""

    def __init__(self, reactor: Any, machines: list[Machine], say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._machines = machines
        self._say = say

    def listen(self, address: str, port: int) -> None:
        """Bind. Raises twisted's CannotListenError."""
        for number, machine in enumerate(self._machines):
            machine.started = self._reactor.seconds()
            self._reactor.listenUDP(port + number, AgentPort(self._reactor, machine), address, LARGEST)

    def typed(self, line: str) -> None:
        """Do what somebody typed."""
        words = line.split()
        number = int(words.pop(0)) if words and words[0].isdecimal() else 1
        if not words:
            return
        deed, *told = words
        if not 1 <= number <= len(self._machines) or not all(each.isdecimal() for each in told):
            self._say(f"write: [1..{len(self._machines)}] DEED [PAGES [IN COLOUR]], with one of: {', '.join(DEEDS)}")
            return
        machine = self._machines[number - 1]
        if deed != "show":
            try:
                machine.do(deed, tuple(map(int, told)), self._reactor.seconds())
            except ValueError as error:
                self._say(str(error))
                return
        self._say(shown(machine))

    def work(self, jobs: int, rate: float) -> None:
        """Let people make so many jobs, `rate` a second over all machines."""
        if jobs <= 0:
            return
        kind = random.choice([*FUNCTIONS, "scan"])
        pages = random.randint(1, MOST_PAGES)
        random.choice(self._machines).make(kind, pages, random.randint(0, pages))
        self._reactor.callLater(1 / rate, self.work, jobs - 1, rate)


def shown(machine: Machine) -> str:
    """The machine's meters on one line."""
    return f"{machine.name}: " + " ".join(f"{name}={value}" for name, value in machine.meters.items())


def run_metered(
    address: str,
    port: int,
    *,
    count: int,
    jobs: int,
    rate: float,
    community: bytes,
    plain: bool,
    say: Callable[[str], None],
) -> int:
    """Serve the machines until interrupted, then show what their meters have. Raises twisted's CannotListenError."""
    from twisted.internet import reactor

    running: Any = reactor
    machines = [Machine(str(number), community, plain) for number in range(1, count + 1)]
    lab = MeteredLab(running, machines, say)
    lab.listen(address, port)
    standard: Any = StandardIO
    standard(Typed(lab.typed))
    running.callWhenRunning(say, f"{count} copiers answer SNMP at {address}, from port {port} on")
    running.callWhenRunning(lab.work, jobs, rate or 1.0)
    running.run()
    for machine in machines:
        say(shown(machine))
    return 0
