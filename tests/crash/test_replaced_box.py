"""A box dies and another takes its place: with the old disk, or with a backup.

Nothing that was acknowledged is lost with the disk, and nothing that was delivered goes out again unnamed: what a
server may have twice is named in the ledger, and what a server could not recognise waits in doubt for a person.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from storage.verify import verify
from tests.crash.books import arrived, assert_copies_named, assert_none_lost, told
from tests.peers.appliance import Appliance
from tests.peers.load import Load, records
from tests.peers.locum import Locum
from tests.peers.office import ADA, BO, CY, ZONE, Office, open_office
from tests.peers.printshop import Printshop
from tests.peers.sink import Sink
from tests.peers.waiting import eventually, grows

OFFLINE = {"delay": "0s", "drain_window": 16}


def adopt(box: Appliance, ledger: Path, *how: str) -> str:
    """`locum ledger adopt`, which must succeed; what it printed."""
    done = box.run_to_its_end("ledger", "adopt", *how, str(ledger))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def back_up(box: Appliance, dest: Path) -> Path:
    """`locum ledger backup`, which must succeed."""
    done = box.run_to_its_end("ledger", "backup", str(dest))
    assert done.returncode == 0, done.stdout + done.stderr
    return dest


def noted(box: Appliance) -> list[str]:
    """What the ledger notes of where it comes from."""
    rows = box.query("SELECT note FROM notes WHERE note IN ('adopted', 'restored') ORDER BY seq")
    return [row["note"] for row in rows]


def noted_head(box: Appliance) -> int:
    """How far its ledger has come, as the box noted beside it."""
    return int((box.state_dir / "ledger.head").read_text().partition(":")[0])


def assert_proven(box: Appliance) -> None:
    """The box is stopped and its ledger verifies."""
    box.stop()
    assert verify(box.state_dir / "ledger.db").wrong is None


def test_radius_an_old_disk_after_a_kill_drains_in_a_new_box(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """kill -9 while records come in; all that was acknowledged arrives from the other box, each once."""
    sink = make_sink()
    old = make_locum(sink, offline=OFFLINE).start()
    old.wait_until_proven()
    sink.stop()
    old.wait_for_state("offline")
    load = Load(records(2_000, old.secret), old.acct_port, old.secret, resend_after=0.3, give_up_after=2).start()
    grows(lambda: load.outcome.answered, 300)
    old.kill()
    load.stop()
    wanted = told(load.join(), 300)
    assert len(wanted) >= 300
    new = make_locum(sink, offline=OFFLINE)
    adopt(new, old.state_dir / "ledger.db")
    assert_none_lost(wanted, new.state_dir / "ledger.db")
    again = make_sink(ports=(sink.auth_port, sink.acct_port))
    new.start()
    new.wait_until_drained()
    came = arrived(again)
    assert wanted <= set(came)
    assert max(came.values()) == 1
    assert noted(new) == ["adopted"]
    assert_proven(new)


def test_radius_an_old_disk_after_a_kill_in_the_drain(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """kill -9 while it drains: what was in flight may come twice, and is named."""
    sink = make_sink()
    old = make_locum(sink, offline=OFFLINE).start()
    old.wait_until_proven()
    sink.stop()
    old.wait_for_state("offline")
    outcome = Load(records(1_500, old.secret), old.acct_port, old.secret, resend_after=0.3).run()
    assert outcome.answered == 1_500
    again = make_sink(ports=(sink.auth_port, sink.acct_port), delay=0.01)
    eventually(lambda: len(arrived(again)) > 200, 20, "the drain is under way")
    old.kill()
    new = make_locum(sink, offline=OFFLINE)
    adopt(new, old.state_dir / "ledger.db")
    new.start()
    new.wait_until_drained(30)
    came = arrived(again)
    assert set(came) == told(outcome, 300)
    assert sum(came.values()) - len(came) <= 16
    assert_copies_named(came, new)
    assert_proven(new)


def test_radius_a_backup_sends_again_what_was_delivered_since_and_names_it(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum], tmp_path: Path
) -> None:
    sink = make_sink()
    old = make_locum(sink, offline=OFFLINE).start()
    old.wait_until_proven()
    sink.stop()
    old.wait_for_state("offline")
    Load(records(200, old.secret), old.acct_port, old.secret, resend_after=0.3).run()
    backup = back_up(old, tmp_path / "backup.db")
    again = make_sink(ports=(sink.auth_port, sink.acct_port))
    old.wait_until_drained()
    old.kill()
    new = make_locum(sink, offline=OFFLINE)
    assert "200 records in its outbox" in adopt(new, backup)
    new.start()
    new.wait_until_drained()
    came = arrived(again)
    assert set(came.values()) == {2}
    assert_copies_named(came, new)
    assert noted(new) == ["adopted", "restored"]
    assert_proven(new)


def test_radius_a_copy_put_back_by_hand_a_minute_later_sends_nothing_unnamed(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum], tmp_path: Path
) -> None:
    """No checkpoint was made since the copy: what waited in it was delivered, and the box was killed."""
    sink = make_sink()
    box = make_locum(sink, offline=OFFLINE).start()
    box.wait_until_proven()
    sink.stop()
    box.wait_for_state("offline")
    Load(records(20, box.secret), box.acct_port, box.secret, resend_after=0.3).run()
    files = sorted(box.state_dir.glob("ledger.db*"))
    for each in files:
        shutil.copy2(each, tmp_path)
    again = make_sink(ports=(sink.auth_port, sink.acct_port))
    box.wait_until_drained()
    eventually(lambda: noted_head(box) == box.query("SELECT max(seq) AS n FROM entries")[0]["n"], 2)
    box.kill()
    assert box.query("SELECT count(*) AS n FROM checkpoints")[0]["n"] <= 2, "the start's and the witness's at most"
    for each in sorted(box.state_dir.glob("ledger.db*")):
        each.unlink()
    for each in files:
        shutil.copy2(tmp_path / each.name, each)
    box.start()
    box.wait_until_drained()
    came = arrived(again)
    assert set(came.values()) == {2}
    assert_copies_named(came, box)
    assert noted(box) == ["restored"]
    assert_proven(box)


def test_a_ledger_that_is_gone_is_not_begun_anew_in_silence(
    make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    box = make_locum(make_sink()).start()
    box.stop()
    ledger = box.state_dir / "ledger.db"
    whole = ledger.read_bytes()
    for empty in (False, True):
        ledger.write_bytes(b"") if empty else ledger.unlink()
        done = box.run_to_its_end("run")
        assert done.returncode == 2
        assert "beside it knows" in done.stderr
        assert "locum ledger adopt" in done.stderr
    ledger.write_bytes(whole)
    box.start()
    box.stop()
    ledger.unlink()
    for known in ("checkpoints.log", "ledger.head"):
        (box.state_dir / known).unlink()
    box.start()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with ExitStack() as endings:
        yield open_office(tmp_path / "office", endings)


def another(office: Office, home: Path) -> Printshop:
    """A new box in front of the same server, of the same name, not started."""
    return Printshop.before_papercut(home, office.server.url, keys={"time_zone": ZONE}, offline={"delay": "300ms"})


def kept_offline(office: Office, jobs: int) -> None:
    """So many jobs of each of three people while the server is away."""
    office.go_offline()
    for device, card in (("KM-1", ADA), ("KM-2", BO), ("KM-3", CY)):
        terminal = office.terminal(device)
        session = terminal.log_in(card)
        for pages in range(1, jobs + 1):
            terminal.job(session, pages=pages)
        terminal.logout(session)


def test_papercut_of_a_backup_nothing_goes_out_by_itself(office: Office, tmp_path: Path) -> None:
    """All of it was delivered after the backup; in the new box it is in doubt, and a person decides."""
    kept_offline(office, 4)
    backup = back_up(office.shop, tmp_path / "backup.db")
    office.come_back()
    before = office.booked()
    assert len(before) == 12
    office.shop.kill()
    new = another(office, tmp_path / "new")
    adopt(new, backup)
    try:
        new.start()
        new.wait_for_state("online", "recovering")
        assert (new.outbox()["in_doubt"], new.outbox()["waiting"]) == (12, 0)
        assert noted(new) == ["adopted", "restored"]
        (first, *_) = new.query("SELECT id FROM in_doubt")
        done = new.run_to_its_end("outbox", "resolve", "--sent", "--reason", "it is in the server's book", first["id"])
        assert done.returncode == 0, done.stderr
        assert new.outbox()["in_doubt"] == 11
        assert office.booked() == before
        assert_proven(new)
    finally:
        new.stop()


def test_papercut_an_old_disk_after_a_kill_in_the_drain(office: Office, tmp_path: Path) -> None:
    """Each job is in the server's book once, or in doubt by name; the mark at the server fits: the drain goes on."""
    kept_offline(office, 40)
    office.server.start()
    eventually(lambda: len(office.booked()) > 20, 20, "the drain is under way")
    office.shop.kill()
    new = another(office, tmp_path / "new")
    adopt(new, office.shop.state_dir / "ledger.db")
    try:
        new.start()
        new.wait_until_drained(30)
        came = Counter(each.comment for each in office.booked())
        doubted = {f"locum:{row['id']}" for row in new.query("SELECT id FROM in_doubt")}
        kept = {f"locum:{row['id']}" for row in new.query("SELECT id FROM jobs")}
        assert max(came.values()) == 1
        assert kept - set(came) <= doubted
        assert len(kept) == 120
        assert noted(new) == ["adopted"]
        assert_proven(new)
    finally:
        new.stop()
