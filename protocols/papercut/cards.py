"""From what a card reader gives to the number in the server's database.

As PaperCut's `ext-device.card-no-regex` and `ext-device.card-no-converter` do: a regular expression whose first group
is the number (without one the number ends at "="), then converters in their order. A converter that the text does not
fit leaves it as it is, and the next one goes on: the number as it was read is looked up as well.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

LONGEST = 256
_HEX = frozenset(string.hexdigits)
_DECIMAL = frozenset(string.digits)


def number_of(read: str, pattern: re.Pattern[str] | None, converters: Sequence[str] = ()) -> str:
    """The card number in what was read. A pattern that matches nothing leaves it as it is.

    Raises ValueError for a converter that there is not (`CONVERTERS` names them).
    """
    number = _extracted(read, pattern) or read
    for name in converters:
        convert = CONVERTERS.get(name)
        if convert is None:
            raise ValueError(f"no card converter {name!r}: use {', '.join(CONVERTERS)}")
        number = convert(number)
    return number


def numbers_to_try(read: str, pattern: re.Pattern[str] | None, converters: Sequence[str] = ()) -> tuple[str, ...]:
    """What to look up, in this order: the converted number, then the one that was read if it is another."""
    converted = number_of(read, pattern, converters)
    return tuple(dict.fromkeys(number for number in (converted, read) if number))


def _extracted(read: str, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return read.partition("=")[0]
    found = pattern.search(read)
    if found is None:
        return ""
    return (found.group(1) if pattern.groups else found.group()) or ""


def _is(text: str, digits: frozenset[str]) -> bool:
    return 0 < len(text) <= LONGEST and digits.issuperset(text)


def _hex_to_decimal(text: str) -> str:
    return str(int(text, 16)) if _is(text, _HEX) else text


def _decimal_to_hex(text: str) -> str:
    return f"{int(text):X}" if _is(text, _DECIMAL) else text


def _from_ascii_codes(text: str) -> str:
    if not _is(text, _HEX) or len(text) % 2:
        return text
    octets = bytes.fromhex(text)
    return octets.decode("ascii") if all(0x20 < octet < 0x7F for octet in octets) else text


def _without_zeros(text: str) -> str:
    return text.lstrip("0") or text[-1:]


CONVERTERS: dict[str, Callable[[str], str]] = {
    "hex2dec": _hex_to_decimal,
    "dec2hex": _decimal_to_hex,
    "ascii-enc": _from_ascii_codes,
    "strip-zeros": _without_zeros,
}
