"""The properties of users as PaperCut's Web Services name them: all are strings, numbers and booleans too.

Some have a place of their own in an account, others are only stored; a PIN and a password are taken and forgotten,
because no face here asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from appliance.simulator.accounts import Account

STORED = {
    "email": "",
    "department": "",
    "office": "",
    "notes": "",
    "home": "",
    "other-emails": "",
    "username-alias": "",
    "account-selection.mode": "AUTO_CHARGE_TO_PERSONAL_ACCOUNT",
    "account-selection.can-charge-personal": "true",
    "account-selection.can-charge-shared-from-list": "false",
    "account-selection.can-charge-shared-by-pin": "false",
    "auto-release-jobs": "false",
    "auto-shared-account": "",
    "dont-apply-printer-filter-rules": "false",
    "dont-archive": "false",
    "dont-hold-jobs-in-release-station": "false",
    "overdraft-amount": "0.0",
    "printer-cost-adjustment-rate-percent": "-1",
    "unauthenticated": "false",
}
"""Stored and given back, with what they are before anybody sets them."""
FORGOTTEN = {"password", "pin", "card-pin", "primary-card-pin", "secondary-card-pin"}
CARDS = {"primary-card-number": "card", "secondary-card-number": "secondary_card"}

_READ: dict[str, Callable[[Account], str]] = {
    "username": lambda account: account.username,
    "full-name": lambda account: account.full_name,
    "balance": lambda account: f"{account.balance:f}",
    "primary-card-number": lambda account: account.card,
    "secondary-card-number": lambda account: account.secondary_card,
    "restricted": lambda account: as_text(account.restricted),
    "disabled-print": lambda account: as_text(account.disabled_print),
    "disabled-net": lambda account: "false",
    "internal": lambda account: as_text(account.internal),
    "net-stats.data-mb": lambda account: "0.0",
    "net-stats.time-hours": lambda account: "0.0",
    "print-stats.job-count": lambda account: str(account.job_count),
    "print-stats.page-count": lambda account: str(account.page_count),
}

_BOOLEANS = {"true": True, "false": False, "y": True, "n": False, "yes": True, "no": False}


class WrongProperty(Exception):
    """There is no such property, or it cannot be this. The text says which."""


def read_property(account: Account, name: str) -> str:
    """A property of a user. Raises WrongProperty."""
    if name in _READ:
        return _READ[name](account)
    if name in STORED:
        return account.properties.get(name, STORED[name])
    raise WrongProperty(f"there is no property {name}")


def check_property(name: str, value: str) -> None:
    """Whether a property can be set to this. Raises WrongProperty."""
    if name == "balance":
        amount(value)
    elif name in ("restricted", "disabled-print"):
        boolean(value)
    elif name not in ("full-name", *CARDS, *STORED, *FORGOTTEN):
        raise WrongProperty(f"there is no property {name} that can be set")


def as_text(value: bool) -> str:
    """A boolean as the properties have it."""
    return "true" if value else "false"


def boolean(value: object) -> bool:
    """What somebody gave for a boolean. Raises WrongProperty."""
    given = as_text(value) if isinstance(value, bool) else str(value).lower()
    if given not in _BOOLEANS:
        raise WrongProperty(f"'{value}' is neither true nor false")
    return _BOOLEANS[given]


def amount(value: object) -> Decimal:
    """An amount of money, rounded to four decimals. Raises WrongProperty."""
    try:
        given = Decimal(str(value))
        if abs(given) < 10**9:
            return given.quantize(Decimal("0.0001")).normalize() + Decimal("0.00")
    except InvalidOperation:
        pass
    raise WrongProperty(f"'{value}' is no amount")
