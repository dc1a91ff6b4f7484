"""App.Log as `locum log` reads it: straight from the ledger, read-only, beside a running appliance or without one.

The file is opened anew for every look, so that following goes on when the appliance sets a broken ledger aside and
begins another.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.state_dir import LEDGER_NAME
from storage import times
from storage.database import reading
from storage.reader import AppLogRow, Reader

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of App.Log, as text or as an object of JSON."""

    row: AppLogRow

    def as_text(self) -> str:
        """Time, level, text and context; nothing in it can steer a terminal."""
        row = self.row
        named = {**row.context, "card": row.card} if row.card else row.context
        context = " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in named.items())
        line = f"{times.text(row.at)} {row.level:7} {row.text} {context}".rstrip()
        return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)

    def as_json(self) -> str:
        row = self.row
        line = {"seq": row.seq, "at": times.text(row.at), "level": row.level, "text": row.text, "context": row.context}
        return json.dumps({**line, "card": row.card} if row.card else line, ensure_ascii=True)


class AppLog:
    """The App.Log of a state directory. Methods raise StorageError, LedgerMissing among them."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / LEDGER_NAME
        self._seen = 0

    def last(self, count: int) -> list[Line]:
        """The last `count` lines; `new` goes on from there."""
        rows = self._rows(None, max(count, 1))
        if rows:
            self._seen = rows[-1].seq
        return [Line(row) for row in rows] if count else []

    def new(self) -> Iterator[Line]:
        """The lines since the last look."""
        while rows := self._rows(self._seen, _AT_ONCE):
            for row in rows:
                self._seen = row.seq
                yield Line(row)

    def _rows(self, after: int | None, limit: int) -> list[AppLogRow]:
        with reading(self._file) as connection:
            return Reader(self._file, connection).app_log(after, limit)
