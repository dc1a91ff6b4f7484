"""Plain rows and personal rows, read beside the entries in order of their numbers.

What an entry's body must be is built from its plain row, the commitment of its personal row and its own columns, and
compared as bytes: one comparison shows that the body is canonical (RFC 8785) and that all of them say the same. Only
where the bytes differ is the body taken apart (`differences`), to say why, or to accept what an older schema wrote:
a column is NULL where the entry's data has no such member.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from storage import entries, proof
from storage.verifying.findings import Broken, Unreadable, damage, short

APART = ("seq", "id", "at", "record_id")
"""Columns of plain tables that are not in the entry's data."""
_LINKED = """(t.record_id IS (SELECT id FROM entries WHERE seq = t.record)
OR (t.record_id IS NULL AND t.record >= t.seq))"""

_encode = msgspec.json.Encoder().encode
Row = tuple[Any, ...]


class _Body(msgspec.Struct):
    """An entry's body; members in canonical order, as in all of these."""

    data: Any
    id: str
    kind: str
    recorded_at: str
    seq: int


class Rows:
    """Rows of one table in order of their numbers. `row`: the next one, None at the end; its first column is `seq`."""

    def __init__(self, connection: sqlite3.Connection, name: str, query: str) -> None:
        self.name = name
        self._rows = connection.execute(query)
        self.row: Row | None = None
        self.advance()

    def advance(self) -> Row | None:
        """Read the next row; returns the one before it."""
        before, self.row = self.row, None
        try:
            self.row = next(self._rows, None)
        except Unreadable as error:
            after = before[0] if before else 0
            words = damage(error)
            if not words:
                raise
            raise Broken(after + 1, f"the rows of {self.name} after {after}", words) from error
        return before


class PlainRows(Rows):
    """Rows of a plain table: seq, id, at, whether record_id is that of the record, and the data's members by name."""

    def __init__(self, connection: sqlite3.Connection, plain: entries.Plain, columns: Sequence[str]) -> None:
        self.columns = tuple(sorted(name for name in columns if name not in APART))
        names = sorted((*self.columns, "personal"))
        chosen = ", ".join("NULL" if name == "personal" else f"t.{name}" for name in names)
        linked = _LINKED if "record_id" in columns else "1"
        self._data = msgspec.defstruct("Data", [(name, Any) for name in names])
        self._names = names
        super().__init__(
            connection, plain.table, f"SELECT t.seq, t.id, t.at, {linked}, {chosen} FROM {plain.table} t ORDER BY t.seq"
        )

    def body(self, commitment: str | None, seq: int, identifier: str, kind: str, at: str) -> bytes:
        """The body that the entry of the next row must have."""
        data = self._data(*self.row[4:])  # type: ignore[index]
        data.personal = commitment  # type: ignore[attr-defined]
        return _encode(_Body(data, identifier, kind, at, seq))

    def picker(self, *names: str) -> Callable[[Row | None], tuple[Any, ...]]:
        """What takes the columns of these names (two or more) out of a row."""
        return itemgetter(*(4 + self._names.index(name) for name in names))  # type: ignore[return-value]

    def values(self) -> dict[str, Any]:
        """The data's members as the next row says them."""
        said = dict(zip(self._names, self.row[4:], strict=True))  # type: ignore[index]
        del said["personal"]
        return said


class PersonalRows(Rows):
    """Rows of `personal`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(
            connection, "personal", "SELECT seq, salt, account, card, document, raw, user FROM personal ORDER BY seq"
        )

    def take(self) -> str:
        """The commitment to the next row."""
        row = self.advance()
        return hmac.digest(row[1], _encode(proof.Committed(*row[2:])), "sha256").hex()  # type: ignore[index]


def commitment_in(body: bytes) -> str | None:
    """The commitment that a canonical body holds. Within a text its quotes would be escaped."""
    place = body.find(b'"personal":"')
    return body[place + 12 : place + 76].decode("ascii", "replace") if place >= 0 else None


def differences(
    entry: tuple[int, str, str, str, bytes], held: bool, commitment: str | None, said: dict[str, Any] | None, table: str
) -> None:
    """Compare an entry (seq, id, kind, recorded_at, body) with what belongs to it, member by member.

    `held`: whether its personal row is there, `commitment`: to that, or the body's own; `said`: the columns of its
    plain row, None where that was left out. Raises Broken for the first difference.
    """
    seq, identifier, kind, at, encoded = entry
    where = f"entry {seq}"
    body = _decoded(seq, encoded)
    for name, column in (("seq", seq), ("id", identifier), ("kind", kind), ("recorded_at", at)):
        if not _same(body[name], column):
            raise Broken(seq, where, f"its column {name} is {short(column)}, its body says {short(body[name])}")
    data = body["data"]
    personal = data.get("personal")
    if held and personal is None:
        raise Broken(seq, f"row {seq} of personal", f"entry {seq} has no commitment to personal data")
    if personal != commitment:
        raise Broken(seq, f"row {seq} of personal", f"it is not what entry {seq} is committed to")
    for name, column in (said or {}).items():
        if not _same(data.get(name), column):
            raise Broken(
                seq, f"row {seq} of {table}", f"{name} is {short(column)}, entry {seq} says {short(data.get(name))}"
            )


def _decoded(seq: int, encoded: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Broken(seq, f"entry {seq}", f"its body is no JSON ({error})") from error
    members = {"data", "id", "kind", "recorded_at", "seq"}
    if not isinstance(body, dict) or set(body) != members or not isinstance(body["data"], dict):
        raise Broken(seq, f"entry {seq}", "its body is not that of an entry")
    try:
        canonical = proof.canonical(body)
    except (TypeError, ValueError, RecursionError):
        canonical = b""
    if canonical != encoded:
        raise Broken(seq, f"entry {seq}", "its body is not in canonical form (RFC 8785)")
    return body


def _same(said: object, column: object) -> bool:
    return type(said) is type(column) and said == column
