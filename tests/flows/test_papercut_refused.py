"""PaperCut: records that the server refuses: set aside, corrected, or held when it refuses all."""

from __future__ import annotations

import pytest

from proxy.link import State
from storage.answers import Changed
from storage.records import Retry
from tests.flows.papercut_house import (
    REFUSED_TOKEN,
    House,
    Make,
    each_once,
    go_offline,
    make_houses,
    people,
)

make = pytest.fixture(make_houses)


@pytest.fixture
def house(make: Make) -> House:
    return make()


def test_a_fault_sets_the_record_aside_with_the_servers_words_and_others_go_on(house: House) -> None:
    house.server.faults["processJob"] = lambda job: "java.lang.Exception: no such printer" * (job["printer"] == "bad")
    bad = house.job("CARD-ann", device="bad")
    good = house.job("CARD-bob")
    house.pass_time(1)
    assert house.state_of(bad) == "rejected"
    assert house.state_of(good) == "left"
    assert (bad.seq, "refused", "java.lang.Exception: no such printer") in house.deliveries()


def test_a_corrected_printer_is_what_the_server_is_told(house: House) -> None:
    house.server.faults["processJob"] = lambda job: "no such printer" * (job["printer"] == "bad")
    stored = house.job("CARD-ann", device="bad")
    house.pass_time(1)
    (changed,) = house.ledger.commit([Retry(house.wall, (stored.seq,), "root", (("printer", "right"),))])
    assert isinstance(changed, Changed)
    for seq, _, key in changed.items:
        house.run(house.upstream.retry(seq, key, house.moment()))
    house.pass_time(1)
    assert [job["printer"] for job in house.server.book] == ["right"]
    assert house.state_of(stored) == "left"


def test_a_corrected_user_is_not_looked_up(house: House) -> None:
    house.server.faults["processJob"] = lambda job: "not this one" * (job["user"] == "ann")
    stored = house.job("CARD-ann")
    house.pass_time(1)
    house.ledger.commit([Retry(house.wall, (stored.seq,), "root", (("user", "dan"),))])
    house.run(house.upstream.retry(stored.seq, "user", house.moment()))
    house.pass_time(1)
    assert [job["user"] for job in house.server.book] == ["dan"]


def test_a_refused_token_in_the_middle_of_a_drain_rejects_nothing(house: House) -> None:
    people(house, 200)
    go_offline(house)
    for each in range(200):
        house.job(f"P{each}")
    house.server.down = False
    house.server.delay = 0.05
    house.until(lambda: len(house.server.book) >= 50)
    house.server.token = "another"
    house.pass_time(3)
    assert REFUSED_TOKEN in house.upstream.trouble
    assert set(house.outbox()) == {"waiting"}
    assert house.state is State.RECOVERING
    calls = len(house.server.calls)
    house.pass_time(20)
    assert len(house.server.calls) - calls < 60, "it does not hammer at a closed door"
    assert sum("refuses every call" in text for text in house.words("error")) == 1
    house.server.token = "lab-token"
    house.until(State.ONLINE)
    assert house.upstream.trouble == ""
    assert len(house.server.book) == 200
    assert each_once(house)
    assert house.outbox() == {}


def test_three_equal_faults_for_different_users_pause_the_drain(house: House) -> None:
    house.server.faults["processJob"] = "java.lang.Exception: database is read only"
    stored = [house.job(f"CARD-{name}") for name in ("ann", "bob", "cleo", "dan")]
    house.pass_time(5)
    assert {house.state_of(each) for each in stored} == {"waiting"}
    assert "database is read only" in house.upstream.trouble
    assert any("forwarding pauses" in text for text in house.words("error"))
    sent = house.server.count("processJob")
    house.pass_time(130)
    assert house.server.count("processJob") - sent == 2, "one record a minute is tried"
    assert house.outbox() == {"waiting": 4}
    house.server.faults.clear()
    house.pass_time(200)
    assert house.outbox() == {}
    assert house.upstream.trouble == ""
    assert each_once(house)


def test_equal_faults_for_one_user_set_only_its_records_aside(house: House) -> None:
    house.server.faults["processJob"] = lambda job: "no credit" * (job["user"] == "ann")
    refused = [house.job("CARD-ann") for _ in range(5)]
    good = [house.job("CARD-bob") for _ in range(5)]
    house.pass_time(3)
    assert {house.state_of(each) for each in refused} == {"rejected"}
    assert {house.state_of(each) for each in good} == {"left"}


def test_an_admin_who_retries_ends_the_pause(house: House) -> None:
    house.server.faults["processJob"] = "always"
    stored = [house.job(f"CARD-{name}") for name in ("ann", "bob", "cleo")]
    house.pass_time(3)
    house.server.faults.clear()
    house.run(house.upstream.retry(stored[0].seq, "", house.moment()))
    house.pass_time(5)
    assert house.outbox() == {}
