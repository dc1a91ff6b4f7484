"""The page of a report: its numbers are the ledger's, it leads nowhere, and `locum ledger report` puts it in place."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest

from appliance.cli.main import main
from appliance.report import pdf
from storage.ledger import Ledger
from storage.records import Counts, Mode, Personal
from storage.signing import Signer
from tests.benchmarks.history import make
from tests.peers.signals import heeds_signals
from tests.peers.skips import ROOT
from tests.peers.waiting import eventually
from tests.unit.storage_samples import job, login
from tests.unit.test_report_figures import NINE, at, delivered, write

CHAPTERS = (
    "1. Pages", "2. Outages", "3. Copiers", "4. People", "5. Unknown cards", "6. Records for the server",
    "7. Meters against the ledger", "8. Unlocks and drills", "9. Done by hand", "10. Proof",
    "11. What this report cannot say",
)  # fmt: skip
NASTY = "<script>alert(1)</script>"
NAMES = (
    NASTY,
    '"><img src=x onerror=alert(1)>',
    "Zoë 🖨️ 复印",
    "\u202eesrever",
    "مكتب",
    "a\nb\tc",
    "x" * 300,
    "&amp;{{7*7}}",
)


class Reader(HTMLParser):
    """The page as a browser takes it: its text, its tags and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style and data.strip():
            self.text.append(" ".join(data.split()))

    @property
    def words(self) -> str:
        return "\n".join(self.text)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    write(path)
    return path


def report(book: Path, *options: str | Path, name: str = "report.html") -> str:
    target = book.parent / name
    words = ["ledger", "report", "--ledger", book, "--time-zone", "Europe/Berlin", "-o", target, *options]
    assert main([str(word) for word in words]) == 0
    return target.read_text("utf-8")


def test_the_page_says_the_figures_that_were_worked_out_by_hand(book: Path) -> None:
    said = Reader(report(book)).words
    for sentence in (
        "about 2 days, Sunday, 22 November 2026 to Monday, 23 November 2026, and about all copiers",
        "The server was away once, for 1 h in all. In it Locum went into offline mode.",
        "let people in 2 times and took 3 jobs with 20 pages; the server has taken 2 of these jobs since",
        "people logged in 3 times, 2 of them let in by Locum, and made 37 pages in 5 jobs, 17 of these pages in colour",
        "The server has taken 3 of the 5 records of this period. Still open, of all times: 1 record waits for it and "
        "1 record was refused by it.",
        "its chain holds, and it is signed through entry",
        "The busiest day was Sunday, 22 November 2026, with 30 pages",
        "The one with the most pages is KM-A4F-000123: 22 pages, 59 % of all",
        "The most pages were made by ada: 22 pages",
        "3 pages in 1 job were made with it",
        "Copiers were unlocked once, wrong codes were given once, and 1 drill was begun",
        "Once records were relayed but could not be stored",
    ):
        assert sentence in said, sentence
    assert all(chapter in said for chapter in CHAPTERS)


def test_the_page_loads_and_runs_nothing(book: Path) -> None:
    page = report(book)
    reader = Reader(page)
    assert {tag for tag, _ in reader.tags} & {"script", "iframe", "object", "embed", "img", "base", "form"} == set()
    assert "link" not in {tag for tag, _ in reader.tags}
    assert "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\"'<\s]*", page)) <= {"http://www.w3.org/2000/svg"}
    assert [
        value for _, attributes in reader.tags for value in attributes.values() if str(value).startswith("//")
    ] == []
    assert re.findall(r"url\(|@import|\son\w+=", page) == []
    assert all(str(attributes["href"])[0] == "#" for tag, attributes in reader.tags if tag == "a")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_text_whatever_it_looks_like(tmp_path: Path, name: str) -> None:
    path = tmp_path / "nasty.db"
    person = Personal(card=name, user=name, document=name, account=name, raw=b"x")
    changes = {"device": name, "personal": person, "mode": Mode.OFFLINE, "counts": Counts(name, 3)}
    with closing(Ledger.open(path, NINE)) as ledger:
        ledger.commit([login(card=name, personal=person)])
        seq = ledger.commit([job(1, at=at(1), **changes)])[0].seq
        ledger.commit([job(2, at=at(2), **changes), delivered(seq, 3, name, unknown=True)])
    page = report(path)
    tags = {tag for tag, _ in Reader(page).tags}
    assert tags & {"script", "img"} == set()
    assert "\u202e" not in page
    assert all(chapter in Reader(page).words for chapter in CHAPTERS)


