"""The users as the server knows them now: those of the file, those who were created, and what became of them.

An account is found by name, by either card, by e-mail. The users' file is taken over line by line: a line that the
book has not seen yet, or that was changed since, counts; a line that was not changed leaves the account as the book
has it, with the balance that is left and whatever was set since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from appliance.simulator.rows import UserRow
from appliance.simulator.users import User

CARD_FIELDS = ("card", "secondary_card")


class CardTaken(Exception):
    """Somebody else has this card. The text says who."""


@dataclass(slots=True)
class Account:
    """One user; `properties` has what the server only stores: email, department, office, notes and the like."""

    username: str
    full_name: str
    card: str = ""
    secondary_card: str = ""
    balance: Decimal = Decimal(0)
    restricted: bool = False
    disabled_print: bool = False
    internal: bool = False
    job_count: int = 0
    page_count: int = 0
    properties: dict[str, str] = field(default_factory=dict)
    file_line: str = ""

    @property
    def key(self) -> str:
        """The name as it is compared."""
        return self.username.lower()

    @property
    def cards(self) -> tuple[str, ...]:
        """The cards there are."""
        return tuple(card for card in (self.card, self.secondary_card) if card)

    @property
    def may_copy(self) -> bool:
        """Whether the server lets this user in."""
        return not self.disabled_print and (self.balance > 0 or not self.restricted)

    def row(self) -> UserRow:
        """The account for the book."""
        return UserRow(
            username=self.key,
            shown=self.username,
            full_name=self.full_name,
            card=self.card,
            secondary_card=self.secondary_card,
            balance=str(self.balance),
            restricted=int(self.restricted),
            disabled_print=int(self.disabled_print),
            internal=int(self.internal),
            job_count=self.job_count,
            page_count=self.page_count,
            properties=json.dumps(self.properties) if self.properties else "",
            file_line=self.file_line,
        )

    @classmethod
    def from_row(cls, row: UserRow) -> Account:
        """The account as the book has it."""
        return cls(
            username=row.shown,
            full_name=row.full_name,
            card=row.card,
            secondary_card=row.secondary_card,
            balance=Decimal(row.balance),
            restricted=bool(row.restricted),
            disabled_print=bool(row.disabled_print),
            internal=bool(row.internal),
            job_count=row.job_count,
            page_count=row.page_count,
            properties=json.loads(row.properties) if row.properties else {},
            file_line=row.file_line,
        )


class Accounts:
    """All accounts, found by name or card."""

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        self._by_name = {account.key: account for account in accounts}
        self._by_card = {card: account for account in self._by_name.values() for card in account.cards}

    def of_card(self, card: str) -> Account | None:
        """Whose card this is, primary or secondary; None if it is nobody's."""
        return self._by_card.get(card.upper()) if card else None

    def named(self, username: str) -> Account | None:
        """The user of this name; None if there is none."""
        return self._by_name.get(username.lower())

    def add(self, account: Account) -> None:
        """Add somebody new. Raises CardTaken."""
        for card in account.cards:
            self._must_be_free(card, account)
        self._by_name[account.key] = account
        self._by_card.update((card, account) for card in account.cards)

    def remove(self, account: Account) -> None:
        """Forget somebody."""
        del self._by_name[account.key]
        for card in account.cards:
            del self._by_card[card]

    def rename(self, account: Account, username: str) -> None:
        """Give somebody another name, which must be free."""
        del self._by_name[account.key]
        account.username = username
        self._by_name[account.key] = account

    def set_card(self, account: Account, which: str, card: str) -> None:
        """Set `card` or `secondary_card`; "" takes it away. Raises CardTaken."""
        card = card.upper()
        before = getattr(account, which)
        if card == before:
            return
        if card:
            self._must_be_free(card, account)
            self._by_card[card] = account
        setattr(account, which, card)
        if before and before not in account.cards:
            del self._by_card[before]

    def take_over(self, user: User) -> Account | None:
        """A line of the users' file; the account if anything changed. Raises CardTaken."""
        line = repr((user.full_name, user.card, user.secondary_card, str(user.balance), user.restricted))
        account = self.named(user.username)
        if account is None:
            account = Account(
                user.username,
                user.full_name,
                user.card,
                user.secondary_card,
                user.balance,
                user.restricted,
                file_line=line,
            )
            self.add(account)
            return account
        if account.file_line == line:
            return None
        for which in CARD_FIELDS:
            self.set_card(account, which, "")
        for which in CARD_FIELDS:
            self.set_card(account, which, getattr(user, which))
        account.full_name, account.restricted = user.full_name, user.restricted
        account.balance, account.file_line = user.balance, line
        return account

    def __iter__(self) -> Iterator[Account]:
        """By name."""
        return iter(sorted(self._by_name.values(), key=lambda account: account.key))

    def __len__(self) -> int:
        return len(self._by_name)

    def _must_be_free(self, card: str, account: Account) -> None:
        holder = self._by_card.get(card)
        if holder is not None and holder is not account:
            raise CardTaken(f"card '{card}' belongs to {holder.username}")
