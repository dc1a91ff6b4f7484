"""What people do to devices by hand, through the control socket: unlock and lock them, begin and end drills.

The command line is never blocked by wrong codes. Everything is in the ledger with who did it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from appliance.assembly import Assembly
from appliance.control import Handler, Refusal
from appliance.state_dir import UNLOCK_CARD_NAME, UNLOCK_CODE_NAME
from proxy.commands import Command, Keep, Tell
from proxy.drills import ALL, LONGEST
from proxy.events import Event, Kept, NotKept
from proxy.net.driver import this_moment
from proxy.unlocking import ONCE, UNTIL_RESTORED
from proxy.upstream import Upstream


class Runner(Protocol):
    """Runs commands, as the driver does."""

    def run(self, commands: Sequence[Command]) -> None: ...


class DeviceHands:
    """The commands about devices. `read_hash` reads the hash of the unlock code or card (its file's name) anew."""

    def __init__(self, assembly: Assembly, driver: Runner, read_hash: Callable[[str], str]) -> None:
        self._assembly = assembly
        self._driver = driver
        self._read_hash = read_hash

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {
            "unlock": self._unlock,
            "lock": self._lock,
            "unlock-code": self._unlock_code,
            "drill-start": self._drill_start,
            "drill-stop": self._drill_stop,
        }

    def _unlock(self, request: dict[str, Any], who: str) -> Any:
        scope = request.get("scope")
        if scope not in (ONCE, UNTIL_RESTORED):
            raise Refusal(f"scope must be {ONCE} or {UNTIL_RESTORED}")
        site, at = self._assembly.site, this_moment()
        found = self._devices(request.get("device"))
        offline = [(name, flow) for name, flow in found if site.is_locked_kind(name, flow)]
        if request.get("device") is None and scope == ONCE:
            # One use more takes nothing from a device that is unlocked until the connection is restored.
            offline = [each for each in offline if site.unlocking.scope_on(each[0]) != UNTIL_RESTORED]
        if not offline:
            named = request.get("device")
            why = "is not offline, or needs no code" if named else "no device that needs a code is offline"
            raise Refusal(f"{named} {why}; nothing to unlock" if named else f"{why}; nothing to unlock")
        commands: list[Command] = []
        for name, flow in offline:
            commands += site.unlocking.unlock_by_hand(name, flow.name, scope, who, at)
        return self._do(commands, {"devices": [name for name, _ in offline]})

    def _lock(self, request: dict[str, Any], who: str) -> Any:
        unlocking, at = self._assembly.site.unlocking, this_moment()
        places = unlocking.places()
        named = request.get("device")
        if named is not None and named not in places:
            raise Refusal(f"{named} is not unlocked")
        locked = [name for name in places if named in (None, name)]
        commands = [each for name in locked for each in unlocking.lock_by_hand(name, places[name], who, at)]
        return self._do(commands, {"devices": locked})

    def _unlock_code(self, request: dict[str, Any], who: str) -> Any:
        changed, at = request.get("changed"), this_moment()
        unlocking = self._assembly.site.unlocking
        if changed == "allowed":
            told = Tell("info", "unlock codes may be tried again, by hand", {"who": who}, alarm="unlock")
            return self._do([*unlocking.allow_codes(who, at), told], {"message": "codes may be tried again"})
        if changed not in ("set", "cleared"):
            raise Refusal("an unlock code is set, cleared or allowed")
        if request.get("card"):
            unlocking.card_hash, words = self._read_hash(UNLOCK_CARD_NAME), f"the unlock card was {changed}"
        else:
            unlocking.hash, words = self._read_hash(UNLOCK_CODE_NAME), f"the unlock code was {changed}"
        self._driver.run([Tell("warning", words, {"who": who}, alarm="unlock")])
        return {"message": f"the appliance has taken it over: {words.replace(' was ', ' is ')}"}

    def _drill_start(self, request: dict[str, Any], who: str) -> Any:
        seconds, reason = request.get("seconds"), str(request.get("reason") or "").strip()
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= LONGEST:
            raise Refusal("a drill lasts at most 4 hours: --for 30m")
        if not reason:
            raise Refusal("a reason is needed: --reason TEXT")
        site, at, device = self._assembly.site, this_moment(), request.get("device")
        names = [name for name, _ in self._devices(device)]
        commands = site.drills.start(ALL if device is None else str(device), seconds, reason, who, at)
        return self._do([*commands, *self._told(at)], {"devices": names})

    def _drill_stop(self, request: dict[str, Any], who: str) -> Any:
        drills, at, device = self._assembly.site.drills, this_moment(), request.get("device")
        if device is not None and not drills.on(str(device)):
            raise Refusal(f"no drill runs on {device}")
        if not drills.any:
            raise Refusal("no drill runs")
        names = [name for name in self._assembly.site.seen if drills.on(name) and device in (None, name)]
        return self._do(drills.stop(ALL if device is None else str(device), "by hand", who, at), {"devices": names})

    def handle(self, event: Event) -> list[Command]:
        """What was done is on stable storage, or could not be stored."""
        if isinstance(event, Kept) and isinstance(event.token, _Done):
            event.token.answer.callback(event.token.result)
        elif isinstance(event, NotKept) and isinstance(event.token, _Done):
            text = f"it is done, but could not be written down ({event.error}): a restart forgets it"
            event.token.answer.errback(Refusal(text))
        return []

    def _do(self, commands: list[Command], result: dict[str, Any]) -> Any:
        """Run this; the person hears of it once the last step of it is on stable storage, and so all of it is."""
        steps = [place for place, command in enumerate(commands) if isinstance(command, Keep) and command.token is None]
        if not steps:
            self._driver.run(commands)
            return result
        done = _Done(Deferred(), result)
        last = commands[steps[-1]]
        if isinstance(last, Keep):
            commands[steps[-1]] = replace(last, owner=self, token=done, wait=True)
        self._driver.run(commands)
        return done.answer

    def _told(self, at: Any) -> list[Command]:
        """Logins in flight on devices that are offline now are decided at once."""
        flows = self._assembly.upstreams.values()
        return [command for flow in flows for each in flow.subscribers for command in each.state_changed(at)]

    def _devices(self, device: object) -> list[tuple[str, Upstream]]:
        """The device that is named, or all that were ever heard, each with its upstream."""
        site, upstreams = self._assembly.site, self._assembly.upstreams
        found = [(name, upstreams[seen.upstream]) for name, seen in site.seen.items() if seen.upstream in upstreams]
        if device is None:
            return found
        named = [each for each in found if each[0] == device]
        if not named:
            raise Refusal(f"no device '{device}' was ever heard; see 'locum devices'")
        return named


@dataclass(frozen=True, slots=True)
class _Done:
    """Token: somebody's command, whom to tell, and what."""

    answer: Deferred[Any]
    result: dict[str, Any]
