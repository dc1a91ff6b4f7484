"""The server goes away and comes back. `offline-mode.md`: the states, the table of events, "Forwarding"."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from tests.e2e.line import (
    Line,
    Shift,
    acknowledged,
    arrivals,
    assert_delay_right,
    assert_extra_copies_named,
    assert_in_order,
    assert_ledgered_once,
    extra_copies,
    wait_for_all,
)
from tests.peers import wire
from tests.peers.copier import Copier
from tests.peers.freeradius import FreeRadius
from tests.peers.load import Load, records
from tests.peers.locum import Locum
from tests.peers.ports import LOOPBACK, free_ports
from tests.peers.radclient import radclient
from tests.peers.relay import Relay
from tests.peers.sink import Sink
from tests.peers.waiting import eventually, never_within


def test_people_work_through_an_outage_and_nothing_is_lost(
    make_line: Callable[..., Line], make_copier: Callable[..., Copier]
) -> None:
    """The whole story with three copiers: up, kill -9, offline Accept, jobs, return, all in the server's log."""
    line = make_line(cards={"0A1B2C3D": "Welcome, Ada"})
    shifts = [line.shift, *(Shift(make_copier(line.locum, name=f"copier-{n}")) for n in (2, 3))]
    for shift in shifts:
        answer = shift.copier.swipe("0A1B2C3D")
        assert answer is not None
        assert answer.words == "Welcome, Ada"
        shift.job("online")
    line.go_offline()
    for shift in shifts:
        answer = shift.copier.swipe("FEED0001")
        assert answer is not None
        assert answer.kind == "accept"
        assert answer.packet.all(wire.CLASS)
        assert answer.packet.number(wire.SESSION_TIMEOUT) == 3600
        mark = wire.attribute(wire.CLASS, answer.packet.all(wire.CLASS)[0])
        assert shift.copier.account(wire.START, "offline", user="FEED0001", extra=mark)
        for _ in range(20):
            shift.job("offline", card="FEED0001", delay=2)
        assert shift.copier.account(wire.STOP, "offline", user="FEED0001", extra=mark)
    line.come_back()
    found = wait_for_all(line.server, shifts)
    assert_in_order(found)
    assert_ledgered_once(line.locum, acknowledged(shifts))
    assert_delay_right(found, acknowledged(shifts))
    assert extra_copies(found) == {}, "nothing was in flight when the server died"
    stops = [each for each in line.server.logged() if each["Acct-Status-Type"] == "Stop"]
    assert len(stops) == 3
    answer = line.copier.swipe("0A1B2C3D")
    assert answer is not None
    assert answer.words == "Welcome, Ada", "the server decides again"
    modes = {row["mode"] for row in line.locum.query("SELECT mode FROM jobs WHERE session = 'offline'")}
    assert modes == {"offline"}


def test_radclient_is_served_through_an_outage(tmp_path: Path, make_line: Callable[..., Line]) -> None:
    """FreeRADIUS's own client as the copier: Accept offline, 50 records taken and delivered."""
    line = make_line()
    line.go_offline()
    secret = line.locum.secret.decode()
    login = {"User-Name": '"FEED0001"', "NAS-Identifier": '"copier-1"', "Message-Authenticator": "0x00"}
    run = radclient(tmp_path / "auth", LOOPBACK[4], line.locum.auth_port, "auth", secret, [login])
    assert run.codes == ["Access-Accept"], run.output
    jobs = [
        {
            "Acct-Status-Type": "Interim-Update",
            "NAS-Identifier": '"copier-1"',
            "Acct-Session-Id": f'"s{n % 5}"',
            "User-Name": '"FEED0001"',
            "Locum-Job-Id": f'"{n:06d}"',
            "Locum-Pages": "2",
        }
        for n in range(50)
    ]
    run = radclient(tmp_path / "acct", LOOPBACK[4], line.locum.acct_port, "acct", secret, jobs, parallel=1, tries=3)
    assert run.codes == ["Accounting-Response"] * 50, run.output[-2000:]
    line.come_back()
    found = arrivals(line.server)
    assert len(found) == 50
    assert_in_order(found)


