"""The users of the simulated Application Server, read from CSV.

Columns: `username,full_name,card,secondary_card,balance,restricted`, named in the first line. Cards are compared
without regard to case, leading zeros kept. A restricted user may not copy once the balance is used up. Whoever gives
no file gets the two dozen people of `users.csv`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path

COLUMNS = ("username", "full_name", "card", "secondary_card", "balance", "restricted")
_HEADER = ",".join(COLUMNS)
_YES_OR_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}
_BALANCE = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,4})?")
_CARD = re.compile(r"[!-~]{1,64}")


class UsersError(Exception):
    """The users cannot be read. The text is one line: file, line, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class User:
    """`card` and `secondary_card` are upper-case, "" where there is none."""

    username: str
    full_name: str
    card: str
    secondary_card: str = ""
    balance: Decimal = Decimal(0)
    restricted: bool = False

    @property
    def cards(self) -> tuple[str, ...]:
        """The cards there are."""
        return tuple(card for card in (self.card, self.secondary_card) if card)

    @property
    def may_copy(self) -> bool:
        """Whether the server lets this user in."""
        return self.balance > 0 or not self.restricted


class Users:
    """All users, found by card or by name."""

    def __init__(self, users: Iterable[User]) -> None:
        self._by_name = {user.username.lower(): user for user in users}
        self._by_card = {card: user for user in self._by_name.values() for card in user.cards}

    def of_card(self, card: str) -> User | None:
        """Whose card this is; None if it is nobody's."""
        return self._by_card.get(card.upper())

    def named(self, username: str) -> User | None:
        """The user of this name; None if there is none."""
        return self._by_name.get(username.lower())

    def __iter__(self) -> Iterator[User]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)


def shipped_users() -> Users:
    """The people of `users.csv`, who come with Locum."""
    return parse_users(resources.files("appliance.simulator").joinpath("users.csv").read_text("utf-8"), "users.csv")


def read_users(path: Path) -> Users:
    """The users in a file. Raises UsersError."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsersError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise UsersError(f"{path}: cannot be read ({error.strerror}); name a file that this user may read") from None
    return parse_users(text, str(path))


def parse_users(text: str, name: str) -> Users:
    """The users in the text of a file called `name`. Raises UsersError."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    users: list[User] = []
    lines: dict[tuple[str, str], int] = {}
    try:
        first = next(reader, [])
        if tuple(first) != COLUMNS:
            raise _Wrong(f"the first line must be {_HEADER}")
        for row in reader:
            if row:
                user = _user(row)
                _note_line(lines, user, reader.line_num)
                users.append(user)
    except (_Wrong, csv.Error) as error:
        raise UsersError(f"{name} line {max(1, reader.line_num)}: {error}") from None
    if not users:
        raise UsersError(f"{name}: there is no user in it; add a line for each: {_HEADER}")
    return Users(users)


class _Wrong(Exception):
    """What is wrong with the line at hand."""


def _user(row: Sequence[str]) -> User:
    if len(row) != len(COLUMNS):
        raise _Wrong(f"{len(row)} columns instead of {len(COLUMNS)}: {_HEADER}")
    username, full_name, card, secondary_card, balance, restricted = (column.strip() for column in row)
    if not username:
        raise _Wrong("the username is empty; every user needs one")
    for each in (card, secondary_card):
        if each and not _CARD.fullmatch(each):
            raise _Wrong(
                f"card '{each}' is not 1 to 64 characters without spaces; give the number that the reader yields"
            )
    if balance and not _BALANCE.fullmatch(balance):
        raise _Wrong(f"balance '{balance}' is no amount; write it as 12.50")
    if restricted.lower() not in _YES_OR_NO:
        raise _Wrong(f"restricted is '{restricted}'; write yes or no")
    return User(
        username,
        full_name or username,
        card.upper(),
        secondary_card.upper(),
        Decimal(balance or "0"),
        _YES_OR_NO[restricted.lower()],
    )


def _note_line(lines: dict[tuple[str, str], int], user: User, line: int) -> None:
    """Remember where each name and card stands; raises _Wrong for the second of its kind."""
    for kind, value in [("username", user.username.lower()), *(("card", card) for card in user.cards)]:
        before = lines.setdefault((kind, value), line)
        if before != line or (kind == "card" and user.card == user.secondary_card):
            where = f"line {before} too" if before != line else "this line twice"
            raise _Wrong(f"{kind} '{value}' stands in {where}; every {kind} may be there once")
