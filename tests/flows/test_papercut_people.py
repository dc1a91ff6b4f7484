"""PaperCut: whose activity it was, in the order of offline-mode.md; and what a listener is told of a card."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from proxy.link import State
from tests.flows.papercut_house import House, Make, go_offline, make_houses

make = pytest.fixture(make_houses)


@pytest.fixture
def house(make: Make) -> House:
    return make()


def methods(house: House) -> list[str]:
    skipped = ("getTotalUsers", "setConfigValue", "getUserProperty")
    return [name for name, given in house.server.calls if name not in skipped and "locum." not in str(given)]


# Whose activity it was


def test_a_card_that_a_user_has_is_logged_against_that_user(house: House) -> None:
    house.job("CARD-ann")
    house.pass_time(0.5)
    assert [job["user"] for job in house.server.book] == ["ann"]
    assert house.words() == []


def test_a_user_whom_the_server_named_is_not_resolved_again(house: House) -> None:
    house.job("CARD-ann", user="bob")
    house.pass_time(0.5)
    assert [job["user"] for job in house.server.book] == ["bob"]
    assert house.server.count("lookUpUserNameByCardNo") == 0


def test_a_card_is_whose_it_is_when_it_is_forwarded(house: House) -> None:
    go_offline(house)
    house.job("CARD-ann")
    house.server.cards["CARD-ann"] = "bob"
    house.server.down = False
    house.until(State.ONLINE)
    assert [job["user"] for job in house.server.book] == ["bob"]


def test_a_card_is_looked_up_again_in_the_next_drain(house: House) -> None:
    house.job("CARD-ann")
    house.pass_time(3)
    house.server.cards["CARD-ann"] = "bob"
    house.job("CARD-ann")
    house.pass_time(1)
    assert [job["user"] for job in house.server.book] == ["ann", "bob"]


def test_a_card_that_nobody_has_goes_to_the_unknown_user_in_this_order(house: House) -> None:
    stored = house.job("NOBODYS", pages=3)
    house.pass_time(0.5)
    assert methods(house) == [
        "lookUpUserNameByCardNo", "getConfigValue", "isUserExists", "addNewInternalUser", "processJob"
    ]  # fmt: skip
    assert [job["user"] for job in house.server.book] == ["unknown"]
    created, warning = [tell for tell in house.told if tell.level == "warning"]
    assert "did not exist at the server and was created" in created.text
    assert "nobody has the card" in warning.text
    assert warning.personal.card == "NOBODYS"
    assert "NOBODYS" not in warning.text + str(warning.context)
    assert warning.context == {
        "upstream": "hq",
        "device": "copier-1",
        "record": stored.id,
        "time": "20261118T110640",
        "kind": "copy",
        "pages": 3,
    }
    assert house.rows("SELECT unknown_card FROM deliveries") == [(1,)]
    assert len(house.server.users["unknown"]["password"]) == 48


def test_an_unknown_user_that_exists_is_not_created(house: House) -> None:
    house.server.person("unknown")
    house.job("NOBODYS")
    house.pass_time(0.5)
    assert house.server.count("addNewInternalUser") == 0
    assert len(house.words("warning")) == 1


def test_the_servers_own_name_for_the_unknown_user_counts_first(make: Make) -> None:
    house = make(unknown="nobody")
    house.server.values["ext-device.unknown-offline-username"] = "walk-ins"
    house.job("NOBODYS")
    house.pass_time(0.5)
    assert [job["user"] for job in house.server.book] == ["walk-ins"]


@pytest.mark.parametrize("refused", [False, True])
def test_without_one_that_can_be_read_the_configured_name_counts(make: Make, refused: bool) -> None:
    house = make(unknown="nobody")
    if refused:
        house.server.faults["getConfigValue"] = lambda given: "not allowed" * ("locum." not in given[""])
    house.job("NOBODYS")
    house.pass_time(1)
    assert [job["user"] for job in house.server.book] == ["nobody"]


def test_somebody_who_creates_the_unknown_user_first_is_no_failure(house: House) -> None:
    def faster(given: dict[str, str]) -> str:
        house.server.person("unknown")
        return "java.lang.Exception: User already exists"

    house.server.faults["addNewInternalUser"] = faster
    house.job("NOBODYS")
    house.pass_time(1)
    assert [job["user"] for job in house.server.book] == ["unknown"]
    assert not any("was created" in text for text in house.words())


def test_an_unknown_user_that_cannot_be_created_leaves_the_record_waiting(house: House) -> None:
    house.server.faults["addNewInternalUser"] = "java.lang.Exception: no licence left"
    stored = house.job("NOBODYS")
    house.pass_time(3)
    assert house.state_of(stored) == "waiting"
    assert "no licence left" in house.rows("SELECT reason FROM outbox")[0][0]
    assert house.server.book == []


def test_a_job_with_neither_card_nor_user_goes_to_the_unknown_user(house: House) -> None:
    house.job()
    house.pass_time(0.5)
    assert [job["user"] for job in house.server.book] == ["unknown"]
    assert house.server.count("lookUpUserNameByCardNo") == 0
    assert house.rows("SELECT unknown_card FROM deliveries") == [(0,)]


@pytest.mark.parametrize("how", ["fault", "silent", "500"])
def test_a_look_up_that_fails_leaves_the_record_waiting_against_nobody(house: House, how: str) -> None:
    server = house.server
    if how == "fault":
        server.faults["lookUpUserNameByCardNo"] = "java.lang.NullPointerException: null"
    elif how == "silent":
        server.silent.add("lookUpUserNameByCardNo")
    else:
        server.raw["lookUpUserNameByCardNo"] = b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"
    stored = house.job("CARD-ann")
    other = house.job(user="bob")
    house.pass_time(12)
    assert house.state_of(stored) == "waiting"
    assert house.state_of(other) == "left", "others go on"
    assert house.state is State.ONLINE
    server.faults.clear()
    server.silent.clear()
    server.raw.clear()
    house.pass_time(40)
    assert [job["user"] for job in server.book] == ["bob", "ann"]


def test_each_card_is_looked_up_once_in_a_drain(house: House) -> None:
    go_offline(house)
    house.jobs(["CARD-ann", "CARD-bob", "GONE-1", "GONE-2"] * 25)
    house.server.down = False
    house.server.delay = 0.02
    house.until(State.ONLINE)
    assert house.server.count("lookUpUserNameByCardNo") == 4
    assert house.server.count("isUserExists") == 1
    assert house.server.count("addNewInternalUser") == 1
    assert len(house.server.book) == 100


def test_the_converted_number_is_looked_up_first_then_the_one_that_was_read(make: Make) -> None:
    house = make(converters=("hex2dec",))
    house.server.cards["2490285352"] = "ann"
    house.server.cards["AAAA"] = "bob"
    house.job("946EBD28=17")
    house.job("946EBD28")
    house.job("AAAA")
    house.pass_time(2)
    assert sorted(job["user"] for job in house.server.book) == ["ann", "ann", "bob"]
    looked = [given[0] for name, given in house.server.calls if name == "lookUpUserNameByCardNo"]
    assert looked[-2:] == ["43690", "AAAA"]
    answers = {row[2] for row in house.deliveries()}
    assert answers == {"the card number matched converted", "the card number matched as read"}


# Time


@pytest.mark.parametrize(
    ("utc", "local"),
    [
        (1_792_886_400_000 + 30 * 60_000, "20261025T023000"),
        (1_792_890_000_000 + 30 * 60_000, "20261025T023000"),
        (1_774_745_999_000, "20260329T015959"),
        (1_774_746_000_000, "20260329T030000"),
    ],
    ids=["the repeated hour, summer time", "the repeated hour, winter time", "before the skipped hour", "after it"],
)
def test_the_server_is_told_its_own_local_time(make: Make, utc: int, local: str) -> None:
    house = make(zone=ZoneInfo("Europe/Berlin"), wall=utc - 500)
    house.job("CARD-ann", started_at=utc - 60_000, ended_at=utc)
    house.pass_time(1)
    assert [job["time"] for job in house.server.book] == [local]


def test_a_devices_clock_that_cannot_be_right_is_not_believed(house: House) -> None:
    house.job("CARD-ann", started_at=86_400_000, ended_at=86_460_000)
    house.pass_time(0.5)
    assert [job["time"] for job in house.server.book] == ["20261118T110640"]


# Questions of listeners


def test_a_listener_is_told_who_has_a_card(house: House) -> None:
    house.server.person("zoe", "Z", **{"full-name": "Zoe Z.", "balance": "-1.239"})
    asker = house.ask("Z")
    house.pass_time(0.3)
    (answer,) = asker.answers
    assert (answer.user, answer.full_name, answer.balance, answer.refused) == ("zoe", "Zoe Z.", -124, "")


@pytest.mark.parametrize(
    ("properties", "refused"),
    [
        ({"disabled-print": "true"}, "your account is disabled"),
        ({"restricted": "true", "balance": "0.0"}, "no credit is left on your account"),
        ({"restricted": "true", "balance": "0.01"}, ""),
        ({"restricted": "false", "balance": "-5"}, ""),
        ({"restricted": "true", "balance": "not a number"}, ""),
    ],
)
def test_a_person_who_may_not_copy_is_refused(house: House, properties: dict[str, str], refused: str) -> None:
    house.server.person("zoe", "Z", **properties)
    asker = house.ask("Z")
    house.pass_time(0.3)
    assert [answer.refused for answer in asker.answers] == [refused]


def test_a_card_that_nobody_has_is_refused(house: House) -> None:
    asker = house.ask("NOBODYS")
    house.pass_time(0.3)
    assert [(answer.user, answer.refused, answer.trouble) for answer in asker.answers] == [
        ("", "this card is not known", "")
    ]


def test_a_fault_is_told_as_trouble_and_silence_not_at_all(house: House) -> None:
    house.server.faults["getUserProperties"] = "java.lang.Exception: broken"
    asker = house.ask("CARD-ann")
    house.pass_time(0.3)
    assert ["broken" in answer.trouble for answer in asker.answers] == [True]
    house.server.down = True
    asker = house.ask("CARD-ann")
    house.pass_time(10)
    assert asker.answers == []
