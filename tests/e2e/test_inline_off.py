"""In line, copiers are switched off: what waited is forwarded as they all the same, and probes of the server go on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from scapy.layers.l2 import ARP, Ether

from protocols.neighbours import arp, ethernet
from tests.e2e.in_line import ACCT, InLine, Tap, ends, in_line, tap
from tests.peers.netns import COPIER, COPIER6, SERVER6, Wire, behind_gateway, wire
from tests.peers.skips import need_program
from tests.peers.waiting import eventually, never_within


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InLine]:
    with laid() as line, by_day(line, tmp_path_factory.mktemp("office")) as made:
        yield made


@contextmanager
def laid() -> Iterator[Wire]:
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    with wire() as line:
        yield line


@contextmanager
def by_day(line: Wire, home: Path) -> Iterator[InLine]:
    """Both ends speak to each other, with IPv4 and IPv6."""
    with in_line(line, home) as made:
        made.stand()
        assert made.login() == ["Access-Accept"]
        assert made.login(v6=True) == ["Access-Accept"]
        made.locum.wait_until_proven()
        made.wait_until_probed(2)
        yield made


def outage_that_ends_at_night(office: InLine, night: str) -> None:
    """Records wait, one of each IP version; then the copier is switched off."""
    office.server.kill()
    office.locum.wait_for_state("offline")
    assert office.record(f"{night}-4") == ["Accounting-Response"]
    assert office.record(f"{night}-6", v6=True) == ["Accounting-Response"]
    office.line.ip(office.line.copier, "link", "set", "c0", "down")


def server_forgets(office: InLine) -> None:
    """It knows nobody's MAC address any more."""
    line = office.line
    line.ip(line.server, "link", "set", "s0", "down")
    line.ip(line.server, "link", "set", "s0", "up")
    line.ip(line.server, "addr", "replace", f"{SERVER6}/64", "dev", "s0", "nodad")
    # It doubts what it knows after seconds instead of after a minute, and asks again.
    doubts = ("base_reachable_time_ms=500", "delay_first_probe_time=1")
    settings = [f"net.{version}.neigh.s0.{each}" for version in ("ipv4", "ipv6") for each in doubts]
    line.run(line.server, ["sysctl", "-w", *settings])
    assert neighbours(office) == {}


def neighbours(office: InLine) -> dict[str, str]:
    """The MAC addresses that the server's kernel knows."""
    found = json.loads(office.line.ip(office.line.server, "-j", "neigh", "show", "dev", "s0") or "[]")
    return {each["dst"]: each["lladdr"] for each in found if "lladdr" in each and "FAILED" not in each["state"]}


def all_forwarded(office: InLine) -> None:
    office.locum.wait_until_drained()
    eventually(lambda: office.locum.state() == "online", 10, "the server is back")


def arrived(office: InLine, night: str) -> list[str]:
    """From which addresses the records of a night came to the server, that of IPv4 first."""
    found = [each for each in office.server.logged() if each["Acct-Session-Id"].startswith(night)]
    found.sort(key=lambda each: each["Acct-Session-Id"])
    return [each.get("Packet-Src-IP-Address") or each["Packet-Src-IPv6-Address"] for each in found]


def test_what_waited_arrives_as_the_copier_that_is_off_and_it_comes_back_undisturbed(office: InLine) -> None:
    line = office.line
    outage_that_ends_at_night(office, "monday")
    server_forgets(office)
    with tap(line, line.server, "s0") as at_server:
        office.start_server()
        all_forwarded(office)
        never_within(lambda: office.locum.state() != "online", 4, "an outage: probes are answered")
        assert {neighbours(office)[each] for each in (COPIER, COPIER6)} == {line.copier_mac}
        assert {ends(each)[0] for each in at_server.packets(ACCT)} == {line.copier_mac, line.server_mac}
        assert {each.src for each in at_server.frames()} <= {line.copier_mac, line.server_mac}
    assert arrived(office, "monday") == [COPIER, COPIER6], "once"
    comes_back(line)
    assert office.login("FEED0001", tries=3, timeout=1) == ["Access-Accept"]
    assert office.login("FEED0006", v6=True, tries=3, timeout=1) == ["Access-Accept"]
    assert set(office.decided_by().values()) == {"server"}


def comes_back(line: Wire) -> None:
    """The copier asks for its own addresses (RFC 5227, RFC 4862), as copiers do that start: nobody has them."""
    line.ip(line.copier, "link", "set", "c0", "up")
    line.ip(line.copier, "addr", "replace", f"{COPIER6}/64", "dev", "c0")
    with tap(line, line.copier, "c0") as at_copier:
        with line.inside(line.copier), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("c0", 0))
            for _ in range(3):
                raw.send(arp.probe(ethernet.mac_from(line.copier_mac), IPv4Address(COPIER), None))
                never_within(lambda: _answers(at_copier), 0.5, "an answer")
        eventually(lambda: "tentative" not in line.ip(line.copier, "-6", "addr", "show", "dev", "c0"), 5)
        assert "dadfailed" not in line.ip(line.copier, "-6", "addr", "show", "dev", "c0")
        at_copier.frames()
        assert {each.src for each in at_copier.came} <= {line.server_mac}, "nobody speaks to it in its own name"


def _answers(end: Tap) -> list[Ether]:
    """What came and says that somebody has the copier's address."""
    end.frames()
    return [each for each in end.came if ARP in each and each[ARP].psrc == COPIER]


def test_after_a_restart_of_locum_and_of_the_line_too(office: InLine) -> None:
    line = office.line
    outage_that_ends_at_night(office, "tuesday")
    office.locum.stop()
    office.run_locum("inline", "down", "--all")
    office.run_locum("inline", "up")
    office.start_locum()
    office.wait_until_diverting()
    server_forgets(office)
    office.start_server()
    all_forwarded(office)
    assert arrived(office, "tuesday") == [COPIER, COPIER6]
    office.run_locum("inline", "up")
    never_within(lambda: office.locum.state() == "offline", 3, "an outage: the new rules are told who is who")
    eventually(lambda: office.locum.state() == "online", 10)
    assert {neighbours(office)[each] for each in (COPIER, COPIER6)} == {line.copier_mac}


def test_a_gateway_that_asks_for_a_copier_that_is_off_is_answered_too(tmp_path: Path) -> None:
    with laid() as line:
        gateway = behind_gateway(line)
        with by_day(line, tmp_path) as office:
            outage_that_ends_at_night(office, "wednesday")
            for version in ("-4", "-6"):
                line.ip(gateway, version, "neigh", "flush", "all")
            office.start_server()
            all_forwarded(office)
            assert arrived(office, "wednesday") == list(line.copier_at)
