"""What the benchmarks share: a scratch folder, Locum, the peers where they are installed, and things to end."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.peers.copier import Copier
from tests.peers.freeradius import FreeRadius
from tests.peers.load import Load, records
from tests.peers.locum import Locum
from tests.peers.office import write_users
from tests.peers.printshop import Printshop
from tests.peers.proxies import FreeRadiusProxy, PyradProxy
from tests.peers.simulated import SimulatedServer
from tests.peers.sink import Sink
from tests.peers.skips import program
from tests.peers.terminal_load import TerminalLoad
from tests.peers.waiting import eventually

SECRET = "server-secret"


class Bench:
    """A scratch folder and everything that is started in it, ended with `close`."""

    def __init__(self, folder: Path, endings: ExitStack) -> None:
        self.folder = folder
        self.endings = endings
        self.has_freeradius = program("freeradius") is not None
        self.has_pyrad = importlib.util.find_spec("pyrad") is not None
        self._made = 0

    def _next(self, name: str) -> Path:
        self._made += 1
        return self.folder / f"{name}-{self._made}"

    def ending(self, thing: Any) -> Any:
        """`thing.stop()` at the end."""
        self.endings.callback(thing.stop)
        return thing

    def sink(self, **how: Any) -> Sink:
        """A fast server."""
        made: Sink = self.ending(Sink(SECRET, **how))
        return made

    def server(self, **how: Any) -> FreeRadius:
        """FreeRADIUS as the server, where it is installed."""
        made: FreeRadius = self.ending(FreeRadius(self._next("server"), **how)).start()
        return made

    def locum(
        self, server: Any, *, offline: Mapping[str, object] | None = None, upstream: Mapping[str, object] | None = None
    ) -> Locum:
        """Locum in front of a server, proven. As shipped but for what is given, and `delay = 0`."""
        made = Locum.before(
            self._next("locum"), server, offline={"delay": "0s", **(offline or {})}, upstream=upstream or {}
        )
        self.ending(made)
        made.start()
        made.wait_until_proven(15)
        return made

    def double(self, cards: int = 200) -> SimulatedServer:
        """The PaperCut double, with a certificate of its own, and `cards` people whose cards count up from CA000000."""
        home = self._next("double")
        users = write_users(
            home / "users.csv",
            {f"user{at}": (f"User {at}", f"{0xCA000000 + at:08X}", "", "1000000.00", "no") for at in range(cards)},
        )
        made: SimulatedServer = self.ending(SimulatedServer(home, "--users", str(users)).secure())
        return made.start()

    def printshop(self, double: SimulatedServer, *, port: int | None = None, more: str = "") -> Printshop:
        """Locum with a terminal listener in front of a PaperCut server over TLS (reached at `port`), proven. As shipped
        but for `delay = 0`.
        """
        keys = {"ca_file": str(double.certificate), "answer_timeout": "3s", "probe_interval": "10s"}
        made: Printshop = self.ending(
            Printshop.before_papercut(
                self._next("locum"),
                f"https://127.0.0.1:{port or double.tls_port}/rpc/api/xmlrpc",
                keys=keys,
                offline={"delay": "0s"},
                more=more,
            )
        )
        made.start()
        made.wait_until_proven(15)
        return made

    def before_terminal(self, port: int) -> Printshop:
        """Locum between terminals and a terminal server, proven. As shipped but for `delay = 0`."""
        keys = {"answer_timeout": "3s", "probe_interval": "10s"}
        made: Printshop = self.ending(
            Printshop.before_terminal(self._next("locum"), port, keys=keys, offline={"delay": "0s"})
        )
        made.start()
        made.wait_until_proven(15)
        return made

    def terminals(self, port: int, count: int) -> TerminalLoad:
        """`count` terminals, connected."""
        made: TerminalLoad = self.ending(TerminalLoad(port, count))
        return made

    def freeradius_proxy(self, server: Any, **how: Any) -> FreeRadiusProxy:
        """FreeRADIUS between copiers and a server."""
        made: FreeRadiusProxy = self.ending(FreeRadiusProxy(self._next("proxy"), server, **how)).start()
        return made

    def proxies(self, server: Any, **locum: Any) -> Iterator[tuple[str, Any]]:
        """Locum and each peer that is installed, one after the other, each alone on the machine while it is used."""
        makers: list[tuple[str, Callable[[], Any]]] = [("locum", lambda: self.locum(server, **locum))]
        if self.has_freeradius:
            makers.append(("freeradius", lambda: self.freeradius_proxy(server)))
        if self.has_pyrad:
            makers.append(("pyrad", lambda: self.ending(PyradProxy(server))))
        for name, make in makers:
            made = make()
            yield name, made
            made.stop()


def fill(locum: Any, count: int, sessions: int = 300, outstanding: int = 64) -> float:
    """Have `count` records kept; returns records a second."""
    outcome = Load(
        records(count, locum.secret, sessions=sessions),
        locum.acct_port,
        locum.secret,
        outstanding=outstanding,
        within=60,
    ).run()
    if outcome.answered < count:
        raise RuntimeError(f"only {outcome.answered} of {count} records were acknowledged")
    return outcome.rate


def take_away(server: Any, locum: Locum) -> None:
    """End the server, and let one person notice it: Locum itself would ask only each ten seconds."""
    server.stop()
    copier = Copier(locum.auth_port, locum.acct_port, locum.secret)
    copier.swipe("FEED0001", wait=5.0, resend_every=1.0)
    copier.close()
    locum.wait_for_state("offline", within=15)


def without_server(server: SimulatedServer, shop: Printshop) -> None:
    """End the double, and let one person notice it."""
    server.stop()
    person = TerminalLoad(shop.port, 1, "first")
    try:
        person.logins(1, cards=1)
        shop.wait_for_state("offline", within=15)
    finally:
        person.stop()


def wait_for(condition: Callable[[], object], within: float, saying: str) -> None:
    """As `eventually`, asking less often so as not to disturb what is measured."""
    eventually(condition, within, saying, every=0.1)


def threads(process: int) -> Iterable[int]:
    """The thread ids of a process."""
    return [int(name) for name in os.listdir(f"/proc/{process}/task")]


@contextmanager
def one_core(*processes: int) -> Iterator[None]:
    """This process and the given ones, with all their threads, on one core."""
    before = os.sched_getaffinity(0)
    core = {min(before)}
    everyone = [0, *(thread for process in processes for thread in threads(process))]
    for thread in everyone:
        os.sched_setaffinity(thread, core)
    try:
        yield
    finally:
        for thread in everyone:
            try:
                os.sched_setaffinity(thread, before)
            except ProcessLookupError:
                continue
