"""Reads meters: `ReadMeters` in, `MetersRead` or `MetersUnread` out, one reading at a time for each device.

SNMPv1 and SNMPv2c go by `plain.py`, SNMPv3 by pysnmp (`secure.py`), which is loaded only where a device needs it. A
reading is several requests (`protocols.snmp.asking`) and takes at most `LONGEST` seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from protocols.errors import ProtocolError
from protocols.snmp.asking import Asking, Request
from protocols.snmp.messages import Status
from proxy.commands import ReadMeters
from proxy.events import Event, Flow, MetersRead, MetersUnread, Moment
from proxy.metering.agents import Agent
from proxy.net.snmp.plain import Plain
from proxy.net.snmp.results import Answer, Failure

LONGEST = 60.0
DENIED = (Status.AUTHORIZATION, Status.NO_ACCESS)


class Channel(Protocol):
    """One agent, by whatever version."""

    @property
    def bulk(self) -> bool: ...

    def ask(self, request: Request, done: Callable[[Answer | Failure], None]) -> None: ...

    def close(self) -> None: ...


class SnmpManager:
    """`dispatch` tells a flow what came of its reading; `moment` is now. `counts`: what was dropped of what agents
    sent.
    """

    def __init__(self, reactor: Any, dispatch: Callable[[Flow, Event], None], moment: Callable[[], Moment]) -> None:
        self.counts: Counter[str] = Counter()
        self._reactor = reactor
        self._dispatch = dispatch
        self._moment = moment
        self._agents: dict[str, Agent] = {}
        self._channels: dict[str, Channel] = {}
        self._busy: dict[str, _Reading] = {}
        self._secure: Any = None

    def configure(self, agents: Mapping[str, Agent]) -> None:
        """The devices' agents from now on; those that changed are spoken to anew."""
        for name in [name for name, agent in self._agents.items() if agents.get(name) != agent]:
            reading = self._drop(name)
            if reading is not None:
                # Who waits for it would wait for ever.
                self._reactor.callLater(0, self._fail, reading.command, Failure("silent", "its settings were changed"))
        self._agents = dict(agents)

    def read(self, command: ReadMeters) -> None:
        """Begin a reading. A device that is not configured any more, or is being read, is not read."""
        agent = self._agents.get(command.device)
        if agent is None or command.device in self._busy:
            why = "it is being read already" if agent else "it has no SNMP settings"
            self._reactor.callLater(0, self._fail, command, Failure("silent", why))
            return
        try:
            channel = self._channel(command.device, agent)
        except (ProtocolError, ValueError, OSError) as error:
            self._reactor.callLater(0, self._fail, command, Failure("denied", str(error)))
            return
        asking = Asking(command.oids, command.walks, channel.bulk)
        reading = self._busy[command.device] = _Reading(self, command, channel, asking)
        reading.deadline = self._reactor.callLater(LONGEST, reading.too_long)
        reading.next()

    def close(self) -> None:
        """Nothing is read any more."""
        for name in list(self._agents):
            self._drop(name)
        if self._secure is not None:
            self._secure.close()

    @property
    def under_way(self) -> int:
        return len(self._busy)

    def _channel(self, name: str, agent: Agent) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            if agent.version == 3:
                if self._secure is None:
                    from proxy.net.snmp.secure import Secure

                    self._secure = Secure(self._reactor, self.counts)
                channel = self._secure.channel(agent)
            else:
                channel = Plain(self._reactor, agent, self.counts)
            self._channels[name] = channel
        return channel

    def _drop(self, name: str) -> _Reading | None:
        """End the reading of a device and its channel; gives the reading, if there was one."""
        reading = self._busy.pop(name, None)
        if reading is not None:
            reading.over = True
            if reading.deadline.active():
                reading.deadline.cancel()
        channel = self._channels.pop(name, None)
        if channel is not None:
            channel.close()
        return reading

    def gave_up(self, reading: _Reading) -> None:
        """It has taken too long; the device is spoken to anew the next time."""
        self._drop(reading.command.device)
        self._fail(reading.command, Failure("unreadable", f"a reading took longer than {LONGEST:g} s"))

    def finished(self, reading: _Reading, failure: Failure | None) -> None:
        """A reading has come to its end."""
        command = reading.command
        if self._busy.get(command.device) is reading:
            del self._busy[command.device]
        if reading.deadline.active():
            reading.deadline.cancel()
        if failure is not None:
            self._fail(command, failure)
            return
        found, troubles = reading.asking.found, tuple(reading.asking.troubles)
        event = MetersRead(command.device, command.token, found, troubles, self._moment())
        self._dispatch(command.owner, event)

    def _fail(self, command: ReadMeters, failure: Failure) -> None:
        event = MetersUnread(command.device, command.token, failure.kind, failure.why, self._moment())
        self._dispatch(command.owner, event)


class _Reading:
    """One reading under way."""

    def __init__(self, manager: SnmpManager, command: ReadMeters, channel: Channel, asking: Asking) -> None:
        self.command = command
        self.asking = asking
        self.over = False
        self.deadline: Any = None
        self._manager = manager
        self._channel = channel

    def next(self) -> None:
        request = self.asking.next_request()
        if request is None:
            self._end(None)
            return
        try:
            self._channel.ask(request, self._told)
        except ProtocolError as error:
            self._end(Failure("denied", str(error)))

    def too_long(self) -> None:
        if not self.over:
            self._manager.gave_up(self)

    def _told(self, result: Answer | Failure) -> None:
        if self.over:
            return
        if isinstance(result, Answer) and result.status in DENIED:
            self._end(Failure("denied", "it does not let us read; look at its view, its access list or our level"))
        elif isinstance(result, Answer):
            self.asking.answered(result.status, result.index, result.varbinds)
            self.next()
        elif result.kind == "silent" and self.asking.unanswered():
            self.next()
        else:
            self._end(result)

    def _end(self, failure: Failure | None) -> None:
        if not self.over:
            self.over = True
            self._manager.finished(self, failure)
