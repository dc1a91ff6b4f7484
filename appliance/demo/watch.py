"""What the story waits for: conditions that are looked at until they hold, never a length of time that is hoped to do.

Locum is asked over its control socket, as `locum status` does; the server is asked how many users it has, past Locum.
"""

from __future__ import annotations

import http.client
import xmlrpc.client
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any
from xml.parsers.expat import ExpatError

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from appliance.client import ClientError, ask
from appliance.demo.stage import Child, DemoFailed, Stage

LOOK_AGAIN = 0.05
PATIENCE = 60.0
ONE_ANSWER = 5.0
LONGEST_STORY = 300.0
RECORDS_A_SECOND = 10
"""So fast at least the outbox drains, also on a slow machine."""

Condition = Callable[[], Awaitable[bool]]


class Watch:
    """Looks at the two processes on a stage."""

    def __init__(self, reactor: Any, stage: Stage) -> None:
        self._reactor = reactor
        self._stage = stage

    async def until(self, condition: Condition, what: str, child: Child | None, within: float = PATIENCE) -> None:
        """Look until the condition holds. Raises DemoFailed if that takes too long, or the child ends."""
        end = self._reactor.seconds() + within
        while not await condition():
            if child is not None:
                child.must_live()
            if self._reactor.seconds() > end:
                raise DemoFailed(f"waited {within:.0f} s in vain for {what}")
            await deferLater(self._reactor, LOOK_AGAIN)

    async def guard(self, jobs: int, is_over: Callable[[], bool]) -> None:
        """See to it, until the story is over, that both processes live while they are to, and that it has an end.
        Raises DemoFailed.

        Copiers send a record until it is acknowledged, however long that takes.
        """
        longest = LONGEST_STORY + jobs / RECORDS_A_SECOND
        end = self._reactor.seconds() + longest
        while not is_over():
            for child in (self._stage.server, self._stage.locum):
                if child.is_to_live:
                    child.must_live()
            if self._reactor.seconds() > end:
                raise DemoFailed(f"it has not come to its end in {longest:.0f} s")
            await deferLater(self._reactor, LOOK_AGAIN)

    async def until_state(self, *states: str) -> None:
        """Look until Locum says that its upstream is in one of these states, and proven. Raises DemoFailed."""

        async def is_so() -> bool:
            status = await self.status()
            return status is not None and bool(status["upstreams"][0]["proven"]) and state_of(status) in states

        await self.until(is_so, f"Locum to say {' or '.join(states)}", self._stage.locum)

    async def until_server_answers(self) -> int:
        """Look until the server answers a call; gives how many users it has. Raises DemoFailed."""
        found: list[int] = []

        async def answers() -> bool:
            found[:] = await deferToThread(_users_of, self._stage)
            return bool(found)

        await self.until(answers, "the server to answer", self._stage.server)
        return found[0]

    async def until_server_is_dead(self) -> bool:
        """Look until the server has died; false if Locum has handed all over to it before. Raises DemoFailed."""

        async def over() -> bool:
            if not self._stage.server.lives:
                return True
            status = await self.status()
            return status is not None and waiting_in(status) == 0 and state_of(status) == "online"

        await self.until(over, "the server to die again", self._stage.locum)
        return not self._stage.server.lives

    async def until_drained(self, total: int, tell: Callable[[int], None]) -> None:
        """Look until Locum is online and nothing waits, telling how many of `total` have gone. Raises DemoFailed."""

        async def drained() -> bool:
            status = await self.status()
            if status is None:
                return False
            left = waiting_in(status)
            tell(max(0, total - left))
            return left == 0 and state_of(status) == "online"

        await self.until(drained, "the outbox to drain", self._stage.locum, PATIENCE + total / RECORDS_A_SECOND)

    async def waiting(self) -> int:
        """How many records Locum has that the server has not taken. Raises DemoFailed."""
        status = await self.status()
        if status is None:
            raise DemoFailed("Locum does not answer on its control socket")
        return waiting_in(status)

    async def in_doubt(self) -> int:
        """Of how many records Locum does not know whether the server took them. Raises DemoFailed."""
        return len(await self.ask("outbox-list", state="in_doubt", limit=None))

    async def ask(self, command: str, **arguments: Any) -> Any:
        """What Locum answers to a command, as the commands of the same name ask it. Raises DemoFailed."""
        try:
            return await deferToThread(ask, self._stage.state_dir, command, **arguments)
        except ClientError as error:
            raise DemoFailed(f"Locum was asked for {command}: {error}") from None

    async def status(self) -> dict[str, Any] | None:
        """What `locum status --json` says; None while nobody answers."""
        try:
            status: dict[str, Any] = await deferToThread(ask, self._stage.state_dir, "status")
        except ClientError:
            return None
        return status


def state_of(status: dict[str, Any]) -> str:
    """The state of the only upstream."""
    return str(status["upstreams"][0]["state"])


def waiting_in(status: dict[str, Any]) -> int:
    """The records that the server has not taken yet."""
    return int(status["outbox"]["waiting"]) + int(status["outbox"]["sent"])


def _users_of(stage: Stage) -> list[int]:
    """How many users the server has, in a list; empty if it does not answer."""
    body = xmlrpc.client.dumps((stage.token,), "api.getTotalUsers")
    try:
        with closing(http.client.HTTPConnection(*stage.server_address, timeout=ONE_ANSWER)) as connection:
            connection.request("POST", "/rpc/api/xmlrpc", body, {"Content-Type": "text/xml"})
            answer, _ = xmlrpc.client.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError):
        return []
    return [int(str(answer[0]))]
