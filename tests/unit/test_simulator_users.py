"""The users of the simulated server: what a CSV may say, and that a mistake in it names file and line."""

from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.simulator.users import UsersError, parse_users, read_users, shipped_users

HEADER = "username,full_name,card,secondary_card,balance,restricted\n"


def test_a_user_is_found_by_either_card_in_any_case_of_letters() -> None:
    users = parse_users(HEADER + 'aberg,"Berg, Anna",04a1c3f2,88120045,12.40,no\n', "users.csv")
    user = users.of_card("04A1c3F2")
    assert user is not None
    assert (user.username, user.full_name, user.balance) == ("aberg", "Berg, Anna", Decimal("12.40"))
    assert users.of_card("88120045") is user
    assert users.named("ABERG") is user
    assert users.of_card("4A1C3F2") is None


def test_empty_columns_mean_none_and_a_blank_line_is_passed_over() -> None:
    users = parse_users(HEADER + "\nkiosk,,,,,\n", "users.csv")
    user = users.named("kiosk")
    assert user is not None
    assert (user.full_name, user.cards, user.balance, user.restricted) == ("kiosk", (), Decimal(0), False)


@pytest.mark.parametrize(
    ("balance", "restricted", "may_copy"),
    [("0.00", "yes", False), ("-1", "yes", False), ("0.01", "yes", True), ("0", "no", True), ("-5", "no", True)],
)
def test_a_restricted_user_may_not_copy_without_balance(balance: str, restricted: str, may_copy: bool) -> None:
    users = parse_users(f"{HEADER}a,A,1,,{balance},{restricted}\n", "users.csv")
    assert [user.may_copy for user in users] == [may_copy]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (HEADER + "a,A,01AB,,0,no\nb,B,,01ab,0,no\n", 3, "card '01AB' stands in line 2 too"),
        (HEADER + "a,A,01AB,01ab,0,no\n", 2, "card '01AB' stands in this line twice"),
        (HEADER + "a,A,1,,0,no\n\nA,B,2,,0,no\n", 4, "username 'a' stands in line 2 too"),
        (HEADER + "a,A,1,,0\n", 2, "5 columns instead of 6"),
        (HEADER + ",A,1,,0,no\n", 2, "the username is empty"),
        (HEADER + "a,A,1 2,,0,no\n", 2, "card '1 2'"),
        (HEADER + "a,A,1,,much,no\n", 2, "balance 'much'"),
        (HEADER + "a,A,1,,0,perhaps\n", 2, "restricted is 'perhaps'"),
        (HEADER + 'a,"A,1,,0,no\n', 2, "unexpected end"),
        ("username,card\na,1\n", 1, "the first line must be username,full_name"),
        ("", 1, "the first line must be"),
    ],
)
def test_a_mistake_names_file_line_and_what_is_wrong(text: str, line: int, words: str) -> None:
    with pytest.raises(UsersError) as raised:
        parse_users(text, "users.csv")
    assert str(raised.value).startswith(f"users.csv line {line}: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_without_users_is_refused() -> None:
    with pytest.raises(UsersError, match="there is no user in it"):
        parse_users(HEADER, "users.csv")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsersError, match=r"none\.csv: cannot be read \(No such file"):
        read_users(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"m,M\xfcller,1,,0,no\n")
    with pytest.raises(UsersError, match="is not UTF-8"):
        read_users(tmp_path / "latin.csv")


def test_a_file_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text(HEADER + "a,A,1,,0,no\r\n", "utf-8-sig")
    assert len(read_users(tmp_path / "users.csv")) == 1


@given(st.text())
def test_any_text_gives_users_or_a_users_error(text: str) -> None:
    with suppress(UsersError):
        assert len(parse_users(HEADER + text, "users.csv")) > 0


def test_the_people_who_come_with_locum_have_cards_and_one_has_no_credit() -> None:
    users = shipped_users()
    assert len(users) == 24
    assert all(user.card for user in users)
    assert [user.username for user in users if not user.may_copy] == ["dkeller"]
