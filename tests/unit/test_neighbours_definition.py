"""Ethernet, ARP and neighbour discovery read by hand agree with the declared definitions, on any bytes, both ways."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.neighbours import arp, definition, ethernet, ndp
from tests.fuzz.neighbour_inputs import advertisements, arps, damaged, frames, neighbours, reckoned, solicitations

SETTINGS = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@given(st.one_of(frames.map(ethernet.build), frames.map(ethernet.build).flatmap(damaged), st.binary(max_size=40)))
def test_frames_are_read_as_declared(data: bytes) -> None:
    assert by_hand(data) == declared_frame(data)


@SETTINGS
@given(frames)
def test_frames_are_built_as_declared(frame: ethernet.Frame) -> None:
    tagged = None if frame.tag is None else {"tag": frame.tag, "kind": frame.kind}
    kind = frame.kind if frame.tag is None else ethernet.TAGGED
    fields = {"target": frame.target, "source": frame.source, "kind": kind, "tagged": tagged, "payload": frame.payload}
    if frame.tag is not None or frame.kind != ethernet.TAGGED:
        assert definition.write(definition.FRAME, fields) == ethernet.build(frame)


@SETTINGS
@given(st.one_of(arps.map(arp.build), arps.map(arp.build).flatmap(damaged), st.binary(max_size=40)))
def test_arp_is_read_as_declared(data: bytes) -> None:
    assert read_arp(data) == declared_arp(data)


@SETTINGS
@given(arps)
def test_arp_is_built_as_declared(message: arp.Arp) -> None:
    fields = {
        "operation": message.operation,
        "sender_mac": message.sender_mac,
        "sender": message.sender.packed,
        "target_mac": message.target_mac,
        "target": message.target.packed,
    }
    assert definition.write(definition.ARP, fields) == arp.build(message)


@SETTINGS
@given(st.one_of(neighbours, neighbours.flatmap(damaged), neighbours.flatmap(damaged).map(reckoned)))
def test_neighbour_messages_are_read_as_declared(data: bytes) -> None:
    try:
        found = ndp.parse(data)
    except Malformed:
        found = None
    assert found == declared_neighbour(data)


@SETTINGS
@given(st.one_of(solicitations, advertisements))
def test_neighbour_messages_are_built_as_declared(message: ndp.Neighbour) -> None:
    data = ndp.build(message)
    read = definition.read(definition.NEIGHBOUR, data)
    assert definition.write(definition.NEIGHBOUR, {**read, "message": {"value": read.message.value}}) == data


def by_hand(data: bytes) -> ethernet.Frame | None:
    try:
        return ethernet.parse(data)
    except Malformed:
        return None


def declared_frame(data: bytes) -> ethernet.Frame | None:
    try:
        read = definition.read(definition.FRAME, data)
    except Malformed:
        return None
    kind, tag = (read.kind, None) if read.tagged is None else (read.tagged.kind, read.tagged.tag)
    return ethernet.Frame(bytes(read.target), bytes(read.source), kind, bytes(read.payload), tag)


def read_arp(data: bytes) -> arp.Arp | None:
    try:
        return arp.parse(data)
    except Malformed:
        return None


def declared_arp(data: bytes) -> arp.Arp | None:
    try:
        read = definition.read(definition.ARP, data)
    except Malformed:
        return None
    macs = bytes(read.sender_mac), bytes(read.target_mac)
    return arp.Arp(read.operation, macs[0], IPv4Address(read.sender), macs[1], IPv4Address(read.target))


def declared_neighbour(data: bytes) -> ndp.Neighbour | None:
    """With what RFC 4861 section 7.1 says of several fields together, which the definition leaves out."""
    try:
        read = definition.read(definition.NEIGHBOUR, data)
    except Malformed:
        return None
    message = read.message.value
    kind, flags = message.kind, message.flags
    links = [bytes(each.value) for each in message.options if each.number == ndp.LINK_OPTION[kind]]
    source, target = IPv6Address(read.source), IPv6Address(read.target)
    wrong = (
        any(len(link) != 6 for link in links)
        or (kind == ndp.ADVERTISEMENT and target.is_multicast and flags & ndp.SOLICITED)
        or (kind == ndp.SOLICITATION and source == ndp.NOBODY and (links or target != ndp.group_of(target)))
    )
    if wrong:
        return None
    return ndp.Neighbour(kind, source, target, IPv6Address(message.wanted), links[0] if links else None, flags)
