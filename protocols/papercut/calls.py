"""XML-RPC calls and their answers, as bytes.

The XML-RPC specification (xmlrpc.com/spec.md, 1999) with the `<nil/>` extension. Values are the standard library's:
str, int, bool, float, bytes, datetime, list, dict, None. An answer is read in the encoding that it declares. One with a
document type declaration is refused, so there are no entities to expand. Left out: HTTP, base64 or dates as arguments.
"""

from __future__ import annotations

import xmlrpc.client
from dataclasses import dataclass
from xml.parsers import expat

LARGEST_ANSWER = 1 << 20
PATH = "/rpc/api/xmlrpc"
CONTENT_TYPE = "text/xml"
_CANNOT_BE = (
    xmlrpc.client.Error,
    expat.ExpatError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)
"""What the standard library raises for XML that is no XML-RPC; it documents none of it."""

Argument = str | int | bool | list[str]


@dataclass(frozen=True, slots=True)
class Value:
    """The call was carried out; what it returned (None where it returns nothing)."""

    value: object


@dataclass(frozen=True, slots=True)
class Fault:
    """The server refused the call, or failed in it. `text` is its faultString, cleaned and cut to 500 characters."""

    text: str


@dataclass(frozen=True, slots=True)
class NotXmlRpc:
    """An answer that is none. reason: html (a page for people), half (it stops in the middle), other."""

    reason: str

    @property
    def words(self) -> str:
        return {
            "html": "a web page instead of an XML-RPC answer: is this another server's port or path?",
            "half": "half an XML document",
            "other": "something that is no XML-RPC answer",
        }[self.reason]


Answer = Value | Fault | NotXmlRpc


class _Refused(ValueError):
    """The XML has what no answer needs."""


def encode_call(method: str, *arguments: Argument) -> bytes:
    """The body of a request. Characters that XML cannot carry become spaces. Raises OverflowError for an int past 32
    bits.
    """
    cleaned = tuple(_clean_argument(argument) for argument in arguments)
    text = xmlrpc.client.dumps(cleaned, method, encoding="utf-8")
    return text.encode("utf-8")


def decode_answer(body: bytes) -> Answer:
    """What a response's body says; at most LARGEST_ANSWER octets are read, more is `other`. Raises nothing."""
    if len(body) > LARGEST_ANSWER:
        return NotXmlRpc("other")
    start = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return NotXmlRpc("html")
    target = _Target()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = target.start
    parser.EndElementHandler = target.end
    parser.CharacterDataHandler = target.reader.data
    try:
        parser.Parse(body.lstrip(), False)
    except _CANNOT_BE:
        return NotXmlRpc("html" if target.root == "html" else "other")
    try:
        parser.Parse(b"", True)
    except expat.ExpatError:
        return NotXmlRpc("half" if start.startswith(b"<") else "other")
    if target.root != "methodResponse":
        return NotXmlRpc("html" if target.root.lower() == "html" else "other")
    return _read(target.reader)


def clean(text: str) -> str:
    """Text without the characters that XML 1.0 cannot carry (section 2.2); each becomes a space."""
    if text.isprintable():
        return text
    return "".join(character if _may_be(ord(character)) else " " for character in text)


class _Target:
    """Hands what expat reads on to the standard library's unmarshaller, and remembers the outermost element."""

    def __init__(self) -> None:
        self.root = ""
        self.reader = xmlrpc.client.Unmarshaller(use_builtin_types=True)
        self.reader.xml("", "")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or tag
        self.reader.start(tag, attributes)

    def end(self, tag: str) -> None:
        self.reader.end(tag)


def _refuse_doctype(name: str, system: str | None, public: str | None, internal: bool) -> None:
    raise _Refused("a document type declaration")


def _read(reader: xmlrpc.client.Unmarshaller) -> Answer:
    try:
        values = reader.close()
    except xmlrpc.client.Fault as fault:
        return Fault(_one_line(fault.faultString))
    except _CANNOT_BE:
        return NotXmlRpc("other")
    if reader.getmethodname() is not None or len(values) > 1:
        return NotXmlRpc("other")
    return Value(values[0] if values else None)


def _one_line(said: object) -> str:
    text = said if isinstance(said, str) else "(a fault without words)"
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:500] or "(a fault without words)"


def _clean_argument(argument: Argument) -> Argument:
    if isinstance(argument, str):
        return clean(argument)
    return [clean(each) for each in argument] if isinstance(argument, list) else argument


def _may_be(code: int) -> bool:
    return code >= 0x20 and not 0xD800 <= code <= 0xDFFF and code not in (0xFFFE, 0xFFFF)
