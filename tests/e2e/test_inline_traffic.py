"""In line, what is not Locum's passes untouched while logins go on, and a login in fragments is Locum's in all of them.

Untouched: each frame is at the other end what it was at the first, byte for byte. Not diverted: of all that passed,
Locum took as many frames as logins were sent, and not one more.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether

from tests.e2e.in_line import AUTH, COPIER, SECRET, SERVER, InLine, Tap, ends, in_line, is_ping, login_goes_on, tap
from tests.peers import wire as radius
from tests.peers.netns import Wire, wire
from tests.peers.skips import need_program
from tests.peers.waiting import eventually

LPD, RAW = 515, 9100
MEGABYTE = 1 << 20
IN_ALL = 100


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InLine]:
    """No probes, once both ports have answered: what Locum takes and sends is logins alone."""
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    home = tmp_path_factory.mktemp("traffic")
    with wire() as line, in_line(line, home, probe_interval="60s") as made:
        made.stand()
        assert made.login() == ["Access-Accept"]
        made.wait_until_probed()
        told: list[dict[str, int]] = []

        def rests() -> bool:
            told.append(counted(made))
            return told[-2:-1] == told[-1:]

        eventually(rests, 5, "no probe is under way")
        yield made


@contextmanager
def beside_logins(office: InLine) -> Iterator[None]:
    """What is done in the block goes on beside logins; Locum takes these, all of them, and nothing else."""
    before = counted(office)
    with login_goes_on(office) as logins:
        eventually(lambda: logins.answered(2))
        yield
        so_far = len(logins.logins)
        eventually(lambda: logins.answered(so_far + 2))
    took = {name: number - before[name] for name, number in counted(office).items()}
    assert {each.sendings for each in logins.logins} == {1}
    sent = logins.sent
    assert took == {"to_server": sent, "to_copier": sent, "sent": 2 * sent, "unknown": 0}


def counted(office: InLine) -> dict[str, int]:
    told = office.counters()
    return {name: told[name]["packets"] for name in ("to_server", "to_copier", "sent", "unknown")}


@contextmanager
def untouched(line: Wire, which: Callable[[Ether], bool]) -> Iterator[tuple[Tap, Tap]]:
    """All such frames of the block are the same at both ends; there are some of both directions."""
    with tap(line, line.copier, "c0") as at_copier, tap(line, line.server, "s0") as at_server:
        yield at_copier, at_server

        def chosen(end: Tap) -> list[bytes]:
            return sorted(bytes(each) for each in end.frames() if which(each))

        eventually(lambda: chosen(at_copier) == chosen(at_server), 2, "what left the one end is at the other")
        frames = [each for each in at_server.seen if which(each)]
        assert {each.src for each in frames} == {line.copier_mac, line.server_mac}
        assert {each[IP].ttl for each in frames if IP in each} <= {64}


def serve_once(line: Wire, port: int, work: Callable[[socket.socket], object]) -> threading.Thread:
    """The server's machine takes one connection."""
    with line.inside(line.server):
        listening = socket.create_server((SERVER, port))

    def serve() -> None:
        with listening:
            taken, _ = listening.accept()
        with taken:
            taken.settimeout(20)
            work(taken)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def connect(line: Wire, port: int, own_port: int = 0) -> socket.socket:
    with line.inside(line.copier):
        return socket.create_connection((SERVER, port), 10, (COPIER, own_port))


def test_a_line_printer_job_keeps_its_port_721(office: InLine) -> None:
    """RFC 1179: a client's port is one of 721 to 731, and servers look."""
    got: list[object] = []

    def print_it(taken: socket.socket) -> None:
        got.append(taken.getpeername())
        with taken.makefile("rb") as reading:
            for _ in range(2):
                got.append(reading.readline())
                taken.sendall(b"\0")
            got.append(reading.read(11))
            taken.sendall(b"\0")

    with beside_logins(office), untouched(office.line, lambda each: TCP in each and LPD in (each.sport, each.dport)):
        thread = serve_once(office.line, LPD, print_it)
        with connect(office.line, LPD, 721) as made:
            for said in (b"\2raw\n", b"\x0311 dfA001copier\n", b"some paper\0"):
                made.sendall(said)
                assert made.recv(1) == b"\0"
        thread.join(10)
    assert got == [(COPIER, 721), b"\2raw\n", b"\x0311 dfA001copier\n", b"some paper\0"]


