"""Jobs in accounting: which attributes hold which field, and what they say.

The attributes are those of `dictionary.locum`, or whatever a table in the configuration names. A value that cannot be
read, or cannot be true, is left off and named among the problems: a record is never lost for one bad field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from protocols.errors import Malformed
from protocols.radius import values
from protocols.radius.dictionary import Definition, Dictionary, decode
from protocols.radius.packet import Vendor, split_vendor

_Reader = Callable[[Definition, bytes], Any]

KINDS: Final = ("copy", "print", "scan", "fax")
LARGEST_COUNT: Final = (1 << 31) - 1
"""More than any copier prints in its life; a larger count cannot be true."""

# Field, number, name in dictionary.locum, type, values.
JOB_ATTRIBUTES: Final[tuple[tuple[str, int, str, str, dict[str, int]], ...]] = (
    ("kind", 1, "Locum-Job-Kind", "integer", {"Copy": 1, "Print": 2, "Scan": 3, "Fax": 4}),
    ("job_id", 2, "Locum-Job-Id", "string", {}),
    ("pages", 3, "Locum-Pages", "integer", {}),
    ("color_pages", 4, "Locum-Color-Pages", "integer", {}),
    ("sheets", 5, "Locum-Sheets", "integer", {}),
    ("copies", 6, "Locum-Copies", "integer", {}),
    ("duplex", 7, "Locum-Duplex", "integer", {"No": 0, "Yes": 1}),
    ("paper", 8, "Locum-Paper", "string", {}),
    ("document", 9, "Locum-Document", "string", {}),
    ("account", 10, "Locum-Account", "string", {}),
)


@dataclass(frozen=True, slots=True)
class JobMapping:
    """Which attribute holds which field of a job; None: the devices do not tell it."""

    kind: Definition | None = None
    job_id: Definition | None = None
    pages: Definition | None = None
    color_pages: Definition | None = None
    sheets: Definition | None = None
    copies: Definition | None = None
    duplex: Definition | None = None
    paper: Definition | None = None
    document: Definition | None = None
    account: Definition | None = None
    plan: tuple[tuple[str, tuple[bytes, int], Callable[[bytes], Any]], ...] = field(
        init=False, repr=False, compare=False
    )
    keys: frozenset[tuple[bytes, int]] = field(init=False, repr=False, compare=False)
    prefixes: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare what `read_job` walks: (field, (vendor's four octets or none, number), reader of the value)."""
        plan = []
        for name, *_ in JOB_ATTRIBUTES:
            definition = getattr(self, name)
            if definition is not None:
                prefix = b"" if definition.vendor is None else definition.vendor.to_bytes(4, "big")
                plan.append((name, (prefix, definition.number), _reader_for(name, definition)))
        object.__setattr__(self, "plan", tuple(plan))
        object.__setattr__(self, "keys", frozenset(key for _, key, _ in plan))
        object.__setattr__(self, "prefixes", frozenset(prefix for prefix, _ in self.keys) - {b""})


@dataclass(frozen=True, slots=True)
class JobFields:
    """One job as the device counted it: `pages` are impressions. "" and None: not told, or not readable."""

    kind: str
    job_id: str
    pages: int
    color_pages: int | None = None
    sheets: int | None = None
    copies: int | None = None
    duplex: bool | None = None
    paper: str = ""
    document: str = ""
    account: str = ""


def default_mapping(vendor_id: int = Vendor.LOCUM) -> JobMapping:
    """The attributes of `dictionary.locum` under this vendor number."""
    return JobMapping(
        **{
            name: Definition(vendor_id, number, kind, named, label)
            for name, number, label, kind, named in JOB_ATTRIBUTES
        }
    )


def mapping_from_names(dictionary: Dictionary, names: Mapping[str, str], vendor_id: int = Vendor.LOCUM) -> JobMapping:
    """A mapping from a table of job field -> attribute name.

    Fields that are not in it stay Locum's own; "" means that the devices do not tell it. Raises Malformed, naming the
    field, for an unknown field or attribute, or one whose type cannot hold the field.
    """
    default = default_mapping(vendor_id)
    chosen: dict[str, Definition | None] = {name: getattr(default, name) for name, *_ in JOB_ATTRIBUTES}
    for name, attribute in names.items():
        if name not in chosen:
            raise Malformed("job-mapping", f"{name} is no field of a job: {', '.join(chosen)}")
        definition = dictionary.attribute(attribute) if attribute else None
        if definition is not None and definition.type not in _READABLE[_reader_of(name)]:
            raise Malformed("job-mapping", f"{name}: {attribute} has the type {definition.type}, which holds no {name}")
        chosen[name] = definition
    return JobMapping(**chosen)


