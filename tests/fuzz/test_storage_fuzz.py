"""Whatever texts, bytes and numbers the wire brings, the ledger keeps them, its chain holds, and every reader reads
them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import database, proof
from storage.errors import NotStorable
from storage.ledger import Ledger
from storage.outbox import Outbox
from storage.records import (
    AppLogLine,
    Counts,
    Delivery,
    DeviceSeen,
    DrillStep,
    Drop,
    Keepable,
    Login,
    Logout,
    Mode,
    Note,
    OutageStep,
    OutboxState,
    Personal,
    Quarantined,
    Record,
    Remember,
    Resolve,
    Retry,
    Take,
    UnlockStep,
)
from tests.unit.storage_samples import NOW

texts = st.text(max_size=12) | st.sampled_from(["", "\0", "\ud800", "a\udfffb", "\U0001f600", "'; DROP TABLE jobs; --"])
numbers = st.integers(0, 2**32) | st.sampled_from([0, 1, 2**53 - 1, 2**53, 2**63, 2**64, -1])
seqs = st.integers(0, 12)
times = st.integers(NOW - 10**6, NOW + 10**6) | st.sampled_from([0, -1, 10**18])
personals = st.builds(Personal, texts, texts, texts, texts, st.binary(max_size=40))
counts = st.builds(
    Counts,
    texts,
    numbers,
    st.none() | numbers,
    st.none() | numbers,
    st.none() | numbers,
    st.none() | st.booleans(),
    texts,
)
flags = st.booleans()
evidence = st.lists(st.tuples(seqs, texts | st.just('{"a":1}')), max_size=2).map(tuple)
corrections = st.lists(st.tuples(texts | st.sampled_from(["user", "printer"]), texts), max_size=2).map(tuple)
contexts = st.dictionaries(texts, texts | numbers, max_size=3)
states = st.sampled_from(list(OutboxState))
modes = st.sampled_from(list(Mode))

records = st.builds(
    Record,
    at=times,
    dialect=texts,
    upstream=texts,
    device=texts,
    client=texts,
    event=texts,
    session=texts,
    mode=modes,
    order_key=texts,
    personal=personals,
    job_number=texts,
    counts=st.none() | counts,
    started_at=st.none() | times,
    ended_at=st.none() | times,
    repeat_scope=texts,
    repeat_keys=st.lists(st.binary(min_size=1, max_size=3), max_size=3).map(tuple),
    ends_repeats=st.booleans(),
    for_ever=st.booleans(),
    outbox=st.sampled_from([None, OutboxState.WAITING, OutboxState.SENT]),
)
logins = st.builds(
    Login,
    at=times,
    dialect=texts,
    upstream=texts,
    device=texts,
    client=texts,
    method=texts,
    outcome=texts | st.just("granted"),
    decided_by=texts,
    reason=texts,
    mode=modes,
    personal=personals,
    session=texts,
    expires_at=st.none() | times,
    late=st.booleans(),
    teaches=st.booleans(),
)
others = st.one_of(
    st.builds(Logout, times, texts, texts, texts),
    st.builds(OutageStep, times, texts, times, texts, texts, texts, texts, numbers),
    st.builds(UnlockStep, times, texts, texts, texts, texts, texts, texts),
    st.builds(DrillStep, times, texts, texts, times, texts, texts),
    st.builds(Delivery, times, seqs, texts, texts, st.none() | states, numbers, texts, texts, times, flags, flags),
    st.builds(AppLogLine, times, texts, texts, contexts, personals),
    st.builds(Quarantined, times, texts, texts, texts, texts, st.binary(max_size=40)),
    st.builds(Note, times, texts, contexts, texts),
    st.builds(Remember, texts, texts),
    st.builds(DeviceSeen, times, texts, texts, texts, texts),
    st.builds(Take, times, texts, st.lists(seqs, max_size=4).map(tuple), flags, flags, evidence),
    st.builds(Retry, times, st.lists(seqs, max_size=4).map(tuple), texts, corrections),
    st.builds(Resolve, times, seqs, texts | st.sampled_from(["sent", "resend"]), texts, texts),
    st.builds(Drop, times, seqs, texts, texts),
)
batches = st.lists(st.lists(records | logins | others, min_size=1, max_size=8), min_size=1, max_size=4)


@settings(max_examples=120, deadline=None)
@given(batches)
def test_any_values_are_kept_or_refused_one_by_one_and_the_chain_holds(days: list[list[Keepable]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = Ledger.open(path, NOW)
        for batch in days:
            outcomes = ledger.commit(batch)
            assert len(outcomes) == len(batch)
            assert all("\n" not in str(outcome) for outcome in outcomes if isinstance(outcome, NotStorable))
        ledger.close()
        with database.reading(path) as reader:
            assert proof.walk(reader).ok
            for (body,) in reader.execute("SELECT body FROM entries").fetchall():
                assert rfc8785.dumps(json.loads(body)).decode() == body
            totals = reader.execute("SELECT count(*) FROM jobs").fetchone()[0]
            assert reader.execute("SELECT coalesce(sum(value), 0) FROM totals").fetchone()[0] == totals
            in_outbox = reader.execute("SELECT count(*) FROM outbox").fetchone()[0]
            assert reader.execute("SELECT coalesce(sum(records), 0) FROM outbox_counts").fetchone()[0] == in_outbox
            for (view,) in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall():
                reader.execute(f"SELECT * FROM {view}").fetchall()
            outbox = Outbox(reader)
            for (seq,) in reader.execute("SELECT seq FROM outbox").fetchall():
                assert outbox.show(seq) is not None
            outbox.in_doubt()
            assert reader.execute("SELECT count(*) FROM jobs WHERE event = 'conflict'").fetchone()[0] <= totals
