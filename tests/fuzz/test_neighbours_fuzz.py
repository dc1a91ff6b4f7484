"""Any frames on either side: only the declared errors, never a bug, and never a frame where the rules allow none."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.errors import Malformed
from protocols.neighbours import arp, definition, ethernet, ndp
from proxy.commands import SendFrame, Side
from proxy.events import FrameReceived, Moment, Ticked
from proxy.link import Clock, Link, Signal
from proxy.neighbours import Guarded, Neighbours
from tests.fuzz.neighbour_inputs import damaged

SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
STATIONS = [bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 9)]
V4 = [arp.IPv4Address(f"10.9.0.{number}") for number in (1, 2, 99)] + [arp.NOBODY]
V6 = [ndp.IPv6Address(text) for text in ("fd00:9::1", "fd00:9::2", "fe80::1", "fd00:a::1")]
CLIENTS = (ip_network("10.9.0.0/26"), ip_network("fd00:9::/64"))
SERVERS = ("10.9.0.2", "fd00:9::2")

stations, v4, v6 = st.sampled_from(STATIONS), st.sampled_from(V4), st.sampled_from(V6)
tags = st.sampled_from([None, None, 10])
messages = st.one_of(
    st.builds(arp.reply, stations, v4, stations, v4, tags),
    st.builds(arp.probe, stations, v4, tags),
    st.builds(
        lambda mac, sender, wanted, tag: ethernet.build(
            ethernet.Frame(
                ethernet.BROADCAST,
                mac,
                ethernet.ARP,
                arp.build(arp.Arp(arp.REQUEST, mac, sender, ethernet.NO_MAC, wanted)),
                tag,
            )
        ),
        stations,
        v4,
        v4,
        tags,
    ),
    st.builds(ndp.solicitation, stations, v6, v6, tags),
    st.builds(ndp.advertisement, stations, v6, stations, v6, tags),
    st.builds(lambda mac, data: ethernet.build(ethernet.Frame(STATIONS[0], mac, 0x0800, data)), stations, st.binary()),
)
any_frames = st.one_of(messages, messages, messages.flatmap(damaged), st.binary(max_size=100))
steps = st.one_of(
    st.tuples(st.sampled_from(Side), any_frames),
    st.sampled_from([0.05, 0.4, 3.0, 30.0]),
    st.sampled_from([Signal.CONTACT_FAILED, Signal.DELAY_PASSED, Signal.CONTACT_STEADY, Signal.NOTHING_WAITS]),
)

ASK4 = (Side.COPIERS, ethernet.build(ethernet.Frame(ethernet.BROADCAST, STATIONS[0], ethernet.ARP, arp.build(
    arp.Arp(arp.REQUEST, STATIONS[0], V4[0], ethernet.NO_MAC, V4[1])
))))  # fmt: skip
ASK6 = (Side.COPIERS, ndp.solicitation(STATIONS[0], V6[0], V6[1], None))
KNOWN = [
    (Side.SERVERS, arp.reply(STATIONS[1], V4[1], STATIONS[0], V4[0], None)),
    (Side.SERVERS, ndp.advertisement(STATIONS[1], V6[1], STATIONS[0], V6[0], None)),
    ASK4,
    ASK6,
]
GONE = [*KNOWN, Signal.CONTACT_FAILED, 3.0, ASK4, ASK6, 0.4]
histories = st.builds(
    lambda begin, rest: [*begin, *rest],
    st.sampled_from([[], KNOWN, GONE]),
    st.lists(st.one_of(steps, steps, st.sampled_from([ASK4, ASK6])), max_size=25),
)


def only_ours(function: Callable[[], Any]) -> Any:
    """The result, or None for the one error; any other exception fails the test."""
    try:
        return function()
    except Malformed as error:
        reason = error.reason
    assert re.fullmatch("[a-z0-9-]+", reason)
    return None


@SETTINGS
@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    only_ours(lambda: ethernet.parse(data))
    only_ours(lambda: arp.parse(data))
    only_ours(lambda: ndp.parse(data))
    assert ndp.is_neighbour(data) in (True, False)
    for declared in (definition.FRAME, definition.ARP, definition.NEIGHBOUR):
        only_ours(lambda declared=declared: definition.read(declared, data))


@SETTINGS
@given(messages.flatmap(damaged))
def test_what_was_read_is_built_again_as_it_came(data: bytes) -> None:
    frame = only_ours(lambda: ethernet.parse(data))
    if frame is not None and (frame.tag is not None or frame.kind != ethernet.TAGGED):
        assert ethernet.build(frame) == data
        message = only_ours(lambda: arp.parse(frame.payload))
        assert message is None or arp.build(message) == frame.payload[: arp.SIZE]


@SETTINGS
@given(histories)
def test_no_frames_make_the_flow_send_what_it_may_not(history: list[Any]) -> None:
    """Only clients of the server are told, only while the upstream is away, after the probes; always its own MAC."""
    now, wall = 100.0, 1_795_000_000_000
    link = Link("hq", 2.0, Clock("boot", 0), proven=True, began=Moment(now, wall, bytes(32)))
    memory: dict[str, str] = {}
    flow = Neighbours(memory.get)
    flow.configure([Guarded(link, address, CLIENTS) for address in SERVERS])
    probed: set[int] = set()
    for step in history:
        moment = Moment(now, wall + int(now * 1000), bytes(32))
        commands = []
        if isinstance(step, Signal):
            link.handle(step, "x", moment)
        elif isinstance(step, tuple):
            commands = flow.handle(FrameReceived(*step, moment))
            assert not any(isinstance(command, SendFrame) for command in commands), "a frame was answered at once"
        else:
            until = now + step
            while now < until:
                now += 0.25
                commands += flow.handle(Ticked(Moment(now, wall, bytes(32))))
        for command in commands:
            if not isinstance(command, SendFrame):
                continue
            assert not link.state.relays
            frame = ethernet.parse(command.data)
            version = 4 if frame.kind == ethernet.ARP else 6
            if command.side is Side.SERVERS:
                probed.add(version)
                continue
            assert version in probed
            known = {str(each.address): each.mac for each in flow.presences()}
            if version == 4:
                reply = arp.parse(frame.payload)
                assert reply.target in CLIENTS[0]
                assert (str(reply.sender), reply.sender_mac) in known.items()
            else:
                message = ndp.parse(frame.payload)
                assert message.target in CLIENTS[1] or message.target.is_link_local
                assert (str(message.wanted), message.mac) in known.items()
        if link.state.relays and isinstance(step, float):
            probed.clear()
