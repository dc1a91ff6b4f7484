"""The table of vendors: which objects of which maker's machines are counters, and of what.

`meters.toml` has a `[[vendor]]` for each maker; the admin's own file has the same form and goes before it. A device is
a vendor's by its sysObjectID (the longest match), else by its sysDescr. What each counter may be made of is a list of
formulas (`formula.py`): the first that the device can answer holds.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from protocols.meters.formula import Formula, WrongTable, objects, parse

TOTAL, COLOR, MONO, SCAN = "total", "color", "mono", "scan"
FUNCTIONS = ("copy", "print", "fax")
"""What makes pages on paper, by function."""
MEANINGS = (TOTAL, COLOR, MONO, SCAN, *FUNCTIONS, *(f"{name}_color" for name in FUNCTIONS))
_OID = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10}){2,100}")
_KEYS = {"name", "objects", "describes", "model", "serial", "models", "table", "counters"}


@dataclass(frozen=True, slots=True)
class Vendor:
    """One maker. `objects`: prefixes of sysObjectID; `describes`: patterns of sysDescr, for what has another's or none.

    `model` and `serial`: objects that name them; `models`: patterns whose first group is the model, tried on
    hrDeviceDescr and sysDescr. `keys`, `values`: the columns of the vendor's own table of counters, "" where there is
    none. `counters`: the formulas of each meaning, in order.
    """

    name: str
    objects: tuple[str, ...]
    describes: tuple[re.Pattern[str], ...]
    model: tuple[str, ...]
    serial: tuple[str, ...]
    models: tuple[re.Pattern[str], ...]
    keys: str
    values: str
    counters: Mapping[str, tuple[Formula, ...]]

    def wanted(self) -> list[str]:
        """The objects that may be needed of a device of this vendor."""
        formulas = (formula for each in self.counters.values() for formula in each)
        return list(dict.fromkeys([*self.model, *self.serial, *(oid for each in formulas for oid in objects(each))]))


@dataclass(frozen=True, slots=True)
class Table:
    """All vendors, those of the admin first."""

    vendors: tuple[Vendor, ...]

    def vendor_of(self, object_id: str, description: str) -> Vendor:
        """Whose device this is; the vendor without a name where nobody claims it."""
        fits = [
            (len(prefix), -place, vendor)
            for place, vendor in enumerate(self.vendors)
            for prefix in vendor.objects
            if f"{object_id}.".startswith(f"{prefix}.")
        ]
        if fits:
            return max(fits, key=lambda fit: fit[:2])[2]
        for vendor in self.vendors:
            if any(pattern.search(description) for pattern in vendor.describes):
                return vendor
        return UNKNOWN


def shipped_text() -> str:
    """The text of `meters.toml`."""
    return resources.files("protocols.meters").joinpath("meters.toml").read_text("utf-8")


def read_table(shipped: str, own: str = "") -> Table:
    """The table from the text of `meters.toml` and of the admin's own. Raises WrongTable; `own` is not named in it."""
    return Table((*_vendors(own), *_vendors(shipped)))


def _vendors(text: str) -> list[Vendor]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongTable(f"is no TOML: {error}") from None
    if unknown := set(document) - {"vendor"}:
        raise WrongTable(f"unknown key {sorted(unknown)[0]!r}; a table of meters has [[vendor]] only")
    given = document.get("vendor", [])
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise WrongTable("vendor must be a list of tables: [[vendor]]")
    return [_vendor(each, number) for number, each in enumerate(given, 1)]


def _vendor(given: dict[str, Any], number: int) -> Vendor:
    name = given.get("name")
    if not isinstance(name, str) or not name:
        raise WrongTable(f"[[vendor]] number {number} has no name")
    where = f"[[vendor]] {name}"
    if unknown := set(given) - _KEYS:
        raise WrongTable(f"{where}: unknown key {sorted(unknown)[0]!r}; known here: {', '.join(sorted(_KEYS))}")
    table, counters = given.get("table", {}), given.get("counters", {})
    if not isinstance(table, dict) or (table and set(table) != {"keys", "values"}):
        raise WrongTable(f"{where}: table must be {{ keys = OID, values = OID }}")
    columns = _oids(list(table.values()), f"{where}: table")
    if not isinstance(counters, dict):
        raise WrongTable(f"{where}: counters must be a table")
    if unknown := set(counters) - set(MEANINGS):
        raise WrongTable(f"{where}: no such counter: {sorted(unknown)[0]!r}; known are {', '.join(MEANINGS)}")
    return Vendor(
        name,
        _oids(given.get("objects", []), f"{where}: objects"),
        _patterns(given.get("describes", []), f"{where}: describes"),
        _oids(given.get("model", []), f"{where}: model"),
        _oids(given.get("serial", []), f"{where}: serial"),
        _patterns(given.get("models", []), f"{where}: models"),
        columns[list(table).index("keys")] if table else "",
        columns[list(table).index("values")] if table else "",
        {meaning: _formulas(each, f"{where}: {meaning}") for meaning, each in counters.items()},
    )


def _texts(given: object, where: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise WrongTable(f"{where} must be a list of texts")
    return given


def _oids(given: object, where: str) -> tuple[str, ...]:
    found = [each.removeprefix(".") for each in _texts(given, where)]
    for each in found:
        if not _OID.fullmatch(each):
            raise WrongTable(f"{where}: {each!r} is no object identifier")
    return tuple(found)


def _patterns(given: object, where: str) -> tuple[re.Pattern[str], ...]:
    try:
        return tuple(re.compile(each) for each in _texts(given, where))
    except re.error as error:
        raise WrongTable(f"{where}: is no regular expression: {error}") from None


def _formulas(given: object, where: str) -> tuple[Formula, ...]:
    try:
        return tuple(parse(each) for each in _texts(given, where))
    except WrongTable as error:
        raise WrongTable(f"{where}: {error}") from None


UNKNOWN = Vendor("", (), (), (), (), (), "", "", {TOTAL: (parse("life"),)})
"""A maker that is in no table: the Printer MIB must do."""
