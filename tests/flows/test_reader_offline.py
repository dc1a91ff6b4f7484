"""A card reader while its server is away: Locum decides, and hands the reader back between two swipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.link import State
from tests.flows.house import TICK
from tests.flows.pairs import CARD
from tests.flows.reader_house import ADMINS, DESK, DEVICE, GRANTED, OTHER, READER, REFUSED, ReaderHouse

BOTH = pytest.mark.parametrize("connects", [False, True], ids=["server connects", "reader connects"])
LOGGED_OUT = b"b\r\n\r\n"
ONE, THREE = b"b\r\n\r\n", b"b\r\nb\r\nb\r\n\r\n"
EDUCATION = {"environment": "education"}


def joined(folder: Path, **how: Any) -> ReaderHouse:
    house = ReaderHouse(folder, **how)
    house.join()
    house.site.unlocking.card_hash = f"hash of {ADMINS}"
    return house


def away(folder: Path, **how: Any) -> ReaderHouse:
    house = joined(folder, **how)
    house.go_offline()
    return house


@BOTH
def test_offline_a_card_is_let_in_with_two_beeps_and_written_down(tmp_path: Path, connects: bool) -> None:
    house = away(tmp_path, connects=connects)
    assert house.swipe_card() == GRANTED
    assert house.outcomes() == [("granted", "locum", "offline", CARD)]
    session = house.site.sessions.on(DEVICE)
    assert session is not None
    assert (session.card, session.mode.value) == (CARD, "offline")
    assert house.site.seen[DEVICE].dialect == "cardreader"


def test_leading_zeros_of_a_card_are_kept(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.swipe_card("0000123")
    house.swipe_card("123456")
    assert [outcome[3] for outcome in house.outcomes()] == ["0000123", "123456"]


def test_the_same_card_ends_its_session_another_card_takes_its_place(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.swipe_card()
    assert house.swipe_card() == LOGGED_OUT
    assert house.site.sessions.on(DEVICE) is None
    house.swipe_card()
    assert house.swipe_card(OTHER) == GRANTED
    assert house.logouts() == ["logout", "next-login"]


def test_a_refused_card_ends_the_session_of_the_one_before_too(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.swipe_card()
    assert house.swipe_card("x-1") == REFUSED, "no number that card_pattern fits"
    assert house.site.sessions.on(DEVICE) is None


def test_a_session_that_nothing_moves_in_ends_by_itself(tmp_path: Path) -> None:
    house = away(tmp_path, reader_keys={"session_idle": 20.0})
    house.swipe_card()
    house.pass_time(21)
    assert house.logouts() == ["silence"]


def test_readers_of_rf_ideas_are_spoken_to_in_their_own_words(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.read(b"\r\nRF IDeas>")
    assert house.swipe_card() == b"rfid:out.led=2\rrfid:beep.now=2\r"
    assert house.swipe_card("x-1") == b"rfid:out.led=1\rrfid:beep.now=1\r"


def test_a_reader_is_what_the_config_says(tmp_path: Path) -> None:
    house = away(tmp_path, reader_keys={"rfideas": True})
    assert house.swipe_card().startswith(b"rfid:")
    house.reload(reader_keys={"rfideas": False})
    house.swipe_card()
    assert house.swipe_card() == GRANTED


def test_grace_is_not_served(tmp_path: Path) -> None:
    """The error: nobody is let in yet, and nobody is let in later for it."""
    house = joined(tmp_path, delay=30.0)
    house.set_server(False)
    house.until(State.GRACE)
    assert house.swipe_card(wait=2) == REFUSED
    assert house.outcomes() == [("unanswered", "nobody", "online", CARD)]
    house.until(State.OFFLINE)
    house.pass_time(5)
    assert house.card_reader.take() == b"\r"


def test_grace_with_a_connection_that_is_half_open_is_the_error_too(tmp_path: Path) -> None:
    house = joined(tmp_path, delay=30.0, attentive=False)
    super(ReaderHouse, house).set_server(False)
    house.until(State.GRACE)
    assert house.swipe_card(wait=2) == REFUSED


@BOTH
def test_silence_after_a_card_and_then_the_delay(tmp_path: Path, connects: bool) -> None:
    """A server that just stops answering, its connection half open: the card finds out, and the next one is let in."""
    house = joined(tmp_path, connects=connects, attentive=False, delay=0.0)
    super(ReaderHouse, house).set_server(False)
    house.swipe_card(wait=2)
    house.until(State.OFFLINE)
    house.site.end(DEVICE, "logout", house.moment())
    assert house.swipe_card(OTHER) == GRANTED
    assert house.desk.take() == CARD.encode() + b"\n"


def test_a_card_in_flight_is_decided_when_offline_is_reached(tmp_path: Path) -> None:
    house = joined(tmp_path, timeout=3.0, delay=1.0, attentive=False)
    house.set_server(False)
    house.until(State.GRACE)
    house.pass_time(0.5)
    assert house.swipe_card(wait=2) == b"\r" + GRANTED
    assert house.outcomes() == [("granted", "locum", "offline", CARD)]


def test_a_late_answer_is_written_down_teaches_and_is_closed_again_at_the_server(tmp_path: Path) -> None:
    """The server's API is away, its connection to the reader is not: it answers after Locum has."""
    house = joined(tmp_path, timeout=3.0, delay=1.0, attentive=False)
    super(ReaderHouse, house).set_server(False)
    house.until(State.GRACE)
    house.pass_time(0.5)
    assert house.swipe_card(wait=2) == b"\r" + GRANTED
    assert house.desk.take() == CARD.encode() + b"\n"
    house.desk_says(b"b")
    house.pass_time(1)
    assert house.card_reader.take() == b"", "it does not reach the reader"
    assert house.desk.take() == CARD.encode() + b"\n", "the same card again logs out there"
    assert house.rows("SELECT outcome, decided_by, late FROM logins ORDER BY seq") == [
        ("granted", "locum", 0),
        ("granted", "server", 1),
    ]
    assert house.site.facts(CARD) is not None


