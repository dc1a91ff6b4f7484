"""Ethernet frames, ARP messages and neighbour messages for property tests: right ones, and right ones damaged."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from protocols.neighbours import arp, ethernet, ndp

macs = st.binary(min_size=6, max_size=6)
tags = st.one_of(st.none(), st.integers(0, 0xFFFF))
kinds = st.one_of(st.sampled_from([ethernet.ARP, ethernet.IPV6, ethernet.TAGGED]), st.integers(0, 0xFFFF))
frames = st.builds(ethernet.Frame, macs, macs, kinds, st.binary(max_size=40), tags)
v4 = st.ip_addresses(v=4)
arps = st.builds(arp.Arp, st.sampled_from([arp.REQUEST, arp.REPLY]), macs, v4, macs, v4)
unicast = st.ip_addresses(v=6).filter(lambda address: not address.is_multicast)
v6 = st.one_of(unicast, st.just(ndp.NOBODY), st.ip_addresses(v=6), unicast.map(ndp.group_of))


@st.composite
def solicited(draw: st.DrawFn) -> ndp.Neighbour:
    wanted, source = draw(unicast), draw(st.one_of(unicast, st.just(ndp.NOBODY)))
    target = ndp.group_of(wanted) if source == ndp.NOBODY else draw(st.sampled_from([wanted, ndp.group_of(wanted)]))
    return ndp.Neighbour(ndp.SOLICITATION, source, target, wanted, None if source == ndp.NOBODY else draw(macs))


solicitations = solicited()
advertisements = st.builds(
    ndp.Neighbour,
    st.just(ndp.ADVERTISEMENT),
    unicast,
    unicast,
    unicast,
    st.one_of(st.none(), macs),
    st.integers(0, 0xFF),
)
options = st.lists(
    st.integers(1, 3).flatmap(
        lambda units: st.builds(
            lambda number, value: bytes((number, units)) + value,
            st.sampled_from([1, 2, 14]),
            st.binary(min_size=units * 8 - 2, max_size=units * 8 - 2),
        )
    ),
    max_size=3,
).map(b"".join)


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """A neighbour message that is right, or wrong in one of the ways that the checksum does not show."""
    if draw(st.booleans()):
        return ndp.build(draw(st.one_of(solicitations, advertisements)))
    kind, flags = draw(st.sampled_from([133, 135, 136])), draw(st.integers(0, 0xFF))
    head = bytes((kind, draw(st.sampled_from([0, 0, 0, 1])), 0, 0, flags, 0, 0, 0))
    body = head + draw(v6).packed + draw(options)
    hops = bytes((draw(st.sampled_from([255, 255, 255, 64])),))
    addresses = draw(v6).packed + draw(v6).packed
    packet = bytes((0x60, 0, 0, 0)) + len(body).to_bytes(2, "big") + b"\x3a" + hops + addresses + body
    return reckoned(packet)


neighbours = packets()


def reckoned(packet: bytes) -> bytes:
    """The same with its checksum made right, as far as there is one."""
    length = int.from_bytes(packet[4:6], "big")
    body = packet[40 : 40 + length]
    if len(body) < 4:
        return packet
    body = body[:2] + b"\0\0" + body[4:]
    sum_ = ndp.checksum(packet[8:24], packet[24:40], body)
    return packet[:40] + body[:2] + sum_.to_bytes(2, "big") + body[4:] + packet[40 + length :]


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """Some octets changed, cut short, or with more behind."""

    @st.composite
    def changed(draw: Any) -> bytes:
        octets = bytearray(data)
        for _ in range(draw(st.integers(0, 2))):
            if octets:
                octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
        if draw(st.booleans()):
            return bytes(octets[: draw(st.integers(0, len(octets)))])
        return bytes(octets) + draw(st.binary(max_size=8))

    return changed()
