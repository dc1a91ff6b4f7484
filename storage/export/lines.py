"""JSON lines: the entries in order, one object each, from which the chain can be checked without SQLite.

`body` stands as it is in the ledger: the bytes that were hashed, which is also what a reader gets who writes the parsed
object with sorted keys and no spaces (RFC 8785). `prev_hash` and `hash` are hexadecimal. `at_local` is `recorded_at` in
the zone. `personal` has the row with `raw` and `salt` in base64, null where there is none; with pseudonyms there is
`pseudonyms` instead. In a filtered export `chosen` tells the entries that were asked for from those that are there only
because the chain needs them, and only chosen ones have their personal data.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec

from storage.export.output import EVERY, Tell, Written, private
from storage.export.pseudonyms import FIELDS
from storage.export.subjects import LocalTimes, Source

_encode = msgspec.json.Encoder().encode


def write(source: Source, target: Path, tell: Tell) -> Written:
    """Make the file `target`. Raises OSError, sqlite3.Error."""
    local = LocalTimes(source.zone)
    pseudonymised = source.pseudonyms is not None or source.personal == "pseudonyms"
    secrets = "NULL, NULL" if pseudonymised else "p.raw, p.salt"
    rows = source.connection.execute(
        f"""SELECT e.body, e.hash, e.prev_hash, e.recorded_at, {source.wanted("e.seq IN {}")}, p.seq,
        {", ".join(f"p.{name}" for name in FIELDS)}, {secrets}
        FROM entries e LEFT JOIN {source.personal} p ON p.seq = e.seq AND {source.wanted("p.seq IN {}")}
        WHERE e.seq BETWEEN ? AND ? ORDER BY e.seq""",
        (source.chosen.first, source.chosen.through),
    )
    name = "pseudonyms" if pseudonymised else "personal"
    count = 0
    with private(target) as file:
        for count, (body, digest, before, at, chosen, somebody, *person) in enumerate(rows, 1):
            rest: dict[str, Any] = {"hash": digest.hex(), "prev_hash": before.hex(), "at_local": local.text(at)}
            if not source.chosen.whole:
                rest["chosen"] = bool(chosen)
            rest[name] = None if somebody is None else _person(source, person)
            file.write(f'{{"body":{body},{_encode(rest)[1:].decode()}\n')
            if not count % EVERY:
                tell(count)
    return Written({"entries": count})


def _person(source: Source, person: list[Any]) -> dict[str, str]:
    *values, raw, salt = person
    if source.pseudonyms is not None:
        return {name: source.pseudonyms.of(name, value) for name, value in zip(FIELDS, values, strict=True)}
    said = dict(zip(FIELDS, values, strict=True))
    if salt is not None:
        said |= {"raw": base64.b64encode(raw).decode(), "salt": base64.b64encode(salt).decode()}
    return said
