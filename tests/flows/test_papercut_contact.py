"""PaperCut: what is contact and what is not, what proves a server, what is trouble and no outage, several addresses."""

from __future__ import annotations

import pytest

from proxy.commands import Tls
from proxy.link import State
from tests.flows.papercut_house import HERE, REFUSED_TOKEN, THERE, House, Make, go_offline, http_answer, make_houses

make = pytest.fixture(make_houses)
EVERY = ("getTotalUsers", "lookUpUserNameByCardNo", "processJob", "getConfigValue", "setConfigValue", "getUserProperty")


@pytest.fixture
def house(make: Make) -> House:
    return make()


def answers_all(house: House, raw: bytes) -> None:
    house.server.raw = dict.fromkeys((*EVERY, "getUserProperties", "isUserExists"), raw)


STRANGE = {
    "a web page": http_answer(200, b"<!DOCTYPE html><html><body>Sign in</body></html>"),
    "half an XML document": http_answer(200, b"<?xml version='1.0'?><methodResponse><params><par", "text/xml"),
    "more than 1 MiB": http_answer(200, b"<a>" + bytes(1 << 20), "text/xml"),
    "HTTP 502": http_answer(502, b"bad gateway"),
    "HTTP 503": http_answer(503, b"unavailable"),
    "HTTP 504": http_answer(504, b"timeout"),
    "HTTP 302": http_answer(302, b"", Location="/login"),
    "no XML-RPC": http_answer(200, b"hello", "text/plain"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "did not end in time": b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n",
}


@pytest.mark.parametrize("words", STRANGE)
def test_what_proves_nothing_counts_like_silence_and_is_told_apart(house: House, words: str) -> None:
    stored = house.job("NOBODYS", user="")
    answers_all(house, STRANGE[words])
    house.until(State.OFFLINE)
    assert any(words in text for text in house.words()), house.words()
    assert house.state_of(stored) in ("waiting", "in_doubt")
    house.server.raw.clear()
    house.until(State.ONLINE)


def test_an_answer_that_is_cut_off_counts_like_silence(house: House) -> None:
    house.server.cut = dict.fromkeys(EVERY, "half")
    house.until(State.OFFLINE)
    assert any("cut off" in text for text in house.words())


def test_strange_answers_are_told_once_a_minute(house: House) -> None:
    answers_all(house, STRANGE["a web page"])
    house.pass_time(50)
    assert sum("9191 answered with a web page" in text for text in house.words()) == 1


@pytest.mark.parametrize("status", [500, 401, 403, 404, 429])
def test_an_error_of_the_servers_own_is_trouble_and_no_outage(house: House, status: int) -> None:
    stored = house.job("CARD-ann")
    answers_all(house, http_answer(status, b"<html>no</html>"))
    house.pass_time(50)
    assert house.state is State.ONLINE
    assert house.state_of(stored) in ("waiting", "in_doubt")
    assert f"HTTP {status}" in house.upstream.trouble
    alarms = [tell for tell in house.told if tell.alarm == "server"]
    assert alarms
    assert all(tell.level == "error" for tell in alarms)
    assert len(alarms) <= 3
    house.server.raw.clear()
    house.pass_time(15)
    assert house.upstream.trouble == ""


def test_a_fault_is_contact(house: House) -> None:
    go_offline(house)
    house.server.token = "another"
    house.server.down = False
    house.until(State.ONLINE, most=10)
    assert "refuses every call" in house.upstream.trouble


def test_a_wrong_token_never_proves_a_server(make: Make) -> None:
    house = make(token="wrong")
    house.pass_time(5)
    assert not house.upstream.link.proven
    assert REFUSED_TOKEN in house.upstream.trouble
    house.server.down = True
    house.pass_time(60)
    assert house.state is State.GRACE, "unproven: nobody is let in"
    house.server.down = False
    house.server.token = "wrong"
    house.pass_time(5)
    assert house.upstream.link.proven
    assert house.rows("SELECT count(*) FROM memory WHERE key LIKE 'proven:hq:%'") == [(1,)]


def test_another_token_makes_the_server_unproven_again(house: House) -> None:
    assert house.upstream.link.proven
    house.server.down = True
    house.reload(token="new")
    assert not house.upstream.link.proven
    house.server.down, house.server.token = False, "new"
    house.pass_time(12)
    assert house.upstream.link.proven


def test_an_answer_to_the_old_token_does_not_prove_the_new_one(house: House) -> None:
    house.server.late["lookUpUserNameByCardNo"] = 0.5
    house.ask("CARD-ann")
    house.pass_time(0.2)
    house.reload(token="wrong")
    house.pass_time(3)
    assert not house.upstream.link.proven


def test_a_reload_in_the_middle_of_a_drain_loses_nothing(house: House) -> None:
    go_offline(house)
    house.jobs(["CARD-ann", "CARD-bob", "CARD-cleo"] * 20)
    house.server.down = False
    house.server.delay = 0.05
    house.until(lambda: len(house.server.book) > 5)
    house.server.token = "new"
    house.reload(token="new")
    house.pass_time(60)
    assert sorted(house.server.booked()) == sorted(set(house.server.booked()))
    assert len(house.server.book) == 60
    assert house.outbox() == {}


def test_refused_connections_end_contact_after_a_second_probe(house: House) -> None:
    house.server.refusing = True
    house.end_all()
    house.ask("CARD-ann")
    house.pass_time(0.2)
    assert house.state is State.GRACE
    assert "connection refused" in house.upstream.link.cause


def test_silence_ends_contact_after_the_answer_timeout(house: House) -> None:
    house.server.down = True
    house.ask("CARD-ann")
    house.pass_time(0.9)
    assert house.state is State.ONLINE
    house.pass_time(0.3)
    assert house.state is State.GRACE


def test_one_call_that_hangs_is_no_outage(house: House) -> None:
    house.server.silent.add("lookUpUserNameByCardNo")
    house.ask("CARD-ann")
    house.pass_time(5)
    assert house.state is State.ONLINE


def test_a_quiet_server_is_asked_each_probe_interval(house: House) -> None:
    before = house.server.count("getTotalUsers")
    house.pass_time(60)
    assert house.server.count("getTotalUsers") - before == 6


def test_tls_that_fails_is_no_contact_and_an_alarm(make: Make) -> None:
    house = make(tls=Tls(name="papercut.example"))
    house.end_all()
    house.server.tls_error = "its certificate is not signed by the CA of ca_file"
    house.until(State.GRACE)
    house.pass_time(20)
    told = [tell for tell in house.told if "not signed by the CA" in tell.text and tell.alarm == "server"]
    assert len(told) == 1
    assert "not signed by the CA" in house.upstream.link.cause


def test_another_address_is_used_when_the_first_does_not_answer(make: Make) -> None:
    house = make(addresses=(HERE, THERE))
    house.server.down_at.add(HERE)
    asker = house.ask("CARD-ann")
    stored = house.job("CARD-bob")
    house.pass_time(4)
    assert house.state is State.ONLINE
    assert house.upstream.details()["address_in_use"] == THERE
    assert [answer.user for answer in asker.answers] == ["ann"]
    house.pass_time(20)
    assert house.state_of(stored) == "left"


def test_an_address_that_is_not_used_any_more_takes_no_record_with_it(house: House) -> None:
    house.server.late["processJob"] = 0.5
    stored = house.job("CARD-ann")
    house.pass_time(0.2)
    house.reload(addresses=(THERE,))
    house.pass_time(3)
    assert house.state_of(stored) == "left"
    assert house.server.booked() == [stored.id]


def test_logins_offline_go_first_to_a_server_that_answers_again(house: House) -> None:
    go_offline(house)
    assert not house.upstream.tries_first(house.now)
    house.server.down = False
    house.pass_time(0.7)
    assert house.upstream.tries_first(house.now)


def test_in_an_outage_no_trouble_of_before_is_shown(house: House) -> None:
    answers_all(house, http_answer(500, b"oops"))
    house.pass_time(12)
    assert "HTTP 500" in house.upstream.trouble
    answers_all(house, http_answer(503, b"later"))
    house.pass_time(2.5)
    assert "HTTP 500" not in house.upstream.trouble
    house.until(State.OFFLINE)
    assert house.upstream.trouble == ""
    assert "HTTP 503" in house.upstream.link.cause


@pytest.mark.parametrize("method", ["getTotalUsers", "lookUpUserNameByCardNo"])
def test_an_answer_of_a_wrong_type_is_trouble_and_no_outage(house: House, method: str) -> None:
    body = b"<methodResponse><params><param><value><array><data/></array></value></param></params></methodResponse>"
    house.server.raw[method] = http_answer(200, body, "text/xml")
    house.ask("CARD-ann")
    house.pass_time(12)
    assert house.state is State.ONLINE
    assert f"api.{method}" in house.upstream.trouble
    assert "an array" in house.upstream.trouble
    house.server.raw.clear()
    house.ask("CARD-ann")
    house.pass_time(12)
    assert house.upstream.trouble == ""
