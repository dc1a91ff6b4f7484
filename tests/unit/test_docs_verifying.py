"""docs/verifying.md: its programs, which need nothing of ours, agree with our own verify, and find what was altered."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from storage.ledger import Ledger
from storage.records import Note, Sign
from storage.signing import Signer
from storage.verify import verify
from tests.benchmarks import history
from tests.docs_pages import blocks, text_of
from tests.peers.skips import program
from tests.unit.storage_samples import NOW
from tests.unit.tampering import copied, hash_anew, make, tamper

PAGE = "docs/verifying.md"
SIGNER = Signer.new()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sample") / "ledger.db", SIGNER)


@pytest.fixture
def ledger(sample: Path, tmp_path: Path) -> Path:
    return copied(sample, tmp_path)


def checked(ledger: Path) -> subprocess.CompletedProcess[str]:
    """What the page's two programs say of a ledger, up to the first fault. -I: nothing of ours can be imported."""
    chain, rows = (block for block in blocks("python") if block.page == PAGE)
    file = ledger.parent / "check.py"
    said = ""
    for block in (chain, rows):
        file.write_text(block.text)
        command = [sys.executable, "-I", "-W", "ignore", str(file), str(ledger)]
        done = subprocess.run(command, cwd=ledger.parent, capture_output=True, text=True, check=False)
        said += done.stdout
        if done.returncode:
            break
    return subprocess.CompletedProcess(done.args, done.returncode, said, done.stderr)


def test_the_programs_find_a_ledger_sound_and_says_the_same_as_verify(ledger: Path) -> None:
    done = checked(ledger)
    report = verify(ledger)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"sound: through entry {report.last}, sha256:{report.head}; 0 without personal data" in done.stdout
    assert f"signed through entry {report.signed_through} by the key" in done.stdout


def test_the_programs_read_a_week_at_many_copiers(tmp_path: Path) -> None:
    history.make(tmp_path / "ledger.db", 2_500, SIGNER)
    assert checked(tmp_path / "ledger.db").returncode == 0
    assert verify(tmp_path / "ledger.db", SIGNER.public_key).ok


def test_openssl_verifies_the_signature_as_the_page_says(ledger: Path) -> None:
    openssl = program("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    assert checked(ledger).returncode == 0
    (command,) = re.findall(r"^openssl (.*)$", text_of(PAGE), re.MULTILINE)
    folder = ledger.parent

    def verified() -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(openssl), *command.split()], cwd=folder, capture_output=True, text=True, check=False)

    assert (verified().returncode, verified().stdout.strip()) == (0, "Signature Verified Successfully")
    (folder / "checkpoint.message").write_bytes((folder / "checkpoint.message").read_bytes().replace(b"22", b"23"))
    assert verified().returncode != 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET body = replace(body, '\"pages\":12', '\"pages\":11') WHERE kind = 'job'",
        "UPDATE entries SET hash = zeroblob(32) WHERE seq = 5",
        "UPDATE entries SET id = 'x' WHERE seq = 5",
        "DELETE FROM entries WHERE seq = 2",
        "DELETE FROM jobs WHERE seq = 4",
        "UPDATE jobs SET pages = 1",
        "UPDATE jobs SET at = '' WHERE seq = 4",
        "UPDATE personal SET card = '00000000' WHERE card <> ''",
        "UPDATE logins SET outcome = 'refused' WHERE seq = 3",
        "UPDATE deliveries SET outcome = 'x'",
        "UPDATE meters SET value = 1",
        "INSERT INTO notes SELECT 99, id, at, note, who, data FROM notes WHERE seq = 1",
        'UPDATE checkpoints SET body = replace(body, \'"hash":"\', \'"hash":"0\') WHERE number = 1',
        "DELETE FROM entries WHERE seq > 21",
        hash_anew,
    ],
)
def test_the_programs_find_what_was_altered(change: str | Callable[[sqlite3.Connection], object], ledger: Path) -> None:
    changes = [change]
    if change is hash_anew:
        changes = ["UPDATE entries SET body = replace(body, '\"did\"', '\"dad\"') WHERE seq = 15", hash_anew]
    tamper(ledger, *changes)
    done = checked(ledger)
    assert done.returncode != 0
    assert "NOT SOUND" in done.stderr
    assert not verify(ledger).ok


def test_the_programs_count_what_was_erased(ledger: Path) -> None:
    book = Ledger.open(ledger, NOW, SIGNER)
    book.commit([Note(NOW, "erased", {"what": "card", "entries": 1}, "root"), Sign(NOW)])
    book.close()
    with closing(sqlite3.connect(ledger)) as book_:
        book_.execute("DELETE FROM personal WHERE seq = 3")
        book_.commit()
    done = checked(ledger)
    assert "; 1 without personal data" in done.stdout
    assert verify(ledger).ok
