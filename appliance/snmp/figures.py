"""The objects of LOCUM-MIB from what `locum status` says: nothing is asked of the writer, nothing worked out anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from protocols.snmp.messages import Varbind
from proxy.events import Moment
from proxy.snmp import oids
from proxy.snmp.copier import CopierProxy
from proxy.snmp.traps import TrapStore
from proxy.snmp.tree import Tree

STATES = ("online", "grace", "offline", "recovering", "locked", "unlocked-once", "unlocked-until-restored")
ROOM = {"enough": 1, "low": 2, "very_low": 3, "full": 4}
LONGEST_NAME = 100
LONGEST_TEXT = 255
NEVER = 0xFFFFFFFF
_GAUGE = 0xFFFFFFFF
_MEGABYTE = 1_000_000


def tree(
    status: dict[str, Any],
    devices: Sequence[dict[str, Any]],
    proxies: Sequence[tuple[CopierProxy, int]],
    traps: TrapStore | None,
    uptime: int,
    at: Moment,
) -> Tree:
    """All objects. `status` and `devices`: as `StatusBoard` gives them; `proxies`: each with its port; `uptime`:
    hundredths of a second.
    """
    return Tree(
        [
            *_appliance(status, uptime),
            *_upstreams(status["upstreams"], at),
            *_devices(devices, at),
            *_outbox(status["outbox"], at),
            *_ledger(status["ledger"], status["storage"]),
            *_proxies(proxies, at),
            *_traps(traps),
            *_dropped(status["dropped"]),
        ]
    )


def _appliance(status: dict[str, Any], uptime: int) -> Iterator[Varbind]:
    yield _text(oids.SYS_DESCR, f"Locum {status['version']}")
    yield Varbind(oids.SYS_OBJECT_ID, "oid", oids.ROOT)
    yield Varbind(oids.SYS_UPTIME, "timeticks", uptime)
    yield _text(oids.SYS_NAME, status["name"])
    yield _text(f"{oids.APPLIANCE}.1.0", status["name"])
    yield _text(f"{oids.APPLIANCE}.2.0", status["version"])
    yield Varbind(f"{oids.APPLIANCE}.3.0", "timeticks", uptime)


def _upstreams(rows: Sequence[dict[str, Any]], at: Moment) -> Iterator[Varbind]:
    for row in rows:
        yield from _row(
            oids.UPSTREAMS,
            row["name"],
            {
                2: row["dialect"],
                3: STATES.index(row["state"]) + 1,
                4: bool(row["proven"]),
                5: _gauge(_seconds(row["since"], at)),
                6: row["cause"],
                7: _gauge(row["outbox"]["waiting"]),
                8: _gauge(row["outbox"]["in_doubt"]),
                9: _gauge(row["outbox"]["rejected"]),
            },
        )


def _devices(rows: Sequence[dict[str, Any]], at: Moment) -> Iterator[Varbind]:
    for row in rows:
        state = row["offline"]
        yield from _row(
            oids.DEVICES,
            row["id"],
            {
                2: row["address"],
                3: row["upstream"],
                4: row["dialect"],
                5: STATES.index(state) + 1 if state in STATES else 1,
                6: bool(row["drill"]),
                7: _gauge(row["sessions"]),
                8: _gauge(_seconds(row["last_seen"], at)),
            },
        )


def _outbox(counts: dict[str, Any], at: Moment) -> Iterator[Varbind]:
    figures = [
        counts["waiting"],
        counts["sent"],
        counts["in_doubt"],
        counts["rejected"],
        _seconds(counts["oldest"], at),
    ]
    for number, value in enumerate(figures, 1):
        yield Varbind(f"{oids.OUTBOX}.{number}.0", "gauge32", min(int(value), _GAUGE))


def _ledger(ledger: dict[str, Any], storage: dict[str, Any]) -> Iterator[Varbind]:
    yield Varbind(f"{oids.LEDGER}.1.0", "counter64", ledger["entries"])
    yield Varbind(f"{oids.LEDGER}.2.0", "counter64", ledger["jobs"])
    yield Varbind(f"{oids.LEDGER}.3.0", "gauge32", min(ledger["bytes"] // _MEGABYTE, _GAUGE))
    yield Varbind(f"{oids.LEDGER}.4.0", "gauge32", min((storage["free_bytes"] or 0) // _MEGABYTE, _GAUGE))
    yield Varbind(f"{oids.LEDGER}.5.0", "integer", ROOM.get(storage["level"], 0))
    yield _text(f"{oids.LEDGER}.6.0", storage["error"] or "")
    yield _text(f"{oids.LEDGER}.7.0", ledger["head"])


def _proxies(rows: Sequence[tuple[CopierProxy, int]], at: Moment) -> Iterator[Varbind]:
    for proxy, port in rows:
        figures = proxy.figures
        heard = max(0, at.wall - figures.heard) // 1000 if figures.heard else NEVER
        counters = (figures.asked, figures.from_memory, figures.sent, figures.from_silent, figures.unanswered)
        yield from _row(
            oids.PROXIES,
            proxy.device,
            {
                2: port,
                **{number: ("counter32", value & _GAUGE) for number, value in enumerate(counters, 3)},
                8: _gauge(heard),
                9: proxy.silent,
            },
        )


def _traps(traps: TrapStore | None) -> Iterator[Varbind]:
    kept, forwarded, waiting = (traps.kept, traps.forwarded, traps.waiting) if traps is not None else (0, 0, 0)
    yield Varbind(f"{oids.TRAPS}.1.0", "counter32", kept & _GAUGE)
    yield Varbind(f"{oids.TRAPS}.2.0", "counter32", forwarded & _GAUGE)
    yield Varbind(f"{oids.TRAPS}.3.0", "gauge32", waiting)


def _dropped(counts: dict[str, int]) -> Iterator[Varbind]:
    for reason, count in counts.items():
        yield from _row(oids.REFUSED, reason, {2: ("counter32", count & _GAUGE)})


Value = str | bool | int | tuple[str, int]


def _row(table: str, name: str, columns: dict[int, Value]) -> Iterator[Varbind]:
    """A row of a table that has the name as its index; none for a name that is too long for one."""
    octets = name.encode()
    if not 1 <= len(octets) <= LONGEST_NAME:
        return
    index = ".".join(map(str, octets))
    for number, value in columns.items():
        oid = f"{table}.{number}.{index}"
        match value:
            case bool():
                yield Varbind(oid, "integer", 1 if value else 2)  # TruthValue
            case int():
                yield Varbind(oid, "integer", value)
            case str():
                yield _text(oid, value)
            case (kind, number_of_kind):
                yield Varbind(oid, kind, number_of_kind)


def _gauge(value: int) -> tuple[str, int]:
    return "gauge32", max(0, min(value, _GAUGE))


def _text(oid: str, text: str) -> Varbind:
    return Varbind(oid, "octets", cut(text))


def cut(text: str) -> bytes:
    """A text as LocumText: at most 255 octets, no half letters."""
    return text.encode()[:LONGEST_TEXT].decode(errors="ignore").encode()


def _seconds(instant: str | None, at: Moment) -> int:
    """Seconds since a time as `locum status` says it; 0 for none."""
    if not instant:
        return 0
    return max(0, int(at.wall / 1000 - datetime.fromisoformat(instant).timestamp()))
