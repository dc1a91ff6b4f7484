"""XML-RPC as the simulated server reads and writes it: http://xmlrpc.com/spec, with `<nil/>`.

What real clients send is taken: values without a type are strings, blanks may stand between tags and before the first,
an XML declaration may be missing. A document type is refused, and with it every entity that could grow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat
from xmlrpc.client import Error, Fault, Unmarshaller, dumps

Value = str | int | float | bool | list[Any] | dict[str, Any] | None

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The standard reader raises any of these for a call that is out of order.
_OUT_OF_ORDER = (Error, expat.ExpatError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


class NotACall(Exception):
    """The request is no XML-RPC call."""


@dataclass(frozen=True, slots=True)
class Call:
    """A method's name and its arguments."""

    method: str
    arguments: tuple[Any, ...]


def read_call(body: bytes) -> Call:
    """The call in a request's body. Raises NotACall."""
    reader = Unmarshaller(use_builtin_types=True)
    # The standard's own stubs know nothing of the reader's handlers.
    handlers: Any = reader
    # The parser gives text, so there is nothing left to decode.
    handlers.xml(None, None)
    parser = expat.ParserCreate()
    parser.StartElementHandler = handlers.start
    parser.EndElementHandler = handlers.end
    parser.CharacterDataHandler = handlers.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(body.lstrip(), True)
        arguments = reader.close()
        method = reader.getmethodname()
    except _OUT_OF_ORDER as error:
        raise NotACall(f"{type(error).__name__}: {error}"[:200]) from None
    if not method:
        raise NotACall("it names no method")
    return Call(method, arguments)


def write_value(value: Value) -> bytes:
    """The answer with one value."""
    return dumps((_clean(value),), methodresponse=True, encoding="utf-8", allow_none=True).encode()


def write_fault(text: str, code: int = 0) -> bytes:
    """The answer that is a fault; `text` in the manner of a Java exception."""
    return dumps(Fault(code, _no_controls(text)), methodresponse=True, encoding="utf-8").encode()


def _refuse(*_: object) -> None:
    raise NotACall("a document type has no place in a call")


def _clean(value: Value) -> Value:
    if isinstance(value, str):
        return _no_controls(value)
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return value


def _no_controls(text: str) -> str:
    """XML has no way to write most control characters and lone surrogates."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
