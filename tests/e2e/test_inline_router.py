"""In line as a router between the copiers' network and the servers': addresses and ports are kept.

The appliance has 10.9.1.254 and 10.9.2.254, and routes by itself; Locum's rules alone are added. MAC addresses are the
router's, as behind any.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from tests.e2e.in_line import ACCT, AUTH, InLine, Tap, ends, in_line, is_ping, is_refusal, login_goes_on, tap
from tests.peers.knocking import ACCEPT, AGAIN
from tests.peers.netns import wire, with_router
from tests.peers.skips import need_program
from tests.peers.waiting import eventually

FAMILIES = pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
BELIEVED = 1.1
"""Seconds that the kernel goes on diverting when nobody says any more that Locum works."""


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InLine]:
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    with wire() as line:
        with_router(line)
        with in_line(line, tmp_path_factory.mktemp("router"), mode="router") as made:
            made.stand()
            yield made


def flow(frame: Ether) -> tuple[str, str, int, int]:
    packet = frame[IPv6] if IPv6 in frame else frame[IP]
    return packet.src, packet.dst, frame[UDP].sport, frame[UDP].dport


def asked_as(end: Tap, port: int, address: str) -> set[int]:
    """The ports of an address from which a port of the server was asked."""
    return {frame[UDP].sport for frame in end.packets(port) if flow(frame)[0] == address and frame[UDP].dport == port}


@FAMILIES
def test_a_login_is_relayed_from_the_copiers_address_and_port(office: InLine, v6: bool) -> None:
    line, card = office.line, f"7A7A7{v6:d}"
    copier, server = line.copier_at[v6], line.server_at[v6]
    before = office.counters()["handed"]["packets"]
    with tap(line, line.server, "s0") as at_server, tap(line, line.copier, "c0") as at_copier:
        assert office.login(card, v6=v6) == ["Access-Accept"]
        (own,) = asked_as(at_copier, AUTH, copier)
        seen = {flow(frame) for frame in at_server.packets(AUTH) if own in flow(frame)}
        assert seen == {(copier, server, own, AUTH), (server, copier, AUTH, own)}
        assert {flow(frame) for frame in at_copier.packets(AUTH)} == seen
        ours = {line.mac(line.appliance, port) for port in ("p0", "p1")}
        for end, station in ((at_server, line.server_mac), (at_copier, line.copier_mac)):
            assert {mac for frame in end.packets(AUTH) for mac in ends(frame)[:2]} <= {station, *ours}
    office.wait_until_decided("server", card)
    assert office.counters()["handed"]["packets"] >= before + 2


def test_what_is_not_locums_is_routed_as_before(office: InLine) -> None:
    """The time to live is one less, as behind any router, and nothing else changes."""
    line = office.line
    with login_goes_on(office) as logins, tap(line, line.server, "s0") as at_server:
        for v6 in (False, True):
            line.run(line.copier, ["ping", "-c2", "-i0.1", "-W1", line.server_at[v6]])
        echoes = [each for each in at_server.frames() if is_ping(each)]
        came = [each for each in echoes if each in at_server.came]
        assert {(each[IP].src, each[IP].ttl) for each in came if IP in each} == {(line.copier_at[0], 63)}
        assert {(each[IPv6].src, each[IPv6].hlim) for each in came if IPv6 in each} == {(line.copier_at[1], 63)}
        assert len(echoes) == 8
        eventually(lambda: logins.answered(10))
    assert all(each.sendings == 1 for each in logins.logins)


def test_an_outage_and_what_was_kept_is_forwarded_from_the_copiers_address(office: InLine) -> None:
    """The server refuses what it gets; its word does not reach the copier, who has an answer coming."""
    for v6 in (False, True):
        assert office.login(v6=v6) == ["Access-Accept"]
    office.locum.wait_until_proven()
    with tap(office.line, office.line.copier, "c0") as at_copier:
        office.server.kill()
        office.locum.wait_for_state("offline")
        for v6 in (False, True):
            with login_goes_on(office, v6=v6) as logins:
                eventually(partial(logins.answered, 3))
            assert {(each.code, each.sendings) for each in logins.logins} == {(ACCEPT, 1)}
            assert logins.refusals == 0
            office.wait_until_decided("locum", *(each.card for each in logins.logins))
            assert office.record(f"s{v6:d}", v6=v6) == ["Accounting-Response"]
        assert not any(map(is_refusal, at_copier.frames()))
    office.start_server()
    office.locum.wait_until_drained()
    eventually(lambda: len(office.server.logged()) == 2)
    whence = {
        each["Acct-Session-Id"]: each.get("Packet-Src-IP-Address") or each.get("Packet-Src-IPv6-Address")
        for each in office.server.logged()
    }
    assert whence == {"s0": office.line.copier_at[0], "s1": office.line.copier_at[1]}


@FAMILIES
def test_killed_and_back_again_while_logins_go_on(office: InLine, v6: bool) -> None:
    with login_goes_on(office, v6=v6) as logins:
        eventually(lambda: logins.answered(5))
        office.locum.kill()
        killed = time.monotonic()
        eventually(lambda: logins.answered(5, since=killed + BELIEVED))
        office.start_locum()
        office.wait_until_diverting()
        back = time.monotonic()
        eventually(lambda: logins.answered(5, since=back))
    assert {each.code for each in logins.logins} == {ACCEPT}
    assert max(each.took for each in logins.logins) < 2 * AGAIN
    assert [each.began - killed for each in logins.since(killed) if each.sendings > 1] == []
    card = logins.since(back)[0].card
    office.wait_until_decided("server", card)
    gap = json.loads(office.locum.query("SELECT data FROM notes WHERE note = 'bypass' ORDER BY seq DESC")[0]["data"])
    assert gap["last"] - gap["first"] >= 1_000 * BELIEVED


def test_probes_come_from_a_copier_too(office: InLine) -> None:
    """Nothing at the server's end has an address of the router."""
    with tap(office.line, office.line.server, "s0") as at_server:
        eventually(lambda: [asked_as(at_server, port, office.line.copier_at[0]) for port in (AUTH, ACCT)], 5)
        assert {flow(each)[0] for each in at_server.packets(AUTH) + at_server.packets(ACCT)} <= {
            *office.line.copier_at,
            *office.line.server_at,
        }