def test_nobody_is_answered_in_grace_and_nobody_is_rejected(make_line: Callable[..., Line]) -> None:
    """GRACE: silence, so that the device retries; a reboot shorter than the delay is no outage."""
    line = make_line(offline={"delay": "30s"})
    line.server.kill()
    line.locum.wait_for_state("grace")
    assert line.copier.swipe("0A1B2C3D", wait=1.2, resend_every=0.3) is None
    line.shift.job("s1")
    line.server.start()
    line.locum.wait_until_drained()
    answer = line.copier.swipe("0A1B2C3D")
    assert answer is not None
    wait_for_all(line.server, [line.shift])
    states = [row["state"] for row in line.locum.query("SELECT state FROM outage_events ORDER BY seq")]
    assert "offline" not in states


def test_a_login_in_flight_is_decided_when_offline_is_reached(make_line: Callable[..., Line]) -> None:
    """The table of events, first row: one swipe, never resent, sent before the delay has passed, is answered."""
    line = make_line(offline={"delay": "2s"})
    line.server.kill()
    line.locum.wait_for_state("grace")
    answer = line.copier.swipe("0A1B2C3D", wait=6.0)
    assert answer is not None
    assert answer.kind == "accept"


def test_a_client_that_resends_each_second_is_let_in_and_never_rejected(make_line: Callable[..., Line]) -> None:
    """A black hole with `delay = 0`, `answer_timeout = 1s`: retransmissions never keep a dead server looking alive."""
    line = make_line(offline={"delay": "0s"}, upstream={"answer_timeout": "1s", "probe_interval": "10s"})
    line.server.black_hole()
    answer = line.copier.swipe("0A1B2C3D", wait=6.0, resend_every=1.0)
    assert answer is not None
    assert answer.kind == "accept"
    assert answer.seconds < 1.5
    line.server.resume()


def test_a_black_hole_loses_nothing(make_line: Callable[..., Line]) -> None:
    """SIGSTOP while records are in flight, and all that queued is worked off at its return: copies, but named ones."""
    line = make_line(offline={"delay": "1s", "drain_window": 16})
    line.server.black_hole()
    for number in range(40):
        line.shift.job(f"s{number % 20}")
    line.locum.wait_for_state("offline")
    line.server.resume()
    line.locum.wait_until_drained()
    found = wait_for_all(line.server, [line.shift])
    assert_in_order(found)
    assert_extra_copies_named(found, line.locum, at_most=16 + 20)


def _fill(line: Line, count: int, sessions: int = 40) -> None:
    outcome = Load(
        records(count, line.locum.secret, sessions=sessions),
        line.locum.acct_port,
        line.locum.secret,
        outstanding=min(32, sessions),
        within=30,
    ).run()
    assert outcome.answered == count


def _wait_for_count(server: FreeRadius, count: int, within: float = 30.0) -> None:
    eventually(lambda: len(arrivals(server)) >= count, within, f"{count} jobs in the server's log", every=0.2)


def test_a_second_outage_in_the_middle_of_draining(
    make_server: Callable[..., FreeRadius],
    make_relay: Callable[..., Relay],
    make_locum: Callable[..., Locum],
    make_copier: Callable[..., Copier],
) -> None:
    """kill -9 again while it drains: extra copies at most the window, each named; nothing lost; order kept."""
    server = make_server()
    relay = make_relay(server, round_trip=0.05)
    between = SimpleNamespace(auth_port=relay.ports[0], acct_port=relay.ports[1], secret=server.secret)
    window = 32
    locum = make_locum(between, offline={"delay": "1s", "drain_window": window}).start()
    locum.wait_until_proven()
    line = Line(server, locum, Shift(make_copier(locum)))
    line.go_offline()
    _fill(line, 3000)
    server.start()
    eventually(lambda: server.log_size() > 200_000, 15, "draining is under way")
    server.kill()
    already = len(arrivals(server))
    assert 0 < already < 3000, "the cut came in the middle"
    locum.wait_for_state("grace", "offline")
    server.start()
    locum.wait_until_drained(30)
    _wait_for_count(server, 3000)
    found = arrivals(server)
    assert len(found) == 3000
    assert_in_order(found)
    assert_extra_copies_named(found, locum, at_most=window)


