"""Time zones by their IANA names ("Europe/Berlin"): whether one is known here, and which is this machine's own."""

import os
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from appliance.config.checks import did_you_mean

_LOCALTIME, _TIMEZONE = Path("/etc/localtime"), Path("/etc/timezone")


def known(name: str) -> str:
    """`name`, if this machine knows it as a time zone. ValueError says what is wrong and what to do."""
    if not _is_known(name):
        advice = did_you_mean(name, sorted(available_timezones()), 'write for example "Europe/Berlin" (see: tzselect)')
        raise ValueError(f"is no time zone that this machine knows; {advice}")
    return name


def local() -> str:
    """The time zone of this machine; UTC if it has none or does not tell its name."""
    for name in (os.environ.get("TZ", "").removeprefix(":"), _linked(), _written()):
        if name and _is_known(name):
            return name
    return "UTC"


def of_this_machine() -> ZoneInfo:
    """The time zone of this machine, also where nothing tells its name; UTC if it has none."""
    name = local()
    if name == "UTC":
        with suppress(OSError, ValueError), _LOCALTIME.open("rb") as rules:
            return ZoneInfo.from_file(rules, key="local time")
    return ZoneInfo(name)


def _is_known(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _linked() -> str:
    try:
        target = str(_LOCALTIME.resolve())
    except OSError:
        return ""
    return target.partition("/zoneinfo/")[2]


def _written() -> str:
    try:
        return _TIMEZONE.read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""
