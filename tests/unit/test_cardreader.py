"""The two byte streams of a network card reader: what is read from them, and what Locum says."""

from __future__ import annotations

import pytest

from protocols.cardreader import (
    LONGEST,
    Answer,
    CardRead,
    FromReader,
    Noise,
    ReaderDecoder,
    ServerDecoder,
    VersionSaid,
    beeps,
    granted,
    ready,
    refused,
)


def events(decoder: ReaderDecoder, data: bytes, size: int = 1 << 20) -> list[FromReader]:
    found: list[FromReader] = []
    for at in range(0, len(data), size):
        decoder.receive_data(data[at : at + size])
        while (event := decoder.next_event()) is not None:
            found.append(event)
    return found


def answers(data: bytes, size: int = 1 << 20) -> list[Answer]:
    decoder, found = ServerDecoder(), []
    for at in range(0, len(data), size):
        decoder.receive_data(data[at : at + size])
        while (answer := decoder.next_event()) is not None:
            found.append(answer)
    decoder.pause()
    while (answer := decoder.next_event()) is not None:
        found.append(answer)
    return found


SAID: list[tuple[bytes, list[FromReader]]] = [
    (b"04A1C3F2\n", [CardRead("04A1C3F2")]),
    (b"04A1C3F2\r\n", [CardRead("04A1C3F2")]),
    (b"  0012 \n", [CardRead("0012")]),
    (b"12\n34\n", [CardRead("12"), CardRead("34")]),
    (b";1234=5678?\n", [CardRead(";1234=5678?")]),
    (b"Firmware 1.2\r12\n", [VersionSaid(), CardRead("12")]),
    (b"\r\nRF IDeas>12\n", [CardRead("12")]),
    (b"\r\nrf ideas>\r\nRF IDEAS>12\r\nRF IDeas>", [CardRead("12")]),
    (b"{0x0001,1;OK}\r\n", [Noise("no-card")]),
    (b"two words\n", [Noise("no-card")]),
    (b"\xff\x00\n", [Noise("no-card")]),
    (b"\r\n\r\n\n\n", []),
    (b"1" * 256 + b"\n", [Noise("no-card")]),
    (b"1" * 255 + b"\n", [CardRead("1" * 255)]),
    (b"1" * 257 + b"\n2\n", [Noise("too-long"), CardRead("2")]),
    (b"x" * 100_000, [Noise("too-long")]),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize(("data", "wanted"), SAID)
def test_what_a_reader_says_however_it_is_cut(data: bytes, wanted: list[FromReader], size: int) -> None:
    assert events(ReaderDecoder(), data, size) == wanted


def test_the_prompt_of_rf_ideas_is_known_before_and_after_its_end() -> None:
    decoder = ReaderDecoder()
    assert not decoder.is_rfideas
    events(decoder, b"\r\nRF ID")
    assert not decoder.is_rfideas
    events(decoder, b"eas>")
    assert decoder.is_rfideas
    assert decoder.between
    events(decoder, b"12\n")
    assert decoder.is_rfideas


def test_between_two_lines_and_within_one() -> None:
    decoder = ReaderDecoder()
    assert decoder.between
    for data in (b"1", b"2", b"\r"):
        events(decoder, data)
        assert not decoder.between
    events(decoder, b"\n")
    assert decoder.between
    events(decoder, b"x" * 1000)
    assert not decoder.between


def test_no_more_is_held_than_a_line() -> None:
    decoder = ReaderDecoder()
    for _ in range(100):
        events(decoder, b"9" * 65536)
        assert len(decoder._lines.rest) <= LONGEST


def test_a_card_does_not_show_its_number_when_printed() -> None:
    assert "04A1" not in repr(CardRead("04A1C3F2"))


SERVER: list[tuple[bytes, list[Answer]]] = [
    (b"\r", []),
    (b"b", [Answer.BEEP]),
    (b"b\r\n", [Answer.BEEP]),
    (b"b\nb\n", [Answer.BEEP, Answer.BEEP]),
    (b"Welcome b  \n", [Answer.BEEP]),
    (b"b and then e", [Answer.ERROR]),
    (b"v", []),
    (b"rfid:beep.now=2\r", [Answer.BEEP]),
    (b"rfid:beep.now=0\r", []),
    (b"RFID:Out.Led=1\nrfid:out.led=2\rrfid:out.led=3\r", [Answer.RED, Answer.GREEN]),
    (b"brfid:out.led=2\r", [Answer.BEEP, Answer.GREEN]),
    (b"rfid:cmd.echo=false\r", []),
    (b"rfid:out.led=99999\r", []),
    (b"b" * 10_000, []),
    (b"b" * 10_000 + b"\ne\n", [Answer.ERROR]),
]


@pytest.mark.parametrize("size", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize(("data", "wanted"), SERVER)
def test_what_a_server_says_however_it_is_cut(data: bytes, wanted: list[Answer], size: int) -> None:
    assert answers(data, size) == wanted


def test_a_command_of_rf_ideas_is_waited_for() -> None:
    decoder = ServerDecoder()
    decoder.receive_data(b"rfid:beep.no")
    assert decoder.next_event() is None
    decoder.pause()
    decoder.receive_data(b"w=1\r")
    assert decoder.next_event() is Answer.BEEP
    assert decoder.is_rfideas


@pytest.mark.parametrize("rfideas", [False, True])
def test_what_locum_says_reads_as_what_it_means(rfideas: bool) -> None:
    assert not any(answer.refuses for answer in answers(granted(rfideas=rfideas)))
    assert answers(granted(rfideas=rfideas)).count(Answer.BEEP) == (1 if rfideas else 2)
    assert answers(refused(rfideas=rfideas))[0].refuses
    assert answers(ready(rfideas=rfideas)) == []
    assert len(answers(beeps(3, rfideas=rfideas))) == (1 if rfideas else 3)