@BOTH
def test_the_reader_is_handed_back_between_two_swipes_never_within_a_session(tmp_path: Path, connects: bool) -> None:
    house = away(tmp_path, connects=connects)
    house.swipe_card()
    house.come_back()
    assert house.listener.locum_serves  # type: ignore[attr-defined]
    assert house.swipe_card() == LOGGED_OUT + b"\r\n", "its session ends where it began"
    house.pass_time(1)
    if not connects:
        house.accept(house.desk, DESK)
    house.desk.take()
    assert house.swipe_card() == b"b"
    assert [outcome[:3] for outcome in house.outcomes()] == [
        ("granted", "locum", "offline"),
        ("granted", "server", "online"),
    ]


def test_another_card_after_the_return_is_the_servers(tmp_path: Path) -> None:
    """It ends the offline session, and is shown to the server once that has a connection without gaps."""
    house = away(tmp_path)
    house.swipe_card()
    house.come_back()
    house.card_reader.take()
    house.read(OTHER.encode() + b"\n")
    assert house.site.sessions.on(DEVICE) is None
    house.accept(house.desk, DESK)
    house.pass_time(0.5)
    assert house.card_reader.take().endswith(b"b")
    assert [outcome[:2] for outcome in house.outcomes()] == [("granted", "locum"), ("granted", "server")]


