"""The filter for frames, tried in the kernel, and packet sockets: what cannot be had is said in words.

A filter works on any socket: here on a pair that carries one frame a datagram, which takes no privilege.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.neighbours import arp, ethernet, ndp
from proxy.net.packets import FramePort, Instruction, _tagged, attach, program
from tests.fuzz.neighbour_inputs import arps, frames, macs, solicitations
from tests.peers.skips import need_root

COPIER, SERVER, OTHER = (bytes((2, 0, 0, 0, 0, number)) for number in (1, 2, 9))
C4, S4 = arp.IPv4Address("10.9.0.1"), arp.IPv4Address("10.9.0.2")
C6, S6 = ndp.IPv6Address("fd00:9::1"), ndp.IPv6Address("fd00:9::2")
BOTH = frozenset({S4.packed, S6.packed})


class Filtered:
    """A socket pair with a filter at its end."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.far.setblocking(False)

    def passes(self, instructions: list[Instruction], frame: bytes) -> bool:
        attach(self.far, instructions)
        self.near.send(frame)
        try:
            return self.far.recv(2000) == frame
        except BlockingIOError:
            return False


@pytest.fixture(scope="module")
def kernel() -> Iterator[Filtered]:
    made = Filtered()
    yield made
    made.near.close()
    made.far.close()


def ip_frame(source: bytes) -> bytes:
    return ethernet.build(ethernet.Frame(COPIER, source, 0x0800, bytes(28) + S4.packed + bytes(20)))


def test_arp_about_or_from_a_watched_address_passes(kernel: Filtered) -> None:
    wanted = program(BOTH, ())
    assert kernel.passes(wanted, arp.probe(COPIER, S4, None))
    assert kernel.passes(wanted, arp.reply(SERVER, S4, COPIER, C4, None))
    assert not kernel.passes(wanted, arp.probe(COPIER, C4, None))
    assert not kernel.passes(wanted, arp.reply(COPIER, C4, OTHER, C4, None))


def test_neighbour_discovery_about_or_from_a_watched_address_passes(kernel: Filtered) -> None:
    wanted = program(BOTH, ())
    assert kernel.passes(wanted, ndp.solicitation(COPIER, C6, S6, None))
    assert kernel.passes(wanted, ndp.solicitation(SERVER, S6, C6, None))
    assert kernel.passes(wanted, ndp.advertisement(SERVER, S6, COPIER, C6, None))
    assert not kernel.passes(wanted, ndp.solicitation(COPIER, C6, C6, None))
    assert not kernel.passes(wanted, ndp.advertisement(COPIER, C6, SERVER, S6, None))


def test_other_traffic_passes_from_watched_stations_only(kernel: Filtered) -> None:
    assert not kernel.passes(program(BOTH, ()), ip_frame(SERVER))
    wanted = program(BOTH, (SERVER, bytes.fromhex("0a0b0c0d0e0f")))
    assert kernel.passes(wanted, ip_frame(SERVER))
    assert kernel.passes(wanted, ip_frame(bytes.fromhex("0a0b0c0d0e0f")))
    assert not kernel.passes(wanted, ip_frame(OTHER))


def test_arp_and_neighbour_discovery_from_or_to_a_partner_pass(kernel: Filtered) -> None:
    wanted = program((), (), partners=(SERVER,))
    assert kernel.passes(wanted, arp.question(SERVER, S4, C4, None))
    assert kernel.passes(wanted, arp.reply(COPIER, C4, SERVER, S4, None))
    assert kernel.passes(wanted, ndp.solicitation(SERVER, S6, C6, None))
    assert kernel.passes(wanted, ndp.advertisement(COPIER, C6, SERVER, S6, None))
    assert not kernel.passes(wanted, arp.reply(COPIER, C4, OTHER, S4, None))
    assert not kernel.passes(wanted, ndp.advertisement(COPIER, C6, OTHER, S6, None))
    assert not kernel.passes(wanted, ip_frame(SERVER))


def test_nothing_watched_lets_nothing_pass(kernel: Filtered) -> None:
    for frame in (arp.probe(COPIER, S4, None), ndp.solicitation(COPIER, C6, S6, None), ip_frame(SERVER)):
        assert not kernel.passes(program((), ()), frame)


def test_many_addresses_and_stations_fit_into_a_filter(kernel: Filtered) -> None:
    addresses = [ip_address(f"fd00:9::{number:x}").packed for number in range(2, 34)]
    stations = [bytes((2, 0, 0, 0, 1, number)) for number in range(64)]
    wanted = program([*addresses, S4.packed], stations)
    assert kernel.passes(wanted, ndp.solicitation(COPIER, C6, ndp.IPv6Address("fd00:9::21"), None))
    assert kernel.passes(wanted, ip_frame(stations[-1]))
    assert not kernel.passes(wanted, ndp.solicitation(COPIER, C6, ndp.IPv6Address("fd00:9::22"), None))


any_frames = st.one_of(
    frames.map(ethernet.build),
    st.builds(lambda message: ethernet.build(ethernet.Frame(COPIER, OTHER, ethernet.ARP, arp.build(message))), arps),
    st.builds(
        lambda message: ethernet.build(ethernet.Frame(COPIER, OTHER, ethernet.IPV6, ndp.build(message))), solicitations
    ),
    st.binary(min_size=18, max_size=90),
)


@settings(max_examples=200, deadline=None)
@given(frame=any_frames, watched=st.frozensets(st.sampled_from([C4, S4, C6, S6]), max_size=3), mac=macs)
def test_the_filter_and_the_parsers_see_the_same(
    kernel: Filtered, frame: bytes, watched: frozenset[arp.IPv4Address | ndp.IPv6Address], mac: bytes
) -> None:
    """No frame that the filter drops would have been about a watched address."""
    about: set[object] = set()
    try:
        found = ethernet.parse(frame)
        if found.kind == ethernet.ARP and found.tag is None:
            message = arp.parse(found.payload)
            about = {message.sender, message.target}
        elif found.kind == ethernet.IPV6 and found.tag is None:
            neighbour = ndp.parse(found.payload)
            about = {neighbour.wanted, neighbour.source}
    except ndp.Malformed:
        pass
    watching = program({address.packed for address in watched}, {mac})
    if about & watched or frame[6:12] == mac:
        assert kernel.passes(watching, frame)


def test_the_tag_that_the_kernel_took_is_put_back() -> None:
    untagged, tagged = arp.probe(COPIER, S4, None), arp.probe(COPIER, S4, 0x600A)
    beside = [(263, 8, (1 << 4 | 1 << 6).to_bytes(4, "little") + bytes(12) + b"\x0a\x60\x00\x81")]
    assert _tagged(untagged, beside) == tagged
    assert _tagged(untagged, [(263, 8, bytes(20))]) == untagged
    assert _tagged(untagged, [(1, 2, b"")]) == untagged


class NoReactor:
    def addReader(self, reader: object) -> None:
        """Nothing is read here."""


def test_no_such_interface_is_said_in_words() -> None:
    need_root()
    with pytest.raises(OSError, match="there is no interface nowhere0; see 'ip link'") as refused:
        FramePort(NoReactor(), "nowhere0", lambda data: None)
    assert refused.value.errno == errno.ENODEV


def test_without_the_privilege_it_is_said_which_one() -> None:
    need_root()
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            FramePort(NoReactor(), "lo", lambda data: None)
        except PermissionError as error:
            os._exit(0 if "frames on lo" in str(error) and "CAP_NET_RAW" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
