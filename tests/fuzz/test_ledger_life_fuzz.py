"""One history through everything: work, signing, erasing, power cuts, archives, backups, other boxes, exports, repairs.

A model beside the ledger knows what was acknowledged, what is owed to the servers, what they have, what was erased and
what was signed; it goes back with every copy that is put in place. After every step the ledger proves itself against
it, and what was made of the ledger on the way goes on proving itself.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.witness import MOST_MISSING, Witness, heard_of, newest
from proxy.events import Moment
from storage import database, keeping, schema, signed, times
from storage.adopting import CannotAdopt, adopt
from storage.answers import OutboxItem, Repeat, Stored
from storage.archive import CannotArchive, archive
from storage.backup import backup
from storage.checkpoints import lines_in
from storage.errors import StorageError
from storage.export.filters import ALL, Filters
from storage.export.making import Wish, export
from storage.inheriting import settle_origin
from storage.ledger import Ledger
from storage.records import (
    AppLogLine,
    Counts,
    Delivery,
    Drop,
    EraseCard,
    EraseOld,
    Keepable,
    Note,
    OutboxState,
    Personal,
    Quarantined,
    Record,
    Resolve,
    Retry,
    Sign,
    Take,
)
from storage.remnants import remnants
from storage.signing import Signer
from storage.verify import Report, verify
from tests.fuzz.test_ledger_histories_fuzz import altered
from tests.unit.storage_samples import DAY, NOW, job, login, offline_login, step
from tests.unit.tampering import tamper

HOUR = DAY // 24
FORGETFUL = ("print",)
CARDS = [f"C{number:02}RD{number * 7919:07X}" for number in range(6)]
DEVICES = ("KM-A4F-000123", "KM-B")
SUFFIXES = ("", "-wal")
UNPROVEN = {("checkpoints", "number"), ("deliveries", "record_id")}
"""Columns that not every file can prove: the first checkpoint's number where earlier ones are elsewhere, and the id of
a record whose entry is in an archive.
"""

cards = st.sampled_from(CARDS)
upstreams = st.sampled_from(["hq", "print"])
works = st.tuples(
    st.sampled_from(["job", "job", "login", "look", "session"]),
    cards,
    upstreams,
    st.sampled_from([OutboxState.WAITING, OutboxState.WAITING, OutboxState.SENT, None]),
    st.integers(0, 20),
)
endings = st.sampled_from(["delivered", "delivered", "refused", "lost answer", "unanswered", "unsent", "no word yet"])


def tokens(card: str) -> tuple[str, str, str]:
    """What leads to the card's owner, nowhere else to be found: card, user and document."""
    return card, f"USER-OF-{card}", f"LETTER-OF-{card}"


def personal(card: str, number: int = 0) -> Personal:
    _, user, document = tokens(card)
    return Personal(card, user, document, "", b"\x01\x0f" + card.lower().encode() + bytes(number * 40))


@dataclass
class History:
    """What a ledger must hold, and what was made of it. `acked`: ids by number; `owed`: records to be forwarded;
    `gone`: what was erased; `lines`: what was signed; `head`: the last entry; `made`: archives, backups and exports.
    """

    acked: dict[int, str] = field(default_factory=dict)
    owed: set[int] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    head: tuple[int, bytes] = (0, b"")
    archives: list[Path] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)


@dataclass
class Kept:
    """A copy of the ledger and what it holds. `marked`: it says itself that it is a backup."""

    path: Path
    has: History
    signer: Signer
    marked: bool


