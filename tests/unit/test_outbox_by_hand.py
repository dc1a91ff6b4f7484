"""The outbox of a ledger that no appliance works with, by name or by filters; and what is asked before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from appliance import outbox_deeds
from appliance.cli import main
from appliance.cli import outbox_choice as choice
from appliance.ledger_deeds import BadRequest
from appliance.state_dir import LEDGER_NAME
from storage.database import reading
from storage.ledger import Ledger
from storage.records import Delivery, OutboxState, Resolve, Retry
from storage.verify import verify
from tests.unit.control_peer import ControlPeer
from tests.unit.storage_samples import NOW, job, step

AN_HOUR = 3_600_000


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Records 1 and 2 are in doubt, 3 and 4 refused, 5 waits, 6 has left; 8 and 9 wait for another server, of whose
    outage 9 is.
    """
    made = tmp_path / "state"
    made.mkdir(mode=0o750)
    ledger = Ledger.open(made / LEDGER_NAME, NOW)
    ledger.commit([*(job(number, at=NOW + number) for number in range(1, 7))])
    late = NOW + AN_HOUR
    ledger.commit([step("failed", "grace", outage=NOW, upstream="hq"), job(8, at=late, upstream="lab")])
    away = [step(name, name, at=late + 1, outage=late, upstream="lab") for name in ("failed", "offline")]
    ledger.commit([away[0], job(9, at=late + 2, upstream="lab"), away[1]])
    states = {1: OutboxState.IN_DOUBT, 2: OutboxState.IN_DOUBT, 3: OutboxState.REJECTED, 4: OutboxState.REJECTED}
    ledger.commit([Delivery(NOW, seq, "hq", "unknown", state, 1) for seq, state in states.items()])
    ledger.commit([Delivery(NOW, 6, "hq", "delivered", None, 1)])
    ledger.close()
    return made


def locum(state_dir: Path, *arguments: str) -> int:
    return main(["outbox", arguments[0], "--state-dir", str(state_dir), *arguments[1:]])


def query(state_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with reading(state_dir / LEDGER_NAME) as connection:
        return connection.execute(sql).fetchall()


def standing(state_dir: Path) -> dict[int, str]:
    return dict(query(state_dir, "SELECT seq, state FROM outbox"))


def test_what_is_in_doubt_is_decided_on_a_stopped_appliances_ledger(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = standing(state_dir)
    assert locum(state_dir, "resolve", "--all", "--sent", "--reason", "in the job log", "--yes") == 0
    assert capsys.readouterr().out == "2 records count as sent.\n"
    assert standing(state_dir) == {seq: state for seq, state in before.items() if seq > 2}
    rows = query(state_dir, "SELECT record, answer, who FROM deliveries WHERE outcome = 'resolved-sent'")
    assert [row[:2] for row in rows] == [(1, "in the job log"), (2, "in the job log")]
    assert all(who.endswith(f"uid {os.getuid()} (by hand, appliance stopped)") for _, _, who in rows)
    assert verify(state_dir / LEDGER_NAME).wrong is None


def test_records_are_named_one_by_one_on_a_stopped_appliances_ledger(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = dict(query(state_dir, "SELECT seq, id FROM entries"))
    assert locum(state_dir, "resolve", ids[1], "--resend") == 0
    assert locum(state_dir, "drop", ids[3], ids[5], "--reason", "test pages") == 0
    assert locum(state_dir, "retry", ids[4], "--set", "user=ada") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{ids[1]} is sent once more.",
        f"Dropped {ids[3]}.",
        f"Dropped {ids[5]}.",
        "1 record is sent once more.",
    ]
    left = standing(state_dir)
    assert {seq: left.get(seq) for seq in (1, 3, 4, 5)} == {1: "waiting", 3: None, 4: "waiting", 5: None}
    assert locum(state_dir, "resolve", ids[1], "--sent") == 1
    assert capsys.readouterr().err == (
        f"locum: {ids[1]} is in the outbox no more, or not in_doubt; nothing was changed\n"
    )
    assert verify(state_dir / LEDGER_NAME).wrong is None


@pytest.mark.parametrize(
    ("filters", "gone"),
    [
        (["--all"], {1, 2, 3, 4, 5, 8, 10}),
        (["--state", "rejected"], {3, 4}),
        (["--upstream", "lab"], {8, 10}),
        (["--upstream", "hq", "--state", "waiting"], {5}),
        (["--before", "2026-11-22T10:15:03.123Z"], {1, 2}),
        (["--before", "2026-11-22T11:15:03.123", "--time-zone", "Europe/Berlin"], {1, 2}),
        (["--outage", "2026-11-22T11:15"], {10}),
        (["--outage"], {10}),
        (["--upstream", "nobody"], set()),
    ],
)  # fmt: skip
def test_filters_choose_and_all_that_are_given_must_hold(state_dir: Path, filters: list[str], gone: set[int]) -> None:
    before = standing(state_dir)
    assert locum(state_dir, "drop", *filters, "--reason", "x", "--yes") == 0
    assert before.keys() - standing(state_dir).keys() == gone


def test_retry_takes_what_was_refused_and_with_a_state_what_pauses(state_dir: Path) -> None:
    assert locum(state_dir, "retry", "--upstream", "hq") == 0
    assert {seq for seq, state in standing(state_dir).items() if state == "waiting"} == {3, 4, 5, 8, 10}
    assert locum(state_dir, "retry", "--state", "waiting") == 0
    counted = query(state_dir, "SELECT json_extract(data, '$.count') FROM notes WHERE note = 'by-hand' ORDER BY seq")
    assert counted == [(2,), (5,)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["drop", "--all", "--reason", "x"],
            "Drop 7 records (2 in doubt for hq, 2 rejected for hq, 1 waiting for hq, 2 ",
        ),
        (["resolve", "--all", "--resend"], "Nobody can be asked: standard input is no terminal; add --yes"),
        (["drop", "01936e3c", "--all", "--reason", "x"], "name the records, or choose them"),
        (["resolve", "--sent"], "name the records, or choose them"),
        (["drop", "--before", "soon", "--reason", "x"], "--before: 'soon' is neither a day"),
        (["resolve", "--state", "rejected", "--sent"], "'rejected' is not 'in_doubt'"),
        (["drop", "--all", "--reason", " ", "--yes"], "--reason must say something"),
    ],
)
def test_what_is_not_clear_changes_nothing(
    state_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    before = standing(state_dir)
    assert locum(state_dir, *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert standing(state_dir) == before


def test_an_outage_that_there_is_not_is_said(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert locum(state_dir, "drop", "--outage", "yesterday", "--reason", "x", "--yes") == 1
    assert "no outage is called 'yesterday'" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_a_person_is_asked_with_the_count_and_may_say_no(
    state_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str, status: int
) -> None:
    """Standard input is a real terminal's."""
    master, slave = os.openpty()
    os.write(master, typed.encode())
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert locum(state_dir, "drop", "--state", "rejected", "--reason", "x") == status
    os.close(master)
    said = capsys.readouterr().err
    assert "Drop 2 records (2 rejected for hq; 2026-11-22T10:15:03.123Z to 2026-11-22T10:15:03.124Z)? [y/N]" in said
    assert (3 in standing(state_dir)) == (status == 1)
    assert ("nothing was changed" in said) == (status == 1)


def test_what_is_chosen_goes_in_pages_and_what_changed_meanwhile_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"seq": seq, "state": "in_doubt", "upstream": "hq", "at": "-"} for seq in range(1, 2_251)]

    def listed(request: dict[str, Any]) -> list[dict[str, Any]]:
        return [row for row in rows if int(str(row["seq"])) > request["after"]][: request["limit"]]

    def dropped(request: dict[str, Any]) -> dict[str, Any]:
        return {"changed": len(request["seqs"]) - (1 if 7 in request["seqs"] else 0)}

    with ControlPeer(tmp_path, outbox_list=listed, outbox_drop=dropped) as peer:
        assert locum(tmp_path, "drop", "--all", "--reason", "x", "--yes") == 0
    assert capsys.readouterr().out == "Dropped 2,249 records. 1 other had changed meanwhile.\n"
    asked = [len(each["seqs"]) for each in peer.asked if each["command"] == "outbox-drop"]
    assert asked == [500, 500, 500, 500, 250]
    assert [each["after"] for each in peer.asked if each["command"] == "outbox-list"] == [0, 1_000, 2_000]
    assert choice.PAGE == 1_000


def test_if_a_page_fails_it_is_said_how_many_were_changed_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"seq": seq, "state": "in_doubt", "upstream": "hq", "at": "-"} for seq in range(1, 601)]

    def dropped(request: dict[str, Any]) -> Any:
        return {"changed": 500} if 1 in request["seqs"] else ValueError("it could not be stored: the disk is full")

    with ControlPeer(tmp_path, outbox_list=rows, outbox_drop=dropped):
        assert locum(tmp_path, "drop", "--all", "--reason", "x", "--yes") == 1
    assert capsys.readouterr().err.splitlines() == [
        "Changed before this: 500 of 600 records.",
        "locum: it could not be stored: the disk is full",
    ]


