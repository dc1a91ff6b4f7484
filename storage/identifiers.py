"""UUID version 7 (RFC 9562, section 5.7) as the ledger's ids: a time in front, so that ids sort as the entries do.

The 12 bits of rand_a hold a counter (section 6.2, method 1), so that ids ascend strictly within a millisecond too.
Randomness and time are given by the caller.
"""

from __future__ import annotations

_BACKWARD_TOLERATED = 60_000 << 12
_VARIANT = {f"{nibble:x}": f"{0b1000 | nibble & 0b11:x}" for nibble in range(16)}
RANDOM_BYTES = 8


def next_stamp(milliseconds: int, last: int) -> int:
    """The 60 bits of time and counter for the next id: milliseconds << 12 with room for a counter, always above `last`.

    A clock set back by up to a minute does not break the order; one set back further begins anew, because ids that lie
    about the time for ever are worse.
    """
    stamp = milliseconds << 12
    if stamp > last or last - stamp > _BACKWARD_TOLERATED:
        return stamp
    return last + 1


def uuid7(stamp: int, random: bytes) -> str:
    """The UUID's text. `stamp` is 60 bits as of `next_stamp`, `random` 8 bytes of which 62 bits are used.

    Raises OverflowError if the time does not fit (before 1970 or after the year 10889).
    """
    if not 0 <= stamp < 1 << 60:
        raise OverflowError(f"{stamp >> 12} ms is no time for a UUIDv7")
    front = f"{stamp:015x}"
    back = random.hex()
    return f"{front[:8]}-{front[8:12]}-7{front[12:]}-{_VARIANT[back[0]]}{back[1:4]}-{back[4:]}"


def stamp_of(identifier: str) -> int:
    """The 60 bits that `uuid7` was given."""
    digits = identifier.replace("-", "")
    return int(digits[:12] + digits[13:16], 16)
