"""The commands beside a running Locum: what they say must agree with what happened. `interfaces.md`, `locum`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.line import Line, arrivals
from tests.peers.locum import Locum
from tests.peers.waiting import eventually


def _json(locum: Locum, *arguments: str) -> Any:
    done = locum.run_to_its_end(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_outage_is_told_with_its_figures(make_line: Callable[..., Line]) -> None:
    """`last_outage` counts logins, jobs and pages; the ledger has every step with its cause."""
    line = make_line()
    line.go_offline()
    for number in range(4):
        assert line.copier.swipe(f"FEED{number:04d}")
    for _ in range(6):
        line.shift.job("s1", pages=7)
    line.come_back()
    eventually(lambda: line.locum.status()["last_outage"]["drained"], 3, "the end is written down")
    told = line.locum.status()["last_outage"]
    assert (told["logins"], told["jobs"], told["pages"]) == (4, 6, 42)
    assert told["started"] < told["offline"] < told["recovered"] <= told["drained"]
    steps = line.locum.query("SELECT step, cause FROM outage_events ORDER BY seq")
    assert [row["step"] for row in steps] == ["failed", "offline", "recovered", "drained"]
    assert "refused" in steps[0]["cause"]
    (outage,) = line.locum.query("SELECT * FROM outages")
    assert outage["recovered"]


def test_a_waiting_record_can_be_dropped_for_a_reason_and_by_name(make_line: Callable[..., Line]) -> None:
    """`outbox list`, `drop`: without a reason refused; who did it stands in the ledger; it is never sent."""
    line = make_line()
    line.go_offline()
    for _ in range(3):
        line.shift.job("s1")
    waiting = _json(line.locum, "outbox", "list", "--state", "waiting")
    assert len(waiting) == 3
    victim = waiting[1]["id"]
    assert line.locum.run_to_its_end("outbox", "drop", victim).returncode == 2
    done = line.locum.run_to_its_end("outbox", "drop", victim, "--reason", "a test page")
    assert done.returncode == 0, done.stderr
    line.come_back()
    assert [job for _, _, job in arrivals(line.server)] == ["000000", "000002"]
    (row,) = line.locum.query("SELECT * FROM deliveries WHERE outcome = 'dropped'")
    assert row["answer"] == "a test page"
    assert row["who"]
    assert row["record_id"] == victim


def test_devices_lists_who_was_heard(make_line: Callable[..., Line]) -> None:
    """Each with its upstream and its state."""
    line = make_line()
    line.shift.job("s1")
    (device,) = _json(line.locum, "devices")
    assert device["id"] == "copier-1"
    assert device["offline"] == "online"
    line.go_offline()
    assert line.copier.swipe("FEED0001")
    eventually(lambda: line.locum.status()["devices"][0]["sessions"] == 1, 3, "its session is counted")
    assert line.locum.status()["devices"][0]["offline"] == "offline"


def test_the_app_log_names_no_card_and_no_secret(make_line: Callable[..., Line]) -> None:
    """App.Log and the log tell of the outage, and never of a card number or a secret."""
    line = make_line()
    line.copier.swipe("0A1B2C3D")
    line.go_offline()
    line.copier.swipe("0A1B2C3D")
    line.shift.job("s1", card="0A1B2C3D")
    line.come_back()
    done = line.locum.run_to_its_end("log", "-n", "100")
    assert done.returncode == 0, done.stderr
    assert "offline mode" in done.stdout
    for text in (done.stdout, line.locum.log_text()):
        for hidden in ("0A1B2C3D", "0a1b2c3d", "server-secret", "copier-secret"):
            assert hidden not in text


def test_check_tries_the_server(make_line: Callable[..., Line]) -> None:
    """Beside a running Locum: the server answers; when it is dead, that is said."""
    line = make_line()
    done = line.locum.run_to_its_end("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in done.stdout.lower().split()
    line.server.kill()
    done = line.locum.run_to_its_end("check")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "hq" in done.stdout