def collect(value: bytes, mapping: JobMapping, held: dict[tuple[bytes, int], bytes], problems: list[str]) -> None:
    """Add what one Vendor-Specific value tells of the job to `held`, by (vendor's octets, number); the first counts."""
    prefix = value[:4]
    try:
        for number, inner in split_vendor(value):
            key = prefix, number
            if key in mapping.keys and held.setdefault(key, inner) != inner:
                problems.append("vendor-attribute-contradicts-itself")
    except Malformed:
        problems.append("vendor-attribute-unreadable")


def read_job(
    first: Mapping[int, bytes], held: Mapping[tuple[bytes, int], bytes], mapping: JobMapping, problems: list[str]
) -> JobFields | None:
    """The job, if there are pages. `first` are the packet's own attributes, `held` the vendors'; adds to `problems`."""
    told: dict[str, Any] = {}
    for name, key, reader in mapping.plan:
        value = held.get(key) if key[0] else first.get(key[1])
        if value is not None:
            try:
                told[name] = reader(value)
            except Malformed:
                problems.append(f"{name.replace('_', '-')}-unreadable")
    pages = told.get("pages")
    color = told.get("color_pages")
    if pages is None:
        if color is not None:
            problems.append("pages-missing")
        return None
    if color is not None and color > pages:
        problems.append("color-pages-over-pages")
        del told["color_pages"]
    told.setdefault("kind", "")
    told.setdefault("job_id", "")
    return JobFields(**told)


def _count(definition: Definition, value: bytes) -> int:
    """A number, or one written in digits.

    Raises Malformed below 0 and above LARGEST_COUNT.
    """
    decoded = decode(definition, value)
    if isinstance(decoded, str) and decoded.isascii() and decoded.isdecimal() and len(decoded) <= 10:
        decoded = int(decoded)
    if not isinstance(decoded, int):
        raise Malformed("value", "not a count")
    return _bounded(decoded)


def _bounded(count: int) -> int:
    if not 0 <= count <= LARGEST_COUNT:
        raise Malformed("value", f"no count: below 0 or above {LARGEST_COUNT}")
    return count


def _text(definition: Definition, value: bytes) -> str:
    decoded = decode(definition, value)
    if isinstance(decoded, int):
        return _name_of(definition, decoded) or str(decoded)
    return values.text(decoded) if isinstance(decoded, bytes) else decoded


def _kind(definition: Definition, value: bytes) -> str:
    kind = _text(definition, value).lower()
    if kind not in KINDS:
        raise Malformed("value", "not a kind of job")
    return kind


def _flag(definition: Definition, value: bytes) -> bool:
    number = _count(definition, value)
    if number > 1:
        raise Malformed("value", "neither 0 nor 1")
    return number == 1


def _name_of(definition: Definition, number: int) -> str | None:
    for name, each in definition.values.items():
        if each == number:
            return name
    return None


_COUNTS = frozenset({"byte", "short", "integer", "integer64", "signed", "string"})
_READABLE: Final[dict[_Reader, frozenset[str]]] = {
    _count: _COUNTS,
    _flag: _COUNTS,
    _kind: _COUNTS,
    _text: _COUNTS | {"octets"},
}
_READERS: Final[dict[str, _Reader]] = {
    "kind": _kind,
    "duplex": _flag,
    "job_id": _text,
    "paper": _text,
    "document": _text,
    "account": _text,
}


def _reader_of(name: str) -> _Reader:
    return _READERS.get(name, _count)


def _reader_for(name: str, definition: Definition) -> Callable[[bytes], Any]:
    reader = _reader_of(name)
    # What Locum's own attributes are, without the way through the types.
    if (reader, definition.type) == (_count, "integer"):
        return lambda value: _bounded(values.integer(value))
    if (reader, definition.type) == (_text, "string"):
        return values.text
    return partial(reader, definition)
