"""A terminal server as upstream: what was kept while it was away is forwarded as RECORD, on a connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from protocols.terminal.frames import Type
from protocols.terminal.messages import OFFLINE_SESSION_BIT, Error, RecordAck, RecordMessage, encode
from proxy.handover import item_of
from proxy.link import State
from storage.answers import OutboxItem, Stored
from storage.records import Retry
from tests.flows.terminal_server_house import CARD, EPOCH, Asked, ServerHouse, a_job

Make = Callable[..., ServerHouse]
OWN = OFFLINE_SESSION_BIT | 5


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(**how: Any) -> ServerHouse:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            house = ServerHouse(folder, **how)
            stack.callback(house.close)
            house.pass_time(1)
            return house

        yield made


@pytest.fixture
def house(make: Make) -> ServerHouse:
    return make()


@pytest.fixture
def offline(make: Make) -> ServerHouse:
    house = make()
    house.go()
    house.until(State.OFFLINE)
    return house


def record(asked: Asked) -> RecordMessage:
    assert isinstance(asked.message, RecordMessage)
    return asked.message


def numbers(house: ServerHouse) -> list[int]:
    return [record(asked).job.job for asked in house.got(Type.RECORD)]


def back(house: ServerHouse, seconds: float = 4.0) -> None:
    house.come_back()
    house.pass_time(seconds)


def test_a_record_says_what_was_kept_and_no_session_of_locums(offline: ServerHouse) -> None:
    at = offline.wall
    offline.job(1, session=OWN, card=CARD)
    back(offline)
    (asked,) = offline.got(Type.RECORD)
    assert asked.connection.device == "locum-1"
    said = record(asked)
    ((identifier,),) = offline.rows("SELECT id FROM jobs")
    assert said.record_id == UUID(identifier).bytes
    assert (said.device_id, said.card, said.user, said.taken) == ("mfp-1", CARD, "", at)
    assert said.job == a_job(1, session=0)


def test_a_session_of_the_servers_own_keeps_its_number_and_user(offline: ServerHouse) -> None:
    offline.job(1, session=7, user="anna")
    back(offline)
    said = record(offline.got(Type.RECORD)[0])
    assert said.job.session == 7
    assert said.user == "anna"


def test_the_user_that_the_server_names_is_kept(offline: ServerHouse) -> None:
    offline.job(1, session=OWN)
    back(offline)
    assert offline.outcomes(1) == ["delivered"]
    ((user,),) = offline.rows("SELECT p.user FROM personal p JOIN deliveries d ON d.seq = p.seq")
    assert user == "anna"


def test_a_record_that_the_server_has_already_is_delivered(offline: ServerHouse) -> None:
    offline.record_status[1] = 1
    offline.job(1, session=OWN)
    back(offline)
    assert offline.outcomes(1) == ["delivered"]
    assert offline.state is State.ONLINE


def test_a_refused_record_is_set_aside_and_the_others_go_on(offline: ServerHouse) -> None:
    offline.record_status[1] = 2
    for number in (1, 2, 3):
        offline.job(number, session=OWN + number)
    back(offline)
    assert offline.rows("SELECT state FROM outbox") == [("rejected",)]
    assert offline.outcomes(1) == ["refused"]
    assert offline.outcomes(3) == ["delivered"]
    assert offline.state is State.ONLINE


def test_a_record_that_the_server_cannot_store_now_waits_out_a_pause(offline: ServerHouse) -> None:
    offline.record_status[1] = 3
    offline.job(1, session=OWN)
    back(offline, 3)
    assert offline.state is State.RECOVERING
    offline.record_status.clear()
    offline.until(State.ONLINE, 10)
    assert offline.outcomes(1) == ["unanswered", "delivered"]


def test_records_of_one_key_keep_their_order_and_others_overlap(offline: ServerHouse) -> None:
    offline.record_status[1] = 3
    for number in (1, 2):
        offline.job(number, session=OWN)
    offline.job(3, session=OWN + 1)
    back(offline)
    assert numbers(offline) == [1, 3]
    offline.record_status.clear()
    offline.until(State.ONLINE, 10)
    assert numbers(offline) == [1, 3, 1, 2]


def test_at_most_a_window_of_records_is_unanswered(make: Make) -> None:
    house = make(window=4)
    house.go()
    house.until(State.OFFLINE)
    for number in range(1, 31):
        house.job(number, session=OWN + number)
    house.silent = {Type.RECORD}
    back(house)
    assert numbers(house) == [1, 2, 3, 4]
    house.silent = set()
    for asked in house.got(Type.RECORD):
        said = record(asked)
        house.reply(asked, RecordAck(said.record_id, said.job.job, 0, ""))
    house.until(State.ONLINE, 5)
    assert house.waiting() == 0


def test_on_one_connection_nothing_is_sent_twice(offline: ServerHouse) -> None:
    offline.silent = {Type.RECORD}
    offline.job(1, session=OWN)
    back(offline, 7.5)
    assert numbers(offline) == [1]
    offline.pass_time(1.5)
    assert offline.outcomes(1) == ["unanswered"]
    offline.pass_time(6)
    assert numbers(offline) == [1, 1]


def test_a_late_answer_settles_a_record_that_waits_again(offline: ServerHouse) -> None:
    offline.silent = {Type.RECORD}
    offline.job(1, session=OWN)
    back(offline, 9)
    assert offline.outcomes(1) == ["unanswered"]
    (asked,) = offline.got(Type.RECORD)
    offline.reply(asked, RecordAck(record(asked).record_id, 1, 0, "anna"))
    offline.pass_time(1)
    assert offline.outcomes(1) == ["unanswered", "delivered"]
    assert offline.waiting() == 0
    assert offline.state is State.ONLINE


def test_a_lost_connection_puts_all_in_flight_back_and_sends_them_again(offline: ServerHouse) -> None:
    for number in range(1, 6):
        offline.job(number, session=OWN + number)
    offline.silent = {Type.RECORD}
    back(offline)
    first = offline.got(Type.RECORD)[0]
    offline.reply(first, RecordAck(record(first).record_id, 1, 0, ""))
    offline.end(offline.of("locum-1").channel)
    offline.silent = set()
    offline.until(State.ONLINE, 5)
    assert offline.outcomes(1) == ["delivered"]
    for number in range(2, 6):
        assert offline.outcomes(number) == ["unanswered", "delivered"]
    twice = offline.rows("SELECT maybe_twice FROM deliveries WHERE outcome = 'delivered' ORDER BY record")
    assert [bool(each) for (each,) in twice] == [False, True, True, True, True]


def test_a_record_that_ends_the_connection_does_not_hold_the_others_up(offline: ServerHouse) -> None:
    def crash(asked: Asked) -> bytes | None:
        if isinstance(asked.message, RecordMessage) and asked.message.job.job == 3:
            offline.end(asked.connection.channel, "the connection was reset", refused=True)
            return b""
        return None

    offline.answer = crash
    for number in range(1, 6):
        offline.job(number, session=OWN + number)
    back(offline, 30)
    assert {number for _, number in offline.book} == {1, 2, 4, 5}
    assert offline.waiting() == 1
    assert set(offline.outcomes(3)) == {"unanswered"}
    assert offline.state is State.RECOVERING
    offline.answer = lambda asked: None
    offline.until(State.ONLINE, 200)


def test_a_server_without_record_is_not_asked_for_a_while_and_nothing_is_lost(offline: ServerHouse) -> None:
    def old(asked: Asked) -> bytes | None:
        return encode(Error(4, "unknown type"), asked.frame.sequence) if asked.frame.type == Type.RECORD else None

    offline.answer = old
    for number in range(1, 6):
        offline.job(number, session=OWN + number)
    back(offline, 50)
    assert len(offline.got(Type.RECORD)) == 5
    assert offline.waiting() == 5
    assert len([tell for tell in offline.told if "does not know RECORD" in tell.text]) == 1
    offline.answer = lambda asked: None
    offline.until(State.ONLINE, 60)
    assert offline.waiting() == 0


def test_a_record_that_the_server_cannot_read_is_set_aside(offline: ServerHouse) -> None:
    def picky(asked: Asked) -> bytes | None:
        return encode(Error(5, "bad"), asked.frame.sequence) if asked.frame.type == Type.RECORD else None

    offline.answer = picky
    offline.job(1, session=OWN)
    back(offline)
    assert offline.rows("SELECT state, reason FROM outbox") == [("rejected", "the server answered ERROR 5: bad")]


def test_an_answer_about_another_record_settles_nothing(offline: ServerHouse) -> None:
    def wrong(asked: Asked) -> bytes | None:
        if asked.frame.type != Type.RECORD:
            return None
        return encode(RecordAck(bytes(16), record(asked).job.job, 0, "eve"), asked.frame.sequence)

    offline.answer = wrong
    offline.job(1, session=OWN)
    back(offline)
    assert offline.outcomes(1) == ["unanswered"]
    assert offline.waiting() == 1


def test_an_offline_job_that_comes_while_online_goes_at_once(house: ServerHouse) -> None:
    job = house.job(1, session=OWN)
    assert house.outcomes(1) == ["delivered"]
    assert job.heard == ["answered"]


def test_one_that_finds_no_connection_waits_and_its_device_is_answered(house: ServerHouse) -> None:
    house.answer = lambda asked: b"" if asked.connection.device == "locum-1" else None
    job = house.job(1, session=OWN)
    house.pass_time(1.2)
    assert job.heard == ["unanswered"]
    assert house.outcomes(1) == ["unsent"]
    assert house.state is State.ONLINE
    house.answer = lambda asked: None
    house.pass_time(5)
    assert house.outcomes(1) == ["unsent", "delivered"]


def test_a_half_open_connection_is_replaced(house: ServerHouse) -> None:
    house.job(1, session=OWN)
    dead = house.of("locum-1")
    house.answer = lambda asked: b"" if asked.connection is dead else None
    house.job(2, session=OWN + 1)
    house.pass_time(5)
    assert house.outcomes(2) == ["unanswered", "delivered"]
    assert house.state is State.ONLINE


def test_contact_lost_puts_back_what_is_in_flight_and_closes(house: ServerHouse) -> None:
    house.job(1, session=OWN)
    house.go()
    job = house.job(2, session=OWN + 1)
    house.until(State.OFFLINE)
    assert job.heard == ["unanswered"]
    assert house.outcomes(2) == ["unanswered"]
    assert not [c for c in house.connections.values() if c.device == "locum-1"]
    back(house)
    assert house.outcomes(2) == ["unanswered", "delivered"]


def test_after_a_restart_what_was_in_flight_is_sent_again(offline: ServerHouse) -> None:
    for number in (1, 2, 3):
        offline.job(number, session=OWN + number)
    offline.silent = {Type.RECORD}
    back(offline)
    assert offline.upstream.outbox.in_flight == 3
    offline.restart()
    offline.silent = set()
    assert offline.state is State.RECOVERING
    offline.until(State.ONLINE, 10)
    assert offline.waiting() == 0
    assert len(offline.book) == 3


def test_a_record_of_another_dialect_is_not_forwarded(house: ServerHouse) -> None:
    kept = house.job(1, session=OWN).record
    assert house.upstream.unforwardable(replace(kept, dialect="radius"))
    assert house.upstream.place_of(replace(kept, dialect="radius"), relays=True) is None
    item = replace(item_of(kept, Stored(99, str(UUID(int=1)))), dialect="radius")
    house.run(house.upstream.send_record(item, house.moment(), None))
    assert len(house.got(Type.RECORD)) == 1


@pytest.mark.parametrize("raw", [b"", b"CT", bytes(200), encode(Error(1, "x"), 1)])
def test_bytes_that_are_no_job_are_set_aside_with_words(house: ServerHouse, raw: bytes) -> None:
    kept = house.job(1, session=OWN)
    item = replace(item_of(kept.record, Stored(99, str(UUID(int=1)))), raw=raw)
    house.run(house.upstream.send_record(item, house.moment(), kept))
    assert kept.heard == ["answered", "unanswered"]
    assert len(house.got(Type.RECORD)) == 1
    assert any(tell.alarm == "refused" for tell in house.told)


def test_the_payload_alone_is_read_too(house: ServerHouse) -> None:
    kept = house.job(1, session=OWN)
    item: OutboxItem = replace(item_of(kept.record, Stored(99, str(UUID(int=1)))), raw=kept.frame.payload)
    house.run(house.upstream.send_record(item, house.moment(), None))
    assert record(house.got(Type.RECORD)[-1]).job == a_job(1, session=0)


def test_an_admin_may_name_another_user(offline: ServerHouse) -> None:
    offline.record_status[1] = 2
    offline.job(1, session=OWN)
    back(offline)
    offline.record_status.clear()
    ((seq, key),) = offline.rows("SELECT seq, order_key FROM outbox")
    offline.ledger.commit([Retry(offline.wall, (seq,), "root", (("user", "bert"),))])
    offline.run(offline.upstream.retry(seq, key, offline.moment()))
    offline.pass_time(2)
    said = record(offline.got(Type.RECORD)[-1])
    assert (said.card, said.user) == ("", "bert")
    assert offline.outcomes(1) == ["refused", "delivered"]


def test_what_storage_refuses_is_written_down_when_it_can_be(offline: ServerHouse) -> None:
    offline.job(1, session=OWN)
    offline.come_back()
    offline.until(State.RECOVERING, 5)
    offline.disk_dead = True
    offline.pass_time(5)
    assert offline.waiting() == 1
    offline.disk_dead = False
    offline.pass_time(3)
    assert offline.waiting() == 0


def test_long_texts_are_cut_and_times_stay_as_they_are(offline: ServerHouse) -> None:
    offline.job(1, session=OWN, card="é" * 200)
    back(offline)
    said = record(offline.got(Type.RECORD)[0])
    assert said.card == "é" * 127
    assert said.job.started == EPOCH


def test_the_connection_is_opened_only_when_something_is_to_be_forwarded(house: ServerHouse) -> None:
    house.line()
    house.job(1)
    house.pass_time(30)
    assert not [asked for asked in house.got(Type.HELLO) if asked.connection.device == "locum-1"]
