"""Which device this is and what it can tell of its pages: asked once, then a handful of objects are enough.

Printer-MIB (RFC 3805), HOST-RESOURCES-MIB (RFC 2790) and the vendor's own. prtMarkerLifeCount counts pages only where
prtMarkerCounterUnit says impressions or sheets, or nothing; markers that show the same number are the same counter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.meters import table
from protocols.meters.formula import Counter, Resolved, Value, read, resolve
from protocols.meters.table import Table, Vendor
from protocols.snmp.messages import Varbind

SYS_DESCR, SYS_OBJECT_ID, SYS_UPTIME = "1.3.6.1.2.1.1.1.0", "1.3.6.1.2.1.1.2.0", "1.3.6.1.2.1.1.3.0"
PRINTER_NAME, SERIAL_NUMBER = "1.3.6.1.2.1.43.5.1.1.16", "1.3.6.1.2.1.43.5.1.1.17"
LIFE_COUNT, COUNTER_UNIT = "1.3.6.1.2.1.43.10.2.1.4", "1.3.6.1.2.1.43.10.2.1.3"
DEVICE_TYPE, DEVICE_DESCR = "1.3.6.1.2.1.25.3.2.1.2", "1.3.6.1.2.1.25.3.2.1.3"
A_PRINTER = "1.3.6.1.2.1.25.3.1.5"
DEVICE_ID = "1.3.6.1.4.1.2699.1.2.1.2.1.1.3.1"
"""The IEEE 1284 text of the PWG's port monitor MIB."""

IMPRESSIONS, SHEETS = 7, 8
UNITS = {
    3: "ten-thousandths of inches", 4: "micrometres", 5: "characters", 6: "lines", 9: "dot rows", 11: "hours",
    16: "feet", 17: "metres", 18: "items",
}  # fmt: skip

FIRST_OBJECTS = (SYS_DESCR, SYS_OBJECT_ID, SYS_UPTIME, DEVICE_ID)
FIRST_WALKS = (LIFE_COUNT, COUNTER_UNIT, DEVICE_TYPE, DEVICE_DESCR, PRINTER_NAME, SERIAL_NUMBER)
_MODEL_OF_1284 = re.compile(r"(?:^|;)\s*(?:MDL|MODEL)\s*:\s*([^;]+)", re.IGNORECASE)
_MAKER_OF_1284 = re.compile(r"(?:^|;)\s*(?:MFG|MANUFACTURER)\s*:\s*([^;]+)", re.IGNORECASE)
_AFTER_MODEL = re.compile(r"\s*(?:;| / |/P$|,\s*Firmware| version | V[0-9]|\bNet [0-9]).*$", re.DOTALL)
_VERSION = re.compile(r"\s+[0-9]+\.[0-9]+[a-z]?$")
LONGEST_TEXT = 120


@dataclass(frozen=True, slots=True)
class Profile:
    """A device: who made it, what it is, and which of its counters count what. `formulas`: by meaning, see
    `table.MEANINGS`; `serial_object` "" where it names no serial number. `remarks`: what to know, in words.
    """

    vendor: str
    model: str
    serial: str
    serial_object: str
    formulas: Mapping[str, Resolved]
    remarks: tuple[str, ...] = field(default=())

    def objects(self) -> tuple[str, ...]:
        """What to get at each reading."""
        counters = [counter.oid for formula in self.formulas.values() for _, counter in formula]
        serial = [self.serial_object] if self.serial_object else []
        return tuple(dict.fromkeys([SYS_UPTIME, *serial, *counters]))

    def counters(self) -> set[Counter]:
        return {counter for formula in self.formulas.values() for _, counter in formula}


def vendor_of(found: Mapping[str, Varbind], known: Table) -> Vendor:
    """Whose device answered `FIRST_OBJECTS` and `FIRST_WALKS` so: by its sysObjectID, else by what it calls itself."""
    given = found.get(SYS_OBJECT_ID)
    named = given.value if given is not None and isinstance(given.value, str) else text(found.get(SYS_OBJECT_ID))
    calls_itself = (text(found.get(SYS_DESCR)), _described(found), _maker(found), _first(found, PRINTER_NAME)[1])
    vendors = (known.vendor_of(named.removeprefix("."), each) for each in calls_itself)
    return next((vendor for vendor in vendors if vendor is not table.UNKNOWN), table.UNKNOWN)


def more_of(vendor: Vendor) -> tuple[list[str], list[str]]:
    """What to get and to walk once the vendor is known."""
    return vendor.wanted(), [column for column in (vendor.keys, vendor.values) if column]


def profile(vendor: Vendor, found: Mapping[str, Varbind]) -> Profile:
    """What a device is, by all that it has answered."""
    remarks: list[str] = []
    life = _life(found, remarks)
    rows = _rows(vendor, found)
    formulas: dict[str, Resolved] = {}
    for meaning in table.MEANINGS:
        choices = vendor.counters.get(meaning, ())
        if meaning == table.TOTAL:
            choices = (*choices, *table.UNKNOWN.counters[table.TOTAL])
        held = next((each for each in (resolve(f, found, life, rows) for f in choices) if each is not None), None)
        if held is not None:
            formulas[meaning] = held
    if table.TOTAL not in formulas:
        remarks.append("it has no counter of pages that Locum knows")
    serial_object, serial = _serial(vendor, found)
    return Profile(vendor.name or _maker(found), _model(vendor, found), serial, serial_object, formulas, tuple(remarks))


