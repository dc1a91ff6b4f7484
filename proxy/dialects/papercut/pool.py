"""Kept connections to the server's addresses, and the calls over them: one at a time each, many side by side.

A call takes the idle connection that was used last, else a new one; past the limit it queues, logins first. A call that
may be sent only once never goes over a connection that has been idle for more than two seconds: the server may be about
to close it. Any other call that meets a kept connection closed under it is sent again over a new one, once. Where a
call of the first kind was lost that way, the server closes kept connections without a word: such calls get new ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from proxy.commands import Close, Command, Connect, Send, Source, Tls
from proxy.dialects.papercut.calls import Call, Ended, Kind, Lost
from proxy.dialects.papercut.http import Line, Nonsense
from proxy.events import Channel, Closed, Connected, Flow, Moment, Received

FRESH = 2.0
IDLE_FOR = 30.0
DISTRUST_FOR = 600.0

EndedCall = Callable[[str, Call, Ended, Moment], list[Command]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where calls go but for the address. `host`: the Host header. `timeout`: to connect, in seconds."""

    host: str
    port: int
    path: str
    tls: Tls | None
    timeout: float


@dataclass(slots=True, eq=False)
class _Connection:
    channel: Channel
    address: str
    line: Line
    call: Call | None
    is_open: bool = False
    idle_since: float = 0.0
    used: int = 0
    last: bool = False


