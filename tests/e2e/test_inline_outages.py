"""In line, an outage as copiers see it: its service is stopped, or the server's machine is gone from their own subnet.

`offline.delay` is 1 s here, and a server is believed to be silent after 0.5 s at each of its two addresses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, IPv6

from tests.e2e.in_line import AUTH, InLine, Tap, ends, in_line, is_refusal, login_goes_on, tap
from tests.peers.knocking import ACCEPT
from tests.peers.netns import wire
from tests.peers.skips import need_program
from tests.peers.waiting import eventually

DELAY, SILENT, SLACK = 1.0, 2 * 0.5, 0.8
"""Seconds; SLACK for a busy machine."""


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InLine]:
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    with wire() as line, in_line(line, tmp_path_factory.mktemp("outages")) as made:
        made.stand()
        for v6 in (False, True):
            assert made.login(v6=v6) == ["Access-Accept"]
        made.locum.wait_until_proven()
        made.wait_until_probed()
        yield made


def refused(end: Tap, *, v6: bool) -> bool:
    """Whether a datagram was refused."""
    return any(is_refusal(each) and (IPv6 in each) == v6 for each in end.frames())


def test_the_service_is_stopped_and_every_login_is_answered(office: InLine) -> None:
    """The server's machine refuses each datagram by ICMP. The copier does not hear of it: its answer is on the way."""
    line = office.line
    with tap(line, line.server, "s0") as at_server, tap(line, line.copier, "c0") as at_copier:
        with login_goes_on(office) as v4, login_goes_on(office, v6=True) as v6:
            both = (v4, v6)
            eventually(lambda: all(each.answered(5) for each in both))
            office.server.kill()
            office.locum.wait_for_state("offline")
            offline = time.monotonic()
            eventually(lambda: all(each.answered(5, since=offline) for each in both))
            assert all({login.code for login in each.finish()} == {ACCEPT} for each in both)
            for each in both:
                assert max(login.took for login in each.logins) < DELAY + SILENT + SLACK
                assert {login.sendings for login in each.since(offline)} == {1}
                assert each.refusals == 0
        for v6 in (False, True):
            # Probes go out as the device that was heard last.
            assert office.login(v6=v6) == ["Access-Accept"]
            eventually(lambda v6=v6: refused(at_server, v6=v6), 10, "probes are refused")  # type: ignore[misc]
            assert not refused(at_copier, v6=v6)
    office.wait_until_decided("locum", *(login.card for each in both for login in each.since(offline)))
    office.start_server()
    office.locum.wait_until_drained()
    for version in (0, 1):
        assert office.login(f"BACC{version}0", v6=bool(version)) == ["Access-Accept"]
    office.wait_until_decided("server", "BACC00", "BACC10")


def test_the_machine_is_gone_and_its_ipv6_address_is_answered_for(office: InLine) -> None:
    """Its link is down, the copier has forgotten its MAC address, and nobody answers neighbour solicitations."""
    line = office.line
    assert office.login(v6=True) == ["Access-Accept"]
    line.ip(line.server, "link", "set", "s0", "down")
    office.locum.wait_for_state("offline")
    line.ip(line.copier, "-6", "neigh", "flush", "all")
    with tap(line, line.copier, "c0") as at_copier:
        assert office.login("FEED0601", v6=True, tries=3, timeout=2) == ["Access-Accept"]
        assert office.record("s6", "FEED0601", v6=True) == ["Accounting-Response"]
        frames = at_copier.frames()
        assert {each.src for each in at_copier.came} == {line.server_mac}
        told = {each[ICMPv6ND_NA].tgt for each in at_copier.came if ICMPv6ND_NA in each}
        assert told == {line.server_at[1]}
        there = (line.copier_mac, line.server_mac, line.copier_at[1], line.server_at[1])
        back = (line.server_mac, line.copier_mac, line.server_at[1], line.copier_at[1])
        assert {ends(each) for each in at_copier.packets(AUTH)} == {there, back}
        assert {each.src for each in frames} == {line.copier_mac, line.server_mac}
    office.wait_until_decided("locum", "FEED0601")
    line.link_again(line.server, "s0", line.server_at[1])
    office.locum.wait_until_drained()
    eventually(lambda: office.server.logged())
    (record,) = office.server.logged()
    assert (record["Acct-Session-Id"], record["Packet-Src-IPv6-Address"]) == ("s6", line.copier_at[1])
    assert office.login("FEED0602", v6=True, tries=3, timeout=1) == ["Access-Accept"]
    office.wait_until_decided("server", "FEED0602")
