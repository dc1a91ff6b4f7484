"""What people did: unlocks, drills, and everything by hand, with what stands in the way of trusting the figures."""

from __future__ import annotations

from dataclasses import dataclass

from storage import times
from storage.summary.scope import Source

MOST = 100
_BY_HAND = """SELECT seq, at, who, note AS did, '' AS device, data AS words FROM notes WHERE who <> ''
UNION ALL SELECT seq, at, who, outcome || ' record ' || record, '', answer FROM deliveries WHERE who <> ''
UNION ALL SELECT seq, at, who, outcome, device, reason FROM unlocks WHERE who <> ''
UNION ALL SELECT seq, at, who, 'drill ' || did, device, reason FROM drills WHERE who <> ''
UNION ALL SELECT min(seq), min(at), who, count(*) || ' meter readings', '', '' FROM meters
  WHERE who <> '' GROUP BY at, who"""


@dataclass(frozen=True, slots=True)
class Unlock:
    """A step of an unlock; `at`: ms. `who`: by hand; empty: at the device."""

    at: int
    device: str
    outcome: str
    scope: str
    who: str


@dataclass(frozen=True, slots=True)
class Unlocks:
    """`counts`: by outcome, of all in the period; `steps`: the newest `MOST` of them, in order."""

    counts: dict[str, int]
    steps: tuple[Unlock, ...]


@dataclass(frozen=True, slots=True)
class Drill:
    """A step of a drill. `device`: "*" for all; `at`: ms."""

    at: int
    device: str
    did: str
    reason: str
    who: str


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done by hand. `words`: typed by whoever did it, or JSON; left out where people are not named."""

    seq: int
    at: int
    who: str
    did: str
    device: str
    words: str


@dataclass(frozen=True, slots=True)
class Deeds:
    """`many` of the period; `rows`: the newest `MOST` of them, in order."""

    many: int
    rows: tuple[Deed, ...]


@dataclass(frozen=True, slots=True)
class Troubles:
    """What happened in the period that limits what the figures say: how many notes of records that were relayed but
    not stored (`gaps`), of clock steps, of starts; packets that could not be read; entries whose personal data has been
    erased, None where the copy does not have all personal data.
    """

    gaps: int
    clock_steps: int
    starts: int
    unreadable: int
    erased: int | None


def unlocks(source: Source) -> Unlocks:
    """Raises sqlite3.Error."""
    within = f"FROM unlocks WHERE at BETWEEN ? AND ? AND {source.of_devices()}"
    counts = source.connection.execute(
        f"SELECT outcome, count(*) {within} GROUP BY outcome ORDER BY 2 DESC, 1", source.period
    )
    steps = source.connection.execute(
        f"SELECT at, device, outcome, scope, who {within} ORDER BY seq DESC LIMIT {MOST}", source.period
    )
    newest = tuple(Unlock(times.milliseconds(at), *rest) for at, *rest in steps)
    return Unlocks(dict(counts.fetchall()), newest[::-1])


def drills(source: Source) -> list[Drill]:
    """The newest `MOST`, in order. Raises sqlite3.Error."""
    rows = source.connection.execute(
        f"""SELECT at, device, did, reason, who FROM drills WHERE at BETWEEN ? AND ?
        AND (device = '*' OR {source.of_devices()}) ORDER BY seq DESC LIMIT {MOST}""",
        source.period,
    )
    return [
        Drill(times.milliseconds(at), device, did, _typed(source, reason), who) for at, device, did, reason, who in rows
    ][::-1]


def by_hand(source: Source) -> Deeds:
    """Of all devices: what is done by hand is mostly about the whole. Raises sqlite3.Error."""
    within = f"FROM ({_BY_HAND}) WHERE at BETWEEN ? AND ?"
    many = source.connection.execute(f"SELECT count(*) {within}", source.period).fetchone()[0]
    rows = source.connection.execute(
        f"SELECT seq, at, who, did, device, words {within} ORDER BY seq DESC LIMIT {MOST}", source.period
    )
    newest = tuple(
        Deed(seq, times.milliseconds(at), who, did, device, _typed(source, words))
        for seq, at, who, did, device, words in rows
    )
    return Deeds(many, newest[::-1])


def troubles(source: Source) -> Troubles:
    """Raises sqlite3.Error."""
    ask = source.connection.execute
    notes = dict(
        ask("SELECT note, count(*) FROM notes WHERE at BETWEEN ? AND ? GROUP BY note", source.period).fetchall()
    )
    unreadable = ask(
        f"SELECT count(*) FROM quarantine WHERE at BETWEEN ? AND ? AND {source.of_devices()}", source.period
    ).fetchone()[0]
    # In canonical JSON a quote within a text is escaped, so only the member itself looks like this.
    erased = ask(
        f"""SELECT count(*) FROM entries e WHERE e.recorded_at BETWEEN ? AND ? AND instr(e.body, '"personal":"')
        AND NOT EXISTS (SELECT 1 FROM {source.persons} p WHERE p.seq = e.seq)""",
        source.period,
    ).fetchone()[0]
    if source.about_copy.get("personal", "whole") != "whole":
        erased = None
    return Troubles(notes.get("gap", 0), notes.get("clock-step", 0), notes.get("start", 0), unreadable, erased)


def _typed(source: Source, words: str) -> str:
    return "" if source.has_pseudonyms else words