@pytest.mark.parametrize(
    ("command", "request_", "words"),
    [
        ("outbox-drop", {"seqs": []}, "seqs must be a list of 1 to 500"),
        ("outbox-drop", {"seqs": [True]}, "seqs must be a list"),
        ("outbox-drop", {"seqs": ["1"]}, "seqs must be a list"),
        ("outbox-drop", {"seqs": list(range(501))}, "seqs must be a list"),
        ("outbox-drop", {"seqs": [1], "states": ["sent"]}, "for records that are rejected or in_doubt or waiting"),
        ("outbox-resolve", {"seqs": [1], "states": [["in_doubt"]]}, "this is for records that are in_doubt"),
    ],
)
def test_a_request_that_no_command_makes_is_refused(
    state_dir: Path, command: str, request_: dict[str, Any], words: str
) -> None:
    with reading(state_dir / LEDGER_NAME) as connection, pytest.raises(BadRequest, match=words):
        outbox_deeds.meant(connection, command, request_)


@pytest.mark.parametrize(
    "request_",
    [{"state": "gone"}, {"states": "waiting"}, {"states": [1]}, {"upstream": 1}, {"limit": -1}, {"after": "1"}],
)
def test_a_list_of_what_there_is_not_is_refused(state_dir: Path, request_: dict[str, Any]) -> None:
    with reading(state_dir / LEDGER_NAME) as connection, pytest.raises(BadRequest):
        outbox_deeds.rows(connection, request_)


def test_a_plan_has_a_change_for_each_record_and_one_for_what_is_sent_once_more() -> None:
    resolving = outbox_deeds.plan("outbox-resolve", {"how": "sent", "reason": " seen "}, (1, 2), NOW, "ada")
    assert resolving == [Resolve(NOW, 1, "sent", "ada", "seen"), Resolve(NOW, 2, "sent", "ada", "seen")]
    assert outbox_deeds.plan("outbox-retry", {}, (1, 2), NOW, "ada") == [Retry(NOW, (1, 2), "ada")]
    assert outbox_deeds.plan("outbox-retry", {}, (), NOW, "ada") == [], "no seqs would mean every record"
    with pytest.raises(BadRequest, match="a reason is needed"):
        outbox_deeds.plan("outbox-drop", {"reason": " "}, (1,), NOW, "ada")
