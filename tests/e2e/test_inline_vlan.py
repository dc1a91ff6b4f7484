"""In line on a trunk: copiers and servers in VLANs are served as others are, each in its own, and tags stay.

Copier and server take in frames of their VLAN alone, so that whatever arrives came with the right tag.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from tests.e2e.in_line import ACCT, AUTH, COPIER, COPIER6, SERVER, SERVER6, InLine, ends, in_line
from tests.peers.netns import Wire, wire, with_copiers
from tests.peers.skips import ROOT, need_program
from tests.peers.tagged import TagTap, put_in_vlan, tag_tap, tags_of, vlan
from tests.peers.waiting import eventually

TEN = [(0x8100, 0, 10)]
TWENTY = [(0x8100, 0, 20)]
NO_VLAN = [(0x8100, 0, 0)]
OTHER, THIRD = ("10.9.0.3", "fd00:9::3"), ("10.9.0.4", "fd00:9::4")
"""Copiers beside the first."""
VIRTUAL_MAC = "02:00:5e:00:01:14"
"""Of the server, or the gateway to it, in the second VLAN."""


@pytest.fixture
def line() -> Iterator[Wire]:
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    with wire() as made:
        yield made


@pytest.fixture
def office(line: Wire, tmp_path: Path) -> Iterator[InLine]:
    """The copier and the server in VLAN 10, and Locum diverts."""
    for namespace, interface in ((line.copier, "c0"), (line.server, "s0")):
        put_in_vlan(line, namespace, interface, [10])
    with in_line(line, tmp_path) as made:
        made.stand()
        yield made


def of_locums_ports(tap: TagTap) -> list[Ether]:
    return [*tap.packets(AUTH), *tap.packets(ACCT)]


def test_logins_and_records_of_a_vlan_go_through_locum_online_and_offline(office: InLine) -> None:
    """Of both IP versions. Nothing is without its tag at either end, and MAC addresses and addresses are kept.

    When the outage ends the copier is off, and Locum and the rules have begun anew: the ledger knows the VLAN too.
    """
    line = office.line
    with tag_tap(line, line.server, "s0") as at_server, tag_tap(line, line.copier, "c0") as at_copier:
        assert office.login("FEED0001") == ["Access-Accept"]
        assert office.login("FEED0002", v6=True) == ["Access-Accept"]
        assert office.record("s1") == ["Accounting-Response"]
        office.wait_until_decided("server", "FEED0001", "FEED0002")
        office.locum.wait_until_proven()
        office.wait_until_probed(2)
        asked = {each[UDP].sport for each in at_copier.packets(AUTH) if each[UDP].dport == AUTH}
        assert asked <= {each[UDP].sport for each in at_server.packets(AUTH)}, "the copier's ports"
        office.server.kill()
        office.locum.wait_for_state("offline")
        assert office.login("FEED0003", timeout=2) == ["Access-Accept"]
        assert office.login("FEED0004", v6=True, timeout=2) == ["Access-Accept"]
        assert office.record("s2") == ["Accounting-Response"]
        assert office.record("s3", v6=True) == ["Accounting-Response"]
        eventually(lambda: {"FEED0003", "FEED0004"} <= set(office.decided_by()), 5, "they were Locum's")
        at_copier.frames()
        line.ip(line.copier, "link", "set", "c0", "down")
        office.locum.stop()
        office.run_locum("inline", "down", "--all")
        office.run_locum("inline", "up")
        office.start_locum()
        office.start_server()
        office.locum.wait_until_drained()
        there, back = (line.copier_mac, line.server_mac), (line.server_mac, line.copier_mac)
        for tap in (at_server, at_copier):
            frames = of_locums_ports(tap)
            assert {ends(each) for each in frames} == {
                (*there, COPIER, SERVER),
                (*back, SERVER, COPIER),
                (*there, COPIER6, SERVER6),
                (*back, SERVER6, COPIER6),
            }
            assert [each for each in tap.frames() if tags_of(each) != TEN] == []
            own = line.server_mac if tap is at_server else line.copier_mac
            assert own not in {each.src for each in tap.came}
    assert sorted(each["Acct-Session-Id"] for each in office.server.logged()) == ["s1", "s2", "s3"]


def test_tagged_frames_pass_when_locum_is_killed_and_what_is_not_its_passes_untouched(office: InLine) -> None:
    line = office.line
    before = office.counters()
    assert office.passes()
    with tag_tap(line, line.server, "s0") as at_server:
        inside = IP(src=COPIER, dst=SERVER) / UDP(sport=4000, dport=AUTH) / b"within"
        inside6 = IPv6(src=COPIER6, dst=SERVER6) / UDP(sport=4000, dport=AUTH) / b"within"
        ether = Ether(src=line.copier_mac, dst=line.server_mac)
        not_locums = [
            ether / Dot1Q(vlan=30, prio=5) / Dot1Q(vlan=10) / inside,
            ether / Dot1AD(vlan=30) / Dot1Q(vlan=10) / inside,
            ether / Dot1AD(vlan=30) / inside,
            ether / Dot1AD(vlan=30) / inside6,
            ether / Dot1Q(vlan=30, prio=7, dei=1) / IP(src=COPIER, dst=SERVER) / UDP(sport=4000, dport=515) / b"job",
        ]
        send(line, not_locums)
        eventually(lambda: arrived(at_server, not_locums), 5, "they arrive as they were sent")
    after = office.counters()
    assert [after[name] for name in ("to_server", "handed")] == [before[name] for name in ("to_server", "handed")]
    office.locum.kill()
    assert office.login("FEED0005", tries=3, timeout=1.2) == ["Access-Accept"]
    assert office.login("FEED0006", tries=1, timeout=1) == ["Access-Accept"]
    office.run_locum("inline", "down")
    assert office.login("FEED0007", tries=1, timeout=1) == ["Access-Accept"], "over the plain bridge that is left"


def send(line: Wire, frames: list[Ether]) -> None:
    """As the copier, beside its VLAN."""
    with line.inside(line.copier), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sending:
        sending.bind(("c0", 0))
        for each in frames:
            sending.send(bytes(each))


def arrived(tap: TagTap, frames: list[Ether]) -> bool:
    there = {bytes(each) for each in tap.frames() and tap.came}
    return all(bytes(each) in there for each in frames)


def test_a_trunk_with_two_vlans_and_a_network_without_a_tag_each_with_its_own_way_to_the_server(
    line: Wire, tmp_path: Path
) -> None:
    """In the second VLAN the server has another MAC address, as behind a gateway. The third copier sends a tag that has
    a priority alone, which belongs to the network without a tag (IEEE 802.1Q section 6.9.1), and is answered there.
    """
    second, third = with_copiers(line, OTHER, THIRD)
    second_mac, third_mac = line.mac(second, "c0"), line.mac(third, "c0")
    put_in_vlan(line, line.copier, "c0", [10])
    put_in_vlan(line, second, "c0", [20])
    put_in_vlan(line, third, "c0", [0], f"udp dport {AUTH} meta priority set {vlan(0)}")
    both = f"{{ {COPIER} : {vlan(10)}, {OTHER[0]} : {vlan(20)} }}"
    tag = "\n".join([f"meta priority set {to} map {both}" for to in ("ip daddr", "arp daddr ip")] + [AS_GATEWAY])
    put_in_vlan(line, line.server, "s0", [10, 20, 0], tag)
    line.run(line.server, ["nft", "-f", "-"], input=FOR_GATEWAY)
    line.ip(second, "neigh", "replace", SERVER, "lladdr", VIRTUAL_MAC, "dev", "c0")
    with in_line(line, tmp_path) as office:
        office.stand()
        with tag_tap(line, line.server, "s0") as at_server, tag_tap(line, line.appliance, "p0") as at_copiers:
            for number in range(2):
                for namespace in (line.copier, second, third):
                    card = f"FEED{namespace[-2:]}{number}"
                    assert office.login(card, tries=1, namespace=namespace) == ["Access-Accept"]
            first_way = (str(TEN), line.copier_mac, line.server_mac, COPIER, SERVER)
            second_way = (str(TWENTY), second_mac, VIRTUAL_MAC, OTHER[0], SERVER)
            third_way = ("[]", third_mac, line.server_mac, THIRD[0], SERVER)
            ways = {*(first_way, second_way, third_way), *map(back, (first_way, second_way, third_way))}
            assert seen(at_server) == ways
            assert seen(at_copiers) == ways - {third_way} | {(str(NO_VLAN), *third_way[1:])}
        eventually(lambda: list(office.decided_by().values()) == ["server"] * 6, 5, "all are in the ledger")


def seen(tap: TagTap) -> set[tuple[str, ...]]:
    """The tags of all frames of logins, and their ends."""
    return {(str(tags_of(each)), *ends(each)) for each in tap.packets(AUTH)}


AS_GATEWAY = f"ip daddr {OTHER[0]} ether saddr set {VIRTUAL_MAC}"
FOR_GATEWAY = f"""\
table netdev gateway {{
chain in {{
type filter hook ingress device "s0" priority 0;
ether daddr {VIRTUAL_MAC} meta pkttype set host
}}
}}
"""


def back(way: tuple[str, ...]) -> tuple[str, ...]:
    tag, from_mac, to_mac, source, target = way
    return tag, to_mac, from_mac, target, source


WITHOUT = ["setpriv", "--inh-caps=-bpf,-sys_admin", "--bounding-set=-bpf,-sys_admin"]


def test_where_the_kernel_gives_no_ebpf_tagged_frames_pass_and_it_is_said(line: Wire, tmp_path: Path) -> None:
    """As for a service without the capability for it."""
    need_program("setpriv", "util-linux")
    for namespace, interface in ((line.copier, "c0"), (line.server, "s0")):
        put_in_vlan(line, namespace, interface, [10])
    with in_line(line, tmp_path) as office:
        office.start_server()
        remark = "warning: frames with a VLAN tag pass untouched, and are not Locum's (eBPF: Operation not permitted)"
        done = line.run(line.appliance, [*WITHOUT, *office.locum.command("inline", "up")], cwd=ROOT)
        assert (done.returncode, done.stderr.strip()) == (0, remark)
        office.start_locum()
        office.wait_until_diverting()
        with tag_tap(line, line.server, "s0") as at_server:
            assert office.login(tries=1, timeout=1) == ["Access-Accept"]
            assert office.login(v6=True, tries=1, timeout=1) == ["Access-Accept"]
            assert {str(tags_of(each)) for each in at_server.packets(AUTH)} == {str(TEN)}
        told = office.counters()
        assert (told["to_server"]["packets"], told["handed"]["packets"]) == (0, 0)
        assert office.decided_by() == {}
