"""SNMPv1 and SNMPv2c towards one agent: a connected socket, so that the network's refusals are heard too.

One request at a time; it is sent again after `timeout` seconds, `retries` times. An answer counts only if it comes from
the agent's address with the number and the community of the request. Everything else is counted and dropped, and after
`MOST_STRANGE` such datagrams in one request it is given up.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from protocols.errors import ProtocolError
from protocols.snmp import messages
from protocols.snmp.asking import Request
from protocols.snmp.messages import LARGEST, Pdu
from proxy.metering.agents import Agent
from proxy.net.snmp.results import Answer, Failure
from proxy.net.udp import ServerPort

MOST_STRANGE = 16
NOBODY_LISTENS = "connection refused"
Done = Callable[[Answer | Failure], None]


class Plain:
    """See above. `counts`: what was dropped, by reason."""

    def __init__(self, reactor: Any, agent: Agent, counts: Counter[str]) -> None:
        self._reactor = reactor
        self._agent = agent
        self._counts = counts
        self._version = messages.V1 if agent.version == 1 else messages.V2C
        self._port: ServerPort | None = None
        self._done: Done | None = None
        self._number = 0
        self._sent = b""
        self._tries = 0
        self._strange = 0
        self._why = ""
        self._timer: Any = None
        self._ever = False

    @property
    def bulk(self) -> bool:
        return self._version != messages.V1

    def ask(self, request: Request, done: Done) -> None:
        """Send it; `done` is told the answer, or why there is none. Raises as `messages.encode`."""
        agent = self._agent
        self._number = int.from_bytes(os.urandom(4), "big") >> 1
        args = (self._version, agent.community, self._number, request.oids, request.pdu, request.repetitions)
        self._sent = messages.request(*args)
        self._done, self._tries, self._strange, self._why = done, 0, 0, ""
        if self._port is None:
            try:
                where = (agent.address, agent.port)
                self._port = ServerPort(self._reactor, *where, self._received, self._refused, largest=LARGEST)
            except OSError as error:
                self._end(Failure("silent", f"no socket towards {agent.address}: {error.strerror}"))
        if self._done is not None:  # it may have been refused while the socket was made
            self._send()

    def close(self) -> None:
        self._done = None
        self._stop_timer()
        port, self._port = self._port, None
        if port is not None:
            port.close()

    # What comes in

    def _received(self, datagram: bytes) -> None:
        if self._done is None:
            self._counts["snmp-late"] += 1
            return
        try:
            message = messages.decode(datagram)
        except ProtocolError as error:
            self._drop(error.reason)
            return
        if message.request != self._number or message.version != self._version or message.pdu != Pdu.RESPONSE:
            self._drop("snmp-no-answer-to-this")
            return
        if message.community != self._agent.community:
            self._drop("snmp-community")
            return
        self._ever = True
        self._end(Answer(message.status, message.index, message.varbinds))

    def _refused(self, why: str) -> None:
        self._counts["snmp-refused"] += 1
        address, port = self._agent.address, self._agent.port
        if why == NOBODY_LISTENS:
            self._end(Failure("nobody", f"nobody listens at {address} port {port}; is SNMP switched on there?"))
        else:
            self._end(Failure("silent", f"no answer from {address}: {why}; it is off, or not in this network"))

    # Sending

    def _send(self) -> None:
        self._timer = self._reactor.callLater(self._agent.timeout, self._timed_out)
        if self._port is not None:
            # It may be refused at once, and then this request is over.
            self._port.send(self._sent)

    def _timed_out(self) -> None:
        self._timer = None
        if self._done is None:
            return
        self._tries += 1
        if self._tries <= self._agent.retries:
            self._send()
        elif self._strange:
            self._end(Failure("unreadable", f"what it answers cannot be read ({self._why})"))
        else:
            known = "it is off or asleep" if self._ever else "it is off, asleep, or the community is wrong"
            self._end(Failure("silent", f"no answer from {self._agent.address}: {known}"))

    def _drop(self, reason: str) -> None:
        self._counts[reason] += 1
        self._strange += 1
        self._why = reason
        if self._strange >= MOST_STRANGE:
            self._end(Failure("unreadable", f"what it answers cannot be read ({reason})"))

    def _end(self, result: Answer | Failure) -> None:
        self._stop_timer()
        done, self._done = self._done, None
        if done is not None:
            done(result)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