class Life(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="locum-life-")
        self.places = 0
        self.now = NOW
        self.signer = Signer.new()
        self.keys = [self.signer.public_key]
        self.path = self.place("ledger.db")
        self.has = History()
        self.copies: list[Kept] = []
        self.made: dict[Path, tuple[list[str], bytes]] = {}
        self.at_server: set[str] = set()
        self.start()
        self.commit(Sign(self.now))

    # -- the box

    def place(self, name: str) -> Path:
        self.places += 1
        folder = Path(self.folder.name) / str(self.places)
        folder.mkdir()
        return folder / name

    def start(self, older: bool = False) -> None:
        """As the service does it."""
        ledger = self.ledger = Ledger.open(self.path, self.now, self.signer)
        assert ledger.words == ()
        words = settle_origin(
            ledger, self.signer, newest(self.path.parent), FORGETFUL, self.now, heard_of(self.path.parent)
        )
        assert any("older copy" in line for line in words) == older, words
        ledger.settle_sent(self.now, FORGETFUL)
        self.witness = Witness(self.path.parent, ledger.new_checkpoints, lambda: self.ledger.head, self.moment)
        with database.reading(self.path) as reader:
            key_notes = signed.key_notes(reader, self.signer, self.now)
            known = signed.last(reader, MOST_MISSING)
        self.commit(Note(self.now, "start", {}), *key_notes)
        self.witness.catch_up(known, self.moment)

    @property
    def moment(self) -> Moment:
        return Moment(self.now / 1000, self.now, bytes(32))

    def commit(self, *items: Keepable) -> list[Any]:
        results = self.ledger.commit(items)
        self.learn(items, results)
        self.has.head = self.ledger.head
        self.has.lines += [each.line for each in self.ledger.new_checkpoints]
        self.witness.carry(self.moment)
        self.now += 1000
        return results

    def learn(self, items: Sequence[Keepable], results: Sequence[Any]) -> None:
        """This was acknowledged."""
        has = self.has
        for item, result in zip(items, results, strict=True):
            assert not isinstance(result, StorageError), result
            if isinstance(result, Repeat):
                assert has.acked[result.seq] == result.id
            elif isinstance(result, Stored) and result.seq:
                has.acked[result.seq] = result.id
                if isinstance(item, Record) and item.outbox is not None:
                    has.owed.add(result.seq)
                if isinstance(item, Record) and item.outbox is OutboxState.SENT:
                    self.at_server.add(result.id)
                if isinstance(item, Delivery) and item.state is None:
                    has.owed.discard(item.seq)
                has.gone -= {token for token in has.gone if token.encode() in told_in(item)}
            elif isinstance(item, EraseCard) and not result.waiting:
                has.gone |= set(tokens(item.card))
            elif isinstance(item, EraseOld):
                has.gone |= self.not_there()
            elif isinstance(item, Drop) or (isinstance(item, Resolve) and item.how == "sent"):
                has.owed.discard(item.seq)

    def not_there(self) -> set[str]:
        """What of all that leads to persons is in no row."""
        with database.reading(self.path) as reader:
            rows = reader.execute("SELECT card, user, document, raw FROM personal").fetchall()
            rows += reader.execute("SELECT card, user FROM cards").fetchall()
            rows += reader.execute("SELECT order_key FROM outbox").fetchall()
        text = repr(rows).upper()
        return {token for card in CARDS for token in tokens(card) if token not in text}

    def asked(self, query: str, *given: Any) -> list[Any]:
        with database.reading(self.path) as reader:
            return reader.execute(query, given).fetchall()

    # -- what people, copiers and servers do

    def items(self, work: Sequence[tuple[str, str, str, OutboxState | None, int]]) -> list[Keepable]:
        found: list[Keepable] = []
        for what, card, upstream, outbox, number in work:
            at, whose = self.now, personal(card, number)
            device = DEVICES[number % 2]
            if what == "job":
                how: dict[str, Any] = {"upstream": upstream, "outbox": outbox, "personal": whose, "device": device}
                if outbox is None:  # what no server takes
                    how |= {"upstream": "print", "counts": Counts("scan", 0)}
                found.append(job(number, at=at, key=f"{card}/{number}", order_key=f"card|{card}", **how))
            elif what == "login":
                found.append(login(card, at=at, personal=whose, device=device))
            elif what == "look":
                found.append(AppLogLine(at, "warning", "unknown card", {"device": device}, Personal(card=card)))
                found.append(Quarantined(at, "radius", device, "10.7.0.31", "overruns", b"\x01\x0f" + card.encode()))
            else:
                found += [step("failed", "grace", at=at, outage=at), step("recovered", "online", at=at, outage=at)]
                found.append(offline_login(f"{number:02x}" * 16, at=at, personal=Personal(card=card), device=device))
        return found

    @rule(work=st.lists(works, min_size=1, max_size=8), sign=st.booleans(), hours=st.integers(0, 60))
    def people_work(self, work: list[Any], sign: bool, hours: int) -> None:
        self.now += hours * HOUR
        self.commit(*self.items(work), *[Sign(self.now)] * sign)

    @rule(upstream=upstreams, ends=st.lists(endings, min_size=1, max_size=6))
    def records_are_sent(self, upstream: str, ends: list[str]) -> None:
        deliveries = map(self.ended, self.taken(upstream, len(ends)), ends)
        self.commit(*filter(None, deliveries))

    def taken(self, upstream: str, most: int) -> tuple[OutboxItem, ...]:
        """Records that are on their way from now on."""
        query = "SELECT seq FROM outbox WHERE upstream = ? AND state IN ('waiting', 'sent') ORDER BY seq LIMIT ?"
        seqs = tuple(seq for (seq,) in self.asked(query, upstream, most))
        (taken,) = self.commit(Take(self.now, upstream, seqs, facts=True))
        assert tuple(item.seq for item in taken.items) == seqs
        found: tuple[OutboxItem, ...] = taken.items
        return found

    def ended(self, item: OutboxItem, end: str) -> Delivery | None:
        if end in ("refused", "unsent") and item.id in self.at_server:
            end = "lost answer"
        if end in ("delivered", "lost answer", "no word yet"):
            self.at_server.add(item.id)
        again = OutboxState.IN_DOUBT if item.upstream in FORGETFUL else OutboxState.WAITING
        outcome, state, twice = {
            "delivered": ("delivered", None, False),
            "refused": ("refused", OutboxState.REJECTED, False),
            "lost answer": ("unanswered", again, True),
            "unanswered": ("unanswered", again, True),
            "unsent": ("unsent", OutboxState.WAITING, False),
            "no word yet": ("", None, False),
        }[end]
        if not outcome:
            return None
        user = tokens(item.facts.card)[1] if item.facts is not None else ""
        return Delivery(self.now, item.seq, item.upstream, outcome, state, item.tries + 1, user=user, maybe_twice=twice)

    @rule(how=st.sampled_from(["sent", "resend", "drop", "retry"]))
    def an_admin_decides(self, how: str) -> None:
        for seq, state in self.asked("SELECT seq, state FROM outbox ORDER BY seq"):
            if how == "drop":
                self.commit(Drop(self.now, seq, "by hand", "root"))
            elif how == "retry":
                self.commit(Retry(self.now, (seq,), "root", (("user", "somebody else"),)))
            elif state == "in_doubt":
                self.commit(Resolve(self.now, seq, how, "root"))

    def all_is_delivered(self) -> None:
        rows = self.asked("SELECT o.seq, e.id, o.upstream FROM outbox o JOIN entries e ON e.seq = o.seq ORDER BY o.seq")
        self.at_server |= {record for _, record, _ in rows}
        self.commit(*(Delivery(self.now, seq, upstream, "delivered", None, 1) for seq, _, upstream in rows))

    @rule(card=cards)
    def a_card_is_erased(self, card: str) -> None:
        self.commit(EraseCard(self.now, card, "root"))

    @rule(hours=st.integers(0, 100), limit=st.integers(1, 30))
    def what_is_old_is_erased(self, hours: int, limit: int) -> None:
        self.commit(EraseOld(self.now, self.now - hours * HOUR, limit))

    # -- what befalls the box

    @rule(how=st.sampled_from(["in order", "a power cut", "to vacuum", "to repair"]))
    def it_stops_and_starts(self, how: str) -> None:
        if how == "in order":
            self.stop()
        elif how == "a power cut":
            self.lay_down(self.files())
        else:
            self.ledger.close()
            if how == "to vacuum":
                keeping.vacuum(self.path, self.now)
                assert not self.found_bytes()
            else:
                assert keeping.repair(self.path, self.now) == []
        self.start()

    def stop(self) -> None:
        self.ledger.close(self.now)
        self.witness.carry(self.moment)
        self.has.head = self.ledger.head

    def files(self) -> dict[str, bytes]:
        there = {suffix: self.path.with_name(f"ledger.db{suffix}") for suffix in SUFFIXES}
        return {suffix: file.read_bytes() for suffix, file in there.items() if file.exists()}

    def lay_down(self, files: dict[str, bytes]) -> None:
        """Let these be the ledger's files, whatever the closing of the ledger does to them."""
        self.ledger.close()
        for suffix in (*SUFFIXES, "-shm"):
            self.path.with_name(f"ledger.db{suffix}").unlink(missing_ok=True)
        for suffix, data in files.items():
            self.path.with_name(f"ledger.db{suffix}").write_bytes(data)

    @rule(work=st.lists(works, max_size=5), card=cards, upstream=upstreams, part=st.integers(0, 1000))
    def the_power_goes_within_a_commit(self, work: list[Any], card: str, upstream: str, part: int) -> None:
        """The WAL is as far as it had come, over what stood there before; what was not acknowledged is there whole or
        not at all.
        """
        sent = self.taken(upstream, 2)
        self.at_server |= {item.id for item in sent}
        before, (first, _) = self.files(), self.has.head
        items = [EraseCard(self.now, card, "root"), *self.items(work)]
        items += [Delivery(self.now, item.seq, upstream, "delivered", None, 1) for item in sent]
        results = self.ledger.commit(items)
        head = self.ledger.head
        written, old = self.files().get("-wal", b""), before.get("-wal", b"")
        come = len(written) * part // 1000
        self.lay_down({**before, "-wal": written[:come] + old[come:]})
        found = self.verified().last
        assert found in (first, head[0])
        if found == head[0]:
            self.has.head = head
            self.learn(items, results)
        self.start()

    # -- what is made of the ledger

    @rule(days=st.integers(1, 3), at_rest=st.sampled_from([True, True, False]))
    def old_entries_are_archived(self, days: int, at_rest: bool) -> None:
        if at_rest:
            self.all_is_delivered()
            self.commit(Sign(self.now))
            self.now += 2 * DAY
        dest = self.place("archive.db")
        self.stop()
        try:
            done = archive(self.path, dest, self.now - days * DAY, self.now, self.signer, "root")
        except CannotArchive:
            assert not dest.exists()
        else:
            assert done.sha256 == sha256(dest.read_bytes()).hexdigest()
            assert not found_in(dest.read_bytes(), self.has.gone)
            self.has.archives.append(dest)
            self.is_made(dest)
        self.start()

    def is_made(self, path: Path) -> None:
        self.has.made.append(path)
        self.made[path] = list(self.has.lines), sha256(path.read_bytes()).digest()
        self.proves_itself(path, self.has.lines)

    @rule(marked=st.booleans())
    def a_copy_is_made(self, marked: bool) -> None:
        """A backup, or the files as they stand."""
        dest = self.place("ledger.db")
        if marked:
            self.commit(Sign(self.now), Note(self.now, "backup", {"to": str(dest)}), Sign(self.now))
            backup(self.path, dest, str(self.places), times.text(self.now), lambda done, of: None)
            self.is_made(dest)
        else:
            for suffix, data in self.files().items():
                dest.with_name(f"ledger.db{suffix}").write_bytes(data)
        self.copies.append(Kept(dest, deepcopy(self.has), self.signer, marked))
        assert verify(dest, self.keys, [*self.has.lines, pair(self.has.head)]).wrong is None

    @precondition(lambda self: self.copies)
    @rule(which=st.integers(0, 9), how=st.sampled_from(["by hand", "adopted", "in another box"]))
    def a_copy_is_put_in_place(self, which: int, how: str) -> None:
        copy, before = self.copies[which % len(self.copies)], self.has
        older = copy.marked or before.head != copy.has.head
        self.ledger.close()
        told = older and (how == "in another box" or copy.signer is not self.signer)
        if how == "by hand" and (copy.marked or not told):
            self.lay_copy(copy.path)
        elif how != "in another box" and before.owed:
            with pytest.raises(CannotAdopt, match=f"{len(before.owed)} records are in the outbox"):
                adopt(self.path, copy.path, self.now, wrong_with)
            self.start()
            return
        else:
            if how == "in another box":
                self.path, self.signer = self.place("ledger.db"), Signer.new()
                self.keys.append(self.signer.public_key)
            adopt(self.path, copy.path, self.now, wrong_with, older=told)
        self.has = deepcopy(copy.has)
        self.start(older)
        self.what_was_given_up_is_told(before, copy.has)

    def what_was_given_up_is_told(self, before: History, copy: History) -> None:
        """By a note, and to whoever kept a signature of what came after the copy's end."""
        if not any(copy.acked.get(seq) != name for seq, name in before.acked.items()):
            return
        ((data,),) = self.asked("SELECT data FROM notes WHERE note = 'restored' ORDER BY seq DESC LIMIT 1")
        assert json.loads(data)["through"] == copy.head[0]
        for line in before.lines:
            if next(lines_in(line)).seq > copy.head[0]:
                wrong = verify(self.path, self.keys, [line]).wrong
                assert wrong is not None
                assert "an older copy" in wrong.what

    def lay_copy(self, source: Path) -> None:
        for suffix in (*SUFFIXES, "-shm"):
            self.path.with_name(f"ledger.db{suffix}").unlink(missing_ok=True)
        for suffix in SUFFIXES:
            if (there := source.with_name(source.name + suffix)).exists():
                shutil.copyfile(there, self.path.with_name(f"ledger.db{suffix}"))

    @rule(
        which=st.integers(0, 9),
        kind=st.sampled_from(["all", "period", "device", "card"]),
        hidden=st.booleans(),
        card=cards,
        hours=st.integers(0, 200),
    )
    def it_is_exported(self, which: int, kind: str, hidden: bool, card: str, hours: int) -> None:
        self.commit(Sign(self.now))
        source = [self.path, *self.has.made][which % (len(self.has.made) + 1)]
        filters = {
            "all": ALL,
            "period": Filters(first=self.now - hours * HOUR, last=self.now),
            "device": Filters(devices=(DEVICES[hours % 2],)),
            "card": Filters(cards=(card,)),
        }[kind]
        target = self.place("export.sqlite")
        wish = Wish(source, target, "sqlite", self.now, "1", ZoneInfo("UTC"), filters, hidden)
        done = export(wish, lambda what, part, of: None)
        data = target.read_bytes()
        if done.about.pseudonymised:
            assert not found_in(data, {token for each in CARDS for token in tokens(each)})
        elif source == self.path:
            assert not found_in(data, self.has.gone - {card if kind == "card" else ""})
        with closing(sqlite3.connect(target)) as book:
            (entries,) = book.execute("SELECT count(*) FROM entries").fetchone()
        if entries:
            self.is_made(target)
        else:
            assert verify(target).wrong is None

    @rule(data=st.data(), table=st.sampled_from(schema.EVIDENCE), place=st.integers(0, 999), by=st.integers(1, 99))
    def somebody_changes_a_row(self, data: st.DataObject, table: str, place: int, by: int) -> None:
        source = data.draw(st.sampled_from([self.path, *self.has.made]))
        copy = self.place("copy.db")
        if source == self.path:
            for suffix, held in self.files().items():
                copy.with_name(copy.name + suffix).write_bytes(held)
        else:
            shutil.copyfile(source, copy)
        with closing(sqlite3.connect(copy)) as book:
            keys = [key for (key,) in book.execute(f"SELECT rowid FROM {table} ORDER BY 1")]
            columns = [(name, kind) for _, name, kind, *_ in book.execute(f"PRAGMA table_info({table})")]
            columns = [(name, kind) for name, kind in columns if (table, name) not in UNPROVEN]
            if not keys:
                return
            key, (name, kind) = data.draw(st.sampled_from(keys)), data.draw(st.sampled_from(columns))
            (value,) = book.execute(f"SELECT {name} FROM {table} WHERE rowid = ?", (key,)).fetchone()
        changed = "x" if value is None and kind == "TEXT" else altered(value, place, by)
        try:
            tamper(copy, (f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (changed, key)))
        except sqlite3.IntegrityError:
            return  # another row has that key
        assert not verify(copy, self.keys).ok, (table, name, value, changed)

    # -- what must hold

    def verified(self) -> Report:
        report = verify(self.path, self.keys, [*self.has.lines, pair(self.has.head)])
        assert report.wrong is None, report.wrong
        return report

    def proves_itself(self, path: Path, lines: Sequence[str]) -> None:
        assert verify(path, self.keys, lines).wrong is None
        assert [each.words for each in keeping.check(path) if each.wrong and each.what != "room"] == []

    @invariant()
    def the_ledger_holds_what_it_must(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.verified()
        self.nothing_is_missing()
        self.what_is_owed_is_there()
        assert not self.found_bytes() - {token for token in self.has.gone if remnants(self.path, token).unused}

    def nothing_is_missing(self) -> None:
        ids: dict[int, str] = {}
        for each in (*self.has.archives, self.path):
            with database.reading(each) as reader:
                rows = reader.execute("SELECT seq, id FROM entries ORDER BY seq").fetchall()
            assert [seq for seq, _ in rows] == [*range(len(ids) + 1, len(ids) + len(rows) + 1)]
            ids.update(rows)
        assert ids.items() >= self.has.acked.items()

    def what_is_owed_is_there(self) -> None:
        """And what a server has by now is never simply waiting."""
        rows = self.asked(
            "SELECT o.seq, e.id, o.state, EXISTS (SELECT 1 FROM deliveries d WHERE d.record = o.seq AND d.maybe_twice) "
            "FROM outbox o JOIN entries e ON e.seq = o.seq"
        )
        assert {seq for seq, *_ in rows} == self.has.owed
        counted = self.asked("SELECT state, sum(records) FROM outbox_counts GROUP BY state HAVING sum(records) <> 0")
        assert dict(counted) == Counter(state for _, _, state, _ in rows)
        unnamed = {record for _, record, state, named in rows if state in ("waiting", "rejected") and not named}
        assert not unnamed & self.at_server

    def found_bytes(self) -> set[str]:
        return found_in(b"".join(self.files().values()), self.has.gone)

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.ledger.close()
        self.proves_itself(self.path, [*self.has.lines, pair(self.has.head)])
        keeping.vacuum(self.path, self.now)
        assert not self.found_bytes()
        assert verify(self.path).wrong is None
        for path, (lines, digest) in self.made.items():
            assert sha256(path.read_bytes()).digest() == digest
            self.proves_itself(path, self.has.lines if path in self.has.made else lines)
        self.folder.cleanup()


def told_in(item: Keepable) -> bytes:
    """All that an item says, for what leads to a person in it."""
    return repr(item).upper().encode()


def found_in(data: bytes, wanted: set[str]) -> set[str]:
    upper = data.upper()
    return {each for each in wanted if each.encode() in upper}


def pair(head: tuple[int, bytes]) -> str:
    return f"{head[0]}:{head[1].hex()}"


def wrong_with(path: Path) -> str:
    return str(verify(path).wrong or "")


Life.TestCase.settings = settings(max_examples=15, stateful_step_count=30, deadline=None, derandomize=True)
test_a_life = Life.TestCase
