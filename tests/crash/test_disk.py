"""The disk is full, the power is cut. `offline-mode.md`, "Locum cannot store"; `ledger.md`, "Durability"."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.crash.books import arrived, assert_none_lost, assert_sound, told
from tests.peers import wire
from tests.peers.copier import Copier
from tests.peers.disks import CuttableDisk, SmallDisk
from tests.peers.load import Load, records
from tests.peers.locum import Locum
from tests.peers.sink import Sink
from tests.peers.waiting import eventually, grows

SESSIONS = 100
CUTS = 5


def test_a_full_disk_refuses_and_loses_nothing(
    tmp_path: Path,
    endings: ExitStack,
    make_sink: Callable[..., Sink],
    make_locum: Callable[..., Locum],
    make_copier: Callable[..., Copier],
) -> None:
    """OFFLINE: no acknowledgement and no grant once nothing can be stored, said in status; all that was told drains."""
    disk = SmallDisk(tmp_path / "small", 24 << 20)
    endings.callback(disk.unmount)
    sink = make_sink()
    locum = make_locum(sink, state_dir=disk.at / "state", offline={"delay": "0s"}).start()
    locum.wait_until_proven()
    sink.stop()
    locum.wait_for_state("offline")
    ballast = disk.fill(leave=1 << 20)
    load = Load(
        records(20_000, locum.secret, sessions=SESSIONS),
        locum.acct_port,
        locum.secret,
        give_up_after=3.0,
        resend_after=0.5,
        within=10,
    ).start()
    eventually(lambda: load.outcome.given_up > 0, 12, "records are no longer acknowledged")
    load.stop()
    outcome = load.join()
    assert 0 < outcome.answered < 20_000
    copier = make_copier(locum)
    assert copier.swipe("FEED0001", wait=1.0) is None, "no grant that cannot be stored"
    locum.assert_no_traceback()
    assert locum.status()["name"] == "test"
    ballast.unlink()
    eventually(lambda: copier.swipe("FEED0001", wait=0.5), 15, "it goes on when there is space")
    assert copier.account(wire.INTERIM, "after", user="FEED0001", job="j", pages=1, wait=5.0)
    assert_none_lost(told(outcome, SESSIONS), locum.state_dir / "ledger.db")
    again = make_sink(ports=(sink.auth_port, sink.acct_port))
    locum.wait_until_drained(60)
    assert told(outcome, SESSIONS) <= set(arrived(again))
    locum.stop()
    assert_sound(locum.state_dir / "ledger.db")


def test_a_full_disk_while_online_relays_all_the_same(
    tmp_path: Path,
    endings: ExitStack,
    make_sink: Callable[..., Sink],
    make_locum: Callable[..., Locum],
    make_copier: Callable[..., Copier],
) -> None:
    """ONLINE: relayed, and the server's own acknowledgement goes back; what is missing is ledgered later."""
    disk = SmallDisk(tmp_path / "small", 24 << 20)
    endings.callback(disk.unmount)
    sink = make_sink()
    locum = make_locum(sink, state_dir=disk.at / "state").start()
    locum.wait_until_proven()
    ballast = disk.fill(leave=0)
    copier = make_copier(locum)
    numbers = [f"{number:06d}" for number in range(50)]
    for number in numbers:
        assert copier.job("s1", number, wait=4.0), f"job {number} is relayed"
    assert copier.swipe("0A1B2C3D", wait=4.0) is not None
    assert {("s1", number) for number in numbers} <= set(arrived(sink))
    ballast.unlink()
    eventually(
        lambda: copier.job("s2", f"{time.monotonic_ns()}") and _noted(locum, "logins") == 1,
        20,
        "the gap is noted",
        every=0.3,
    )
    kept = locum.query("SELECT DISTINCT job_number FROM jobs WHERE session = 's1'")
    assert len(kept) < 50
    assert _noted(locum, "records") >= 50 - len(kept)


def _noted(locum: Locum, what: str) -> int:
    """How many of these are missing, by the notes about gaps."""
    return sum(json.loads(data)[what] for (data,) in locum.query("SELECT data FROM notes WHERE note = 'gap'"))


def test_a_full_disk_is_said_within_seconds_though_no_device_says_anything(
    tmp_path: Path, endings: ExitStack, make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    disk = SmallDisk(tmp_path / "small", 24 << 20)
    endings.callback(disk.unmount)
    locum = make_locum(make_sink(), state_dir=disk.at / "state").start()
    locum.wait_until_proven()
    checked = locum.run_to_its_end("check")
    assert "is in use by the Locum that runs here, as it should be" in checked.stdout
    assert checked.returncode == 0, checked.stdout
    ballast = disk.fill(leave=0)
    eventually(lambda: locum.status()["storage"]["level"] == "full", 5, "it is said")
    assert not (locum.state_dir / "reserve").exists(), "the reserve is given back"
    checked = locum.run_to_its_end("check")
    assert "it is full, and nothing new is kept" in checked.stdout
    assert checked.returncode == 1
    ballast.unlink()
    eventually(lambda: locum.status()["storage"]["level"] == "enough", 5, "so is that there is room again")
    said = "SELECT text FROM app_log WHERE text LIKE 'the disk %' ORDER BY seq"
    eventually(lambda: len(locum.query(said)) == 2, 5, "both are in App.Log")
    assert [text.partition(":")[0] for (text,) in locum.query(said)] == ["the disk is full", "the disk has room again"]


def test_a_power_cut_loses_nothing_that_was_acknowledged(
    tmp_path: Path, endings: ExitStack, make_sink: Callable[..., Sink], make_locum: Callable[..., Locum]
) -> None:
    """Five cuts while 64 records at a time are kept: on the disk after each stands what was acknowledged before it."""
    disk = CuttableDisk(tmp_path / "power")
    endings.callback(disk.unmount)
    sink = make_sink()
    locum = make_locum(sink, state_dir=disk.at / "state", offline={"delay": "0s"}).start()
    locum.wait_until_proven()
    sink.stop()
    locum.wait_for_state("offline")
    load = Load(records(60_000, locum.secret), locum.acct_port, locum.secret, rate=2000, within=60).start()
    for cut in range(CUTS):
        grows(lambda: load.outcome.answered, by=300, within=15)
        wanted = told(load.outcome, 300)
        with locum.paused():
            after = disk.cut() / "state" / "ledger.db"
        assert_sound(after)
        assert_none_lost(wanted, after)
        print(f"cut {cut}: {len(wanted)} acknowledged before it, none lost")
    load.stop()
    load.join()


def test_what_was_not_flushed_is_gone_after_a_cut(tmp_path: Path, endings: ExitStack) -> None:
    """The cut is one: a file that was synced is there afterwards, one that was only written is not whole."""
    disk = CuttableDisk(tmp_path / "power")
    endings.callback(disk.unmount)
    for name in ("flushed", "written"):
        with (disk.at / name).open("wb") as file:
            file.write(b"x" * 100_000)
            if name == "flushed":
                file.flush()
                os.fsync(file.fileno())
    after = disk.cut()
    assert (after / "flushed").stat().st_size == 100_000
    written = after / "written"
    assert not written.exists() or written.read_bytes() != b"x" * 100_000
