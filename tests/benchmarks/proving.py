"""What proof costs: verifying a long ledger, beside reading and hashing it only; and keeping records with and without.

LOCUM_BENCH_ENTRIES makes the ledger of another length than a million.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from storage import proof
from storage.ledger import Ledger
from storage.records import Keepable
from storage.signing import Signer
from tests.benchmarks import history
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure
from tests.peers.skips import ROOT
from tests.unit.storage_samples import NOW, job

IN_FLIGHT = 128
COMMITS = 150
ROUNDS = 5

_AROUND = """import hashlib, resource, sqlite3, sys, time
from pathlib import Path
from storage.verify import verify
path = Path(sys.argv[1])
began = time.perf_counter()
{work}
print(count, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
_VERIFY = """report = verify(path)
if report.wrong is not None:
    sys.exit(str(report.wrong))
count = report.entries"""
_HASH = """count, head = 0, bytes(32)
book = sqlite3.connect(path)
for body, own in book.execute("SELECT CAST(body AS BLOB), hash FROM entries ORDER BY seq"):
    head = hashlib.sha256(b"locum-entry-1" + head + body).digest()
    if head != own:
        sys.exit("the chain is broken")
    count += 1"""


def _measured(work: str, path: Path) -> tuple[float, float]:
    """Entries a second, and the peak of resident memory in MB, of a process of its own."""
    program = _AROUND.format(work=work)
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    count, seconds, peak = map(float, done.stdout.split())
    return count / seconds, peak / 1e6


def proving(bench: Bench) -> Sequence[Figure]:
    """Verify with all checks on, and what appending loses by the proof."""
    entries = history.entries_wanted()
    path = bench.folder / "ledger.db"
    began = time.perf_counter()
    history.make(path, entries, Signer.new())
    made = entries / (time.perf_counter() - began)
    hashed, _ = _measured(_HASH, path)
    verified, peak = _measured(_VERIFY, path)
    hashed = (hashed + _measured(_HASH, path)[0]) / 2
    size = path.stat().st_size / 1e6
    return [
        Figure(
            f"verify {entries:,} entries, all checks",
            "/s",
            verified,
            50_000,
            beside=hashed,
            beside_is="read and hash only",
            note=f"{hashed / verified:.1f} times as long as that; {size:,.0f} MB, made at {made:,.0f}/s",
        ),
        Figure("verify: peak memory", "MB", peak, 150, lower=True),
        *_appending(bench.folder),
    ]


def _appending(folder: Path) -> Sequence[Figure]:
    """Records kept, 128 to a commit, in turns with proof and without."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    signer = Signer.new()
    for turn in range(ROUNDS):
        for proven in (True, False) if turn % 2 else (False, True):
            path = folder / f"appended-{turn}-{proven}.db"
            if proven:
                rates[True].append(_kept(path, signer))
            else:
                with _without_proof():
                    rates[False].append(_kept(path, None))
            path.unlink()
    proven_rate, bare_rate = (statistics.median(rates[each]) for each in (True, False))
    return [
        Figure(
            f"records kept with proof, {IN_FLIGHT} in flight",
            "/s",
            proven_rate,
            beside=bare_rate,
            beside_is="without",
            note=f"median of {ROUNDS} turns; without hashes, commitments and signatures in the same process",
        ),
        Figure("lost by the proof", "%", 100 * (1 - proven_rate / bare_rate), 25, lower=True),
    ]


def _kept(path: Path, signer: Signer | None) -> float:
    batches: list[list[Keepable]] = [
        [job(place * IN_FLIGHT + number, at=NOW + place) for number in range(IN_FLIGHT)] for place in range(COMMITS)
    ]
    book = Ledger.open(path, NOW, signer)
    try:
        began = time.perf_counter()
        for batch in batches:
            book.commit(batch)
        return COMMITS * IN_FLIGHT / (time.perf_counter() - began)
    finally:
        book.close()


@contextmanager
def _without_proof() -> Iterator[None]:
    """As if the ledger were kept without any: bodies as they come, no hash, no commitment."""
    encode = msgspec.json.Encoder().encode
    bare: dict[str, Any] = {
        "entry_hash": lambda prev_hash, body: proof.GENESIS,
        "commitment": lambda salt, personal: "",
        "canonical_checked": encode,
    }
    kept = {name: getattr(proof, name) for name in bare}
    for name, function in bare.items():
        setattr(proof, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(proof, name, function)
