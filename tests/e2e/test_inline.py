"""In line on a real wire: the copier and the server keep their settings, and see each other and nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.in_line import AUTH, COPIER, SERVER, InLine, ends, in_line, tap
from tests.peers.netns import Wire, wire
from tests.peers.skips import need_program
from tests.peers.waiting import eventually


@pytest.fixture
def line() -> Iterator[Wire]:
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    with wire() as made:
        yield made


@pytest.fixture
def office(line: Wire, tmp_path: Path) -> Iterator[InLine]:
    with in_line(line, tmp_path) as made:
        made.start_server()
        made.up()
        made.start_locum()
        eventually(lambda: "diverts" in made.run_locum("inline", "status"), 5, "the kernel diverts")
        yield made


def decided_by(office: InLine) -> list[str]:
    return [row["decided_by"] for row in office.locum.query("SELECT decided_by FROM logins ORDER BY seq")]


def test_server_and_copier_see_each_other_and_nothing_of_locum(office: InLine) -> None:
    line = office.line
    with tap(line, line.server, "s0") as at_server, tap(line, line.copier, "c0") as at_copier:
        assert office.login() == ["Access-Accept"]
        there = (line.copier_mac, line.server_mac, COPIER, SERVER)
        back = (line.server_mac, line.copier_mac, SERVER, COPIER)
        for end in (at_server, at_copier):
            frames = end.packets(AUTH)
            assert {ends(each) for each in frames} == {there, back}
            assert {each.src for each in end.frames()} <= {line.copier_mac, line.server_mac}
            own = line.server_mac if end is at_server else line.copier_mac
            assert own not in {each.src for each in end.came}
            assert {(each["IP"].ttl) for each in frames} == {64}
    eventually(lambda: decided_by(office) == ["server"], 5)


def test_a_record_is_in_the_ledger_and_at_the_server_from_the_copiers_address(office: InLine) -> None:
    record = {
        "User-Name": '"0A1B2C3D"',
        "Acct-Status-Type": "Stop",
        "Acct-Session-Id": '"s1"',
        "NAS-Identifier": '"KM-1"',
    }
    assert office.ask("acct", [record]).codes == ["Accounting-Response"]
    eventually(lambda: len(office.server.logged()) == 1, 5)
    assert office.server.logged()[0]["Packet-Src-IP-Address"] == COPIER
    assert len(office.locum.query("SELECT seq FROM jobs UNION ALL SELECT seq FROM accounting")) == 1


def test_offline_the_copier_is_answered_from_the_servers_address_and_its_records_arrive_as_its_own(
    office: InLine,
) -> None:
    assert office.login() == ["Access-Accept"]
    office.locum.wait_until_proven()
    office.wait_until_probed()
    office.server.kill()
    office.locum.wait_for_state("offline")
    assert office.login("FEED0001", timeout=2) == ["Access-Accept"]
    record = {
        "User-Name": '"FEED0001"',
        "Acct-Status-Type": "Stop",
        "Acct-Session-Id": '"s2"',
        "NAS-Identifier": '"KM-1"',
    }
    assert office.ask("acct", [record]).codes == ["Accounting-Response"]
    office.start_server()
    office.locum.wait_until_drained()
    eventually(lambda: len(office.server.logged()) == 1, 5)
    assert office.server.logged()[0]["Packet-Src-IP-Address"] == COPIER


@pytest.mark.parametrize("how", ["kill", "stop", "hang"])
def test_when_locum_does_not_work_logins_reach_the_server(office: InLine, how: str) -> None:
    assert office.login() == ["Access-Accept"]
    with ExitStack() as endings:
        if how == "hang":
            endings.enter_context(office.locum.paused())
        else:
            {"kill": office.locum.kill, "stop": office.locum.stop}[how]()
        began = time.monotonic()
        assert office.login("FEED0002", tries=3, timeout=1.2) == ["Access-Accept"]
        assert time.monotonic() - began < 2.5, "one retransmission at the most"
        assert office.login("FEED0003", tries=1, timeout=1) == ["Access-Accept"], "none that began after fails"


def test_what_passed_by_is_noted_as_a_gap_with_its_times(office: InLine) -> None:
    began = time.time() * 1000
    office.locum.kill()
    assert office.login("FEED0002", tries=3, timeout=1.2) == ["Access-Accept"]
    office.start_locum()
    (row,) = eventually(lambda: office.locum.query("SELECT data FROM notes WHERE note = 'bypass'"), 5)
    gap = json.loads(row["data"])
    assert began - 1_500 <= gap["first"] < gap["last"] <= time.time() * 1000
    assert gap["last"] - gap["first"] >= 200


def test_other_traffic_passes_untouched(office: InLine) -> None:
    assert office.passes()
    before = office.run_locum("inline", "status", "--json")
    assert office.passes()
    assert office.run_locum("inline", "status", "--json").count('"packets": 0') == before.count('"packets": 0')


def test_both_legs_of_ipv6_go_the_same_way(office: InLine) -> None:
    assert office.login(v6=True) == ["Access-Accept"]
    eventually(lambda: decided_by(office) == ["server"], 5)


def test_a_server_whose_host_is_gone_is_answered_for_though_nobody_answers_arp(office: InLine) -> None:
    """Its link is down, and the copier has forgotten its MAC address."""
    line = office.line
    assert office.login() == ["Access-Accept"]
    office.wait_until_probed()
    line.ip(line.server, "link", "set", "s0", "down")
    office.locum.wait_for_state("grace", "offline")
    line.ip(line.copier, "neigh", "flush", "all")
    office.locum.wait_for_state("offline")
    with tap(line, line.copier, "c0") as at_copier:
        assert office.login("FEED0004", tries=3, timeout=2) == ["Access-Accept"]
        assert {each.src for each in at_copier.frames()} <= {line.copier_mac, line.server_mac}
        assert {each.src for each in at_copier.came} == {line.server_mac}, "nothing in the copier's own name comes back"
    line.ip(line.server, "link", "set", "s0", "up")
    eventually(lambda: office.locum.state() == "online", 15, "the server is back")
    assert office.login("FEED0005", tries=3, timeout=1) == ["Access-Accept"]