def test_a_flapping_server_loses_nothing_and_does_not_flip_the_copiers(make_line: Callable[..., Line]) -> None:
    """Up for less than steady contact, five times: state never online in between, all delivered at the end."""
    line = make_line()
    line.go_offline()
    for _ in range(5):
        line.shift.job("s1")
        line.server.start()
        eventually(lambda: line.server.answers(line.server.auth_port), 3)
        line.shift.job("s2")
        assert line.locum.state() != "online"
        line.server.kill()
        line.shift.job("s3")
        answer = line.copier.swipe("FEED0001", wait=4.0, resend_every=1.0)
        assert answer is not None
        assert answer.kind == "accept"
    line.come_back()
    found = wait_for_all(line.server, [line.shift])
    assert_in_order(found)
    assert_delay_right(found, line.shift.reported)
    recovered = line.locum.query("SELECT seq FROM outage_events WHERE step = 'recovered'")
    assert len(recovered) <= 2


def test_one_datagram_in_a_hundred_dropped(
    make_server: Callable[..., FreeRadius],
    make_relay: Callable[..., Relay],
    make_locum: Callable[..., Locum],
    make_copier: Callable[..., Copier],
) -> None:
    """A lossy link is no outage by itself; after one, 2,000 records drain over it and none is lost."""
    server = make_server()
    relay = make_relay(server, drop=0.01, round_trip=0.01, seed=7)
    between = SimpleNamespace(auth_port=relay.ports[0], acct_port=relay.ports[1], secret=server.secret)
    locum = make_locum(between).start()
    locum.wait_until_proven()
    line = Line(server, locum, Shift(make_copier(locum)))
    for number in range(200):
        answer = line.copier.swipe(f"{number:08X}", wait=8.0, resend_every=0.7)
        assert answer is not None
        assert answer.kind == "accept"
    relay.black_hole()
    locum.wait_for_state("offline")
    _fill(line, 2000)
    relay.black_hole(False)
    locum.wait_until_drained(40)
    found = arrivals(server)
    assert len(found) == 2000
    assert_in_order(found)
    assert_extra_copies_named(found, locum, at_most=200)
    assert relay.counters()["dropped"] > 10


def test_session_ids_used_again_after_accounting_on_are_no_repeats(make_line: Callable[..., Line]) -> None:
    """A copier that reboots and counts from 1 again: the same bytes are new records, offline too."""
    line = make_line()
    line.go_offline()
    for _ in range(2):
        assert line.copier.account(wire.ACCOUNTING_ON)
        for number in range(3):
            assert line.copier.job("1", f"{number}")
    line.come_back()
    logged = [each for each in line.server.logged() if each.get("Locum-Job-Id")]
    assert [each["Locum-Job-Id"] for each in logged] == ["0", "1", "2", "0", "1", "2"]
    assert len(line.locum.query("SELECT seq FROM jobs")) == 6


def test_a_wrong_secret_towards_the_server_lets_nobody_in(
    make_server: Callable[..., FreeRadius], make_locum: Callable[..., Locum], make_copier: Callable[..., Copier]
) -> None:
    """Unproven: never authentically heard, so GRACE for ever; jobs are kept all the same."""
    server = make_server()
    locum = make_locum(server, offline={"delay": "0s"})
    locum.write_secret("hq.secret", b"wrong")
    locum.start()
    copier = make_copier(locum)
    locum.wait_for_state("grace")
    never_within(lambda: copier.swipe("0A1B2C3D", wait=0.3) is not None or locum.state() == "offline", 2.5)
    told = locum.status()["upstreams"][0]
    assert told["proven"] is False
    assert told["state"] == "grace"
    assert copier.job("s1", "j1")
    assert locum.outbox()["waiting"] + locum.outbox()["sent"] == 1


def test_a_reload_with_another_secret_makes_the_server_unproven_again(make_line: Callable[..., Line]) -> None:
    """A reload that changes the secret: unproven, and with a wrong one nobody is let in."""
    line = make_line(offline={"delay": "0s"})
    line.locum.write_secret("hq.secret", b"wrong")
    line.locum.reload()
    eventually(lambda: line.locum.status()["upstreams"][0]["proven"] is False, 5, "unproven")
    line.locum.wait_for_state("grace")
    assert line.copier.swipe("0A1B2C3D", wait=1.5, resend_every=0.5) is None