def test_an_idle_offline_session_holds_the_reader_back_no_longer(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.swipe_card()
    house.come_back()
    house.pass_time(61)
    assert not house.listener.locum_serves  # type: ignore[attr-defined]
    assert house.logouts() == ["silence"]


def test_a_session_that_began_online_ends_offline_as_what_it_was(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.swipe_card()
    house.go_offline()
    assert house.site.sessions.on(DEVICE).mode.value == "online"  # type: ignore[union-attr]
    assert house.swipe_card() == LOGGED_OUT
    assert house.swipe_card() == GRANTED


def test_half_a_line_at_the_change_is_never_joined_to_another_card(tmp_path: Path) -> None:
    """What began with the server is Locum's as a whole; the server's connection, which has half of it, ends."""
    house = joined(tmp_path)
    house.read(CARD[:4].encode())
    house.hand("drill-start", device=DEVICE, seconds=60, reason="test")
    house.card_reader.take()
    house.read(CARD[4:].encode() + b"\n")
    assert house.card_reader.take() == GRANTED
    assert house.outcomes() == [("granted", "locum", "drill", CARD)]
    house.swipe_card()
    house.hand("drill-stop", device=DEVICE)
    house.pass_time(1)
    assert house.desk.closed == 1


def test_a_drill_leaves_the_servers_connection_as_it_is(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.hand("drill-start", device=DEVICE, seconds=60, reason="test")
    assert house.swipe_card() == GRANTED
    house.swipe_card()
    house.hand("drill-stop", device=DEVICE)
    house.pass_time(1)
    assert house.desk.closed == 0
    assert house.swipe_card() == b"b"


def test_what_the_server_says_while_locum_serves_goes_nowhere_and_both_begin_anew(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.hand("drill-start", device=DEVICE, seconds=60, reason="test")
    house.card_reader.take()
    house.desk_says(b"rfid:out.led=3\rb")
    house.pass_time(1)
    assert house.card_reader.take() == b""
    house.hand("drill-stop", device=DEVICE)
    house.pass_time(1)
    assert house.desk.closed == 1


def test_a_reader_that_listens_is_opened_while_the_server_is_away(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.cut(house.card_reader, down=True)
    house.go_offline()
    house.card_reader.up = True
    house.pass_time(31)
    assert house.card_reader.channel is not None
    assert house.card_reader.take() == b"\r"
    assert house.swipe_card() == GRANTED


def test_a_reader_that_connects_while_the_server_is_away_is_served(tmp_path: Path) -> None:
    house = away(tmp_path, connects=True)
    house.cut(house.card_reader)
    house.accept(house.card_reader, READER)
    assert house.card_reader.take() == b"\r"
    assert house.swipe_card() == GRANTED


def test_a_session_outlives_the_readers_connection(tmp_path: Path) -> None:
    house = away(tmp_path, connects=True)
    house.swipe_card()
    house.cut(house.card_reader)
    house.accept(house.card_reader, READER)
    assert house.swipe_card() == LOGGED_OUT


@BOTH
def test_a_restart_in_the_middle_finds_the_session(tmp_path: Path, connects: bool) -> None:
    house = away(tmp_path, connects=connects)
    house.swipe_card()
    before = house.site.sessions.on(DEVICE)
    house.restart(5)
    if connects:
        house.accept(house.card_reader, READER)
    assert house.state is State.OFFLINE
    assert house.site.sessions.on(DEVICE) == before
    assert house.swipe_card() == LOGGED_OUT
    assert house.swipe_card(OTHER) == GRANTED


def test_a_restart_after_the_return_keeps_the_reader_until_the_session_is_over(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.swipe_card()
    house.come_back()
    house.restart(1)
    house.accept(house.desk, DESK)
    house.pass_time(1)
    assert house.swipe_card().startswith(LOGGED_OUT)
    assert house.logouts() == ["logout"]


def test_two_readers_are_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    first, second = away(one), away(other, connects=True)
    assert (first.swipe_card(), second.swipe_card(OTHER)) == (GRANTED, GRANTED)
    assert first.swipe_card() == LOGGED_OUT
    assert second.swipe_card() == GRANTED


@pytest.mark.parametrize(
    ("policy", "card", "outcome"),
    [
        ({"enabled": False}, CARD, ("unanswered", "nobody", "online")),
        ({"admission": "known-cards"}, CARD, ("refused", "locum", "offline")),
        ({"max_sessions_per_card": 0}, CARD, ("refused", "locum", "offline")),
        ({"card_pattern": "^[0-9]{4}$"}, CARD, ("refused", "locum", "offline")),
        (EDUCATION, CARD, ("locked", "locum", "offline")),
    ],
)
def test_who_is_not_let_in_hears_the_error(
    tmp_path: Path, policy: dict[str, Any], card: str, outcome: tuple[str, ...]
) -> None:
    house = away(tmp_path, policy=policy)
    assert house.swipe_card(card, wait=2) == REFUSED
    assert house.outcomes() == [(*outcome, card)]
    assert house.site.sessions.on(DEVICE) is None


def test_a_card_that_the_server_refused_last_is_refused(tmp_path: Path) -> None:
    house = joined(tmp_path)
    house.swipe_card("99999999")
    house.go_offline()
    assert house.swipe_card("99999999") == REFUSED


def test_nobody_is_let_in_whom_nothing_can_keep(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.disk_full = True
    assert house.swipe_card() == REFUSED
    house.disk_full = False
    assert house.swipe_card() == GRANTED


def test_no_beep_before_it_is_on_stable_storage(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.holding = True
    assert house.swipe_card() == b""
    house.holding = False
    house.sync()
    assert house.card_reader.take() == GRANTED


# The unlock card


def test_one_swipe_of_the_unlock_card_is_a_single_use(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    assert house.swipe_card() == REFUSED
    assert house.swipe_card(ADMINS.lower()) == ONE
    assert house.site.shown(DEVICE, house.upstream) == "unlocked-once"
    house.pass_time(6)
    assert house.swipe_card() == GRANTED
    assert house.swipe_card() == LOGGED_OUT
    assert house.swipe_card() == REFUSED, "used up"
    steps = house.rows("SELECT outcome, scope, reason FROM unlocks ORDER BY seq")
    assert steps[0] == ("unlocked", "once", "by the unlock card")
    assert [step[0] for step in steps[1:]] == ["begun", "used"]


def test_two_swipes_within_five_seconds_hold_until_the_connection_is_restored(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    assert house.swipe_card(ADMINS, wait=4) == ONE
    assert house.swipe_card(ADMINS) == THREE
    assert house.site.shown(DEVICE, house.upstream) == "unlocked-until-restored"
    for _ in range(3):
        assert house.swipe_card() == GRANTED
        house.swipe_card()
    assert house.swipe_card(ADMINS) == THREE, "as it is already"
    house.come_back()
    house.pass_time(house.delay)
    house.go_offline()
    assert house.swipe_card() == REFUSED, "dropped when the connection was restored"


def test_a_card_between_makes_them_two_single_uses(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    for _ in range(2):
        assert house.swipe_card(ADMINS) == ONE
        assert house.swipe_card() == GRANTED
        assert house.swipe_card() == LOGGED_OUT
    assert house.swipe_card() == REFUSED


def test_two_swipes_further_apart_are_two_single_uses(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    house.swipe_card(ADMINS, wait=5.5)
    assert house.swipe_card(ADMINS) == ONE
    assert house.site.shown(DEVICE, house.upstream) == "unlocked-once"


def test_an_ordinary_card_is_just_a_card_and_no_wrong_code(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    for number in range(120):
        assert house.swipe_card(f"{number:08d}") == REFUSED
    assert house.rows("SELECT * FROM unlocks") == []
    assert house.swipe_card(ADMINS) == ONE


def test_the_unlock_card_is_nobodys_login_and_stands_nowhere(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    house.swipe_card(ADMINS)
    house.swipe_card(ADMINS)
    house.swipe_card(ADMINS)
    assert house.outcomes() == []
    assert not house.in_lines(ADMINS)
    assert house.rows("SELECT * FROM personal WHERE card LIKE ?", f"%{ADMINS}%") == []


def test_cards_are_compared_one_after_the_other_and_in_their_order(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    house.holding_codes = True
    house.read(b"11111111\n" + ADMINS.encode() + b"\n" + CARD.encode() + b"\n")
    assert len(house._held_codes) == 1
    house.holding_codes = False
    house.compare()
    house.pass_time(1)
    assert house.card_reader.take() == REFUSED + ONE + GRANTED


def test_a_card_compared_while_the_server_comes_back_is_the_servers(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    house.holding_codes = True
    house.read(CARD.encode() + b"\n")
    house.come_back()
    house.holding_codes = False
    house.compare()
    house.accept(house.desk, DESK)
    house.pass_time(1)
    assert house.outcomes()[-1][:2] == ("granted", "server")


def test_without_an_unlock_card_a_locked_reader_is_unlocked_by_hand(tmp_path: Path) -> None:
    house = away(tmp_path, policy=EDUCATION)
    house.site.unlocking.card_hash = ""
    assert house.swipe_card() == REFUSED
    house.hand("unlock", device=DEVICE, scope="once")
    assert house.swipe_card() == GRANTED


def test_in_a_commercial_house_the_unlock_card_is_just_a_card(tmp_path: Path) -> None:
    house = away(tmp_path)
    assert house.swipe_card(ADMINS) == GRANTED
    assert house.verified == []


# What should not be


def test_no_more_than_ten_cards_in_five_seconds(tmp_path: Path) -> None:
    """A reader that echoes what it is told must not fill the ledger."""
    house = away(tmp_path)
    house.read(b"".join(b"%08d\n" % number for number in range(500)))
    house.pass_time(TICK)
    assert len(house.outcomes()) == 10
    assert house.tally.counts["too-many-cards"] == 490
    house.pass_time(6)
    assert house.swipe_card() == GRANTED


def test_a_megabyte_without_an_end_is_held_nowhere(tmp_path: Path) -> None:
    house = away(tmp_path)
    for _ in range(16):
        house.read(b"1" * 65536)
    assert len(house.listener._from_reader._lines.rest) <= 256  # type: ignore[attr-defined]
    assert house.tally.counts == {"reader-too-long": 1}
    house.read(b"\n")
    assert house.swipe_card() == GRANTED
    assert house.outcomes() == [("granted", "locum", "offline", CARD)]


def test_cards_split_and_joined_and_with_other_ends(tmp_path: Path) -> None:
    house = away(tmp_path)
    for piece in (b"\r\nRF IDeas>00", b"12", b"34\r", b"\n", b"v1.0\r", b"5678\n91", b"011121\n"):
        house.read(piece)
        house.pass_time(1)
    assert [outcome[3] for outcome in house.outcomes()] == ["001234", "5678", "91011121"]


def test_half_a_line_holds_the_hand_back_up_for_two_seconds_only(tmp_path: Path) -> None:
    house = away(tmp_path)
    house.read(b"12")
    house.set_server(True)
    house.until(State.ONLINE)
    house.pass_time(3)
    assert not house.listener.locum_serves  # type: ignore[attr-defined]
