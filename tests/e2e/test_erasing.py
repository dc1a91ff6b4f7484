"""`locum ledger erase-card` beside a running appliance: what was erased is in no file, the next swipe counts anew."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.line import Line
from tests.peers.waiting import eventually

CARD = "0A1B2C3D4E5F"


def test_a_card_is_erased_while_the_appliance_works(make_line: Callable[..., Line]) -> None:
    line = make_line()
    locum = line.locum
    for _ in range(3):
        assert line.copier.swipe(CARD) is not None
    eventually(lambda: len(locum.query("SELECT seq FROM personal WHERE card = ?", CARD)) >= 3, 5)
    done = locum.run_to_its_end("ledger", "erase-card", "-", "--yes", stdin=CARD.lower() + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Erased the personal data of" in done.stdout
    assert not [each for each in locum.state_dir.glob("ledger.db*") if CARD.encode() in each.read_bytes().upper()]
    assert CARD not in locum.log_text()
    assert line.copier.swipe(CARD) is not None
    eventually(lambda: len(locum.query("SELECT seq FROM personal WHERE card = ?", CARD)) >= 1, 5)
    (noted,) = locum.query("SELECT who, data FROM notes WHERE note = 'erased'")
    assert "uid" in noted["who"]
    assert CARD not in noted["data"]


def test_it_is_refused_while_a_record_of_the_card_waits(make_line: Callable[..., Line]) -> None:
    line = make_line()
    locum = line.locum
    line.server.kill()
    locum.wait_for_state("grace", "offline")
    line.shift.job("s1")
    eventually(lambda: bool(locum.query("SELECT seq FROM outbox")), 5)
    (waits,) = locum.query("SELECT p.card, p.user FROM outbox o JOIN personal p ON p.seq = o.seq")
    number = waits["card"] or waits["user"]
    done = locum.run_to_its_end("ledger", "erase-card", number, "--yes")
    assert done.returncode == 1
    assert "1 record of this card is in the outbox" in done.stderr
    assert locum.query("SELECT p.card FROM outbox o JOIN personal p ON p.seq = o.seq")