def test_the_second_address_answers_when_the_first_is_dead(
    make_server: Callable[..., FreeRadius], make_locum: Callable[..., Locum], make_copier: Callable[..., Copier]
) -> None:
    """Two addresses of one server: the one that answers is used, and losing it alone is no offline mode."""
    ports = free_ports(2)
    first = make_server(hosts=["127.0.0.2"], ports=ports)
    second = make_server(hosts=["127.0.0.3"], ports=ports)
    locum = make_locum(first, address=["127.0.0.2", "127.0.0.3"], offline={"delay": "60s"}).start()
    locum.wait_until_proven()
    shift = Shift(make_copier(locum))
    shift.job("s1")
    first.kill()
    eventually(lambda: shift.copier.swipe("0A1B2C3D", wait=0.5), 8, "a login over the second address")
    shift.job("s2")
    locum.wait_until_drained()
    wanted = {job.key for job in shift.reported}
    eventually(lambda: wanted <= {*arrivals(first), *arrivals(second)}, 5, "both jobs are with the server")
    assert ("copier-1", "s2", "000001") in arrivals(second)


def test_accounting_dead_alone_leaves_logins_with_the_server(
    make_server: Callable[..., FreeRadius],
    make_relay: Callable[..., Relay],
    make_locum: Callable[..., Locum],
    make_copier: Callable[..., Copier],
) -> None:
    """Authentication decides the state; while accounting is bad, jobs are kept and acknowledged."""
    server = make_server(cards={"0A1B2C3D": "Welcome, Ada"})
    relay = make_relay(server)
    between = SimpleNamespace(auth_port=server.auth_port, acct_port=relay.ports[1], secret=server.secret)
    locum = make_locum(between).start()
    locum.wait_until_proven()
    shift = Shift(make_copier(locum))
    relay.close()
    shift.job("s1")
    shift.job("s1")
    answer = shift.copier.swipe("0A1B2C3D")
    assert answer is not None
    assert answer.words == "Welcome, Ada"
    assert locum.state() == "online"
    relay.close(False)
    found = wait_for_all(server, [shift], within=30)
    assert_in_order(found)
    assert_extra_copies_named(found, locum, at_most=2)


def test_several_servers_worth_of_copiers_keep_their_order(make_line: Callable[..., Line]) -> None:
    """Five copiers, interleaved, the same session ids on each: order holds per copier and session."""
    line = make_line()
    line.go_offline()
    shifts = [
        Shift(Copier(line.locum.auth_port, line.locum.acct_port, line.locum.secret, name=f"nas-{n}")) for n in range(5)
    ]
    for _ in range(6):
        for shift in shifts:
            shift.job("1")
            shift.job("2")
    line.come_back()
    found = wait_for_all(line.server, shifts)
    assert_in_order(found)
    assert len(found) == 60
    for shift in shifts:
        shift.copier.close()


def test_logins_go_before_records_while_draining(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum], make_copier: Callable[..., Copier]
) -> None:
    """RECOVERING decides as ONLINE: the server answers logins at once, although thousands of records still wait."""
    sink = make_sink()
    locum = make_locum(sink, offline={"delay": "1s", "drain_window": 64}).start()
    locum.wait_until_proven()
    relay_delay = 0.1
    copier = make_copier(locum)
    sink.stop()
    locum.wait_for_state("offline")
    packets = records(5000, locum.secret)
    assert Load(packets, locum.acct_port, locum.secret, within=30).run().answered == 5000
    again = make_sink(ports=(sink.auth_port, sink.acct_port), delay=relay_delay)
    locum.wait_for_state("recovering")
    began = time.monotonic()
    answer = copier.swipe("0A1B2C3D")
    assert answer is not None
    assert answer.words == "", "the server's own answer has no words"
    assert time.monotonic() - began < relay_delay + 0.3
    assert locum.outbox()["waiting"] > 0
    again.delay_answers(0.0)
    locum.wait_until_drained(30)
    book = again.book()
    assert book["distinct"] == 5000
    assert book["disorder"] == 0
