"""A card reader while its server is there: bytes pass unchanged both ways, and what passes is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.link import State
from tests.flows.pairs import CARD
from tests.flows.reader_house import DESK, DEVICE, OTHER, READER, REFUSED, ReaderHouse

BOTH = pytest.mark.parametrize("connects", [False, True], ids=["server connects", "reader connects"])


def batched(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def joined(folder: Path, **how: object) -> ReaderHouse:
    house = ReaderHouse(folder, **how)  # type: ignore[arg-type]
    house.join()
    assert house.state is State.ONLINE
    return house


@BOTH
def test_bytes_pass_unchanged_both_ways(tmp_path: Path, connects: bool) -> None:
    house = joined(tmp_path, connects=connects, attentive=False)
    said = bytes(range(256)) * 3 + b"\r\nRF IDeas>0042\n"
    for piece in batched(said, 7):
        house.read(piece)
        house.desk_says(piece)
    assert house.desk.take() == said
    assert house.card_reader.take() == said


@BOTH
def test_a_card_and_the_servers_answer_are_written_down_and_teach(tmp_path: Path, connects: bool) -> None:
    house = joined(tmp_path, connects=connects)
    assert house.swipe_card() == b"b"
    assert house.desk.take() == CARD.encode() + b"\n"
    assert house.swipe_card("99999999") == b"e"
    assert house.outcomes() == [("granted", "server", "online", CARD), ("refused", "server", "online", "99999999")]
    assert house.site.facts(CARD).last_word_granted  # type: ignore[union-attr]
    session = house.site.sessions.on(DEVICE)
    assert session is not None
    assert (session.card, session.mode.value) == (CARD, "online")


def test_a_refusal_during_a_session_teaches_nothing_for_the_copier_may_be_in_use(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.swipe_card()
    house.welcome.discard(OTHER)
    house.swipe_card(OTHER)
    assert house.site.facts(OTHER) is None
    session = house.site.sessions.on(DEVICE)
    assert session is not None
    assert session.card == CARD


def test_the_same_card_again_ends_the_session_and_another_card_begins_its_own(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.swipe_card()
    house.swipe_card()
    assert house.logouts() == ["logout"]
    assert house.site.sessions.on(DEVICE) is None
    house.swipe_card()
    house.swipe_card(OTHER)
    assert house.logouts() == ["logout", "next-login"]
    assert [outcome[3] for outcome in house.outcomes()] == [CARD, CARD, OTHER]


def test_a_session_ends_when_nothing_moves_for_session_idle(tmp_path: Path) -> None:
    house = joined(tmp_path, reader_keys={"session_idle": 20.0})
    house.swipe_card()
    house.pass_time(19)
    assert house.site.sessions.on(DEVICE) is not None
    house.pass_time(2)
    assert house.logouts() == ["silence"]


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (b"b", "granted"),
        (b"b\r\nb\r\n", "granted"),
        (b"ready b \r", "granted"),
        (b"RFID:OUT.LED=2\rrfid:beep.now=2\r", "granted"),
        (b"rfid:beep.now=2\r", "granted"),
        (b"e", "refused"),
        (b"b\ne\n", "refused"),
        (b"rfid:beep.now=1\rrfid:out.led=1\r", "refused"),
        (b"rfid:out.led=3\rv\r", "unanswered"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_servers_answer_is_read_however_it_is_cut(tmp_path: Path, said: bytes, outcome: str, size: int) -> None:
    house = joined(tmp_path, attentive=False)
    house.read(b"00" + CARD.encode() + b"\n")
    for piece in batched(said, size):
        house.desk_says(piece)
    house.pass_time(2)
    assert house.outcomes() == [(outcome, "nobody" if outcome == "unanswered" else "server", "online", f"00{CARD}")]


def test_a_server_that_is_silent_after_a_card_is_looked_for_at_once(tmp_path: Path) -> None:
    """A probe at half-time; the card is written down as unanswered, and nothing is put between the server's bytes."""
    house = joined(tmp_path, attentive=False)
    before = house.wire.server.count("getTotalUsers")  # type: ignore[union-attr]
    assert house.swipe_card(wait=2.0) == b""
    assert house.outcomes() == [("unanswered", "nobody", "online", CARD)]
    assert house.wire.server.count("getTotalUsers") == before + 1  # type: ignore[union-attr]
    assert house.state is State.ONLINE