def test_an_empty_period_is_told_in_sentences(book: Path) -> None:
    page = report(book, "--from", "2027-01-01", "--to", "2027-01-31")
    said = Reader(page).words
    assert "No jobs were recorded in this period." in said
    assert "The ledger has no outage in this period: no server was away." in said
    assert "The newest entry is of 23 November 2026, 00:30" in said


def test_an_empty_ledger_has_a_report(tmp_path: Path) -> None:
    with closing(Ledger.open(tmp_path / "empty.db", NINE)):
        pass
    said = Reader(report(tmp_path / "empty.db")).words
    assert all(chapter in said for chapter in CHAPTERS)


def test_pseudonyms_leave_no_trace_of_people(book: Path) -> None:
    page = report(book, "--pseudonymise").lower()
    assert [name for name in ("04a2b3", "04beef", "ffee01", "leaflet", "claim") if name in page] == []
    assert re.search(r"\bada\b", page) is None


def test_the_same_ledger_gives_the_same_page(book: Path) -> None:
    one, two = report(book, name="one.html"), report(book, name="two.html")
    assert re.sub(r"Made on .*", "", one) == re.sub(r"Made on .*", "", two)


def test_an_altered_ledger_is_said_so_and_has_status_1(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(book)
    assert main(["ledger", "report", "--ledger", str(book), "-o", str(book.parent / "out.html")]) == 1
    assert "altered or damaged" in capsys.readouterr().err
    said = Reader((book.parent / "out.html").read_text("utf-8")).words
    assert "do not rely on these figures" in said
    assert "FOUND ALTERED OR DAMAGED" in said


def alter(book: Path) -> None:
    with closing(sqlite3.connect(book)) as connection:
        guard = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'jobs_no_update'").fetchone()[0]
        connection.execute("DROP TRIGGER jobs_no_update")
        connection.execute("UPDATE jobs SET pages = pages + 1 WHERE seq = (SELECT min(seq) FROM jobs)")
        connection.execute(guard)
        connection.commit()


def test_it_is_called_by_its_period_and_is_for_its_owner_alone(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = book.parent / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    command = ["ledger", "report", "--ledger", str(book), "--time-zone", "Europe/Berlin"]
    assert main(command) == 0
    (made,) = folder.iterdir()
    assert made.name == "locum-report-2026-11-22-2026-11-23.html"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert str(made) in capsys.readouterr().out
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert list(folder.iterdir()) == [made]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--from", "soon"], "is neither a day"),
        (["--from", "2026-11-23", "--to", "2026-11-22"], "is before"),
        (["--time-zone", "Mars/Crater"], "--time-zone"),
        (["--ledger", "no-such.db"], "there is no"),
        (["-o", "no-such-folder/out.html"], "no such directory"),
        (["--pdf", "-o", "out.pdf"], "give a name in .html"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    book: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = book.parent / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(["ledger", "report", "--ledger", str(book), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert list(folder.iterdir()) == []


def test_the_ledger_is_never_written_to_or_over(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in book.parent.iterdir()}
    assert main(["ledger", "report", "--ledger", str(book), "--force", "-o", str(book)]) == 2
    assert "the ledger itself" in capsys.readouterr().err
    report(book)
    (book.parent / "report.html").unlink()
    assert {path.name: path.read_bytes() for path in book.parent.iterdir()} == before


def test_without_a_browser_it_says_what_to_install(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(book.parent))
    assert main(["ledger", "report", "--ledger", str(book), "--pdf", "-o", str(book.parent / "out.html")]) == 1
    assert "apt-get install chromium" in capsys.readouterr().err
    assert not (book.parent / "out.html").exists()


def test_a_browser_that_hangs_is_ended_and_nothing_is_left(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = book.parent / "bin"
    folder.mkdir()
    browser = folder / "chromium"
    browser.write_text(f"#!/bin/sh\necho $$ > {folder}/pid\nexec sleep 1000\n")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(pdf, "LONGEST", 0.5)
    before = sorted(book.parent.iterdir())
    assert main(["ledger", "report", "--ledger", str(book), "--pdf", "-o", str(book.parent / "out.html")]) == 1
    assert "did not print" in capsys.readouterr().err
    assert sorted(book.parent.iterdir()) == before
    pid = int((folder / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    make(tmp_path / "ledger.db", 30_000)
    target = tmp_path / "out" / "report.html"
    target.parent.mkdir()
    command = [sys.executable, "-m", "appliance", "ledger", "report", "--ledger", tmp_path / "ledger.db", "-o", target]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_signals
    )
    eventually(lambda: any(target.parent.iterdir()), 20, "it has begun")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, list(target.parent.iterdir())) == (1, [])
    assert "interrupted" in said


def test_it_stays_small_and_quick_on_a_large_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    make(path, 60_000, Signer.new(), days=300)
    program = (
        "import re, sys; from appliance.cli.main import main; status = main(sys.argv[1:]); "
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024); sys.exit(status)"
    )
    began = time.monotonic()
    words = ["ledger", "report", "--ledger", path, "--from", "2026-01-01", "-o", tmp_path / "out.html"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 150
    assert time.monotonic() - began < 60
    said = Reader((tmp_path / "out.html").read_text("utf-8")).words
    assert "Pages per week and kind" in said
    assert "The 20 largest of 200 copiers are drawn" in said


def test_a_part_of_the_ledger_is_told_as_a_part(book: Path) -> None:
    part = exported(
        book, "--device", "KM-2", "--from", "2026-11-22", "--to", "2026-11-22", "--time-zone", "Europe/Berlin"
    )
    said = Reader(report(part, "--from", "2026-11-22", "--to", "2026-11-22")).words
    assert "IT WAS MADE FROM A PART OF THE LEDGER" in said
    assert "That file holds a part of the ledger only (devices: KM-2" in said
    assert "made 8 pages in 2 jobs" in said
    assert "This part of the ledger has no outage" in said


def test_a_pseudonymised_export_keeps_its_pseudonyms(book: Path) -> None:
    hidden = exported(book, "--pseudonymise")
    said = Reader(report(hidden)).words
    (pseudonym,) = re.findall(r"The most pages were made by ([0-9a-f]{16}): 22 pages", said)
    with closing(sqlite3.connect(hidden)) as connection:
        assert (pseudonym,) in connection.execute("SELECT user FROM pseudonyms").fetchall()
    assert "Here they are pseudonyms" in said


def exported(book: Path, *options: str) -> Path:
    target = book.parent / "export.db"
    assert main(["ledger", "export", "--format", "sqlite", "--ledger", str(book), *options, str(target)]) == 0
    return target


def test_force_replaces_a_report_of_ours_and_nothing_else(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A PDF is known by the page beside it."""
    thesis = book.parent / "thesis.html"
    thesis.write_text("<html><title>Report of the ledger</title>years of work")
    command = ["ledger", "report", "--ledger", str(book), "--force", "-o"]
    assert main([*command, str(thesis)]) == 2
    assert "is no report of ours" in capsys.readouterr().err
    assert "years of work" in thesis.read_text()
    made = book.parent / "report.html"
    report(book)
    assert main([*command, str(made)]) == 0


@pytest.mark.parametrize("page", ["ours", "theirs", "none"])
def test_force_replaces_no_pdf_that_is_not_of_a_report(
    book: Path, page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, printed = book.parent / "report.html", book.parent / "report.pdf"
    if page == "ours":
        report(book)
    elif page == "theirs":
        made.write_text("<html>years of work")
    printed.write_bytes(b"years of work" if page == "ours" else b"%PDF-1.7 years of work")
    monkeypatch.setattr(pdf, "browser", lambda: "/nowhere/chromium")
    before = printed.read_bytes()
    assert main(["ledger", "report", "--ledger", str(book), "--pdf", "--force", "-o", str(made)]) == 2
    assert ("is no PDF" if page == "ours" else "is no report of ours") in capsys.readouterr().err
    assert printed.read_bytes() == before
