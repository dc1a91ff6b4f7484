"""PaperCut: the mark at the server, which keeps cloned and restored appliances from delivering twice."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.dialects.papercut.watermark import BATCH, mark_from
from proxy.link import State
from tests.flows.papercut_house import House, Make, each_once, go_offline, http_answer, make_houses, mark_of, people

make = pytest.fixture(make_houses)
NAME = "locum.box-1"


@pytest.fixture
def house(make: Make) -> House:
    return make()


def copy_of(house: House, folder: Path) -> House:
    """Another appliance with a copy of this one's ledger, as it is now, and the same server."""
    folder.mkdir()
    with closing(sqlite3.connect(house.ledger.path)) as source, closing(sqlite3.connect(folder / "ledger.db")) as copy:
        source.backup(copy)
    clone = House(folder, server=house.server, now=house.now, wall=house.wall)
    clone._jobs, clone._drawn = 1000, 1_000_000  # other random numbers than the first one's
    return clone


def test_the_mark_is_remembered_then_written_before_anything_is_sent(house: House) -> None:
    stored = house.job("CARD-ann")
    house.pass_time(0.5)
    order = [name for name, given in house.server.calls if name == "processJob" or NAME in str(given)]
    assert order == ["getConfigValue", "setConfigValue", "processJob"]
    mark = mark_of(house)
    assert (mark["lowest"], mark["highest"]) == (stored.seq, stored.seq)
    ((digest,),) = house.rows("SELECT hash FROM entries WHERE seq = ?", stored.seq)
    assert mark["head"] == digest.hex()
    ((kept,),) = house.rows("SELECT value FROM memory WHERE key = 'claim:hq'")
    assert house.server.values[NAME] in json.loads(kept)


def test_it_says_that_all_is_settled_when_it_is(house: House) -> None:
    stored = house.job("CARD-ann")
    house.pass_time(6)
    mark = mark_of(house)
    assert (mark["lowest"], mark["highest"]) == (stored.seq + 1, stored.seq)


def test_one_mark_covers_all_that_waits_and_is_renewed_while_sending(house: House) -> None:
    people(house, 100)
    go_offline(house)
    house.jobs([f"P{each % 100}" for each in range(BATCH + 500)])
    house.server.down = False
    house.until(State.ONLINE)
    house.pass_time(5)
    assert 2 <= house.server.count("setConfigValue") <= 5
    assert len(house.server.book) == BATCH + 500


def test_a_claim_is_drawn_anew_at_every_start(house: House) -> None:
    house.job("CARD-ann")
    house.pass_time(5)
    first = mark_of(house)["claim"]
    house.restart()
    house.pass_time(3)
    house.job("CARD-ann")
    house.pass_time(5)
    assert mark_of(house)["claim"] != first
    assert len(house.server.book) == 2
    assert house.upstream.trouble == ""


def test_of_two_copies_one_stops_and_nothing_is_delivered_twice(house: House, tmp_path: Path) -> None:
    house.job("CARD-ann")
    house.pass_time(5)
    go_offline(house)
    house.jobs(["CARD-bob", "CARD-cleo"] * 10)
    house.pass_time(1)
    clone = copy_of(house, tmp_path / "clone")
    house.server.down = False
    house.until(lambda: house.outbox() == {})
    clone.now, clone.wall = house.now, house.wall
    clone.pass_time(20)
    assert clone.outbox() == {"waiting": 20}
    assert each_once(house)
    assert "locum outbox claim" in " ".join(clone.words("error"))
    assert "does not have" in clone.upstream.trouble or "copy of this ledger" in clone.upstream.trouble
    assert [tell.alarm for tell in clone.told if tell.level == "error"] == ["server"]
    clone.close()


def test_an_older_copy_of_the_ledger_stops(house: House, tmp_path: Path) -> None:
    house.job("CARD-ann")
    house.pass_time(5)
    old = copy_of(house, tmp_path / "old")
    house.pass_time(3)
    for _ in range(5):
        house.job("CARD-bob")
    house.pass_time(10)
    old.now, old.wall = house.now, house.wall
    old.pass_time(3)
    stored = old.job("CARD-cleo")
    old.pass_time(10)
    assert old.state_of(stored) == "waiting"
    assert old.upstream.trouble
    assert [answer.user for answer in _asked(old, "CARD-ann")] == ["ann"], "logins go on"
    old.close()


def _asked(house: House, card: str) -> list:  # type: ignore[type-arg]
    asker = house.ask(card)
    house.pass_time(0.5)
    return asker.answers


