"""Locum in line is killed, hangs, is stopped for an upgrade, or loses its rules, while somebody logs in every 50 ms.

What is measured: each login is sent, and once more a second later if nothing came, as radclient does. None is sent more
than twice, and all are accepted. Those that begin when the kernel has stopped diverting get their answer for the first
sending: at once when Locum's process is gone or its rules are; when it hangs, within the second for which the kernel
believes the last heartbeat. IPv4 and IPv6 go on side by side. Where all logins have one port, as here, the answer to
what passed may come when a later one is Locum's already: it is lost, and who began while Locum came back is sent twice.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from appliance.inline.rules import ALIVE_MS
from tests.e2e.in_line import SERVER, InLine, in_line, login_goes_on
from tests.peers.appliance import table
from tests.peers.knocking import ACCEPT, AGAIN, Knocking
from tests.peers.locum import Locum
from tests.peers.netns import COPIER, Wire, wire
from tests.peers.printshop import Printshop
from tests.peers.skips import need_program
from tests.peers.waiting import eventually

BELIEVED = ALIVE_MS / 1000 + 0.1
"""Seconds that the kernel goes on diverting without a heartbeat, at the most."""
LONGER = 2.2
"""Seconds after which a server that is silent counts as away."""
UNDER_WAY = 0.5
"""Seconds in which the server answers, when others have the processors."""
PORT = 9790


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InLine]:
    need_program("nft", "nftables")
    with wire() as line, in_line(line, tmp_path_factory.mktemp("deaths")) as made:
        made.stand()
        for v6 in (False, True):
            assert made.login(v6=v6) == ["Access-Accept"]
        made.locum.wait_until_proven()
        yield made


def flush(office: InLine) -> None:
    office.line.run(office.line.appliance, ["nft", "flush", "ruleset"])


def lose_the_way(office: InLine) -> None:
    """As programs do that manage the network and take away what is not theirs."""
    for priority in ("19", "20", "21"):
        for version in ("-4", "-6"):
            office.line.ip(office.line.appliance, version, "rule", "del", "pref", priority)


def leave(office: InLine) -> None:
    office.run_locum("inline", "down")


def come_back(office: InLine) -> None:
    office.run_locum("inline", "up")


WAYS: dict[str, tuple[Callable[[InLine], None], Callable[[InLine], None], str]] = {
    # What happens, what ends it, and the ledger's word for it.
    "kill -9": (lambda office: office.locum.kill(), InLine.start_locum, "did not run"),
    "upgrade": (lambda office: office.locum.stop(), InLine.start_locum, "did not run"),
    "flush": (flush, come_back, "rules were not in the kernel"),
    "down": (leave, come_back, "rules were not in the kernel"),
}


def bypasses(locum: Locum | Printshop) -> list[dict[str, object]]:
    return [json.loads(row["data"]) for row in locum.query("SELECT data FROM notes WHERE note = 'bypass' ORDER BY seq")]


def answered(office: InLine, logins: tuple[Knocking, ...], since: float, number: int = 5) -> None:
    """So many logins of each that began after a moment have been answered."""
    eventually(lambda: all(each.answered(number, since=since) for each in logins), 5, "logins are answered")


def check(logins: Knocking, over: float, back: tuple[float, float]) -> None:
    """`over`: from when on nothing is diverted to nobody any more; `back`: between which moments Locum came back."""
    assert back[0] > over
    everyone = logins.finish()
    assert {each.code for each in everyone} == {ACCEPT}, "every login was answered"
    assert max(each.took for each in everyone) < 2 * AGAIN, "before a second retransmission would be due"
    began_after = [*logins.since(over, back[0]), *logins.since(back[1])]
    late = [(each.began - over, each.took) for each in began_after if each.sendings > 1]
    assert late == [], "none that began after needed another"
    assert logins.refusals == 0


@pytest.mark.parametrize("way", WAYS)
def test_logins_go_on(office: InLine, way: str) -> None:
    happens, ends, word = WAYS[way]
    noted = len(bypasses(office.locum))
    with login_goes_on(office) as v4, login_goes_on(office, v6=True) as v6:
        answered(office, (v4, v6), 0.0)
        began = time.time() * 1000
        happens(office)
        passes, happened = time.monotonic(), time.time() * 1000
        answered(office, (v4, v6), passes + BELIEVED)
        if happens is flush:
            answered(office, (v4, v6), passes + LONGER)
            assert office.locum.state() == "online", "that it hears nothing says nothing of the server"
        comes_back = time.monotonic()
        ends(office)
        office.wait_until_diverting()
        diverts, ended = time.monotonic(), time.time() * 1000
        answered(office, (v4, v6), diverts)
        for logins in (v4, v6):
            check(logins, passes, (comes_back - UNDER_WAY, diverts))
    told = eventually(lambda: bypasses(office.locum)[noted:])
    assert len(told) == 1
    assert word in str(told[0]["why"])
    first, last = float(str(told[0]["first"])), float(str(told[0]["last"]))
    # The last beat of a run that was killed is known to the second.
    assert began - 1_500 <= first < happened + 100
    assert first + 1_000 * BELIEVED < last <= ended
    again = [each.card for logins in (v4, v6) for each in logins.since(diverts)]
    office.wait_until_decided("server", *again)
    between = [each.card for logins in (v4, v6) for each in logins.since(passes + BELIEVED, passes + BELIEVED + 0.1)]
    assert not set(between) & set(office.decided_by()), "what passed is not"


def test_while_locum_hangs_logins_go_on(office: InLine) -> None:
    noted = len(bypasses(office.locum))
    with login_goes_on(office) as v4, login_goes_on(office, v6=True) as v6:
        answered(office, (v4, v6), 0.0)
        began, hangs = time.time() * 1000, time.monotonic()
        with office.locum.paused():
            answered(office, (v4, v6), hangs + BELIEVED, 20)
            ended, goes_on = time.time() * 1000, time.monotonic()
        eventually(lambda: bypasses(office.locum)[noted:])
        diverts = time.monotonic()
        answered(office, (v4, v6), diverts)
        for logins in (v4, v6):
            check(logins, hangs + BELIEVED, (goes_on - UNDER_WAY, diverts))
    (told,) = bypasses(office.locum)[noted:]
    assert "not quick enough" in str(told["why"])
    first, last = float(str(told["first"])), float(str(told["last"]))
    assert began - 1_500 <= first <= began + 100
    assert ended <= last + 100


def test_where_the_kernels_routing_rules_are_gone_everything_passes(office: InLine) -> None:
    noted = len(bypasses(office.locum))
    with login_goes_on(office) as v4, login_goes_on(office, v6=True) as v6:
        answered(office, (v4, v6), 0.0)
        lose_the_way(office)
        gone = time.monotonic()
        answered(office, (v4, v6), gone + BELIEVED, 20)
        comes_back = time.monotonic()
        come_back(office)
        office.wait_until_diverting()
        diverts = time.monotonic()
        answered(office, (v4, v6), diverts)
        for logins in (v4, v6):
            check(logins, gone + BELIEVED, (comes_back - UNDER_WAY, diverts))
    (told,) = eventually(lambda: bypasses(office.locum)[noted:])
    assert "rules were not in the kernel" in str(told["why"])


@contextmanager
def echoing(line: Wire) -> Iterator[list[tuple[str, int]]]:
    """The server's machine gives back what it gets on each connection; who has connected, in that order."""
    peers: list[tuple[str, int]] = []
    with line.inside(line.server):
        listening = socket.create_server((SERVER, PORT))

    def echo(taken: socket.socket) -> None:
        with taken, suppress(OSError):
            while octets := taken.recv(4096):
                taken.sendall(octets)

    def serve() -> None:
        with suppress(OSError):
            while True:
                taken, peer = listening.accept()
                peers.append(peer)
                threading.Thread(target=echo, args=(taken,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield peers
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def connected(line: Wire) -> socket.socket:
    with line.inside(line.copier):
        made = socket.create_connection((SERVER, PORT), 5)
    made.settimeout(5)
    return made


def echoes(made: socket.socket, octets: bytes) -> bool:
    made.sendall(octets)
    return made.recv(4096) == octets


def test_a_connection_from_before_locum_came_lives_on(tmp_path: Path) -> None:
    """It is the server's, byte for byte, while Locum comes, is killed and comes again; those opened while it works are
    Locum's, and end with it. What is sent is no terminal's language: Locum answers it otherwise than the server here.
    """
    need_program("nft", "nftables")
    with ExitStack() as endings:
        line = endings.enter_context(wire())
        sides = table("[inline]", {"mode": "bridge", "copier_side": "p0", "server_side": "p1"})
        locum = Printshop.before_terminal(
            tmp_path, PORT, keys={"address": SERVER}, listen={"bind": "0.0.0.0", "port": PORT}, more=sides
        )
        endings.callback(locum.kill)

        def run(*arguments: str) -> str:
            with line.inside(line.appliance):
                done = locum.run_to_its_end(*arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        def start() -> None:
            with line.inside(line.appliance):
                locum.start()
            eventually(lambda: taken()["diverting"], 5, "the kernel diverts")

        def taken() -> dict[str, Any]:
            told: dict[str, Any] = json.loads(run("inline", "status", "--json"))
            return told

        run("inline", "up")
        peers = endings.enter_context(echoing(line))
        old = endings.enter_context(eventually(lambda: connected(line), 5))
        assert echoes(old, b"before")
        start()
        assert echoes(old, b"while it works")
        assert taken()["to_server"]["packets"] == 0
        new = endings.enter_context(connected(line))
        assert not echoes(new, b"what is this?"), "it is not the server that answers"
        locum.kill()
        assert echoes(old, b"after it was killed")
        with suppress(ConnectionError):
            while new.recv(4096):
                """What Locum had said still comes, and then the end."""
        again = endings.enter_context(eventually(lambda: connected(line), 5))
        assert echoes(again, b"to the server itself")
        start()
        assert echoes(old, b"and again")
        assert echoes(again, b"this one too")
        assert old.getsockname() == peers[0] == (COPIER, old.getsockname()[1])