class Pool:
    """`ended` is told of each call's end, with the address, before anything else is done with the connection.
    `source` says from where to connect to an address (see `Connect`).
    """

    def __init__(
        self,
        owner: Flow,
        name: str,
        target: Target,
        limit: int,
        ended: EndedCall,
        source: Callable[[str], Source | None] = lambda address: None,
    ) -> None:
        self.target = target
        self.limit = limit
        self._owner = owner
        self._name = name
        self._ended = ended
        self._source = source
        self._numbers = count(1)
        self._order = count()
        self._connections: dict[Channel, _Connection] = {}
        self._idle: dict[str, list[_Connection]] = {}
        self._queue: dict[str, list[tuple[tuple[Kind, bool], int, Call]]] = {}
        self._distrusted: dict[str, float] = {}
        """Until when no kept connection to this address may carry a call that may be sent only once."""
        self.for_people = 0
        """How many of `limit` are kept free of records."""

    def __len__(self) -> int:
        return len(self._connections)

    def submit(self, call: Call, address: str, at: Moment) -> list[Command]:
        """Send a call, or queue it."""
        call.began = call.began or at.now
        commands = self._retire(address) if call.fresh else []
        idle = self._idle.get(address, [])
        if idle and not (call.once and self._doubtful(idle[-1], at)):
            return self._write(idle.pop(), call)
        if idle and not self._may_open(call):
            commands += self._drop(idle[0])
        if self._may_open(call):
            return commands + self._open(call, address, last=call.once and self._distrusts(address, at))
        heapq.heappush(self._queue.setdefault(address, []), ((call.kind, not call.once), next(self._order), call))
        return commands

    def cancel(self, call: Call) -> bool:
        """Take back a call that was not written yet; False if it was. Its end is not told."""
        for connection in self._connections.values():
            if connection.call is call:
                if connection.is_open:
                    return False
                connection.call = None
                return True
        for queue in self._queue.values():
            for entry in queue:
                if entry[2] is call:
                    queue.remove(entry)
                    heapq.heapify(queue)
                    return True
        return False

    def under_way(self, address: str) -> Iterator[Call]:
        """The calls that this address has not answered, queued ones included."""
        for connection in self._connections.values():
            if connection.call is not None and connection.address == address:
                yield connection.call
        for _, _, call in self._queue.get(address, ()):
            yield call

    def connected(self, event: Connected) -> list[Command]:
        connection = self._connections.get(event.channel)
        if connection is None:
            return [Close(event.channel)]
        connection.is_open = True
        if connection.call is None:
            return self._drop(connection) if connection.last else self._rest(connection, event.at)
        return self._write(connection, connection.call)

    def received(self, event: Received) -> list[Command]:
        connection = self._connections.get(event.channel)
        if connection is None or not event.data:
            return []
        said = connection.line.received(event.data)
        if said is None:
            return [] if connection.line.usable else self._drop(connection)
        call, connection.call = connection.call, None
        commands = self._told(connection.address, call, said, event.at)
        if event.channel not in self._connections:
            return commands
        if connection.line.usable and not connection.last:
            return commands + self._rest(connection, event.at)
        return commands + self._drop(connection) + self._next(connection.address, event.at)

    def closed(self, event: Closed) -> list[Command]:
        connection = self._connections.get(event.channel)
        if connection is None:
            return []
        self._forget(connection)
        call, line = connection.call, connection.line
        if call is None:
            return self._next(connection.address, event.at)
        said = line.received(b"") if line.busy else None
        if said is None and connection.used > 1 and not line.heard and not call.once and not call.again:
            call.again = True
            return self._open(call, connection.address)
        if call.once and connection.used > 1 and not line.heard:
            self._distrusted[connection.address] = event.at.now + DISTRUST_FOR
        lost = Lost(event.text, written=connection.is_open, refused=event.refused, opened=connection.is_open)
        commands = self._told(connection.address, call, said or lost, event.at)
        return commands + self._next(connection.address, event.at)

    def tick(self, at: Moment) -> list[Command]:
        """Give up calls whose time is over, and connections that nobody needs."""
        commands: list[Command] = []
        for connection in list(self._connections.values()):
            call = connection.call
            if connection.channel not in self._connections:
                continue
            if call is not None and at.now >= call.began + call.timeout:
                commands += self._drop(connection, abort=True)
                how: Ended = Lost("no answer in time", connection.is_open, timed_out=True, opened=connection.is_open)
                if connection.line.heard:
                    how = Nonsense("unfinished-answer", "an answer that did not end in time")
                commands += self._told(connection.address, call, how, at)
            elif call is None and connection.is_open and at.now >= connection.idle_since + IDLE_FOR:
                commands += self._drop(connection)
        for address, queue in list(self._queue.items()):
            over = [entry for entry in queue if at.now >= entry[2].began + entry[2].timeout]
            for entry in over:
                queue.remove(entry)
            heapq.heapify(queue)
            for _, _, call in over:
                commands += self._told(address, call, Lost("no connection was free", timed_out=True, opened=False), at)
            commands += self._next(address, at)
        return commands

    def renew(self, target: Target) -> list[Command]:
        """Other settings: what is under way is still answered over its own connection, which then goes."""
        self.target = target
        self._distrusted.clear()
        return [command for address in self._addresses() for command in self._retire(address)]

    def leave(self, address: str, at: Moment, to: str | None = None) -> list[Command]:
        """An address is not used any more. Calls that may be sent again go to another one, if one is given. Those that
        were written and may be sent only once stay until they are answered.
        """
        commands: list[Command] = []
        moved: list[Call] = [call for _, _, call in self._queue.pop(address, [])]
        for connection in [each for each in self._connections.values() if each.address == address]:
            call = connection.call
            connection.last = True
            if call is not None and call.once and connection.is_open:
                continue
            commands += self._drop(connection, abort=call is not None)
            if call is not None:
                moved.append(call)
        for call in moved:
            if to is not None and call.kind is not Kind.PROBE:
                call.began, call.again = 0.0, False
                commands += self.submit(call, to, at)
            else:
                lost = Lost("its address is not used any more", opened=False)
                commands += self._told(address, call, lost, at)
        return commands

    def _addresses(self) -> set[str]:
        return {connection.address for connection in self._connections.values()}

    def _retire(self, address: str) -> list[Command]:
        """The connections to this address go, each as soon as it is free."""
        commands: list[Command] = []
        for connection in [each for each in self._connections.values() if each.address == address]:
            connection.last = True
            if connection.call is None and connection.is_open:
                commands += self._drop(connection)
        return commands

    def _doubtful(self, connection: _Connection, at: Moment) -> bool:
        """Whether the server may be about to close it."""
        return self._distrusts(connection.address, at) or at.now - connection.idle_since > FRESH

    def _distrusts(self, address: str, at: Moment) -> bool:
        return at.now < self._distrusted.get(address, float("-inf"))

    def _may_open(self, call: Call) -> bool:
        """Whether there is room for another connection, for this call."""
        if call.kind is Kind.PROBE:
            return True
        return len(self._connections) < self.limit - (self.for_people if call.kind is Kind.RECORD else 0)

    def _open(self, call: Call, address: str, *, last: bool = False) -> list[Command]:
        channel: Channel = (self._name, address, next(self._numbers))
        target = self.target
        self._connections[channel] = _Connection(channel, address, Line(target.host, target.path), call, last=last)
        source = self._source(address)
        return [Connect(channel, self._owner, address, target.port, target.timeout, target.tls, source)]

    def _write(self, connection: _Connection, call: Call) -> list[Command]:
        connection.call = call
        connection.used += 1
        return [Send(connection.channel, connection.line.request(call.body))]

    def _told(self, address: str, call: Call | None, ended: Ended, at: Moment) -> list[Command]:
        return [] if call is None else self._ended(address, call, ended, at)

    def _rest(self, connection: _Connection, at: Moment) -> list[Command]:
        """A connection is free: for the next call that queues, else to be kept."""
        connection.idle_since = at.now
        self._idle.setdefault(connection.address, []).append(connection)
        return self._next(connection.address, at)

    def _next(self, address: str, at: Moment) -> list[Command]:
        queue = self._queue.get(address)
        commands: list[Command] = []
        while queue and (self._idle.get(address) or self._may_open(queue[0][2])):
            commands += self.submit(heapq.heappop(queue)[2], address, at)
        return commands

    def _drop(self, connection: _Connection, *, abort: bool = False) -> list[Command]:
        self._forget(connection)
        return [Close(connection.channel, abort)]

    def _forget(self, connection: _Connection) -> None:
        del self._connections[connection.channel]
        idle = self._idle.get(connection.address, [])
        if connection in idle:
            idle.remove(connection)