def test_a_claim_by_hand_takes_over(house: House) -> None:
    house.server.values[NAME] = json.dumps({"claim": "ff" * 16, "lowest": 900, "highest": 999, "head": "00" * 32})
    stored = house.job("CARD-ann")
    house.pass_time(5)
    assert "999" in house.upstream.trouble
    assert "locum outbox claim" in house.upstream.trouble
    assert house.state_of(stored) == "waiting"
    house.run(house.upstream.claim(house.moment()))
    house.pass_time(5)
    assert house.state_of(stored) == "left"
    assert house.upstream.trouble == ""
    assert any("has taken over" in text for text in house.words("warning"))


def test_a_stranger_in_the_value_stops_too(house: House) -> None:
    house.server.values[NAME] = "something of somebody"
    stored = house.job("CARD-ann")
    house.pass_time(5)
    assert house.state_of(stored) == "waiting"
    assert "holds something that Locum did not write" in house.upstream.trouble


def test_a_value_that_is_gone_is_a_warning(house: House) -> None:
    house.job("CARD-ann")
    house.pass_time(5)
    assert house.words("warning") == []
    del house.server.values[NAME]
    stored = house.job("CARD-bob")
    house.pass_time(5)
    assert house.state_of(stored) == "left"
    assert any("is gone" in text for text in house.words("warning"))


@pytest.mark.parametrize("how", ["sent", "unread", "half"])
def test_a_write_whose_fate_is_unknown_is_no_mismatch(house: House, how: str) -> None:
    house.job("CARD-ann")
    house.pass_time(5)
    house.server.cut["setConfigValue"] = how
    stored = house.job("CARD-bob")
    house.pass_time(0.5)
    house.restart()
    house.server.cut.clear()
    house.pass_time(8)
    assert house.state_of(stored) == "left"
    assert house.upstream.trouble == ""


def test_a_server_that_refuses_the_value_is_told_and_nothing_is_sent(house: House) -> None:
    house.server.faults["setConfigValue"] = "java.lang.Exception: read only"
    stored = house.job("CARD-ann")
    house.pass_time(30)
    assert house.state_of(stored) == "waiting"
    assert "read only" in house.upstream.trouble
    assert sum("read only" in text for text in house.words("error")) == 1
    house.server.faults.clear()
    house.pass_time(15)
    assert house.state_of(stored) == "left"


def test_after_an_outage_the_mark_is_read_again_before_anything_is_sent(house: House) -> None:
    house.jobs(["CARD-ann"] * 3)
    house.pass_time(0.5)
    go_offline(house)
    house.jobs(["CARD-ann"])
    house.server.values[NAME] = json.dumps({"claim": "ff" * 16, "lowest": 1, "highest": 2, "head": "00" * 32})
    house.server.down = False
    house.pass_time(20)
    assert house.outbox() == {"waiting": 1}
    assert house.upstream.trouble


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"claim":1,"lowest":1,"highest":1,"head":""}', "[" * 5000])
def test_what_is_no_mark_is_read_as_none(text: str) -> None:
    assert mark_from(text) is None


class Once(dict[str, bytes]):
    """Answers that are given once."""

    def get(self, key: str, default: Any = None) -> Any:
        return self.pop(key, default)


@pytest.mark.parametrize("value", ["ann", "", "{}"])
def test_one_odd_answer_to_the_reading_is_no_reason_to_stop(house: House, value: str) -> None:
    house.job("CARD-ann")
    house.pass_time(5)
    stood = house.server.values[NAME]
    body = f"<methodResponse><params><param><value>{value}</value></param></params></methodResponse>".encode()
    house.server.raw = Once({"getConfigValue": http_answer(200, body, "text/xml")})
    reads = house.server.count("getConfigValue")
    kept = house.channels()
    stored = house.job("CARD-bob")
    house.until(lambda: house.server.count("getConfigValue") == reads + 2)
    assert not set(kept) & set(house.channels()), "what the kept connections say is doubted"
    house.pass_time(4)
    assert house.server.values[NAME] != stood
    assert house.state_of(stored) == "left"
    assert house.upstream.trouble == ""
    assert house.words("warning") == []


def test_a_late_duplicate_of_another_answer_ends_its_connection_and_nothing_else(house: House) -> None:
    house.job("CARD-ann")
    house.pass_time(5)
    body = b"<methodResponse><params><param><value>ann</value></param></params></methodResponse>"
    for channel in house.channels():
        house.receive(channel, http_answer(200, body, "text/xml"))
    assert house.channels() == []
    stored = house.job("CARD-bob")
    house.pass_time(3)
    assert house.state_of(stored) == "left"