def test_a_late_answer_while_online_begins_the_session_that_the_server_began(tmp_path: Path) -> None:
    house = joined(tmp_path, attentive=False)
    house.swipe_card(wait=2.0)
    house.desk_says(b"b")
    house.pass_time(1)
    assert house.rows("SELECT outcome, late FROM logins ORDER BY seq") == [("unanswered", 0), ("granted", 1)]
    assert house.site.sessions.on(DEVICE) is not None


def test_the_server_sees_that_the_reader_is_gone(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.cut(house.card_reader, down=True)
    house.pass_time(1)
    assert house.desk.closed == 1
    assert DEVICE in house.words()
    house.card_reader.up = True
    house.pass_time(31)
    assert "is there" in house.words()
    house.accept(house.desk, DESK)
    assert house.swipe_card() == b"b"


def test_a_server_whose_reader_cannot_be_reached_is_hung_up_on(tmp_path: Path) -> None:
    house = ReaderHouse(tmp_path)
    house.cut(house.card_reader, down=True)
    house.accept(house.desk, DESK)
    house.pass_time(0.5)
    assert house.desk.closed == 1


def test_a_reader_that_connects_gets_its_server_and_loses_it_with_its_own_connection(tmp_path: Path) -> None:
    house = joined(tmp_path, connects=True)
    house.cut(house.card_reader)
    assert house.desk.closed == 1
    house.accept(house.card_reader, READER)
    house.pass_time(0.1)
    assert house.swipe_card() == b"b"


def test_what_a_reader_says_before_its_server_is_connected_is_passed_on(tmp_path: Path) -> None:
    house = ReaderHouse(tmp_path, connects=True, attentive=False)
    house.desk.up = False
    house.accept(house.card_reader, READER)
    house.read(b"0042\n")
    house.desk.up = True
    house.pass_time(0.6)
    assert house.desk.take() == b"0042\n"


def test_a_server_that_connects_in_the_middle_of_a_card_gets_the_whole_card(tmp_path: Path) -> None:
    house = ReaderHouse(tmp_path)
    house.read(CARD[:4].encode())
    house.pass_time(1)
    house.accept(house.desk, DESK)
    house.pass_time(1)
    house.read(CARD[4:].encode())
    house.read(b"\n" + OTHER.encode())
    assert house.desk.take() == CARD.encode() + b"\n"
    house.read(b"\nRF IDeas>77")
    assert house.desk.take() == OTHER.encode() + b"\n"
    house.read(b"\r\n")
    house.read(b"passed\r")
    assert house.desk.take() == b"77\npassed\r"


def test_a_card_of_a_while_ago_lets_nobody_in_when_the_server_comes(tmp_path: Path) -> None:
    """With no server on the line the person hears the error, and the server is never shown that card."""
    house = ReaderHouse(tmp_path, attentive=False)
    assert house.swipe_card(wait=3) == REFUSED
    house.accept(house.desk, DESK)
    house.pass_time(1)
    assert house.desk.take() == b""


def test_the_newest_connection_of_a_server_counts(tmp_path: Path) -> None:
    """The one before may be half open."""
    house = joined(tmp_path)
    old = house.desk.channel
    house.accept(house.desk, DESK)
    assert house.desk.channel != old
    assert house.swipe_card() == b"b"


def test_strangers_are_turned_away(tmp_path: Path) -> None:
    house = joined(tmp_path, reader_keys={"server": DESK})
    standing = house.desk.channel
    house.accept(house.desk, "10.7.0.66")
    assert house.desk.channel is None
    house.desk.channel = standing
    assert house.swipe_card() == b"b"
    assert house.tally.counts["reader-stranger"] == 1


def test_garbage_is_passed_on_counted_and_said_once(tmp_path: Path) -> None:
    house = joined(tmp_path, attentive=False)
    said = b"x" * 1_000_000
    for at in range(0, len(said), 65536):
        house.read(said[at : at + 65536])
    for _ in range(20):
        house.read(b"\n{no, card}\n")
    assert len(house.desk.take()) == len(said) + 20 * 12
    assert house.tally.counts == {"reader-too-long": 1, "reader-no-card": 20}
    assert len([tell for tell in house.told if "is no card" in tell.text]) == 2
    assert house.outcomes() == []


def test_card_numbers_are_in_no_line(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.swipe_card()
    house.swipe_card("99999999")
    house.attentive = False
    house.swipe_card(OTHER, wait=2)
    assert not house.in_lines(CARD)
    assert not house.in_lines("99999999")
    assert not house.in_lines(OTHER)
    assert CARD not in repr(house.listener._online._waiting)
