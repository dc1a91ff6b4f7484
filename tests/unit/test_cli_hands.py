"""Unlocking, drills and the outbox by hand: what is asked of the appliance and what is said to the person."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import main
from appliance.state_dir import unlock_hash
from proxy.net.codes import is_right
from tests.unit.control_peer import ControlPeer

FIRST = "01936e3c-1f2a-7000-8000-000000000001"


def run(folder: Path, *words: str) -> int:
    return main([*words, "--state-dir", str(folder)])


def piped(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    """Standard input is a pipe that holds this."""
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    monkeypatch.setattr("sys.stdin", os.fdopen(reading))


def test_unlock_names_one_device_or_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, unlock={"devices": ["KM-1"]}, lock={"devices": []}) as peer:
        assert run(tmp_path, "unlock", "KM-1", "--once") == 0
        assert run(tmp_path, "unlock", "--all", "--until-restored") == 0
        assert run(tmp_path, "lock", "KM-1") == 0
        assert run(tmp_path, "lock", "--all") == 0
    assert peer.asked == [
        {"command": "unlock", "device": "KM-1", "scope": "once"},
        {"command": "unlock", "device": None, "scope": "until-restored"},
        {"command": "lock", "device": "KM-1"},
        {"command": "lock", "device": None},
    ]
    assert capsys.readouterr().out.splitlines() == [
        "Unlocked for one session: KM-1.",
        "Unlocked until the connection is restored: KM-1.",
        "No device was unlocked.",
        "No device was unlocked.",
    ]


def test_the_appliances_own_words_are_printed_and_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ControlPeer(
        tmp_path, unlock={"devices": [], "message": "not offline\x1b[2J"}, lock=ValueError("no such device")
    ):
        assert run(tmp_path, "unlock", "--all", "--once") == 0
        assert capsys.readouterr().out == "not offline\N{REPLACEMENT CHARACTER}[2J\n"
        assert run(tmp_path, "lock", "KM-9") == 1
        assert capsys.readouterr().err == "locum: no such device\n"


def test_many_devices_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, unlock={"devices": [f"KM-{number}" for number in range(200)]}):
        run(tmp_path, "unlock", "--all", "--once")
    assert capsys.readouterr().out == "Unlocked for one session: 200 devices.\n"


def test_a_code_is_kept_as_a_hash_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, b"open-sesame\n")
    assert run(tmp_path, "unlock-code", "set") == 0
    kept = tmp_path / "unlock-code"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.stat().st_uid == tmp_path.stat().st_uid
    assert "sesame" not in kept.read_text()
    assert is_right("open-sesame", unlock_hash(tmp_path))
    assert not is_right("open-sesam", unlock_hash(tmp_path))
    assert "it takes note when it starts" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["unlock-code"]


def test_the_running_appliance_is_told_of_a_code_and_never_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ControlPeer(tmp_path, unlock_code={}) as peer:
        piped(monkeypatch, b"123456")
        assert run(tmp_path, "unlock-code", "set") == 0
        assert run(tmp_path, "unlock-code", "clear") == 0
        assert run(tmp_path, "unlock-code", "clear") == 0
        assert run(tmp_path, "unlock-code", "allow") == 0
        assert unlock_hash(tmp_path) == ""
    assert [asked for asked in peer.asked if asked] == [
        {"command": "unlock-code", "changed": "set"},
        {"command": "unlock-code", "changed": "cleared"},
        {"command": "unlock-code", "changed": "allowed"},
    ]
    assert capsys.readouterr().out.splitlines() == [
        "The unlock code is set.",
        "The unlock code is forgotten.",
        "No unlock code was set.",
        "Codes can be tried again.",
    ]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (b"12345\n", "an unlock code has 6 to 64 characters, not 5; take a longer one"),
        (b"", "not 0; take a longer one"),
        (b"x" * 65, "not 65; take a shorter one"),
        (b"123456 \n", "begins or ends with a blank"),
        (b"1234\x0056\n", "holds what cannot be typed"),
        (b"1234\xff56\n", "is not UTF-8"),
    ],
)
def test_a_code_that_nobody_could_type_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: bytes, said: str
) -> None:
    piped(monkeypatch, typed)
    assert run(tmp_path, "unlock-code", "set") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_a_state_directory_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(monkeypatch, b"123456\n")
    assert run(tmp_path / "none", "unlock-code", "set") == 1
    assert "there is no such state directory; start Locum once, or run 'locum init'" in capsys.readouterr().err


def test_a_drill_has_an_end_and_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, drill_start={"devices": ["KM-1"]}, drill_stop={"devices": ["KM-1"]}) as peer:
        assert run(tmp_path, "drill", "start", "KM-1", "--for", "90s", "--reason", " rehearsal ") == 0
        assert run(tmp_path, "drill", "start", "--all", "--reason", "rehearsal") == 0
        assert run(tmp_path, "drill", "stop", "--all") == 0
        assert run(tmp_path, "drill", "stop", "KM-1") == 0
    assert peer.asked == [
        {"command": "drill-start", "device": "KM-1", "seconds": 90, "reason": "rehearsal"},
        {"command": "drill-start", "device": None, "seconds": 1800, "reason": "rehearsal"},
        {"command": "drill-stop", "device": None},
        {"command": "drill-stop", "device": "KM-1"},
    ]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "A drill has begun for 1 min 30 s: KM-1."
    assert said[3] == "The drill has ended: KM-1."


def rows(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": FIRST, "state": "in_doubt"}] if request["state"] == "in_doubt" else []


def test_a_record_in_doubt_is_resolved_either_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, outbox_list=rows, outbox_resolve={"message": "done"}) as peer:
        assert run(tmp_path, "outbox", "resolve", FIRST[:8], "--sent", "--reason", " seen there ") == 0
        assert run(tmp_path, "outbox", "resolve", FIRST, "--resend") == 0
    assert [asked for asked in peer.asked if asked["command"] == "outbox-resolve"] == [
        {"command": "outbox-resolve", "id": FIRST, "how": "sent", "reason": "seen there"},
        {"command": "outbox-resolve", "id": FIRST, "how": "resend", "reason": ""},
    ]
    assert capsys.readouterr().out == "done\ndone\n"


def test_everything_about_a_record_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detail = {
        "id": FIRST,
        "state": "in_doubt",
        "job": {"pages": 1200, "document": "thesis\x1b[2J", "paper": ""},
        "tries": [{"at": "2026-11-22T10:15:03.120Z", "outcome": "unknown", "answer": ""}],
        "evidence": {"job_count_before": 7},
        "corrections": {},
    }
    with ControlPeer(tmp_path, outbox_list=rows, outbox_show=detail) as peer:
        assert run(tmp_path, "outbox", "show", FIRST[:8]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"id           {FIRST}",
            "state        in_doubt",
            "job",
            "  pages     1,200",
            "  document  thesis\N{REPLACEMENT CHARACTER}[2J",
            "  paper     -",
            "tries",
            "  at=2026-11-22T10:15:03.120Z outcome=unknown",
            "evidence",
            "  job count before  7",
            "corrections  -",
        ]
        assert run(tmp_path, "outbox", "show", FIRST, "--json") == 0
        assert json.loads(capsys.readouterr().out) == detail
    assert peer.asked[-1] == {"command": "outbox-show", "id": FIRST}


def test_a_correction_goes_with_a_retry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, outbox_retry={"retried": 1}) as peer:
        assert run(tmp_path, "outbox", "retry", FIRST, "--set", "printer=Library copier", "--set", "user=a=b") == 0
        assert run(tmp_path, "outbox", "retry", FIRST) == 0
        assert run(tmp_path, "outbox", "retry", "--all", "--set", "user=a") == 2
    assert [asked["set"] for asked in peer.asked] == [{"printer": "Library copier", "user": "a=b"}, {}]


def test_a_claim_is_for_one_upstream_or_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, outbox_claim={}) as peer:
        assert run(tmp_path, "outbox", "claim", "print") == 0
        assert run(tmp_path, "outbox", "claim") == 0
    assert [asked["upstream"] for asked in peer.asked] == ["print", None]
    assert capsys.readouterr().out == "Claimed; records are forwarded again.\n" * 2


def test_status_names_what_is_unlocked_in_a_drill_or_in_trouble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def device(name: str, state: str, drill: bool = False) -> dict[str, Any]:
        return {"id": name, "upstream": "print", "offline": state, "drill": drill, "sessions": 0}

    answer = {
        "name": "library",
        "version": "1",
        "upstreams": [
            {"name": "print", "dialect": "papercut", "state": "online", "proven": True, "outbox": {"in_doubt": 2},
             "trouble": "the token is refused"}
        ],
        "devices": [
            device("KM-1", "unlocked-once"),
            device("KM-2", "unlocked-until-restored"),
            device("KM-3", "locked", drill=True),
        ],
    }  # fmt: skip
    with ControlPeer(tmp_path, status=answer, devices=answer["devices"]):
        assert run(tmp_path, "status") == 0
        lines = capsys.readouterr().out.splitlines()
        assert run(tmp_path, "devices") == 0
        table = capsys.readouterr().out.splitlines()
    assert "  It is there, but: the token is refused" in lines
    assert "  2 records may or may not have arrived. See: locum outbox list --state in_doubt" in lines
    assert "Devices      1 locked, 1 unlocked-once, 1 unlocked-until-restored; 0 open sessions" in lines
    assert "Unlocked     KM-1 (once), KM-2 (until restored)" in lines
    assert "Drill        KM-3" in lines
    assert [line.split("print")[1].strip().rpartition("  0")[0].strip() for line in table[1:]] == [
        "unlocked-once",
        "unlocked-until-restored",
        "locked (drill)",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("outbox", "resolve", FIRST, "--sent", "--resend"),
        ("outbox", "resolve", FIRST),
        ("unlock", "KM-1", "--once", "--until-restored"),
        ("unlock", "KM-1"),
    ],
)
def test_of_two_ways_one_must_be_named_and_only_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(tmp_path, *words) == 2
    assert "say " in capsys.readouterr().err


def test_status_names_readers_that_are_away_and_meters_that_are_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def meter(name: str, read_at: str | None, kind: str | None = None) -> dict[str, Any]:
        return {"device": name, "read_at": read_at, "in_session": False, "kind": kind, "trouble": kind}

    answer = {
        "name": "library",
        "version": "1",
        "upstreams": [],
        "devices": [],
        "readers": [
            {"device": "OLD-1", "reader": True, "server": True, "served_by": "server"},
            {"device": "OLD-2", "reader": False, "server": False, "served_by": "server"},
            {"device": "OLD-3", "reader": True, "server": False, "served_by": "locum"},
            {"device": "OLD-4", "reader": True, "server": False, "served_by": "server"},
        ],
        "meters": [
            meter("OLD-1", "2026-11-22T10:16:01.118Z"),
            meter("OLD-2", "2026-11-22T09:16:01.118Z", "silent"),
            meter("OLD-3", None, "denied"),
        ],
    }
    with ControlPeer(tmp_path, status=answer):
        assert run(tmp_path, "status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Readers      3 of 4 connected; Locum serves 1" in lines
    assert "             no reader at OLD-2" in lines
    assert "             no connection with the server: OLD-4" in lines
    assert any(line.startswith("Meters       1 of 3 read, the last ") for line in lines)
    assert "             silent: OLD-2. See: locum meters now" in lines
    assert "             wrong key or access: OLD-3. See: locum meters now" in lines
