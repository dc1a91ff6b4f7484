"""Any bytes in any frame, any segments in any order, any file: told or counted, never an error."""

from __future__ import annotations

import contextlib
import json
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import OfflineConfig
from appliance.seeing import words
from appliance.seeing.conversations import Conversations
from appliance.seeing.files import CannotRead, frames
from appliance.seeing.naming import by_mdns, by_snmp
from appliance.seeing.proposing import configuration
from appliance.seeing.radius import card_rule
from appliance.seeing.sightings import Sightings
from protocols.capture import frames as reading
from protocols.capture.fragments import Fragments
from protocols.capture.frames import ETHERNET, FIN, SYN, Fragment, Packet, Segment
from protocols.capture.streams import Data, Streams
from protocols.errors import ProtocolError
from tests.peers.captures import Tape
from tests.unit.seeing_tape import SECRET, office

OFFICE = [bytes(packet) for packet in office(Tape()).packets]
LINKS = st.sampled_from([0, 1, 12, 101, 113, 228, 276, 9_999])
UTC = ZoneInfo("UTC")


def everything(told: list[tuple[int, int, bytes]]) -> None:
    """Decode, print, sight and propose."""
    sightings = Sightings()
    conversations = Conversations(
        lambda device, server: (SECRET,), card_rule(OfflineConfig().card_pattern), passed=sightings.packet
    )
    said = [each for at, link, data in told for each in conversations.frame(at, link, data)]
    said += conversations.close(0)
    for each in said:
        sightings.said(each)
        line = words.line(each, UTC, True)
        assert line.isprintable()
        json.dumps(words.as_json(each, True))
    configuration(sightings, "from a test", ())
    assert conversations.counts.frames == len(told)


@given(st.lists(st.tuples(st.integers(0, 1 << 60), LINKS, st.binary(max_size=200)), max_size=20))
def test_any_frames(told: list[tuple[int, int, bytes]]) -> None:
    everything(told)


@settings(deadline=None)
@given(st.integers(), st.integers(1, 12), st.booleans())
def test_an_office_with_octets_changed_frames_dropped_doubled_and_cut(seed: int, much: int, mix: bool) -> None:
    random = Random(seed)
    told = [bytearray(frame) for frame in OFFICE]
    for _ in range(much):
        victim = random.choice(told)
        what = random.randrange(4)
        if what == 0 and victim:
            victim[random.randrange(len(victim))] = random.randrange(256)
        elif what == 1:
            del victim[random.randrange(len(victim) + 1) :]
        elif what == 2:
            told.insert(random.randrange(len(told)), bytearray(victim))
        else:
            told.remove(victim)
    if mix:
        random.shuffle(told)
    everything([(1_795_000_000_000 + at, ETHERNET, bytes(frame)) for at, frame in enumerate(told)])


@given(st.binary(max_size=4_000), st.integers(), st.data())
def test_any_segments_in_any_order_make_the_stream_or_say_what_is_lost(
    text: bytes, seed: int, data: st.DataObject
) -> None:
    random = Random(seed)
    began = random.randrange(1 << 32)
    pieces = []
    at = 0
    while at < len(text):
        size = random.randrange(1, 300)
        start = max(0, at - random.randrange(3) * random.randrange(50))
        pieces.append((start, text[start : at + size]))
        at += size
    cuts = [Segment(9, 80, (began + 1 + start) % (1 << 32), 0x10, part) for start, part in pieces]
    drop = (
        set(data.draw(st.sets(st.integers(0, max(0, len(cuts) - 1)), max_size=2)))
        if data.draw(st.booleans())
        else set()
    )
    sent = [each for number, each in enumerate(cuts) if number not in drop]
    sent += [random.choice(sent) for _ in range(3) if sent]
    random.shuffle(sent)
    streams = Streams()
    events = streams.add("a", "b", Segment(9, 80, began, SYN, b""))
    for each in sent:
        events += streams.add("a", "b", each)
    events += streams.add("a", "b", Segment(9, 80, (began + 1 + len(text)) % (1 << 32), FIN, b""))
    events += streams.close()
    got = b"".join(event.data for event in events if isinstance(event, Data))
    if not drop:
        assert got == text
    assert len(got) <= len(text)
    assert streams._held == 0


@given(st.binary(min_size=9, max_size=3_000), st.integers(), st.integers(1, 60))
def test_fragments_in_any_order_make_the_datagram(payload: bytes, seed: int, units: int) -> None:
    size = units * 8
    pieces = [
        Packet("a", "b", 17, payload[at : at + size], fragment=Fragment(5, at, at + size < len(payload)))
        for at in range(0, len(payload), size)
    ]
    pieces += pieces[:2]
    Random(seed).shuffle(pieces)
    fragments = Fragments()
    whole = [found for each in pieces if (found := fragments.add(each, 0)) is not None]
    assert whole
    assert whole[0].payload == payload


@given(st.binary(max_size=80))
def test_any_packet_is_read_or_malformed(data: bytes) -> None:
    for link in (1, 101, 113, 276):
        with contextlib.suppress(ProtocolError):
            packet = reading.read(link, data)
            if packet is not None:
                reading.datagram(packet)
                reading.segment(packet)


MAGICS = (
    b"\xd4\xc3\xb2\xa1\2\0\4\0",
    b"\xa1\xb2\x3c\x4d",
    b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\1\0\0\0",
    b"\x1f\x8b",
    b"",
)


@settings(deadline=None)
@given(st.sampled_from(MAGICS), st.binary(max_size=400))
def test_any_file_is_read_or_refused(magic: bytes, rest: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file, contextlib.suppress(CannotRead):
        file.write(magic + rest)
        file.flush()
        everything([(each.at, each.link, each.data) for each in frames(Path(file.name))])


@cache
def office_file(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return office(Tape()).write(Path(folder) / name, pcapng=name.endswith("ng")).read_bytes()


@settings(deadline=None)
@given(st.sampled_from(["x.pcap", "x.pcapng"]), st.integers(), st.integers(1, 30))
def test_a_capture_with_octets_changed_is_read_as_far_as_it_goes(name: str, seed: int, much: int) -> None:
    random = Random(seed)
    octets = bytearray(office_file(name))
    for _ in range(much):
        octets[random.randrange(len(octets))] = random.randrange(256)
    with tempfile.NamedTemporaryFile() as file, contextlib.suppress(CannotRead):
        file.write(octets)
        file.flush()
        everything([(each.at, each.link, each.data) for each in frames(Path(file.name))])


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_name_is_read_or_none(data: bytes) -> None:
    for read in (by_snmp, by_mdns):
        assert read(data).isprintable()
        assert read(b"\x30\x82" + data).isprintable()
        assert read(b"\0\0\x84\0\0\0\0\1\0\0\0\0" + data).isprintable()
