"""The outbox in a person's hands: in doubt, refused, claimed; by the command line, with all of it in the ledger.

`dialects/papercut.md`, "What that means for delivery"; `offline-mode.md`, "Forwarding". One line for all tests here;
the server knows the printers that stand in PRINTERS and no others.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.peers.floor import Standing
from tests.peers.office import ADA, BO, CY, Office, open_office
from tests.peers.printshop import Printshop
from tests.peers.terminal import STORED
from tests.peers.waiting import eventually

PRINTERS = ("KM-1", "KM-2", "KM-3", "Library copier")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    printers = [part for name in PRINTERS for part in ("--printer", name)]
    with ExitStack() as endings:
        keys = {"answer_timeout": "300ms"}
        yield open_office(tmp_path_factory.mktemp("hands"), endings, server_arguments=tuple(printers), keys=keys)


def _copy(terminal: Standing, card: str, *pages: int) -> None:
    session = terminal.log_in(card)
    for each in pages:
        assert terminal.job(session, pages=each) == STORED
    terminal.logout(session)


def _in_doubt(office: Office) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = office.locum_json("outbox", "list", "--state", "in_doubt")
    return rows


def test_a_server_that_dies_after_it_committed_leaves_records_in_doubt_that_are_never_sent_again(
    office: Office,
) -> None:
    """What was in flight is in doubt by name, everything else is booked once; a person decides, with evidence."""
    terminals = [office.terminal(name) for name in ("KM-1", "KM-2")]
    office.go_offline()
    for terminal, card in zip(terminals, (ADA, BO), strict=True):
        _copy(terminal, card, 1, 2, 3)
    office.server.switch(die_after_commit=1)
    office.server.start()
    office.server.wait_until_dead(15)
    office.shop.wait_for_state("grace", "offline")
    office.server.switch()
    office.come_back()
    doubtful = _in_doubt(office)
    assert 1 <= len(doubtful) <= 2, "one record of each user was in flight at the most"
    assert int(office.shop.outbox()["in_doubt"]) == len(doubtful)
    booked = Counter(each.record_id for each in office.booked("KM-1", "KM-2"))
    assert max(booked.values()) == 1
    arrived = [row for row in doubtful if booked[row["id"]]]
    assert arrived, "the server had committed one before it died"
    assert len(booked) + len(doubtful) - len(arrived) == 6, "the others went on"
    for row in doubtful:
        shown = office.locum_json("outbox", "show", row["id"][:30])
        evidence = shown["evidence"]
        evidence = json.loads(evidence) if isinstance(evidence, str) else evidence
        assert evidence["user"] == ("ada" if row["device"] == "KM-1" else "bo")
        assert evidence["job_count"] == 0
        assert "job count" in office.locum("outbox", "show", row["id"]).replace("_", " ")
        how = "--sent" if booked[row["id"]] else "--resend"
        office.locum("outbox", "resolve", row["id"], how, "--reason", "looked it up by its comment")
    office.shop.wait_until_drained()
    eventually(lambda: len(office.booked("KM-1", "KM-2")) == 6, 5, "each is booked")
    for device in ("KM-1", "KM-2"):
        assert sorted(each.pages for each in office.booked(device)) == [1, 2, 3]
    assert office.server.query("SELECT * FROM jobs_twice") == []
    by_hand = office.shop.query("SELECT * FROM deliveries WHERE outcome LIKE 'resolved-%'")
    assert len(by_hand) == len(doubtful)
    for each in by_hand:
        assert each["answer"] == "looked it up by its comment"
        assert "uid" in each["who"]


def test_a_record_in_doubt_that_the_server_does_not_have_is_sent_again_by_hand_only(office: Office) -> None:
    """processJob is swallowed and the line cut: in doubt, not sent when the server is back; `resolve --resend` does."""
    terminal = office.terminal("KM-3")
    office.server.switch(answer="never", only="api.processJob")
    _copy(terminal, CY, 9)
    eventually(lambda: int(office.shop.outbox()["sent"]) == 1, 5, "it is on its way")
    office.go_offline()
    office.wait_for_outbox("in_doubt", 1)
    office.server.switch()
    office.come_back()
    assert office.booked("KM-3") == []
    (row,) = _in_doubt(office)
    refused = office.shop.run_to_its_end("outbox", "retry", row["id"])
    assert refused.returncode == 1, "retry is for what was refused"
    assert office.shop.run_to_its_end("outbox", "resolve", row["id"]).returncode == 2, "either way must be named"
    office.locum("outbox", "resolve", row["id"], "--resend", "--reason", "not in its job log")
    eventually(lambda: [each.pages for each in office.booked("KM-3")] == [9], 5, "it is booked")
    assert office.booked("KM-3")[0].user == "cy"
    assert office.shop.query("SELECT * FROM in_doubt") == []
    outcomes = office.shop.query("SELECT outcome FROM deliveries WHERE record_id = ? ORDER BY seq", row["id"])
    assert [each["outcome"] for each in outcomes][-2:] == ["resolved-resend", "delivered"]
    assert office.shop.run_to_its_end("outbox", "resolve", row["id"], "--resend").returncode == 1


def test_a_record_for_a_printer_that_does_not_exist_is_corrected_and_sent_once_more(office: Office) -> None:
    """Refused with the server's words; others go on; `--set printer=` and `--set user=`; the ledger keeps who."""
    terminal, known = office.terminal("KM-nowhere"), office.terminal("KM-1")
    _copy(terminal, BO, 21, 22)
    _copy(known, ADA, 23)
    office.wait_for_outbox("rejected", 2)
    eventually(lambda: [each.pages for each in office.booked("KM-1")][-1:] == [23], 5, "others go on")
    rows = office.locum_json("outbox", "list", "--state", "rejected")
    assert all("does not exist" in row["reason"] for row in rows)
    assert office.locum_json("status")["outbox"]["rejected"] == 2
    assert office.wait_for_line("refused a record")[0] == "error"
    first, second = (row["id"] for row in rows)
    office.locum("outbox", "retry", first, "--set", "printer=Library copier")
    office.locum("outbox", "retry", second, "--set", "printer=Library copier", "--set", "user=cy")
    eventually(lambda: len(office.booked("Library copier")) == 2, 5, "both are booked")
    booked = {each.record_id: (each.user, each.pages) for each in office.booked("Library copier")}
    assert booked == {first: ("bo", 21), second: ("cy", 22)}
    (job,) = office.shop.query("SELECT device FROM jobs WHERE id = ?", first)
    assert job["device"] == "KM-nowhere", "the ledger keeps what the device said"
    notes = [
        (json.loads(row["data"]), row["who"])
        for row in office.shop.query("SELECT data, who FROM notes WHERE note = 'by-hand' ORDER BY seq")
    ]
    corrected = [(note["corrected"], who) for note, who in notes if note.get("corrected")]
    assert [what for what, _ in corrected] == ["printer", "printer user"]
    assert all("uid" in who for _, who in corrected)


