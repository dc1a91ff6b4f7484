"""Personal data that is too old is asked to be erased: when, in which bites, and not by a clock that may be wrong."""

from __future__ import annotations

from appliance.retention import AFTER_START, BETWEEN_BITES, BETWEEN_LOOKS, BITE, Retention
from proxy.commands import Command, Keep, Tell
from proxy.events import Kept, Moment, NotKept
from storage.answers import Erased
from storage.records import EraseOld
from tests.unit.storage_samples import DAY, NOW

KEEP = 30 * DAY


def moment(seconds: float) -> Moment:
    return Moment(seconds, NOW + int(seconds * 1000), bytes(32))


def asked(commands: list[Command]) -> EraseOld:
    (keep,) = commands
    assert isinstance(keep, Keep)
    assert isinstance(keep.change, EraseOld)
    return keep.change


def started(keep: int | None = KEEP) -> Retention:
    retention = Retention(keep)
    assert retention.due(moment(0)) == []
    return retention


def test_without_a_limit_nothing_is_ever_erased() -> None:
    assert started(None).due(moment(AFTER_START + 1e9)) == []


def test_a_minute_after_the_start_it_asks_for_a_bite_of_what_is_too_old() -> None:
    retention = started()
    assert retention.due(moment(AFTER_START - 1)) == []
    at = moment(AFTER_START)
    assert asked(retention.due(at)) == EraseOld(at.wall, at.wall - KEEP, BITE)


def test_one_bite_at_a_time() -> None:
    retention = started()
    assert retention.due(moment(AFTER_START))
    assert retention.due(moment(AFTER_START + 2 * BETWEEN_LOOKS)) == []


def test_full_bites_follow_each_other_and_then_it_rests_for_an_hour_and_says_how_many() -> None:
    retention = started()
    retention.due(moment(60))
    assert retention.handle(Kept("bite", Erased(BITE, 7), moment(60))) == []
    assert retention.due(moment(60 + BETWEEN_BITES / 2)) == []
    asked(retention.due(moment(60 + BETWEEN_BITES)))
    (told,) = retention.handle(Kept("bite", Erased(5, 8), moment(62)))
    assert isinstance(told, Tell)
    assert "1,005" in told.text
    assert not told.keep
    assert retention.due(moment(61 + BETWEEN_LOOKS)) == []
    asked(retention.due(moment(62 + BETWEEN_LOOKS)))
    assert retention.handle(Kept("bite", Erased(0), moment(63 + BETWEEN_LOOKS))) == []


def test_what_could_not_be_stored_is_tried_again_an_hour_later() -> None:
    retention = started()
    retention.due(moment(60))
    assert retention.handle(NotKept("bite", "the disk is full", moment(60))) == []
    assert retention.due(moment(61)) == []
    asked(retention.due(moment(60 + BETWEEN_LOOKS)))


def test_a_clock_that_went_far_forward_is_said_once() -> None:
    retention = started()
    for hour in range(3):
        retention.due(moment(60 + hour * BETWEEN_LOOKS))
        said = retention.handle(Kept("bite", Erased(0, clock_jump=400 * DAY), moment(60 + hour * BETWEEN_LOOKS)))
        if hour:
            assert said == []
        else:
            (told,) = said
            assert isinstance(told, Tell)
            assert (told.level, "400 days" in told.text, told.keep) == ("warning", True, True)
    retention.due(moment(60 + 3 * BETWEEN_LOOKS))
    retention.handle(Kept("bite", Erased(0), moment(60 + 3 * BETWEEN_LOOKS)))
    retention.due(moment(60 + 4 * BETWEEN_LOOKS))
    assert retention.handle(Kept("bite", Erased(0, clock_jump=9 * DAY), moment(60 + 4 * BETWEEN_LOOKS)))


def test_a_new_length_of_time_counts_from_the_next_look_on() -> None:
    retention = started()
    retention.configure(DAY)
    at = moment(60)
    assert asked(retention.due(at)).before == at.wall - DAY
