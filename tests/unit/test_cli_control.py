"""The commands that talk to the running appliance: what they ask, what they print, how they fail."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import main
from appliance.client import SOCKET_NAME, ClientError, ask, control_socket, is_running
from tests.unit.configs import SMALL, write
from tests.unit.control_peer import ControlPeer

OUTBOX = {"waiting": 120, "sent": 0, "in_doubt": 2, "rejected": 1, "oldest": "2026-11-22T10:20:00.000Z"}
STATUS: dict[str, Any] = {
    "name": "library",
    "version": "0.1.0",
    "upstreams": [
        {
            "name": "hq",
            "dialect": "radius",
            "state": "offline",
            "proven": True,
            "since": "2026-11-22T10:15:03.120Z",
            "cause": "no answer from 10.0.0.5:1812 in 3 s",
            "outage_started": "2026-11-22T10:14:03.120Z",
            "outbox": OUTBOX,
        },
        {"name": "books", "dialect": "radius", "state": "online", "proven": False, "since": None, "outbox": {}},
    ],
    "devices": [
        {"id": "KM-1", "upstream": "hq", "offline": "offline", "drill": False, "sessions": 1},
        {"id": "KM-2", "upstream": "hq", "offline": "offline", "drill": False, "sessions": 0},
    ],
    "outbox": OUTBOX,
    "last_outage": {"started": "2026-11-22T10:14:03.120Z", "recovered": None, "logins": 41, "jobs": 120,
                    "pages": 961, "unknown_cards": 1},
    "ledger": {"entries": 48213, "jobs": 20111, "head": "sha256:00", "bytes": 12345678},
}  # fmt: skip

FIRST = "01936e3c-1f2a-7000-8000-000000000001"
SECOND = "01936e3c-1f2b-7000-8000-000000000002"
ROWS = [
    {"id": FIRST, "seq": 7, "state": "rejected", "upstream": "hq", "device": "KM-1", "kind": "copy", "pages": 3,
     "at": "2026-11-22T10:20:00.000Z", "tries": 8, "next_try": None, "reason": "unanswered 8 times"},
    {"id": SECOND, "seq": 8, "state": "waiting", "upstream": "hq", "device": "KM-2", "kind": None, "pages": None,
     "at": "2026-11-22T10:21:00.000Z", "tries": 0, "next_try": None, "reason": ""},
]  # fmt: skip


def listed(request: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [row for row in ROWS if request["state"] in (None, row["state"])]
    return rows[: request["limit"]]


def test_status_says_first_what_an_admin_must_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, status=STATUS) as peer:
        assert main(["status", "--state-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "library, Locum 0.1.0"
    assert lines[2].startswith("hq is OFFLINE since ")
    assert lines[2].endswith(": no answer from 10.0.0.5:1812 in 3 s")
    assert lines[3].startswith("  120 records wait for it, the oldest for ")
    assert "refused 1 record. See: locum outbox list --state rejected" in lines[4]
    assert "2 records may or may not have arrived" in lines[5]
    assert any("has never answered under this address and secret" in line for line in lines)
    assert any(line.startswith("Devices      2 offline; 1 open session") for line in lines)
    assert any("41 logins, 120 jobs, 961 pages, 1 unknown card" in line for line in lines)
    assert "Ledger       48,213 entries, 20,111 jobs, 12.3 MB" in lines
    assert all(line == line.rstrip() and "\x1b" not in line for line in lines)
    assert peer.asked == [{"command": "status"}]


DRAINED = "2026-11-22T10:20:00.000Z"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"drained": DRAINED}, "; all forwarded at "),
        ({"drained": DRAINED, "rejected": 2, "dropped": 1}, ", but 2 refused, 1 dropped by hand"),
        ({"drained": None, "in_doubt": 3}, "1 unknown card; 3 in doubt"),
        ({"drained": None, "waiting": 1_000, "sent": 32}, "1 unknown card; 1,032 still to be forwarded"),
        ({"drained": None, "in_doubt": 3, "rejected": 2}, "1 unknown card; 3 in doubt, 2 refused"),
        ({"drained": None}, "1 unknown card"),
    ],
)
def test_status_calls_forwarded_only_what_is_and_names_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: dict[str, Any], words: str
) -> None:
    outage = {**STATUS["last_outage"], "recovered": DRAINED, **told}
    with ControlPeer(tmp_path, status={**STATUS, "last_outage": outage}):
        assert main(["status", "--state-dir", str(tmp_path)]) == 0
    [line] = [each for each in capsys.readouterr().out.splitlines() if each.startswith("Last outage")]
    assert words in line
    assert ("all forwarded" in line) == (told == {"drained": DRAINED})
    assert words.startswith("; all") or line.endswith(words)


def test_status_for_scripts_is_what_the_appliance_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, status=STATUS):
        assert main(["status", "--json", "--state-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS


def test_the_socket_is_found_by_the_config_even_if_that_has_mistakes_by_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").mkdir()
    file = write(tmp_path, SMALL.replace("[[listen]]", "[[listn]]"))
    with ControlPeer(tmp_path / "state", devices=[]):
        assert main(["devices", "-c", str(file)]) == 0
    assert capsys.readouterr().out == "No device has been heard yet.\n"


def test_devices_are_a_table_and_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, object] = {
        "id": "KM\x1b[2J",
        "address": "10.7.0.31",
        "upstream": "hq",
        "dialect": "radius",
        "offline": "online",
    }
    with ControlPeer(
        tmp_path, devices=[{**row, "last_seen": "2026-11-22T10:15:03.120Z", "drill": True, "sessions": 2}]
    ):
        assert main(["devices", "--state-dir", str(tmp_path)]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["DEVICE", "ADDRESS", "UPSTREAM", "STATE", "SESSIONS", "LAST", "HEARD"]
    assert line.startswith("KM\N{REPLACEMENT CHARACTER}[2J  10.7.0.31  hq        online (drill)         2  ")


def test_outbox_list_shows_whole_ids_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, outbox_list=listed) as peer:
        assert main(["outbox", "list", "--state-dir", str(tmp_path)]) == 0
        assert main(["outbox", "list", "--state", "in_doubt", "--limit", "5", "--state-dir", str(tmp_path)]) == 0
        assert main(["outbox", "list", "--json", "--state", "waiting", "--state-dir", str(tmp_path)]) == 0
    _, first, second, nothing, *rest = capsys.readouterr().out.splitlines()
    assert first.split()[:6] == [FIRST, "rejected", "hq", "KM-1", "copy", "3"]
    assert first.endswith("unanswered 8 times")
    assert second.split()[:6] == [SECOND, "waiting", "hq", "KM-2", "-", "-"]
    assert nothing == "Nothing in the outbox is in_doubt."
    assert json.loads("".join(rest)) == [ROWS[1]]
    assert peer.asked[1] == {"command": "outbox-list", "state": "in_doubt", "limit": 5}


def test_retry_takes_all_or_the_beginning_of_an_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--state-dir", str(tmp_path)]
    with ControlPeer(tmp_path, outbox_list=listed, outbox_retry={"retried": 1, "changed": 1}) as peer:
        assert main(["outbox", "retry", "--all", *place]) == 0
        assert main(["outbox", "retry", "01936E3C", *place]) == 0
        assert main(["outbox", "retry", SECOND, *place]) == 0
    assert [asked for asked in peer.asked if asked["command"] == "outbox-retry"] == [
        {"command": "outbox-retry", "seqs": [7], "states": ["rejected"]},
        {"command": "outbox-retry", "ids": [FIRST], "set": {}},
        {"command": "outbox-retry", "ids": [SECOND], "set": {}},
    ]
    assert capsys.readouterr().out.splitlines() == ["1 record is sent once more."] * 3


def test_drop_needs_a_reason_and_one_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--state-dir", str(tmp_path)]
    with ControlPeer(tmp_path, outbox_list=listed, outbox_drop=lambda request: {"dropped": request["id"]}) as peer:
        assert main(["outbox", "drop", "01936e3c-1f2b", "--reason", " a test job ", *place]) == 0
        assert capsys.readouterr().out == f"Dropped {SECOND}.\n"
        assert main(["outbox", "drop", "01936e3c", "--reason", "x", *place]) == 1
        assert "2 records have an id that begins with '01936e3c'; give more of it" in capsys.readouterr().err
        assert main(["outbox", "drop", "ffffffff", "--reason", "x", *place]) == 1
        assert "no record rejected or in_doubt or waiting has an id" in capsys.readouterr().err
        assert main(["outbox", "drop", FIRST, "--reason", " ", *place]) == 2
    assert [asked for asked in peer.asked if asked["command"] == "outbox-drop"] == [
        {"command": "outbox-drop", "id": SECOND, "reason": "a test job"}
    ]


@pytest.mark.parametrize("command", ["status", "devices", "outbox list"])
def test_without_an_appliance_one_line_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([*command.split(), "--state-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"locum: no Locum runs on {tmp_path}; start it with: locum run, or ")
    assert said.count("\n") == 1
    assert not is_running(tmp_path)


def test_a_socket_that_a_dead_locum_left_behind_counts_as_none(tmp_path: Path) -> None:
    with ControlPeer(tmp_path, status={}):
        assert is_running(tmp_path)
    assert (tmp_path / SOCKET_NAME).exists()
    assert not is_running(tmp_path)
    with pytest.raises(ClientError, match="no Locum runs on"):
        ask(tmp_path, "status")


def test_what_the_appliance_refuses_is_told_in_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ControlPeer(tmp_path, status=ValueError("the ledger\nis full; make room")):
        assert main(["status", "--state-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "locum: the ledger is full; make room\n"


@pytest.mark.parametrize("answer", [b"", b"{", b"[]\n", b"\xff\n", b'{"ok": false}\n'])
def test_an_answer_that_is_none_is_one_line(tmp_path: Path, answer: bytes) -> None:
    with ControlPeer(tmp_path, status=answer), pytest.raises(ClientError) as caught:
        ask(tmp_path, "status")
    assert "\n" not in str(caught.value)


def test_a_state_directory_with_a_long_name_is_reached(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-long-name-of-a-directory"] * 6)
    deep.mkdir(parents=True)
    with control_socket(deep) as path:
        assert len(path) < 108
    with ControlPeer(deep, status={"name": "x"}):
        assert ask(deep, "status") == {"name": "x"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_who_may_not_ask_is_told_of_the_group(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    peer = ControlPeer(tmp_path)  # listens, but has no thread yet that a fork would lose
    child = os.fork()
    if child == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            ask(tmp_path, "status")
        except ClientError as error:
            os._exit(7 if "member of the group locum" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    peer.close()
