"""One address of a RADIUS server: its two ports, what is known of contact with each, and the probes sent there.

Authentication and accounting may live and die apart (two processes, two firewall rules), so each port has its own
contact, its own probes (Status-Server, RFC 5997) and its own word on whether it ever answered one. Where the
authentication port does not answer Status-Server, a configured test login is sent instead, at most each ten seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.radius.packet import Attributes, Code, Type, encode
from protocols.radius.secrets import hide_password
from proxy.commands import Command
from proxy.contact import Contact, Steadiness
from proxy.dialects.radius.exchange import Exchange
from proxy.dialects.radius.lent import Sender
from proxy.events import Flow, Moment

TEST_LOGIN_EVERY = 10.0
PROBE_NAME = b"locum"
AUTH = "auth"
ACCT = "acct"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a pending request is about: a probe of ours. `status`: Status-Server; `counts`: its silence tells."""

    status: bool
    counts: bool


@dataclass(frozen=True, slots=True)
class ProbeLogin:
    """A user that the server knows, for servers that do not answer Status-Server."""

    user: bytes
    password: bytes


class Port:
    """The authentication or the accounting port of one address."""

    def __init__(self, role: str, exchange: Exchange, timeout: float, recover_after: int) -> None:
        self.role = role
        self.exchange = exchange
        self.contact = Contact(timeout)
        self.steadiness = Steadiness(recover_after)
        self.failed = False
        self.answers_status = False
        self.probe_now = False
        self._next_test_login = 0.0

    def probe(self, test_login: ProbeLogin | None, at: Moment, sender: Sender | None = None) -> list[Command]:
        """Ask whether somebody is there. Nobody's login waits for this. `sender`: as whom, in line.

        A Status-Server proves nothing by its silence where there is a test login, or where the server was heard but
        never answered one: then it only confirms that a request was left unanswered.
        """
        self.probe_now = False
        if self.answers_status:
            test_login = None
        due = test_login is not None and self.role == AUTH and at.now >= self._next_test_login
        deaf = not self.answers_status and self.contact.heard_before
        tells = test_login is None and (not deaf or self.contact.waiting)
        (self.contact.probed if tells or due else self.contact.asked)(at.now)
        attributes: Attributes = ((Type.NAS_IDENTIFIER, PROBE_NAME),)
        random = at.random(16, f"probe {self.exchange.address} {self.role}")
        about = Probe(status=True, counts=tells)
        asking, body = self.exchange, encode(attributes)
        _, commands = asking.access(Code.STATUS_SERVER, random, body, about, at.now, probe=True, sender=sender)
        if test_login is not None and due:
            self._next_test_login = at.now + TEST_LOGIN_EVERY
            random = at.random(16, f"test login {self.exchange.address}")
            secret = asking.secret if sender is None else sender.secret
            hidden = hide_password(test_login.password, random, secret)
            body = encode(((Type.USER_NAME, test_login.user), (Type.USER_PASSWORD, hidden), *attributes))
            about = Probe(status=False, counts=True)
            _, more = asking.access(Code.ACCESS_REQUEST, random, body, about, at.now, probe=True, sender=sender)
            commands += more
        return commands

    def give_up_probes(self, now: float) -> list[float]:
        """Let go of the probes that went unanswered; gives when those were sent whose silence means something."""
        over = [
            pending
            for pending in self.exchange.live.values()
            if isinstance(pending.about, Probe) and pending.first_sent + self.contact.timeout <= now
        ]
        for pending in over:
            self.exchange.let_go(pending)
        return [pending.first_sent for pending in over if pending.about.counts]


class Host:
    """One address of the server."""

    def __init__(
        self,
        owner: Flow,
        upstream: str,
        address: str,
        ports: tuple[int, int],
        secret: bytes,
        timeout: float,
        recover_after: int,
        fingerprint: str,
    ) -> None:
        self.address = address
        self.fingerprint = fingerprint
        self.auth = Port(
            AUTH, Exchange(owner, (upstream, address, AUTH), address, ports[0], secret), timeout, recover_after
        )
        self.acct = Port(
            ACCT, Exchange(owner, (upstream, address, ACCT), address, ports[1], secret), timeout, recover_after
        )
        self.ports = {AUTH: self.auth, ACCT: self.acct}

    def close(self) -> list[Command]:
        return self.auth.exchange.close() + self.acct.exchange.close()
