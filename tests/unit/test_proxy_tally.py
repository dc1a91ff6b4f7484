"""What was dropped: counted always, told at most once a minute per client and reason, in bounded memory."""

from __future__ import annotations

from proxy.commands import Tell
from proxy.tally import MOST_CLIENTS, TELL_EVERY, Tally


def test_everything_is_counted_and_the_first_is_told() -> None:
    tally = Tally()
    told = [tell for now in range(10) for tell in tally.note("bad", "10.0.0.1", "words", float(now))]
    assert tally.counts["bad"] == 10
    (only,) = told
    assert isinstance(only, Tell)
    assert (only.level, only.text, only.context) == ("warning", "words", {"client": "10.0.0.1", "reason": "bad"})


def test_after_a_minute_the_line_says_how_many_there_were() -> None:
    tally = Tally()
    for now in (0.0, 1.0, 2.0):
        tally.note("bad", "10.0.0.1", "words", now)
    (again,) = tally.note("bad", "10.0.0.1", "words", TELL_EVERY)
    assert isinstance(again, Tell)
    assert again.context["more_since_last"] == 2
    assert tally.note("bad", "10.0.0.1", "words", TELL_EVERY + 1) == []


def test_each_client_and_each_reason_has_a_line_of_its_own() -> None:
    tally = Tally()
    lines = [
        tally.note(reason, client, "words", 0.0) for reason in ("bad", "worse") for client in ("10.0.0.1", "10.0.0.2")
    ]
    assert [len(line) for line in lines] == [1, 1, 1, 1]


def test_a_flood_of_clients_shares_one_line_and_bounded_memory() -> None:
    tally = Tally()
    told = sum(len(tally.note("bad", f"client {number}", "words", 0.0)) for number in range(3 * MOST_CLIENTS))
    assert told == MOST_CLIENTS + 1
    assert tally.counts["bad"] == 3 * MOST_CLIENTS
    assert len(tally._told) <= MOST_CLIENTS + 1


def test_after_a_flood_others_are_heard_again() -> None:
    tally = Tally()
    for number in range(2 * MOST_CLIENTS):
        tally.note("bad", f"client {number}", "words", 0.0)
    (line,) = tally.note("bad", "a late one", "words", TELL_EVERY + 1)
    assert isinstance(line, Tell)
    assert line.context["client"] == "a late one"