def test_a_print_job_of_100_megabytes_arrives_as_it_was(office: InLine) -> None:
    """From the server, as print jobs go. The kernel at both ends counts the frames, and those that are right."""
    line = office.line
    block = os.urandom(MEGABYTE)
    right = [
        (line.copier, "c0", f"tcp sport {RAW}", line.server_mac, line.copier_mac),
        (line.server, "s0", f"tcp dport {RAW}", line.copier_mac, line.server_mac),
    ]
    for namespace, interface, which, source, target in right:
        chain = f'chain in {{ type filter hook ingress device "{interface}" priority 0; {which} jump look; }}'
        look = f"counter ether saddr {source} ether daddr {target} ip ttl 64 counter"
        rules = f"table netdev looking {{ chain look {{ {look}; }}\n {chain}\n }}"
        line.run(namespace, ["nft", "-f", "-"], input=rules)
    sent, came = hashlib.sha256(), hashlib.sha256()

    def send(taken: socket.socket) -> None:
        for number in range(IN_ALL):
            piece = number.to_bytes(4) + block[4:]
            sent.update(piece)
            taken.sendall(piece)

    with beside_logins(office):
        thread = serve_once(line, RAW, send)
        octets = 0
        with connect(line, RAW) as made:
            while piece := made.recv(MEGABYTE):
                octets += len(piece)
                came.update(piece)
        thread.join(20)
    assert octets == IN_ALL * MEGABYTE
    assert came.digest() == sent.digest()
    for namespace, *_ in right:
        told = json.loads(line.run(namespace, ["nft", "-j", "list", "chain", "netdev", "looking", "look"]).stdout)
        every, those_right = (
            part["counter"]["packets"]
            for each in told["nftables"]
            for part in each.get("rule", {}).get("expr", [])
            if "counter" in part
        )
        assert every == those_right > 0
        line.run(namespace, ["nft", "delete", "table", "netdev", "looking"])


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_a_ping_passes(office: InLine, v6: bool) -> None:
    line = office.line
    with beside_logins(office), untouched(line, is_ping):
        line.run(line.copier, ["ping", "-c2", "-i0.1", "-s1000", "-W1", line.server_at[v6]])


def test_arp_passes(office: InLine) -> None:
    line = office.line
    with beside_logins(office), untouched(line, lambda each: ARP in each) as (at_copier, at_server):
        line.ip(line.copier, "neigh", "flush", "all")
        assert office.passes()
        eventually(lambda: any(ARP in each for each in at_copier.frames()))
        asked = [each[ARP].psrc for each in at_server.frames() if ARP in each and each[ARP].op == 1]
        assert COPIER in asked


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_a_large_datagram_passes_in_its_fragments(office: InLine, v6: bool) -> None:
    """Its octets are those of Locum's port all over: in a later fragment they stand where a first one has its ports."""
    line, octets = office.line, AUTH.to_bytes(2, "big") * 10_000
    family = socket.AF_INET6 if v6 else socket.AF_INET
    with line.inside(line.server):
        far = socket.socket(family, socket.SOCK_DGRAM)
        far.bind((line.server_at[v6], 7_000))
    with line.inside(line.copier):
        near = socket.socket(family, socket.SOCK_DGRAM)
        near.connect((line.server_at[v6], 7_000))

    def large(frame: Ether) -> bool:
        return len(frame) > 1_200

    with far, near, beside_logins(office), untouched(line, large) as (at_copier, _):
        near.settimeout(5)
        far.settimeout(5)
        near.send(octets)
        got, peer = far.recvfrom(65_535)
        far.sendto(got, peer)
        assert near.recv(65_535) == octets == got
        assert sum(large(each) for each in at_copier.frames()) >= 2 * 13


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
def test_a_login_in_fragments_is_locums_with_all_of_them(office: InLine, v6: bool) -> None:
    """Its answer is as large: the server gives back each Proxy-State (RFC 2865 section 5.33)."""
    line, card = office.line, f"B16{v6:d}"
    states = b"".join(radius.attribute(33, bytes((number,)) * 200) for number in range(15))
    attributes = radius.attribute(radius.USER_NAME, card) + radius.attribute(radius.NAS_IDENTIFIER, "KM-1") + states
    request = radius.access_request(SECRET.encode(), 7, attributes)
    with line.inside(line.copier):
        made = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        made.connect((line.server_at[v6], AUTH))
    with made, tap(line, line.server, "s0") as at_server:
        made.settimeout(2)
        made.send(request)
        answer = made.recv(5_000)
        assert radius.is_authentic(answer, request, SECRET.encode())
        assert (answer[0], states in answer) == (2, True)
        there = (line.copier_mac, line.server_mac, line.copier_at[v6], line.server_at[v6])
        back = (line.server_mac, line.copier_mac, line.server_at[v6], line.copier_at[v6])
        fragments = [each for each in at_server.frames() if len(each) > 1_200]
        assert {ends(each) for each in fragments} == {there, back}
        assert len(fragments) >= 4
    office.wait_until_decided("server", card)
