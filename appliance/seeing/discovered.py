"""What `locum discover` prints: a row for each copier and server, or the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from appliance.cli.words import clean, count
from appliance.seeing.conversations import Counts
from appliance.seeing.sightings import Copier, Talk


def table(copiers: Sequence[Copier]) -> Table:
    """A row for each copier and each server that it talks to."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("copier", "name", "maker", "model", "MAC", "VLAN", "talks to"):
        made.add_column(name, overflow="fold")
    for copier in copiers:
        cells = (
            copier.address,
            clean(", ".join(sorted(copier.names))) or "-",
            copier.maker or "-",
            clean(copier.model) or "-",
            copier.mac or "-",
            ", ".join(map(str, sorted(copier.vlans))) or "-",
        )
        for number, talk in enumerate(copier.talks.values()):
            made.add_row(*(cells if not number else [""] * len(cells)), _words(talk))
    return made


def closing(copiers: Sequence[Copier], frames: int, lost: int) -> str:
    """The last line."""
    seen = count(len(copiers), "copier") if copiers else "Nobody who speaks RADIUS, the terminal dialect or to PaperCut"
    missed = f"; {lost:,} were lost because they came too fast" if lost else ""
    return f"{seen} seen in {count(frames, 'frame')}{missed}."


def as_json(copiers: Sequence[Copier], counts: Counts, lost: int) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "copiers": [
            {
                "address": copier.address,
                "mac": copier.mac,
                "maker": copier.maker,
                "model": clean(copier.model),
                "names": sorted(clean(name) for name in copier.names),
                "vlans": sorted(copier.vlans),
                "talks": [_talk(talk) for talk in copier.talks.values()],
            }
            for copier in copiers
        ],
        "frames": counts.frames,
        "lost": lost,
        "unreadable": dict(sorted(counts.unreadable.items())),
    }


def _talk(talk: Talk) -> dict[str, Any]:
    return {
        "server": talk.server,
        "dialect": talk.dialect,
        "ports": sorted(talk.ports | talk.accounting_ports),
        "encrypted": talk.encrypted,
        "messages": talk.messages,
    }


def _words(talk: Talk) -> str:
    ports = " and ".join(str(port) for port in sorted(talk.ports | talk.accounting_ports))
    return f"{talk.server} port {ports}: {talk.dialect}{' over TLS' if talk.encrypted else ''}"
