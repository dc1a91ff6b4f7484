"""Calls to a PaperCut server, and what their ends say about contact with it.

Contact is an XML-RPC value or fault, HTTP 500 or any 4xx; only a value proves the server, for it shows that address and
token are right. Web pages, halves, gateways' errors and answers cut off count like silence. What the server refuses to
everybody (address, token, an error of its own) is trouble: it is said, forwarding pauses, and it is no outage.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from protocols.papercut.calls import Fault, Value, encode_call
from proxy.commands import Command, Keep, Tell
from proxy.dialects.papercut.calls import Call, Ended, Kind, Lost
from proxy.dialects.papercut.host import Host
from proxy.dialects.papercut.http import Nonsense, Status
from proxy.dialects.papercut.pool import Pool
from proxy.dialects.papercut.settings import Settings
from proxy.events import Moment
from proxy.hosts import Hosts
from proxy.link import Link, Signal, State
from proxy.tally import TELL_EVERY, Tally
from proxy.upstream import Upstream
from storage.records import Remember

PROBE_SOON = 0.5
PROBE_IN_TROUBLE = 2.0
DOUBT_EVERY = 1.0
JUST_NOW = 0.1
TYPES: dict[str, tuple[type, ...]] = {
    "getTotalUsers": (int, float, str),
    "lookUpUserNameByCardNo": (str, type(None)),
}
"""What these calls return; some servers tell numbers as text."""
FOR_PEOPLE = 16
"""Connections that records never take."""
FOR_RECORDS = 2
"""Connections for records, in windows: one for what is sent, one for what is looked up beforehand."""


class WatchedUpstream(Upstream):
    """The half of a PaperCut upstream that makes calls and watches. `fingerprint`: see `PapercutUpstream`."""

    def __init__(
        self,
        name: str,
        link: Link,
        settings: Settings,
        tally: Tally,
        fingerprint: Callable[[str], str],
        recover_after: int,
        window: int,
    ) -> None:
        super().__init__(name, "papercut", link, window)
        self.answer_timeout = settings.answer_timeout
        self.recover_after = recover_after
        self.settings = settings
        self.proven_by: set[str] = set()
        self.hosts: Hosts[Host] = Hosts()
        self.pool = Pool(self, name, settings.target, 0, self._ended, self.own_source)
        self._size_pool()
        self._tally = tally
        self._fingerprint = fingerprint
        self._refuses_all = ""
        self._odd: dict[str, str] = {}
        """By method: the answers that are values of a wrong type, in words."""
        self._confirming = False
        self._doubted = float("-inf")
        self._settings_since = float("-inf")
        self._said: dict[str, float] = {}

    def _size_pool(self) -> None:
        self.pool.for_people = FOR_PEOPLE
        self.pool.limit = self.outbox.window * FOR_RECORDS + FOR_PEOPLE

    @abstractmethod
    def withdraw(self, why: str, at: Moment) -> list[Command]:
        """Nothing more may be sent: what the server cannot have waits again."""

    @abstractmethod
    def confirmed(self, well: bool, words: str, asked_at: float, at: Moment) -> list[Command]:
        """What `confirm` has found out: whether the server takes calls at all."""

    def reach(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        return self._replace_hosts(addresses, at) + self._judge(at)

    def _judge(self, at: Moment) -> list[Command]:
        return self.set_proven(any(host.fingerprint in self.proven_by for host in self.hosts), at)

    def _replace_hosts(self, addresses: Sequence[str], at: Moment) -> list[Command]:
        known = {host.address: host for host in self.hosts}
        self.hosts.replace(
            [
                known.get(address) or Host(address, self._fingerprint(address), self.answer_timeout, self.recover_after)
                for address in addresses
            ]
        )
        commands: list[Command] = []
        for address in known.keys() - set(addresses):
            commands += self.pool.leave(address, at, self.hosts.used.address if self.hosts else None)
        return commands

    def unreachable(self, cause: str, at: Moment) -> list[Command]:
        return [] if self.hosts else self.contact_failed(cause, at)

    def tries_first(self, now: float) -> bool:
        return any(host.steadiness.succeeding for host in self.hosts)

    def doubted(self, at: Moment) -> list[Command]:
        for host in self.hosts:
            host.probe_now = True
        return []

    # Calls

    @property
    def token(self) -> str:
        return self.settings.token

    def submit(self, call: Call, at: Moment) -> list[Command]:
        """Send a call to the address in use."""
        if not self.hosts:
            return call.done(Lost("no address is known", opened=False), at)
        host = self.hosts.used
        if not self.may_speak(host.address):
            return call.done(Lost("no device was heard yet as whom to ask", opened=False), at)
        host.contact.sent(at.now)
        return self.pool.submit(call, host.address, at)

    def cancel(self, call: Call) -> bool:
        return self.pool.cancel(call)

    def confirm(self, at: Moment) -> list[Command]:
        """A call met a fault: find out whether the server refuses all calls. One such question at a time."""
        if self._confirming or not self.hosts or not self.may_speak(self.hosts.used.address):
            return []
        self._confirming = True

        def ended(how: Ended, at: Moment) -> list[Command]:
            self._confirming = False
            words = "" if isinstance(how, Value) else (self._refuses_all or "it could not be found out why")
            return self.confirmed(isinstance(how, Value), words, call.began, at)

        call = self._probe_call(ended)
        self.hosts.used.contact.probed(at.now)
        return self.pool.submit(call, self.hosts.used.address, at)

    def _probe_call(self, done: Callable[[Ended, Moment], list[Command]]) -> Call:
        body = encode_call("api.getTotalUsers", self.token)
        return Call(Kind.PROBE, body, done, self.answer_timeout, method="getTotalUsers")

    def _ended(self, address: str, call: Call, how: Ended, at: Moment) -> list[Command]:
        # What was asked with other settings says nothing about these.
        host = self.hosts.at(address) if call.began > self._settings_since else None
        commands: list[Command] = []
        if host is not None and isinstance(how, Value | Fault | Status):
            commands += self._heard(host, call, how, at)
        elif host is not None and isinstance(how, Nonsense | Lost):
            commands += self._nothing_heard(host, call, how, at)
        return commands + call.done(how, at)

    # Contact

    @property
    def contact_holds(self) -> bool:
        return self.tries_first(0.0)

    def _heard(self, host: Host, call: Call, how: Value | Fault | Status, at: Moment) -> list[Command]:
        host.contact.heard(at.now)
        host.failed, host.strange = False, ""
        commands: list[Command] = []
        if self.hosts.used is not host and self.hosts.used.failed:
            commands += self._switch(host, at)
        elif not self.may_speak(self.hosts.used.address):
            self.hosts.use(host)
        proves = isinstance(how, Value)
        if proves:
            self._refuses_all = ""
            if host.fingerprint not in self.proven_by:
                self.proven_by.add(host.fingerprint)
                commands.append(Keep(Remember(f"proven:{self.name}:{host.fingerprint}", "1"), wait=False))
        if not (self.link.proven and self.link.state is State.ONLINE):
            steady = host.steadiness.contact(at.now)
            if proves:
                commands += self.contact(steady, at)
            elif steady and not self.link.state.relays:
                commands += self.signal(Signal.CONTACT_STEADY, "the server answers steadily", at)
        if isinstance(how, Status):
            text = f"{self.name}: {host.address} port {self.settings.port} answers {how.words}"
            commands += self._say("status", text, at)
        if isinstance(how, Value):
            return commands + self._typed(call.method, how.value, at)
        if call.kind is Kind.PROBE:
            return commands + self._refused_all(how, at)
        # It may be about this one call only; a record's own fault is looked into by whoever sent it.
        if not (call.once and isinstance(how, Fault)) and at.now >= self._doubted + DOUBT_EVERY:
            self._doubted = at.now
            commands += self.confirm(at)
        return commands

    def _typed(self, method: str, value: object, at: Moment) -> list[Command]:
        """Whether a value is of the type that this call returns: it is trouble if not, and no outage."""
        if method not in TYPES or isinstance(value, TYPES[method]):
            self._odd.pop(method, None)
            return []
        what = {list: "an array", dict: "a struct", type(None): "nothing"}.get(type(value), type(value).__name__)
        self._odd[method] = f"the server answers api.{method} with a value of another type ({what})"
        return self._say("type", f"{self.name}: {self._odd[method]}", at)

    def _refused_all(self, how: Fault | Status, at: Moment) -> list[Command]:
        if isinstance(how, Fault):
            hint = "is Locum's address allowed there, and the token right?"
            self._refuses_all = f"the server refuses every call ({how.text}): {hint}"
        else:
            self._refuses_all = f"the server answers {how.words}"
        return self.withdraw(self._refuses_all, at)

    def _nothing_heard(self, host: Host, call: Call, how: Nonsense | Lost, at: Moment) -> list[Command]:
        if self._refuses_all and call.kind is Kind.PROBE and isinstance(how, Nonsense):
            self._refuses_all = f"the server answered with {how.words}" if self.link.state.relays else ""
        if isinstance(how, Nonsense):
            return self._strange(host, how.reason, how.words, at)
        if how.refused:
            host.steadiness.broken()
            follows = host.contact.refused(probe=call.kind is Kind.PROBE)
            if follows == "probe":
                return self._probe(host, at)
            if follows == "failed":
                cause = f"{host.address} port {self.settings.port}: {how.words}"
                return self._failed(host, cause, at, asked_since=at.now - JUST_NOW)
            return []
        in_time = not how.timed_out and at.now < call.began + self.answer_timeout - JUST_NOW
        if how.opened and not how.timed_out:
            return self._strange(host, "cut-answer", f"nothing before it closed the connection ({how.words})", at)
        host.steadiness.broken(call.began if call.kind is Kind.PROBE else None)
        if self.settings.tls is not None and not how.opened and in_time and how.words:
            host.strange = f"no TLS connection: {how.words}"
            text = f"{self.name}: {host.address} port {self.settings.port}: {host.strange}"
            return self._say("tls", text, at)
        return []

    def _strange(self, host: Host, reason: str, words: str, at: Moment) -> list[Command]:
        host.steadiness.broken()
        host.strange = f"it answered with {words}"
        text = f"{self.name}: {host.address} port {self.settings.port} answered with {words}"
        return self._tally.note(reason, self.name, text, at.now)

    def _failed(self, host: Host, cause: str, at: Moment, *, asked_since: float) -> list[Command]:
        """Contact with this address has failed. Another one is used instead; also one that had failed, if it was not
        asked since then: it may have come back.
        """
        host.failed = True
        host.steadiness.broken()
        if self.hosts.used is not host:
            return []
        others = [other for other in self.hosts if not other.failed]
        if not others and self.link.state is State.ONLINE:
            others = [other for other in self.hosts if other.contact.probe_sent < asked_since]
        others = [other for other in others if self.may_speak(other.address)]
        return self._switch(others[0], at) if others else self.contact_failed(cause, at)

    def _switch(self, to: Host, at: Moment) -> list[Command]:
        before = self.hosts.used
        self.hosts.use(to)
        text = f"{self.name}: {before.address} does not answer, using {to.address}"
        told = Tell("warning", text, {"upstream": self.name})
        return [told, *self._probe(to, at), *self.pool.leave(before.address, at, to.address)]

    def _probe(self, host: Host, at: Moment) -> list[Command]:
        """Ask whether somebody is there. Nobody's login waits for this. In line a device must have been heard first."""
        host.probe_now = not self.may_speak(host.address)
        if host.probe_now:
            return []
        host.contact.probed(at.now)
        return self.pool.submit(self._probe_call(lambda how, at: []), host.address, at)

    def watch(self, at: Moment) -> list[Command]:
        """What time brings: calls that are over, contact that has failed, probes that are due."""
        commands = self.pool.tick(at)
        for host in list(self.hosts):
            commands += self._watch(host, at)
        return commands

    def _watch(self, host: Host, at: Moment) -> list[Command]:
        commands: list[Command] = []
        contact, settings = host.contact, self.settings
        if contact.has_failed(at.now):
            silence = f"no answer from {host.address} port {settings.port} in {settings.answer_timeout:g} s"
            cause = f"{silence}; {host.strange}" if host.strange else silence
            commands += self._failed(host, cause, at, asked_since=at.now - settings.answer_timeout)
        asked = [call.began for call in self.pool.under_way(host.address) if call.kind is not Kind.PROBE]
        if contact.wants_probe(at.now, min(asked, default=None)):
            for other in self.hosts:
                other.probe_now = True
        well = self.link.state is State.ONLINE and not host.failed
        quiet_since = max(contact.probe_sent, contact.last_heard) if well else contact.probe_sent
        pause = settings.probe_interval if well else PROBE_SOON
        if well and self._refuses_all:
            quiet_since, pause = contact.probe_sent, min(pause, PROBE_IN_TROUBLE)
        if host.probe_now or at.now >= quiet_since + pause:
            commands += self._probe(host, at)
        return commands

    def _say(self, about: str, text: str, at: Moment) -> list[Command]:
        """An error for the admin, at most once a minute."""
        if at.now < self._said.get(about, float("-inf")) + TELL_EVERY:
            return []
        self._said[about] = at.now
        return [Tell("error", text, {"upstream": self.name}, alarm="server")]
