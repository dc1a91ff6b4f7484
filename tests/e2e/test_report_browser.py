"""The report as people see it: Chromium renders it without a complaint or a request, and prints every chapter."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.cli.main import main
from storage.signing import Signer
from tests.benchmarks.history import make
from tests.e2e.line import Line
from tests.peers.skips import skip
from tests.unit.test_report_page import CHAPTERS

BROWSER_WORDS = (
    "--headless",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--enable-logging=stderr",
)


@pytest.fixture(scope="module")
def browser() -> str:
    from appliance.report import pdf

    try:
        return pdf.browser()
    except pdf.NoBrowser as error:
        skip(str(error))
        raise


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, browser: str) -> Path:
    """A report and its PDF, of a realistic ledger of four weeks."""
    folder = tmp_path_factory.mktemp("report")
    make(folder / "ledger.db", 20_000, Signer.new(), days=28)
    target = folder / "report.html"
    words = [
        "ledger",
        "report",
        "--ledger",
        folder / "ledger.db",
        "--pdf",
        "--time-zone",
        "Europe/Berlin",
        "-o",
        target,
    ]
    assert main([str(word) for word in words]) == 0
    return target


class Listener:
    """A proxy that connects nobody, and remembers who asked for what."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.asked: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    self.asked.append(connection.recv(4096).decode("latin-1").split("\r\n")[0])
                except OSError:
                    self.asked.append("?")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with closing(Listener()) as listening:
        yield listening


def shown(browser: str, page: Path, folder: Path, listener: Listener, *words: str) -> tuple[bytes, list[str]]:
    """The picture that the browser takes of the page, and the lines of its console."""
    picture = folder / "page.png"
    command = [browser, *BROWSER_WORDS, *words, f"--proxy-server={listener.address}"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--screenshot={picture}", "--window-size=1000,9000"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return picture.read_bytes(), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def of_the_page(asked: list[str]) -> list[str]:
    """Requests but those that the browser makes for itself."""
    return [line for line in asked if "google" not in line and "gvt1" not in line]


@pytest.mark.parametrize("scheme", [1, 0], ids=["light", "dark"])
def test_it_is_shown_without_a_complaint_or_a_request(
    page: Path, tmp_path: Path, browser: str, listener: Listener, scheme: int
) -> None:
    picture, console = shown(browser, page, tmp_path, listener, f"--blink-settings=preferredColorScheme={scheme}")
    assert console == []
    assert of_the_page(listener.asked) == []
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 100_000


def test_a_page_that_asks_and_complains_would_be_noticed(tmp_path: Path, browser: str, listener: Listener) -> None:
    """What the test before says to be absent is seen where it is there."""
    page = tmp_path / "other.html"
    page.write_text("<img src='http://example.test/x.png'><script>console.error('oh')</script>")
    _, console = shown(browser, page, tmp_path, listener)
    assert any("oh" in line for line in console)
    assert of_the_page(listener.asked) == ["GET http://example.test/x.png HTTP/1.1"]


def test_the_page_cannot_run_a_script_even_if_one_got_in(
    page: Path, tmp_path: Path, browser: str, listener: Listener
) -> None:
    other = tmp_path / "other.html"
    evil = "<script>console.error('ran')</script><img src='http://example.test/x.png'>"
    other.write_text(page.read_text("utf-8").replace("<main>", f"<main>{evil}"), "utf-8")
    _, console = shown(browser, other, tmp_path, listener)
    assert [line for line in console if '"ran"' in line] == []
    assert of_the_page(listener.asked) == []


def test_every_chapter_is_in_the_pdf(page: Path) -> None:
    printed = page.with_suffix(".pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    titles = outline(printed)
    assert [title for title in CHAPTERS if title not in titles] == []


def test_the_pdf_is_of_a4_pages(page: Path) -> None:
    printed = page.with_suffix(".pdf").read_bytes()
    boxes = {
        tuple(round(float(size)) for size in box.split())
        for box in re.findall(rb"/MediaBox\s*\[([\d. ]+)\]", printed + b"".join(streams(printed)))
    }
    assert boxes == {(0, 0, 595, 842)}


def streams(printed: bytes) -> Iterator[bytes]:
    """What the PDF's compressed streams hold."""
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", printed, re.DOTALL):
        try:
            yield zlib.decompress(match[1])
        except zlib.error:
            continue


def outline(printed: bytes) -> list[str]:
    """The titles of the PDF's bookmarks, which are its headings."""
    whole = printed + b"".join(streams(printed))
    found = []
    for title in re.findall(rb"/Title\s*\(((?:\\.|[^\\)])*)\)", whole, re.DOTALL):
        plain = re.sub(rb"\\(.)", rb"\1", title)
        found.append(plain.decode("utf-16" if plain.startswith(b"\xfe\xff") else "latin-1"))
    found += [
        bytes.fromhex(title.decode()).decode("utf-16") for title in re.findall(rb"/Title\s*<(FEFF[0-9A-Fa-f]*)>", whole)
    ]
    return found


def test_beside_a_running_appliance_it_reports_what_was_just_done(
    make_line: Callable[..., Line], tmp_path: Path
) -> None:
    line = make_line()
    for number in range(3):
        line.shift.job(f"s{number}", pages=7)
    line.locum.wait_until_drained()
    target = tmp_path / "report.html"
    done = line.locum.run_to_its_end("ledger", "report", "-o", str(target))
    assert (done.returncode, done.stderr) == (0, "")
    page = target.read_text("utf-8")
    assert "made 21 pages in 3 jobs" in page
    assert "The server has taken" in page
    line.shift.job("s9", pages=1)
    line.locum.wait_until_drained()
    assert line.locum.query("SELECT count(*) AS jobs FROM jobs")[0]["jobs"] == 4