def read_counters(known: Profile, found: Mapping[str, Varbind]) -> dict[Counter, Value]:
    """What the counters of a profile show, as far as the device has answered."""
    values = ((counter, read(counter, found)) for counter in known.counters())
    return {counter: value for counter, value in values if value is not None}


def shown(known: Profile, values: Mapping[Counter, Value]) -> dict[str, int]:
    """The meters of a device as numbers, by meaning; those with a counter that is not there are left out."""
    meters: dict[str, int] = {}
    for meaning, formula in known.formulas.items():
        if all(counter in values for _, counter in formula):
            meters[meaning] = max(0, sum(sign * values[counter].number for sign, counter in formula))
    if table.COLOR not in meters and {table.MONO, table.TOTAL} <= meters.keys():
        meters[table.COLOR] = max(0, meters[table.TOTAL] - meters[table.MONO])
    return meters


def uptime_of(found: Mapping[str, Varbind]) -> int | None:
    """sysUpTime in hundredths of a second; None: the device does not say."""
    given = found.get(SYS_UPTIME)
    return given.value if given is not None and isinstance(given.value, int) and given.value >= 0 else None


def text(given: Varbind | None) -> str:
    """An octet string as text of one line, "" for anything else."""
    if given is None or not isinstance(given.value, bytes):
        return ""
    try:
        decoded = given.value.decode()
    except UnicodeDecodeError:
        decoded = given.value.decode("latin-1")
    printable = "".join(letter if letter.isprintable() else " " for letter in decoded.split("\0")[0])
    return " ".join(printable.split())[:LONGEST_TEXT]


def _life(found: Mapping[str, Varbind], remarks: list[str]) -> Resolved:
    markers: dict[int, Counter] = {}
    for oid in found:
        if not oid.startswith(f"{LIFE_COUNT}."):
            continue
        counter = Counter(oid)
        value, unit = read(counter, found), found.get(COUNTER_UNIT + oid.removeprefix(LIFE_COUNT))
        if value is None:
            continue
        counts = unit.value if unit is not None else IMPRESSIONS
        if counts == SHEETS:
            remarks.append("its life count is of sheets")
        elif isinstance(counts, int) and counts in UNITS:
            remarks.append(f"its life count is of {UNITS[counts]}, no pages")
            continue
        markers.setdefault(value.number, counter)
    return tuple((1, counter) for counter in markers.values())


def _rows(vendor: Vendor, found: Mapping[str, Varbind]) -> dict[int, list[Counter]]:
    rows: dict[int, list[Counter]] = {}
    if vendor.keys:
        for oid, given in found.items():
            if oid.startswith(f"{vendor.keys}.") and isinstance(given.value, int):
                rows.setdefault(given.value, []).append(Counter(vendor.values + oid.removeprefix(vendor.keys)))
    return rows


def _serial(vendor: Vendor, found: Mapping[str, Varbind]) -> tuple[str, str]:
    standard = _first(found, SERIAL_NUMBER)
    if standard[1]:
        return standard
    for oid in vendor.serial:
        if named := text(found.get(oid)):
            return oid, named
    return "", ""


def _first(found: Mapping[str, Varbind], column: str) -> tuple[str, str]:
    """The first row of a walked column that has a text: its object and that text."""
    named = ((oid, text(given)) for oid, given in found.items() if oid.startswith(f"{column}."))
    return next((each for each in named if each[1]), ("", ""))


def _maker(found: Mapping[str, Varbind]) -> str:
    """Who made it, by its IEEE 1284 text."""
    told = _MAKER_OF_1284.search(text(found.get(DEVICE_ID)))
    return told[1].strip() if told is not None else ""


def _model(vendor: Vendor, found: Mapping[str, Varbind]) -> str:
    for oid in vendor.model:
        if named := text(found.get(oid)):
            model = _MODEL_OF_1284.search(named)
            return _clean(model[1] if model else named)
    described, sys_descr = _described(found), text(found.get(SYS_DESCR))
    for pattern in vendor.models:
        for each in (described, sys_descr):
            if (match := pattern.search(each)) is not None and match.groups():
                return _clean(match[1])
    if described:
        return _clean(described)
    if (model := _MODEL_OF_1284.search(text(found.get(DEVICE_ID)))) is not None:
        return _clean(model[1])
    return _first(found, PRINTER_NAME)[1] or _clean(sys_descr)


def _described(found: Mapping[str, Varbind]) -> str:
    """hrDeviceDescr of the printer: of the first device that says it is one, else of the first."""
    printers = [oid for oid, given in found.items() if oid.startswith(f"{DEVICE_TYPE}.") and given.value == A_PRINTER]
    for oid in printers:
        if named := text(found.get(DEVICE_DESCR + oid.removeprefix(DEVICE_TYPE))):
            return named
    return text(found.get(f"{DEVICE_DESCR}.1")) or _first(found, DEVICE_DESCR)[1]


def _clean(named: str) -> str:
    return _VERSION.sub("", _AFTER_MODEL.sub("", named)).strip() or named
