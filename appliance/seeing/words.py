"""What was said on the wire, in words for a person and as JSON for scripts.

Whatever a device or a server sent is cleaned before it is shown; cards, codes and passwords are shortened unless they
are asked for.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from appliance.cli.words import clean, count
from appliance.seeing.said import Fact, Private, Said
from protocols.capture.streams import Peer
from storage import times

LAST_TIME = 253_402_214_399_000
"""The last but one day of the year 9999, in ms: a day before the last that can be written in any zone."""


def line(said: Said, zone: ZoneInfo, show: bool) -> str:
    """One line: time, from -> to, dialect, what was said. `show`: cards, codes and passwords too."""
    ends = f"{peer(said.source)} -> {peer(said.target)}"
    facts = [_fact(name, value, show) for name, value in said.facts.items() if value != ""]
    if said.authentic is False:
        facts.append("does not fit the secret")
    what = f"{said.name}: {', '.join(facts)}" if facts else said.name
    return f"{_moment(said.at, zone)}  {ends:<47}  {said.dialect:<8}  {what}"


def as_json(said: Said, show: bool) -> dict[str, Any]:
    """The same for scripts."""
    told: dict[str, Any] = {
        "at": times.text(min(said.at, LAST_TIME)),
        "from": peer(said.source),
        "to": peer(said.target),
        "dialect": said.dialect,
        "what": said.name,
        "device": clean(said.device),
    }
    if said.authentic is not None:
        told["authentic"] = said.authentic
    return {**told, "facts": {name: _value(value, show) for name, value in said.facts.items()}}


def unreadable(reasons: Counter[str]) -> str:
    """What could not be read, by reason: `3 could not be read: cut-short 2, encrypted 1`."""
    return f"{sum(reasons.values()):,} could not be read: " + ", ".join(
        f"{reason} {many:,}" for reason, many in sorted(reasons.items())
    )


def closing(messages: int, devices: int, frames: int) -> str:
    """The last line."""
    return f"{count(messages, 'message')} of {count(devices, 'device')} in {count(frames, 'frame')}."


def peer(peer: Peer) -> str:
    """Address and port; IPv6 in brackets."""
    address, port = peer
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _fact(name: str, value: Fact, show: bool) -> str:
    word = name.removesuffix("_ms").replace("_", " ")
    shown = _value(value, show)
    return f"{word} {shown} ms" if name.endswith("_ms") else f"{word} {shown}"


def _value(value: Fact, show: bool) -> str | int | bool:
    if isinstance(value, Private):
        return clean(value.value if show else value.short)
    return clean(value) if isinstance(value, str) else value


def _moment(at: int, zone: ZoneInfo) -> str:
    moment = datetime.fromtimestamp(min(at, LAST_TIME) / 1000, zone)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{min(at, LAST_TIME) % 1000:03d}"
