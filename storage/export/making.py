"""Makes an export: snapshot, choice, the format's writer, manifest, and all of it in place at once or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

from storage import copies, places, times
from storage.errors import translated
from storage.export import comma, copy, datasette, files, lines, manifest, page
from storage.export.filters import ALL, Filters, choose
from storage.export.manifest import About
from storage.export.output import CannotExport, Written, WrongPlace, private
from storage.export.pseudonyms import FIELDS, Pseudonyms
from storage.export.snapshot import snapshot
from storage.export.soundness import wrong_with
from storage.export.subjects import Source

FORMATS = ("sqlite", "csv", "jsonl", "xlsx", "html")

Progress = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is done, and of how much (0: not known)."""
Noted = Callable[["Exported"], None]
"""Is told of an export when it is made and not yet in place; if it raises, nothing is left."""

_IN_WORDS = "SELECT count(*) FROM entries e JOIN {} p ON p.seq = e.seq WHERE ({}) AND {}"
_MANIFEST, _DATASETTE = ".manifest.json", ".datasette.json"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be exported where. `now`: ms. `zone`: of the local times. `version`: Locum's. `state_dir`: nothing may
    be put there.
    """

    source: Path
    target: Path
    format: str
    now: int
    version: str
    zone: ZoneInfo
    filters: Filters = ALL
    pseudonymise: bool = False
    force: bool = False
    state_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was made. `sha256`: hex, of the manifest's bytes."""

    about: About
    written: Written
    manifest: Path
    sha256: str

    @property
    def in_words(self) -> int:
        """Entries that name a person outside of the personal part, as far as is known."""
        return self.about.named or 0


def refuse(wish: Wish) -> None:
    """Raises WrongPlace if nothing can or may be put where the export is wanted."""
    for place in _places(wish).values():
        files.refuse(place, wish.state_dir, _with_companions(wish.source), wish.format == "csv", wish.force)
    if (
        wish.format != "csv"
        and wish.target.exists()
        and not wish.target.with_name(wish.target.name + _MANIFEST).exists()
    ):
        raise WrongPlace(f"{wish.target}: is no export, for it has no manifest; move it away, or name another place")


def export(wish: Wish, progress: Progress, noted: Noted = lambda exported: None) -> Exported:
    """Make it. Raises WrongPlace, WrongFilter, CannotExport, or a StorageError about the ledger; nothing is left."""
    refuse(wish)
    try:
        with files.workshop(wish.target) as folder:
            return _made(wish, folder, progress, noted)
    except sqlite3.Error as error:
        if places.ran_out(error, wish.target.parent):
            raise _no_room(wish) from error
        raise translated(error, wish.source) from error
    except OSError as error:
        if places.ran_out(error, wish.target.parent):
            raise _no_room(wish) from error
        raise CannotExport(f"{wish.target}: cannot be written ({error.strerror}); nothing is left of it") from error


def _places(wish: Wish) -> dict[str, Path]:
    """Where what is made goes, by what it is called beside the export; "" is the export itself."""
    target = wish.target
    if wish.format == "csv":
        return {"": target}
    beside = (_MANIFEST, _DATASETTE) if wish.format == "sqlite" else (_MANIFEST,)
    return {"": target, **{ending: target.with_name(target.name + ending) for ending in beside}}


def _made(wish: Wish, folder: Path, progress: Progress, noted: Noted) -> Exported:
    with snapshot(wish.source, folder, lambda done, of: progress("copying the ledger", done, of)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        info = copies.said_by(connection)
        personal = "pseudonyms" if "pseudonyms" in tables else "personal"
        progress("choosing", 0, 0)
        chosen = choose(connection, personal, wish.filters)
        hide = wish.pseudonymise and personal == "personal"
        source = Source(connection, chosen, wish.zone, personal, Pseudonyms() if hide else None)
        hidden = wish.pseudonymise or personal == "pseudonyms"
        newest = manifest.newest_checkpoint(connection, chosen.through)
        progress("looking at the chain", 0, 0)
        about = About(
            wish.version,
            wish.format,
            times.text(wish.now),
            str(wish.zone),
            hidden,
            chosen,
            newest,
            info,
            _named_in_words(source) if hide else _said_to_be_named(info),
            wrong_with(connection, chosen, newest),
        )
        written = _write(wish, source, about, folder / wish.target.name, progress)
        head = connection.execute("SELECT hash FROM entries WHERE seq = ?", (chosen.through,)).fetchone()
    made = {"": folder / wish.target.name, **written.beside}
    hashes = {path.name: path for path in (sorted(made[""].iterdir()) if wish.format == "csv" else made.values())}
    text = manifest.make(about, written, hashes, head[0] if head else None)
    book = made[""] / files.MANIFEST if wish.format == "csv" else folder / f"{wish.target.name}{_MANIFEST}"
    with private(book) as file:
        file.write(text.decode())
    if wish.format != "csv":
        made[_MANIFEST] = book
    for path in made.values():
        files.settle(path)
    goes_to = _places(wish)
    place = goes_to.get(_MANIFEST, wish.target / files.MANIFEST)
    exported = Exported(about, written, place, sha256(text).hexdigest())
    progress("putting it in place", 0, 0)
    noted(exported)
    files.put({path: goes_to[ending] for ending, path in made.items()}, folder)
    return exported


def _write(wish: Wish, source: Source, about: About, target: Path, progress: Progress) -> Written:
    total = _rows_in_all(source, wish.format)

    def tell(done: int) -> None:
        progress("writing", min(done, total), total)

    tell(0)
    if wish.format == "sqlite":
        written = copy.write(source, target, about.rows(), tell)
        metadata = target.with_name(target.name + _DATASETTE)
        datasette.write(target, wish.target.stem, about.in_words(), metadata)
        return Written(written.counts, 0, {_DATASETTE: metadata})
    if wish.format == "csv":
        return comma.write(source, target, tell)
    if wish.format == "jsonl":
        return lines.write(source, target, tell)
    if wish.format == "html":
        return page.write(source, target, about.in_words(), tell)
    from storage.export import sheets  # the one writer that must be loaded from elsewhere: 30 MB

    return sheets.write(source, target, about.in_words(), tell)


def _rows_in_all(source: Source, format: str) -> int:
    """About how many rows will be written: of a whole ledger entries and personal rows have one each beside."""
    chosen = source.chosen
    span = chosen.through - chosen.first + 1
    if format == "jsonl":
        return span
    return span + 2 * chosen.entries if format == "sqlite" else chosen.entries


def _named_in_words(source: Source) -> int:
    """How many chosen entries have a name of their person in the hashed body, which cannot be altered."""
    named = " OR ".join(f"(length(p.{name}) >= 3 AND instr(e.body, p.{name}))" for name in FIELDS)
    query = _IN_WORDS.format(source.personal, named, source.wanted("e.seq IN {}"))
    found: int = source.connection.execute(query).fetchone()[0]
    return found


def _said_to_be_named(info: Mapping[str, str]) -> int | None:
    """The same of a file in which there are pseudonyms already, so that it cannot be counted; None: it does not say."""
    told = info.get(manifest.NAMED, "0" if info.get("pseudonymised", "0") == "0" else "")
    return int(told) if told.isascii() and told.isdecimal() else None


def _with_companions(source: Path) -> tuple[Path, ...]:
    return (source, *(source.with_name(source.name + ending) for ending in ("-wal", "-shm", ".lock")))


def _no_room(wish: Wish) -> CannotExport:
    return CannotExport(
        f"{wish.target}: the disk is full; nothing is left of the export, which needs room for the ledger once more "
        "beside it: name a larger disk, or filter"
    )
