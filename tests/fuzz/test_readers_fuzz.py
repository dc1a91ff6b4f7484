"""Any bytes from a reader and its server, in any pieces: the same events, no exception, nothing lost on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.cardreader import LONGEST, Answer, CardRead, FromReader, ReaderDecoder, ServerDecoder
from proxy.link import State
from tests.flows.reader_house import DEVICE, ReaderHouse

LIKELY = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"RF IDeas>", b"b", b"e", b"v", b"rfid:", b"rfid:beep.now=1", b"out.led=1\r", b"0012",
     b"04A1C3F2\n", b"x" * 300, b"{", b" "]
)  # fmt: skip
STREAM = st.lists(st.one_of(LIKELY, st.binary(max_size=20)), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(1, 40), max_size=40)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    found = []
    for cut in cuts:
        found.append(data[:cut])
        data = data[cut:]
    return [*found, data]


def read(parts: Sequence[bytes]) -> tuple[list[FromReader], bool, bool]:
    decoder, found = ReaderDecoder(), []
    for part in parts:
        decoder.receive_data(part)
        while (event := decoder.next_event()) is not None:
            found.append(event)
        assert len(decoder._lines.rest) <= LONGEST
    return found, decoder.between, decoder.is_rfideas


def answered(parts: Sequence[bytes]) -> list[Answer]:
    decoder, found = ServerDecoder(), []
    for part in parts:
        decoder.receive_data(part)
        while (event := decoder.next_event()) is not None:
            found.append(event)
    return found


@given(STREAM, CUTS)
def test_a_reader_is_read_the_same_whatever_the_pieces(data: bytes, cuts: list[int]) -> None:
    whole = read([data])
    assert read(pieces(data, cuts)) == whole
    assert read([bytes([each]) for each in data]) == whole
    assert all(event.text.isascii() for event in whole[0] if isinstance(event, CardRead))


@given(STREAM, CUTS)
def test_a_server_is_read_the_same_whatever_the_pieces(data: bytes, cuts: list[int]) -> None:
    whole = answered([data])
    assert answered(pieces(data, cuts)) == whole
    assert answered([bytes([each]) for each in data]) == whole


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), STREAM),
        st.tuples(st.just("says"), STREAM),
        st.tuples(st.just("card"), st.sampled_from(["0A1B2C3D", "51000051", "0BADC0DE", "0012", "x-1"])),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 5.0, 61.0])),
        st.tuples(st.just("server"), st.booleans()),
        st.tuples(st.just("cut"), st.sampled_from(["reader", "desk"])),
        st.tuples(st.just("join"), st.sampled_from(["reader", "desk"])),
        st.tuples(st.just("drill"), st.booleans()),
        st.tuples(st.just("restart"), st.just(True)),
        st.tuples(st.just("disk"), st.booleans()),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.booleans(), st.booleans())
def test_whatever_happens_a_reader_ends_up_served(
    steps: list[tuple[str, object]], connects: bool, school: bool
) -> None:
    """Any bytes, cuts, outages, drills, restarts and full disks: no exception; afterwards the server is shown cards as
    they are swiped, online bytes pass unchanged, and no session that began is open twice.
    """
    policy = {"environment": "education"} if school else {}
    with tempfile.TemporaryDirectory() as folder:
        house = ReaderHouse(Path(folder), connects=connects, policy=policy)
        house.site.unlocking.card_hash = "hash of 0BADC0DE"
        for what, given_ in steps:
            step(house, what, given_)
        settle(house)
        house.read(b"\n")
        house.pass_time(1)
        house.desk.take()
        house.attentive = False
        said = b"\n0A1B2C3D\n\xff\x00 any thing\r"
        house.read(said)
        assert house.desk.take() == said
        house.desk_says(said)
        assert house.card_reader.take().endswith(said)
        opened = house.count("SELECT count(*) FROM logins WHERE session != ''")
        marks = house.count("SELECT count(DISTINCT session) FROM logins WHERE session != ''")
        assert opened == marks
        assert house.site.sessions.count(DEVICE) <= 1
        house.close()


def step(house: ReaderHouse, what: str, value: object) -> None:
    peers = {"reader": house.card_reader, "desk": house.desk}
    match what, value:
        case "read", bytes() as data:
            if house.card_reader.channel is not None:
                house.read(data)
        case "says", bytes() as data:
            house.desk_says(data)
        case "card", str() as card:
            if house.card_reader.channel is not None:
                house.read(card.encode() + b"\n")
        case "wait", float() as seconds:
            house.pass_time(seconds)
        case "server", bool() as up:
            house.set_server(up)
        case "cut", str() as name:
            house.cut(peers[name])
        case "join", str() as name:
            if (name == "reader") == house.connects:
                house.accept(peers[name], "10.7.0.90")
        case "drill", bool() as on:
            drill(house, on)
        case "restart", _:
            house.restart(1.0)
        case "disk", bool() as full:
            house.disk_full = full


def drill(house: ReaderHouse, on: bool) -> None:
    moment = house.moment()
    if on:
        house.run(house.site.drills.start("*", 60, "fuzz", "test", moment))
    elif house.site.drills.any:
        house.run(house.site.drills.stop("*", "by hand", "test", moment))


def settle(house: ReaderHouse) -> None:
    """All is well again, for long enough."""
    house.disk_full = False
    drill(house, False)
    house.card_reader.up = True
    house.set_server(True)
    house.until(State.ONLINE)
    house.pass_time(65)
    if house.connects:
        house.accept(house.card_reader, "10.7.0.90")
    else:
        house.accept(house.desk, "192.0.2.1")
    house.pass_time(35)
