"""Jobs from terminals: acknowledged only when kept, known for ever by the device's own number.

Rows of `offline-mode.md`: the table of states (a job), of events, and "Jobs".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocols.terminal.frames import CHECKSUM_SIZE, HEADER_SIZE, Type, encode_frame
from protocols.terminal.messages import OFFLINE_SESSION_BIT, Error, JobAck, decode, encode
from proxy.link import Signal, State
from storage.answers import CardFacts
from tests.flows.terminal_house import CARD, Device, Make, TerminalHouse, houses, job

STORED, ALREADY, REFUSED, LATER = range(4)
LAST = (1 << 64) - 1


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with houses(tmp_path) as make:
        yield make


def jobs(house: TerminalHouse) -> int:
    return house.count("SELECT count(*) FROM jobs WHERE device <> 'copier-9'")


def outbox(house: TerminalHouse) -> list[str]:
    return [state for (state,) in house.rows("SELECT state FROM outbox ORDER BY seq")]


def logged_in(house: TerminalHouse, **how: Any) -> tuple[Device, int]:
    device = house.device(**how)
    return device, device.login().session


# Commit before send


@pytest.mark.parametrize("state", [State.GRACE, State.OFFLINE])
def test_a_job_is_acknowledged_only_when_it_is_on_stable_storage(make: Make, state: State) -> None:
    house = make(state, delay=20.0)
    device = house.device()
    house.holding = True
    sequence = device.ask(job(0))
    house.pass_time(1.5)
    assert device.answers(sequence) == []
    house.sync()
    assert device.answer(sequence) == JobAck(90001, STORED)
    assert outbox(house) == ["waiting"]


def test_online_a_job_leaves_for_the_server_when_it_is_kept_and_is_acknowledged_when_that_has_answered(
    make: Make,
) -> None:
    house = make()
    device, session = logged_in(house)
    house.upstream.silent = house.holding = True
    sequence = device.ask(job(session))
    assert house.upstream.under_way == []
    house.sync()
    (sent,) = house.upstream.under_way
    assert decode(sent.frame) == job(session), "a job of the server's own session goes as JOB"
    assert device.answers(sequence) == []
    house.holding = False
    house.say(sent, JobAck(90001, STORED))
    assert device.answer(sequence) == JobAck(90001, STORED)
    assert outbox(house) == []


@pytest.mark.parametrize("reply", [JobAck(90001, 1), JobAck(90001, 2), JobAck(90001, 3), Error(5, "no")])
def test_whatever_the_server_says_a_kept_job_is_acknowledged(make: Make, reply: Any) -> None:
    house = make()
    device, session = logged_in(house)
    house.upstream.silent = True
    sequence = device.ask(job(session))
    house.say(house.upstream.under_way[0], reply)
    assert device.answer(sequence) == JobAck(90001, STORED)


def test_an_online_job_unanswered_is_acknowledged_by_locum_and_a_late_answer_does_not_reach_the_device(
    make: Make,
) -> None:
    house = make()
    device, session = logged_in(house)
    house.upstream.silent = True
    sequence = device.ask(job(session))
    house.pass_time(1.1)
    assert device.answer(sequence) == JobAck(90001, STORED)
    house.say(house.upstream.under_way[0], JobAck(90001, STORED))
    assert len(device.answers(sequence)) == 1
    assert outbox(house) == [], "the late answer settles it"


def test_a_line_lost_under_a_job_leaves_it_waiting_and_acknowledged(make: Make) -> None:
    house = make()
    device, session = logged_in(house)
    house.upstream.silent = True
    sequence = device.ask(job(session))
    house.run(house.upstream.lose_line("copier-1", house.moment()))
    assert device.answer(sequence) == JobAck(90001, STORED)
    house.upstream.silent = False
    house.pass_time(1)
    assert [item.seq for item in house.upstream.records] == [
        sent.item.seq for sent in house.upstream.asked if sent.item
    ]
    assert outbox(house) == []


def test_contact_lost_while_a_job_is_being_kept_leaves_it_waiting(make: Make) -> None:
    house = make()
    device, session = logged_in(house)
    house.holding = True
    sequence = device.ask(job(session))
    house.signal(Signal.CONTACT_FAILED)
    house.sync()
    assert device.answer(sequence) == JobAck(90001, STORED)
    assert [sent.item for sent in house.upstream.asked if sent.item] == []


def test_recovering_a_job_whose_session_still_waits_queues_behind_it(make: Make) -> None:
    house = make()
    device, session = logged_in(house)
    house.signal(Signal.CONTACT_FAILED)
    assert device.tell(job(session, 1)) == JobAck(1, STORED)
    house.upstream.silent = True
    house.signal(Signal.CONTACT_STEADY)
    assert device.tell(job(session, 2)) == JobAck(2, STORED), "kept, acknowledged, queued behind it"
    house.upstream.silent = False
    house.pass_time(1)
    assert [item.facts.job_number for item in house.upstream.records if item.facts] == ["1", "2"]


def test_a_job_whose_device_has_gone_meanwhile_goes_as_record(make: Make) -> None:
    house = make()
    device, session = logged_in(house)
    house.holding = True
    device.ask(job(session))
    device.leave()
    house.sync()
    assert [item.device for item in house.upstream.records] == ["copier-1"]


# What goes how


def test_a_job_of_an_offline_session_is_never_relayed_as_job(make: Make) -> None:
    house = make(State.OFFLINE)
    device, session = logged_in(house)
    house.move(State.ONLINE)
    assert device.tell(job(session)) == JobAck(90001, STORED)
    assert [sent for sent in house.upstream.asked if sent.frame.type == 4] == []
    (item,) = house.upstream.records
    assert item.facts is not None
    assert (item.facts.card, item.facts.user, item.facts.mode) == (CARD, "", "offline")
    assert item.raw == encode(job(session), device.sequence), "the bytes are the device's own"


@pytest.mark.parametrize("session", [0, 12345, OFFLINE_SESSION_BIT | 12345])
def test_a_job_of_an_unknown_session_is_stored_under_nobody_and_acknowledged(make: Make, session: int) -> None:
    house = make()
    assert house.device().tell(job(session)) == JobAck(90001, STORED)
    assert house.rows("SELECT mode, p.card, p.user FROM jobs JOIN personal p USING (seq)") == [("unknown", "", "")]
    assert [item.device for item in house.upstream.records] == ["copier-1"]


def test_a_session_of_another_device_is_unknown(make: Make) -> None:
    house = make()
    _, session = logged_in(house)
    house.device("copier-2").tell(job(session))
    assert house.rows("SELECT mode FROM jobs") == [("unknown",)]


def test_a_job_of_a_session_that_has_ended_is_stored_as_that_sessions(make: Make) -> None:
    house = make(State.OFFLINE)
    device, session = logged_in(house)
    device.login("00112233")
    device.tell(job(session))
    assert house.rows("SELECT p.card FROM jobs JOIN personal p USING (seq)") == [(CARD,)]


def test_a_job_carries_what_the_wire_said(make: Make) -> None:
    house = make(State.OFFLINE)
    device, session = logged_in(house)
    device.tell(job(session, LAST, kind=2, flags=0xFFFE, copies=3, account="chem", started=0))
    fields = "job_number, kind, pages, color_pages, sheets, copies, duplex, paper, started_at, session, mode, dialect"
    assert house.rows(f"SELECT {fields} FROM jobs") == [
        (str(LAST), "print", 12, 4, 6, 3, 0, "A4", None, f"{session:016x}", "offline", "terminal")
    ]
    assert house.rows("SELECT document, account FROM personal WHERE document <> ''") == [("Überweisung.pdf", "chem")]


def test_clocks_that_are_wrong_are_stored_as_they_are_and_impossible_ones_in_the_raw_bytes_only(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    assert device.tell(job(0, 1, started=200_000_000_000_000, ended=1000)) == JobAck(1, STORED)
    assert device.tell(job(0, 2, started=LAST, ended=LAST)) == JobAck(2, STORED)
    assert house.rows("SELECT ended_at, started_at > ended_at FROM jobs ORDER BY seq") == [
        ("1970-01-01T00:00:01.000Z", 1),
        (None, None),
    ]


def test_bad_utf8_in_a_document_is_stored_with_replacement_characters_and_the_raw_bytes(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    payload = encode(job(0, document="abc"), 1)[10:-4].replace(b"abc", b"a\xffc")
    device.send(encode_frame(4, 7, payload))
    assert device.answer(7) == JobAck(90001, STORED)
    ((document, raw),) = house.rows("SELECT document, raw FROM personal WHERE document <> ''")
    assert (document, raw) == ("a\ufffdc", encode_frame(4, 7, payload))


# Known for ever


def test_a_job_sent_again_is_already_stored_and_changes_nothing_also_years_and_a_restart_later(make: Make) -> None:
    house = make(State.OFFLINE)
    device, session = logged_in(house)
    assert device.tell(job(session)) == JobAck(90001, STORED)
    assert device.tell(job(session)) == JobAck(90001, ALREADY)
    assert device.tell(job(0)) == JobAck(90001, ALREADY), "the session of a repeat does not matter"
    house.wall += 3 * 365 * 86400 * 1000
    house.restart()
    assert house.device().tell(job(session)) == JobAck(90001, ALREADY)
    assert (jobs(house), len(outbox(house))) == (1, 1)


def test_the_same_number_on_another_device_is_another_job(make: Make) -> None:
    house = make(State.OFFLINE)
    for name in ("copier-1", "copier-2"):
        assert house.device(name).tell(job(0)) == JobAck(90001, STORED)
    assert jobs(house) == 2


def test_other_content_under_a_number_is_stored_as_a_conflict_with_a_warning(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    device.tell(job(0))
    assert device.tell(job(0, pages=13)) == JobAck(90001, STORED)
    assert house.rows("SELECT event, pages FROM jobs ORDER BY seq") == [("job", 12), ("conflict", 13)]
    assert [tell.level for tell in house.told if "another content" in tell.text] == ["warning"]
    assert device.tell(job(0, pages=13)) == JobAck(90001, ALREADY)


def test_texts_that_differ_in_bad_utf_8_only_are_other_content(make: Make) -> None:
    house = make(State.OFFLINE)
    device = house.device()
    data = encode(job(0, document="seen"), 1)
    one, other = b"\xff\xfe\x00x", b"\xff\xfd\x00x"
    tries = [(one, STORED), (other, STORED), (one, ALREADY), (other, ALREADY)]
    for sequence, (document, status) in enumerate(tries, 11):
        payload = data[HEADER_SIZE:-CHECKSUM_SIZE].replace(b"seen", document)
        device.send(encode_frame(Type.JOB, sequence, payload))
        assert device.answer(sequence) == JobAck(90001, status)
    assert house.rows("SELECT event FROM jobs ORDER BY seq") == [("job",), ("conflict",)]


def test_a_repeat_of_a_job_that_is_under_way_waits_with_it(make: Make) -> None:
    house = make()
    device, session = logged_in(house)
    house.upstream.silent = True
    first, second = device.ask(job(session)), device.ask(job(session))
    assert len(house.upstream.under_way) == 1
    house.say(house.upstream.under_way[0], JobAck(90001, STORED))
    assert [device.answer(first), device.answer(second)] == [JobAck(90001, STORED), JobAck(90001, ALREADY)]
    assert jobs(house) == 1


def test_a_repeat_on_another_connection_is_acknowledged_there(make: Make) -> None:
    house = make(State.OFFLINE)
    older = house.device()
    house.holding = True
    older.ask(job(0))
    newer = house.device()
    sequence = newer.ask(job(0))
    house.sync()
    assert newer.answer(sequence) == JobAck(90001, ALREADY)
    assert jobs(house) == 1


# Refused


@pytest.mark.parametrize(
    "impossible", [{"kind": 0}, {"kind": 9}, {"color_pages": 13}, {"pages": 1 << 31}, {"sheets": 1 << 31}]
)
def test_impossible_values_are_refused_and_their_bytes_kept(make: Make, impossible: dict[str, int]) -> None:
    house = make()
    device, session = logged_in(house)
    assert device.tell(job(session, **impossible)) == JobAck(90001, REFUSED)
    assert jobs(house) == 0
    ((reason, raw),) = house.rows("SELECT reason, p.raw FROM quarantine JOIN personal p USING (seq)")
    assert (reason, raw) == ("impossible-job", encode(job(session, **impossible), device.sequence))


@pytest.mark.parametrize("pages", [0, 1, (1 << 31) - 1])
def test_possible_counts_are_not_refused(make: Make, pages: int) -> None:
    house = make(State.OFFLINE)
    answer = house.device().tell(job(0, pages=pages, color_pages=0, sheets=0, copies=0))
    assert answer == JobAck(90001, STORED)


def test_a_malformed_job_is_refused_by_error_5_and_kept_in_quarantine_at_most_once_a_minute(make: Make) -> None:
    house = make(State.OFFLINE)
    for _ in range(5):
        device = house.device()
        device.send(encode_frame(4, 9, b"no job"))
        answer: Any = device.answer(9)
        assert (answer.code, device.closed) == (5, True)
    assert house.count("SELECT count(*) FROM quarantine") == 1
    house.pass_time(61)
    device = house.device()
    device.send(encode_frame(4, 9, b"no job"))
    assert house.count("SELECT count(*) FROM quarantine") == 2


# Without a disk


@pytest.mark.parametrize("state", [State.GRACE, State.OFFLINE])
def test_a_job_that_cannot_be_stored_is_left_to_the_device(make: Make, state: State) -> None:
    house = make(state, delay=20.0)
    device = house.device()
    house.disk_full = True
    assert device.tell(job(0)) == JobAck(90001, LATER)
    house.disk_full = False
    assert device.tell(job(0)) == JobAck(90001, STORED)


@pytest.mark.parametrize("status", [STORED, ALREADY, REFUSED, LATER])
def test_online_a_job_that_cannot_be_stored_is_relayed_and_the_servers_own_acknowledgement_goes_back(
    make: Make, status: int
) -> None:
    house = make()
    device, session = logged_in(house)
    house.disk_full, house.upstream.job_status = True, status
    assert device.tell(job(session)) == JobAck(90001, status)
    house.disk_full = False
    house.pass_time(2)
    ((data,),) = house.rows("SELECT data FROM notes WHERE note = 'gap'")
    assert '"records":1' in data.replace(" ", "")


def test_a_gap_that_cannot_be_noted_is_noted_later_with_what_came_in_between(make: Make) -> None:
    house = make()
    device, session = logged_in(house)
    house.disk_dead = True
    device.tell(job(session, 1))
    house.pass_time(5)
    device.tell(job(session, 2))
    house.disk_dead = False
    house.pass_time(2)
    ((data,),) = house.rows("SELECT data FROM notes WHERE note = 'gap'")
    assert '"records":2' in data.replace(" ", "")


@pytest.mark.parametrize("silent", ["silent", "lost", "error"])
def test_online_without_a_disk_and_an_answer_the_device_keeps_its_job(make: Make, silent: str) -> None:
    house = make()
    device, session = logged_in(house)
    house.disk_full = house.upstream.silent = True
    sequence = device.ask(job(session))
    if silent == "lost":
        house.run(house.upstream.lose_line("copier-1", house.moment()))
    elif silent == "error":
        house.say(house.upstream.under_way[0], Error(5, "no"))
    else:
        house.pass_time(1.1)
    assert device.answer(sequence) == JobAck(90001, LATER)


def test_online_without_a_disk_a_job_of_locums_own_session_is_left_to_the_device(make: Make) -> None:
    house = make(State.OFFLINE)
    device, session = logged_in(house)
    house.move(State.ONLINE)
    house.disk_full = True
    assert device.tell(job(session)) == JobAck(90001, LATER)


# Elsewhere


def test_where_records_go_elsewhere_jobs_are_kept_and_acknowledged_at_once(make: Make) -> None:
    house = make(records_to="books")
    device, session = logged_in(house)
    house.books.silent = True
    assert device.tell(job(session)) == JobAck(90001, STORED)
    house.pass_time(1)
    assert [item.upstream for item in house.books.records] == ["books"]
    assert [sent for sent in house.upstream.asked if sent.frame.type == 4] == []


def test_a_job_of_a_papercut_session_carries_its_user_and_waits_for_the_server(make: Make) -> None:
    house = make(server="papercut")
    device, session = logged_in(house)
    house.upstream.silent = True
    sequence = device.ask(job(session))
    assert device.answers(sequence) == []
    ((item, waiter),) = house.upstream.waiting
    assert item.facts is not None
    assert (item.facts.card, item.facts.user, item.facts.mode) == (CARD, "amara.okafor", "online")
    assert waiter is not None
    house.run([*house.upstream.delivered(item, house.moment()), *waiter.answered((), house.moment())])
    assert device.answer(sequence) == JobAck(90001, STORED)


def test_the_order_at_papercut_is_by_the_user_whom_the_card_is_remembered_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make(State.OFFLINE, server="papercut")
    asked: list[tuple[str, ...]] = []

    def order_key(*names: str) -> str:
        asked.append(names)
        return "key"

    monkeypatch.setattr(house.upstream, "order_key", order_key)
    house.site.lessons[CARD] = CardFacts(house.wall, True, "amara.okafor")
    device, session = logged_in(house)
    device.tell(job(session))
    assert asked == [("copier-1", f"{session:016x}", CARD, "amara.okafor")]
    assert house.rows("SELECT p.user FROM jobs JOIN personal p USING (seq)") == [("",)], "resolved when forwarded"


# Limits and drills


def test_pages_count_against_the_limit_of_the_card_and_a_job_is_never_cut_off(make: Make) -> None:
    house = make(State.OFFLINE, policy={"max_pages_per_card": 20})
    device, session = logged_in(house)
    for number in (1, 2):
        assert device.tell(job(session, number)) == JobAck(number, STORED)
    assert device.tell(job(session, 2)) == JobAck(2, ALREADY), "a repeat counts once"
    assert device.login().status == 5


def test_a_drills_jobs_are_marked_held_to_its_end_and_then_forwarded(make: Make) -> None:
    house = make()
    house.run(house.site.drills.start("copier-1", 600, "a test", "root", house.moment()))
    device, session = logged_in(house)
    assert device.tell(job(session)) == JobAck(90001, STORED)
    house.pass_time(1)
    assert house.upstream.records == []
    assert house.rows("SELECT mode FROM jobs") == [("drill",)]
    house.run(house.site.drills.stop("copier-1", "enough", "root", house.moment()))
    house.pass_time(1)
    assert len(house.upstream.records) == 1


def test_a_job_of_the_servers_session_is_relayed_in_a_drill_too(make: Make) -> None:
    house = make()
    device, session = logged_in(house)
    house.run(house.site.drills.start("copier-1", 600, "a test", "root", house.moment()))
    assert device.tell(job(session)) == JobAck(90001, STORED)
    assert [sent.frame.type for sent in house.upstream.asked] == [2, 4]
