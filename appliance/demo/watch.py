"""What the story waits for: conditions that are looked at until they hold, never a length of time that is hoped to do.

Locum is asked over its control socket, as `locum status` does; the server is asked with Status-Server, past Locum.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from appliance.client import ClientError, ask
from appliance.demo.stage import Child, DemoFailed, Stage
from appliance.simulator.copier import Copier

LOOK_AGAIN = 0.05
PATIENCE = 20.0

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

    async def until_state(self, *states: str) -> None:
        """Look until Locum says that its upstream is in one of these states, and proven. Raises DemoFailed."""

        async def is_so() -> bool:
            status = await self.status()
            return status is not None and bool(status["upstreams"][0]["proven"]) and state_of(status) in states

        await self.until(is_so, f"Locum to say {' or '.join(states)}", self._stage.locum)

    async def until_server_answers(self) -> None:
        """Look until the server answers on both ports. Raises DemoFailed."""
        asker = Copier(self._reactor, "lookout", self._stage.server_target)
        try:
            await self.until(lambda: asker.is_answered(LOOK_AGAIN * 4), "the server to answer", self._stage.server)
        finally:
            asker.close()

    async def until_drained(self, total: int, tell: Callable[[int], None]) -> None:
        """Look until Locum is online and nothing waits, telling how many of `total` have gone. Raises DemoFailed."""

        async def drained() -> bool:
            status = await self.status()
            if status is None:
                return False
            left = waiting_in(status)
            tell(max(0, total - left))
            return left == 0 and state_of(status) == "online"

        await self.until(drained, "the outbox to drain", self._stage.locum, PATIENCE + total / 200)

    async def waiting(self) -> int:
        """How many records Locum has that the server has not taken. Raises DemoFailed."""
        status = await self.status()
        if status is None:
            raise DemoFailed("Locum does not answer on its control socket")
        return waiting_in(status)

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
