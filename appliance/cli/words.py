"""Times, lengths of time, sizes and counts in words, and text from the wire made fit for a terminal."""

from datetime import datetime

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def instant(iso: str | None) -> float | None:
    """Seconds since 1970 of a time such as 2026-11-22T10:15:03.120Z; None for what is none."""
    if not iso:
        return None
    try:
        return datetime.fromisoformat(iso).timestamp()
    except ValueError:
        return None


def local(iso: str | None, now: float) -> str:
    """A time by this machine's clock: 10:15:03 if it is of today, else with its date."""
    at = instant(iso)
    if at is None:
        return "-"
    then, today = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    return f"{then:%H:%M:%S}" if then.date() == today.date() else f"{then:%Y-%m-%d %H:%M}"


def ago(iso: str | None, now: float) -> str:
    """How long ago a time was."""
    at = instant(iso)
    return "-" if at is None else length(max(0.0, now - at))


def length(seconds: float) -> str:
    """A length of time in its two largest units: 2 h 3 min."""
    rest = round(seconds)
    for index, (name, size) in enumerate(_UNITS):
        if rest >= size:
            smaller = _UNITS[index + 1 : index + 2]
            parts = [f"{rest // size} {name}"]
            parts += [f"{rest % size // each} {unit}" for unit, each in smaller if rest % size // each]
            return " ".join(parts)
    return "0 s"


def between(start: str | None, end: str | None) -> str:
    """The length of time from one to the other."""
    first, last = instant(start), instant(end)
    return "-" if first is None or last is None else length(max(0.0, last - first))


def size(octets: float) -> str:
    """A number of octets: 12.3 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if octets < 1000 or unit == "GB":
            return f"{octets:,.0f} {unit}" if unit == "bytes" else f"{octets:,.1f} {unit}"
        octets /= 1000
    raise AssertionError("unreachable")


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 record`, `2,000 records`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def clean(text: object) -> str:
    """Text that a device or a server may have sent, without anything that would steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))
