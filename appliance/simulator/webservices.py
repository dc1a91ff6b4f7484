"""PaperCut's Web Services API as methods over the simulated server's state: `api.NAME(token, ...)`.

Refusals are faults whose text looks like `java.package.Class: message`. There is what an account, a card, a balance, a
job and a setting need, and enough of the rest for clients to look around. Left out: groups with members, quotas,
imports, reports, backups; these methods are unknown, which is a fault too.
"""

from __future__ import annotations

import hmac
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from appliance.simulator import details, properties
from appliance.simulator.accounts import Account, CardTaken
from appliance.simulator.details import WrongDetails
from appliance.simulator.properties import CARDS, FORGOTTEN, WrongProperty, amount, boolean
from appliance.simulator.rows import Printer
from appliance.simulator.state import NewJob, State
from appliance.simulator.switches import Switches
from appliance.simulator.xmlrpc import Call, Value

VOID = True
"""What a method without a result returns."""
EVERYBODY = "[All Users]"
_RECORD_ID = re.compile(r"locum:([0-9A-Za-z-]{1,64})")


class Refused(Exception):
    """A fault: the name of a Java exception and a message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"java.{kind}: {message}")


def _wrong(message: str) -> Refused:
    return Refused("lang.IllegalArgumentException", message)


class WebServices:
    """All methods. `tokens`: whoever has one of them may call; `switches` are asked at each call."""

    def __init__(self, state: State, tokens: Sequence[str], switches: Callable[[], Switches]) -> None:
        self._state = state
        self._tokens = [token.encode() for token in tokens]
        self._switches = switches
        self._methods: dict[str, tuple[Callable[..., Value], int, int]] = {}
        for name in dir(self):
            if not name.startswith("_") and name != "call":
                method = getattr(self, name)
                wanted = inspect.signature(method).parameters.values()
                least = sum(each.default is inspect.Parameter.empty for each in wanted)
                self._methods[f"api.{name}"] = (method, least, len(wanted))

    def call(self, call: Call) -> Value:
        """Do it. Raises Refused; nothing was changed then."""
        if call.method == "api.getTaskStatus" and not call.arguments:
            return self.getTaskStatus()
        token = call.arguments[0] if call.arguments else None
        given = token.encode("utf-8", "replace") if isinstance(token, str) else b""
        if not any(hmac.compare_digest(given, each) for each in self._tokens):
            raise Refused("lang.SecurityException", "the authentication token is wrong")
        method, least, most = self._methods.get(call.method, (None, 0, 0))
        if method is None:
            raise Refused("lang.NoSuchMethodException", f"there is no method {call.method}")
        arguments = call.arguments[1:]
        if not least <= len(arguments) <= most:
            raise Refused("lang.NoSuchMethodException", f"{call.method} does not take {len(call.arguments)} arguments")
        try:
            return method(*arguments)
        except (WrongDetails, WrongProperty, CardTaken) as error:
            raise _wrong(str(error)) from None

    # --- users ----------------------------------------------------------------------------------------------------

    def isUserExists(self, user: Any) -> Value:
        return self._state.accounts.named(_text(user)) is not None

    def getTotalUsers(self) -> Value:
        return len(self._state.accounts)

    def listUserAccounts(self, offset: Any, limit: Any) -> Value:
        return _page([account.username for account in self._state.accounts], offset, limit)

    def lookUpUserNameByCardNo(self, card: Any) -> Value:
        account = self._state.accounts.of_card(_text(card))
        return account.username if account else ""

    def lookUpUserNameByEmail(self, email: Any) -> Value:
        return self._by_property("email", email)

    def lookUpUserNameBySecondaryUserName(self, alias: Any) -> Value:
        return self._by_property("username-alias", alias)

    def lookUpUsersByFullName(self, full_name: Any) -> Value:
        wanted = _text(full_name).lower()
        return [account.username for account in self._state.accounts if account.full_name.lower() == wanted]

    def addNewInternalUser(
        self, user: Any, password: Any, full_name: Any = "", email: Any = "", card: Any = "", pin: Any = ""
    ) -> Value:
        name = _text(user)
        if not name:
            raise _wrong("the username is empty")
        if self._state.accounts.named(name) is not None:
            raise _wrong(f"user {name} exists already")
        account = Account(name, _text(full_name) or name, _text(card).upper(), internal=True)
        if _text(email):
            account.properties["email"] = _text(email)
        self._state.create_user(account)
        return VOID

    def deleteExistingUser(self, user: Any, redact: Any = False) -> Value:
        self._state.delete_user(self._user(user))
        return VOID

    def renameUserAccount(self, user: Any, new_name: Any) -> Value:
        account, name = self._user(user), _text(new_name)
        if not name or self._state.accounts.named(name) not in (None, account):
            raise _wrong(f"user {name} exists already" if name else "the new username is empty")
        self._state.rename_user(account, name)
        return VOID

    def getUserProperty(self, user: Any, name: Any) -> Value:
        return properties.read_property(self._user(user), _text(name))

    def getUserProperties(self, user: Any, names: Any) -> Value:
        account = self._user(user)
        return [properties.read_property(account, _text(name)) for name in _list(names)]

    def setUserProperty(self, user: Any, name: Any, value: Any) -> Value:
        return self.setUserProperties(user, [[name, value]])

    def setUserProperties(self, user: Any, pairs: Any) -> Value:
        account = self._user(user)
        told = [(_text(pair[0]), _text(pair[1])) for pair in _list(pairs) if len(_list(pair)) == 2]
        for name, value in told:
            properties.check_property(name, value)
            holder = self._state.accounts.of_card(value) if name in CARDS else None
            if holder not in (None, account):
                raise _wrong(f"card '{value}' belongs to somebody else")
        for name, value in told:
            self._set(account, name, value)
        self._state.changed(account)
        return VOID

    def disablePrintingForUser(self, user: Any, minutes: Any) -> Value:
        return self.setUserProperty(user, "disabled-print", "true")

    # --- balances -------------------------------------------------------------------------------------------------

    def getUserAccountBalance(self, user: Any, account: Any = "") -> Value:
        return float(self._user(user).balance)

    def setUserAccountBalance(self, user: Any, balance: Any, comment: Any = "", account: Any = "") -> Value:
        found = self._user(user)
        self._state.adjust(found, amount(balance) - found.balance, _text(comment))
        return VOID

    def adjustUserAccountBalance(self, user: Any, adjustment: Any, comment: Any = "", account: Any = "") -> Value:
        self._state.adjust(self._user(user), amount(adjustment), _text(comment))
        return VOID

    def adjustUserAccountBalanceIfAvailable(
        self, user: Any, adjustment: Any, comment: Any = "", account: Any = ""
    ) -> Value:
        found, change = self._user(user), amount(adjustment)
        available = change >= 0 or found.balance + change >= 0
        if available:
            self._state.adjust(found, change, _text(comment))
        return available

    def adjustUserAccountBalanceByCardNumber(
        self, card: Any, adjustment: Any, comment: Any = "", account: Any = ""
    ) -> Value:
        found = self._state.accounts.of_card(_text(card))
        if found is not None:
            self._state.adjust(found, amount(adjustment), _text(comment))
        return found is not None

    # --- settings, printers, groups -------------------------------------------------------------------------------

    def getConfigValue(self, name: Any) -> Value:
        return self._state.config.get(_text(name), "")

    def setConfigValue(self, name: Any, value: Any) -> Value:
        self._state.set_config(_text(name), _text(value))
        return VOID

    def listPrinters(self, offset: Any, limit: Any) -> Value:
        names = sorted(f"{printer.server}\\{printer.name}" for printer in self._state.printers)
        return _page(names, offset, limit)

    def listSharedAccounts(self, offset: Any, limit: Any) -> Value:
        return _page([], offset, limit)

    def listUserSharedAccounts(self, user: Any, offset: Any, limit: Any, ignore_mode: Any = False) -> Value:
        self._user(user)
        return _page([], offset, limit)

    def isSharedAccountExists(self, name: Any) -> Value:
        return False

    def isGroupExists(self, name: Any) -> Value:
        return _text(name) == EVERYBODY

    def listUserGroups(self, offset: Any, limit: Any) -> Value:
        return _page([EVERYBODY], offset, limit)

    def getUserGroups(self, user: Any) -> Value:
        self._user(user)
        return [EVERYBODY]

    def performUserAndGroupSync(self) -> Value:
        return VOID

    def performGroupSync(self) -> Value:
        return VOID

    def getTaskStatus(self) -> Value:
        return {"completed": True, "message": "there is nothing under way"}

    # --- jobs -----------------------------------------------------------------------------------------------------

    def processJob(self, job_details: Any) -> Value:
        told = details.read(_text(job_details))
        account = self._state.accounts.named(told.user)
        printer = Printer(told.server, told.printer)
        if account is None and self._switches().unknown_user == "fault":
            raise _wrong(f"user {told.user} does not exist")
        how = self._switches().unknown_printer or ("fault" if self._state.printers_named else "create")
        if printer not in self._state.printers and how == "fault":
            raise _wrong(f"printer {told.server}\\{told.printer} does not exist")
        self._state.add_printer(printer)
        if account is None:
            account = Account(told.user, told.user)
            self._state.create_user(account)
        if told.pages:
            named = _RECORD_ID.search(told.comment)
            self._state.log_job(
                account,
                NewJob(
                    via="xmlrpc",
                    server=told.server,
                    device=told.printer,
                    kind=told.kind,
                    pages=told.pages,
                    color_pages=told.color_pages,
                    copies=told.copies,
                    document=told.document,
                    time=told.time,
                    cost=told.cost,
                    comment=told.comment,
                    record_id=named[1] if named else "",
                ),
            )
        return VOID

    # --- what the methods share -----------------------------------------------------------------------------------

    def _user(self, name: Any) -> Account:
        account = self._state.accounts.named(_text(name))
        if account is None:
            raise _wrong(f"user {_text(name)} does not exist")
        return account

    def _by_property(self, name: str, value: Any) -> str:
        wanted = _text(value).lower()
        if not wanted:
            return ""
        found = (each for each in self._state.accounts if each.properties.get(name, "").lower() == wanted)
        return next((each.username for each in found), "")

    def _set(self, account: Account, name: str, value: str) -> None:
        if name == "balance":
            self._state.adjust(account, amount(value) - account.balance, "set")
        elif name == "restricted":
            account.restricted = boolean(value)
        elif name == "disabled-print":
            account.disabled_print = boolean(value)
        elif name == "full-name":
            account.full_name = value
        elif name in CARDS:
            self._state.accounts.set_card(account, CARDS[name], value)
        elif name not in FORGOTTEN:
            account.properties[name] = value


def _text(value: Any) -> str:
    """An argument that is to be a string; a number and a boolean are written as Java would."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return properties.as_text(value)
    if isinstance(value, str | int | float):
        return str(value)
    raise _wrong(f"a string was expected, not {type(value).__name__}")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(f"a list was expected, not {type(value).__name__}")
    return value


def _page(names: list[str], offset: Any, limit: Any) -> list[str]:
    """So many names from a place on; counts may come as strings too."""
    try:
        first, count = int(offset), int(limit)
    except (TypeError, ValueError):
        raise _wrong("offset and limit are whole numbers") from None
    if first < 0 or count < 0:
        raise _wrong("offset and limit are not negative")
    return names[first : first + count]
