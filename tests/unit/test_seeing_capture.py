"""The pieces of `locum capture`: what the kernel lets through, and the ring of files."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from appliance.cli import main
from appliance.seeing import sieve
from appliance.seeing.files import Frame, frames
from appliance.seeing.listening import Listening, _with_tag
from appliance.seeing.ring import CannotWrite, Ring
from protocols.capture.frames import ETHERNET
from tests.peers.captures import BEGAN, COPIER_MAC, SERVER_MAC
from tests.peers.disks import SmallDisk
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.skips import need_root

PORTS = (1812, 9790)
NOW = int(BEGAN * 1000)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A pair of sockets, the second with the filter: the kernel runs it over datagrams of any kind."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sieve.attach(right, sieve.program(PORTS))
    right.settimeout(0.05)
    with left, right:
        yield left, right


def passes(ends: tuple[socket.socket, socket.socket], frame: object) -> bool:
    """Whether the kernel lets it through whole."""
    octets = bytes(frame)  # type: ignore[call-overload]
    with suppress(PermissionError):
        ends[0].send(octets)
    try:
        received = ends[1].recv(70_000)
    except TimeoutError:
        return False
    assert received == octets
    return True


ETHER, V4, V6 = (
    Ether(src=COPIER_MAC, dst=SERVER_MAC),
    IP(src="10.0.0.1", dst="10.0.0.2"),
    IPv6(src="fd00::1", dst="fd00::2"),
)


@pytest.mark.parametrize(
    "head", [ETHER, ETHER / Dot1Q(vlan=5), ETHER / Dot1AD(vlan=5)], ids=["plain", "802.1Q", "802.1ad"]
)
@pytest.mark.parametrize(
    "ip", [V4, V6, IP(src="10.0.0.1", dst="10.0.0.2", options=b"\x94\x04\0\0")], ids=["4", "6", "4opt"]
)
def test_the_kernel_lets_our_ports_through_and_no_others(
    ends: tuple[socket.socket, socket.socket], head: Ether, ip: IP
) -> None:
    assert passes(ends, head / ip / UDP(sport=5, dport=1812) / b"x")
    assert passes(ends, head / ip / UDP(sport=1812, dport=5) / b"x")
    assert passes(ends, head / ip / TCP(sport=9790, dport=5))
    assert not passes(ends, head / ip / UDP(sport=5, dport=1811) / b"x")
    assert not passes(ends, head / ip / TCP(sport=443, dport=9100) / bytes(1_200))
    assert not passes(ends, head / ip / ICMP() / (b"\x07\x14" * 30))


def test_later_fragments_are_let_through_for_they_have_no_ports(ends: tuple[socket.socket, socket.socket]) -> None:
    pieces = fragment(V4 / UDP(sport=5, dport=1812) / bytes(2_000), 512)
    assert all(passes(ends, ETHER / piece) for piece in pieces)
    assert passes(ends, ETHER / V6 / IPv6ExtHdrFragment(offset=9, nh=17) / b"xxxxxxxx")


def test_what_is_no_ip_or_too_short_is_not_let_through(ends: tuple[socket.socket, socket.socket]) -> None:
    assert not passes(ends, ETHER / ARP())
    assert not passes(ends, b"\0" * 13)
    assert not passes(ends, (ETHER / V4 / UDP(dport=1812))[:1].build()[:20])


def test_as_many_ports_as_a_program_holds_can_be_listened_for() -> None:
    for many in (1, sieve.MOST_PORTS):
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with left, right:
            sieve.attach(right, sieve.program(range(1, many + 1)))
    with pytest.raises(ValueError, match="0 ports"):
        sieve.program(())
    with pytest.raises(ValueError, match="49 ports"):
        sieve.program(range(sieve.MOST_PORTS + 1))


def test_a_tag_that_the_kernel_took_out_is_put_back() -> None:
    tagged = bytes(ETHER / Dot1Q(vlan=20) / V4)
    plain = tagged[:12] + tagged[16:]
    assert _with_tag(plain, struct.pack("IIIHHHH", 0x51, 0, 0, 0, 0, 20, 0x8100)) == tagged
    assert _with_tag(plain, struct.pack("IIIHHHH", 0x01, 0, 0, 0, 0, 0, 0)) == plain


def frame(number: int, size: int = 1_000) -> Frame:
    return Frame(NOW + number, ETHERNET, number.to_bytes(4, "big") * (size // 4))


def write_all(ring: Ring, several: list[Frame]) -> None:
    for each in several:
        ring.write(each)


def test_a_ring_keeps_the_newest_files(tmp_path: Path) -> None:
    other = tmp_path / "notes.pcapng"
    other.write_text("somebody's")
    ring = Ring(tmp_path, files=3, size=10_000)
    write_all(ring, [frame(number) for number in range(100)])
    ring.close()
    mine = sorted(path for path in tmp_path.iterdir() if path != other)
    assert len(mine) == 3
    assert all(path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size <= 10_000 for path in mine)
    kept = [each for path in mine for each in frames(path)]
    assert kept == [frame(number) for number in range(100 - len(kept), 100)]
    assert (ring.frames, ring.octets, len(kept) > 18) == (100, 100_000, True)
    assert other.read_text() == "somebody's"


def test_a_full_disk_ends_a_capture_and_leaves_whole_frames(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk", 128 << 10)
    try:
        ring = Ring(disk.at, files=10, size=1_000_000)
        with pytest.raises(CannotWrite, match="No space left"):
            write_all(ring, [frame(number, 3_000) for number in range(1_000)])
        ring.close()
        (file,) = disk.at.iterdir()
        assert list(frames(file)) == [frame(number, 3_000) for number in range(ring.frames)]
        assert ring.frames > 10
    finally:
        disk.unmount()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--interface", "nowhere0"], 1, "there is no interface nowhere0"),
        (["--interface", "lo", *(f"--port={port}" for port in range(1, 50))], 2, "at most 48"),
        ([], 2, "--interface"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    assert main(["capture", "--dir", str(tmp_path / "c"), *arguments]) == status
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("seconds", [None, 0.0], ids=["stopped", "time is over"])
def test_what_had_come_when_it_ended_is_read_and_nothing_later(seconds: float | None) -> None:
    """Who loads a library for a second before the first frame is read must not lose what the kernel kept meanwhile."""
    need_root()
    port = free_port()
    with Listening(("lo",), (port,)) as listening, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

        def send(text: bytes) -> None:
            sender.sendto(text, (LOOPBACK[4], port))

        for number in range(4):
            send(b"before %d" % number)
        ending = listening.frames(seconds, lambda: seconds is None)
        heard = [next(ending).frame.data]
        for _ in range(100):
            send(b"after")
        heard += [each.frame.data for each in ending]
    assert [sum(b"before %d" % number in each for each in heard) for number in range(4)] == [2] * 4, "out and in"
    assert not [each for each in heard if b"after" in each]
