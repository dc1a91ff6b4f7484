"""Frames of ARP and neighbour discovery: as scapy makes and reads them, and what is wrong with others, in words."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from protocols.errors import Malformed
from protocols.neighbours import arp, ethernet, ndp

scapy = pytest.importorskip("scapy.all")

COPIER, SERVER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
C4, S4 = IPv4Address("10.9.0.1"), IPv4Address("10.9.0.2")
C6, S6 = IPv6Address("fd00:9::1"), IPv6Address("fd00:9::2")


def dissected(data: bytes) -> scapy.Ether:
    frame = scapy.Ether(data)
    # Fields that scapy works out itself, the checksum above all, come out the same.
    again = frame.copy()
    if scapy.IPv6 in again:
        again[scapy.ICMPv6ND_NS if scapy.ICMPv6ND_NS in again else scapy.ICMPv6ND_NA].cksum = None
        again[scapy.IPv6].plen = None
    assert bytes(again) == data
    return frame


@pytest.mark.parametrize("tag", [None, 10, 0x600A])
def test_a_probe_asks_for_an_address_in_nobodys_name(tag: int | None) -> None:
    frame = dissected(arp.probe(COPIER, S4, tag))
    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:01")
    assert (frame[scapy.ARP].op, frame[scapy.ARP].psrc, frame[scapy.ARP].pdst) == (1, "0.0.0.0", "10.9.0.2")
    assert frame[scapy.ARP].hwsrc == "02:00:00:00:00:01"
    assert (scapy.Dot1Q in frame) == (tag is not None)
    if tag is not None:
        assert frame[scapy.Dot1Q].vlan == 10
        assert frame[scapy.Dot1Q].prio == tag >> 13


def test_a_reply_goes_to_the_asker_alone() -> None:
    frame = dissected(arp.reply(SERVER, S4, COPIER, C4, None))
    assert (frame.dst, frame.src) == ("02:00:00:00:00:01", "02:00:00:00:00:02")
    message = frame[scapy.ARP]
    assert (message.op, message.hwsrc, message.psrc) == (2, "02:00:00:00:00:02", "10.9.0.2")
    assert (message.hwdst, message.pdst) == ("02:00:00:00:00:01", "10.9.0.1")


def test_a_solicitation_goes_to_the_group_of_the_address() -> None:
    frame = dissected(ndp.solicitation(COPIER, C6, S6, None))
    assert (frame.dst, frame.src) == ("33:33:ff:00:00:02", "02:00:00:00:00:01")
    assert (frame[scapy.IPv6].src, frame[scapy.IPv6].dst) == ("fd00:9::1", "ff02::1:ff00:2")
    assert frame[scapy.IPv6].hlim == 255
    assert frame[scapy.ICMPv6ND_NS].tgt == "fd00:9::2"
    assert frame[scapy.ICMPv6NDOptSrcLLAddr].lladdr == "02:00:00:00:00:01"


def test_an_advertisement_is_solicited_and_overrides_nothing() -> None:
    frame = dissected(ndp.advertisement(SERVER, S6, COPIER, C6, 10))
    assert (frame.dst, frame.src, frame[scapy.Dot1Q].vlan) == ("02:00:00:00:00:01", "02:00:00:00:00:02", 10)
    assert (frame[scapy.IPv6].src, frame[scapy.IPv6].dst) == ("fd00:9::2", "fd00:9::1")
    message = frame[scapy.ICMPv6ND_NA]
    assert (message.tgt, message.R, message.S, message.O) == ("fd00:9::2", 0, 1, 0)
    assert frame[scapy.ICMPv6NDOptDstLLAddr].lladdr == "02:00:00:00:00:02"


def test_what_scapy_makes_is_read() -> None:
    made = scapy.Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:01") / scapy.Dot1Q(vlan=10)
    made /= scapy.ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="10.9.0.1", pdst="10.9.0.2")
    frame = ethernet.parse(bytes(made) + bytes(18))
    assert (frame.vlan, frame.kind, frame.source) == (10, ethernet.ARP, COPIER)
    assert arp.parse(frame.payload) == arp.Arp(arp.REQUEST, COPIER, C4, ethernet.NO_MAC, S4)
    made = scapy.Ether() / scapy.IPv6(src="fd00:9::2", dst="fd00:9::1", hlim=255)
    made /= scapy.ICMPv6ND_NA(tgt="fd00:9::2", R=1, S=1, O=1)
    made /= scapy.ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:02")
    frame = ethernet.parse(bytes(made) + bytes(6))
    assert ndp.parse(frame.payload) == ndp.Neighbour(ndp.ADVERTISEMENT, S6, C6, S6, SERVER, 0xE0)


def change(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes((value,)) + data[at + 1 :]


ASKED = arp.build(arp.Arp(arp.REQUEST, COPIER, C4, ethernet.NO_MAC, S4))
SOLICITED = ndp.build(ndp.Neighbour(ndp.SOLICITATION, C6, ndp.group_of(S6), S6, COPIER))


def summed(packet: bytes) -> bytes:
    """With the right checksum: only what it does not show may be wrong."""
    body = packet[40:42] + b"\0\0" + packet[44:]
    return packet[:42] + ndp.checksum(packet[8:24], packet[24:40], body).to_bytes(2, "big") + packet[44:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (ASKED[:27], "arp-length"),
        (change(ASKED, 1, 6), "arp-kind"),
        (change(ASKED, 4, 8), "arp-kind"),
        (change(ASKED, 7, 3), "arp-operation"),
        (change(ASKED, 7, 0), "arp-operation"),
    ],
)
def test_arp_that_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        arp.parse(data)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (SOLICITED[:63], "ndp-length"),
        (change(SOLICITED, 5, 200), "ndp-length"),
        (change(SOLICITED, 5, 23), "ndp-length"),
        (change(SOLICITED, 0, 0x40), "ndp-kind"),
        (change(SOLICITED, 6, 0), "ndp-kind"),
        (summed(change(SOLICITED, 40, 134)), "ndp-kind"),
        (summed(change(SOLICITED, 41, 1)), "ndp-kind"),
        (change(SOLICITED, 7, 254), "ndp-hop-limit"),
        (change(SOLICITED, 63, 9), "ndp-checksum"),
        (summed(change(SOLICITED, 65, 0)), "ndp-option-length"),
        (summed(change(SOLICITED, 65, 2)), "ndp-option-length"),
        (summed(change(SOLICITED, 48, 0xFF)), "ndp-wanted"),
        (summed(SOLICITED[:8] + bytes(16) + SOLICITED[24:]), "ndp-source"),
        (ndp.build(ndp.Neighbour(136, S6, IPv6Address("ff02::1"), S6, SERVER, ndp.SOLICITED)), "ndp-flags"),
        (ndp.build(ndp.Neighbour(135, ndp.NOBODY, S6, S6, None)), "ndp-source"),
    ],
)
def test_neighbour_messages_that_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        ndp.parse(data)
    assert refused.value.reason == reason


def test_frames_that_are_refused() -> None:
    for data in (bytes(13), bytes(12) + b"\x81\x00\x00", bytes(12) + b"\x81\x00\x00\x0a\x08"):
        with pytest.raises(Malformed, match="frame-length"):
            ethernet.parse(data)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ethernet.build(ethernet.Frame(b"\0", COPIER, 1, b"")),
        lambda: ethernet.build(ethernet.Frame(COPIER, COPIER, 1, b"", 1 << 16)),
        lambda: arp.build(arp.Arp(3, COPIER, C4, COPIER, S4)),
        lambda: arp.build(arp.Arp(1, b"", C4, COPIER, S4)),
        lambda: ndp.build(ndp.Neighbour(134, C6, S6, S6, None)),
        lambda: ndp.build(ndp.Neighbour(135, C6, S6, S6, b"\0")),
        lambda: ethernet.mac_from("02:00:00:00:00"),
        lambda: ethernet.mac_from("02:00:00:00:00:zz"),
    ],
)
def test_what_no_frame_can_hold_is_malformed(build: object) -> None:
    assert callable(build)
    with pytest.raises(Malformed):
        build()


def test_mac_addresses_as_text() -> None:
    assert ethernet.mac_text(COPIER) == "02:00:00:00:00:01"
    assert ethernet.mac_from("02:00:00:00:00:01") == COPIER
    assert [
        ethernet.is_station(mac) for mac in (COPIER, ethernet.BROADCAST, ethernet.NO_MAC, b"\x01\x00\x5e\0\0\1")
    ] == [
        True,
        False,
        False,
        False,
    ]
    assert [ethernet.vlan_of(tag) for tag in (None, 0xE000, 0xE00A)] == [0, 0, 10]