def test_a_refused_record_can_be_dropped_with_a_reason(office: Office) -> None:
    """Never sent, kept in the ledger with reason and name."""
    terminal = office.terminal("KM-nowhere-2")
    _copy(terminal, BO, 31)
    office.wait_for_outbox("rejected", 1)
    (row,) = office.locum_json("outbox", "list", "--state", "rejected")
    assert office.shop.run_to_its_end("outbox", "drop", row["id"]).returncode == 2
    office.locum("outbox", "drop", row["id"], "--reason", "a test page")
    office.wait_for_outbox("rejected", 0)
    (dropped,) = office.shop.query("SELECT answer, who FROM deliveries WHERE outcome = 'dropped'")
    assert dropped["answer"] == "a test page"
    assert "uid" in dropped["who"]
    assert not [each for each in office.booked() if each.pages == 31]


def test_a_copy_of_the_state_directory_forwards_nothing_until_a_person_claims(office: Office) -> None:
    """The copy's first batch finds a mark that its ledger has not written: it stops, says why; logins go on."""
    terminal = office.terminal("KM-1")
    _copy(terminal, ADA, 41)
    office.shop.wait_until_drained()
    eventually(lambda: office.booked("KM-1")[-1].pages == 41, 5, "the first is booked")
    office.shop.stop()
    copied = office.shop.home.parent / "copied-state"
    shutil.copytree(office.shop.state_dir, copied, ignore=shutil.ignore_patterns("*.sock", "lock"))
    office.shop.start()
    office.shop.wait_until_proven()
    _copy(office.terminal("KM-1"), ADA, 42)
    eventually(lambda: office.booked("KM-1")[-1].pages == 42, 5, "the original has gone on")
    office.shop.wait_until_drained()
    office.shop.stop()
    copy = Printshop(
        office.shop.home.parent / "copy", office.shop.upstream, offline=office.shop.offline, state_dir=copied
    )
    try:
        copy.start()
        copy.wait_until_proven()
        there = Office(office.server, copy, office.floor)
        _copy(there.terminal("KM-2"), BO, 43)
        eventually(lambda: copy.status()["upstreams"][0]["trouble"], 10, "it says why it stopped")
        level, text = there.wait_for_line("outbox claim")
        assert level == "error"
        assert "another appliance has the same name" in text
        _copy(there.terminal("KM-3"), CY, 44)
        assert copy.state() == "online"
        assert int(copy.outbox()["waiting"]) + int(copy.outbox()["sent"]) == 2
        assert not [each for each in office.booked() if each.pages in (43, 44)]
        there.locum("outbox", "claim")
        copy.wait_until_drained()
        assert sorted(each.pages for each in office.booked() if each.pages in (43, 44)) == [43, 44]
        claims = copy.query("SELECT who FROM notes WHERE json_extract(data, '$.did') = 'outbox claim'")
        assert len(claims) == 1
        assert "uid" in claims[0]["who"]
        assert copy.status()["upstreams"][0]["trouble"] in (None, "")
    finally:
        copy.stop()
        office.shop.start()
