"""A card reader beside a copier that only counts: pages of each card arrive under the right users after an outage.

A real `locum run`, the simulated PaperCut server, a reader, and machines of the lab that answer SNMP over UDP.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.simulator.machine import Machine
from tests.peers.agents import Agent
from tests.peers.appliance import table
from tests.peers.office import ADA, BO, CY, STRANGER, Office, open_office
from tests.peers.ports import free_port
from tests.peers.reader import CardReader, Desk
from tests.peers.waiting import eventually

DEVICE, BESIDE = "OLD-1", "OLD-2"
COMMUNITY = b"s3cret-of-the-copiers"


@dataclass
class Room:
    """`machine` stands beside the reader; `beside` reports nothing at all and is only read."""

    office: Office
    machine: Machine
    beside: Machine
    reader: CardReader
    desk: Desk

    def now(self) -> dict[str, dict[str, Any]]:
        return {each["device"]: each for each in self.office.locum_json("meters", "now")}

    def total_read(self, device: str = DEVICE) -> int | None:
        meters: dict[str, int] = self.now()[device]["meters"]
        return meters.get("total")

    def use(self, card: str, *deeds: tuple[str, int, int]) -> None:
        """Swipe in, make these, swipe out."""
        self.swipe(card, beeps=2)
        before = self.machine.meters["total"]
        eventually(lambda: self.total_read() == before and self.now()[DEVICE]["in_session"], 10, "read at the swipe")
        for deed in deeds:
            self.machine.make(*deed)
        jobs = self.jobs()
        self.swipe(card, beeps=1)
        wanted = sum(1 for _ in deeds)
        eventually(lambda: len(self.jobs()) >= len(jobs) + wanted, 10, "the jobs are kept")

    def swipe(self, card: str, beeps: int) -> None:
        self.reader.beeps = self.reader.errors = 0
        self.reader.swipe(card)
        self.reader.hears(beeps=beeps)

    def jobs(self) -> list[tuple[Any, ...]]:
        rows = self.office.shop.query(
            "SELECT p.card, j.mode, j.kind, j.pages, j.color_pages FROM jobs j JOIN personal p USING (seq)"
            " WHERE j.device = ? ORDER BY j.seq",
            DEVICE,
        )
        return [tuple(row) for row in rows]


def answering(endings: ExitStack, machine: Machine) -> int:
    def behave(asked: object, data: bytes) -> list[bytes]:
        said = machine.answer(data, time.monotonic())
        return [said] if said is not None else []

    agent = Agent(behave)
    endings.callback(agent.stop)
    return int(agent.port)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with ExitStack() as endings:
        machine, beside = Machine("1", COMMUNITY), Machine("2", COMMUNITY, plain=True)
        machine.make("copy", 5000, 100)
        listen = free_port()
        reader, desk = CardReader(), Desk((ADA, BO, CY), listen, connects=True)
        where = {"device": DEVICE, "upstream": "hq", "listen": f"127.0.0.1:{listen}"}
        text = table("[[reader]]", {**where, "address": reader.address, "port": reader.port, "session_idle": "1h"})
        text += f'\n[snmp]\nversion = "2c"\ncommunity = "{COMMUNITY.decode()}"\nin_session = "1s"\notherwise = "10s"\n'
        for name, agent in ((DEVICE, machine), (BESIDE, beside)):
            port = answering(endings, agent)
            text += f'\n[[device]]\nid = "{name}"\nsnmp = {{ address = "127.0.0.1", port = {port} }}\n'
        endings.callback(reader.stop)
        endings.callback(desk.stop)
        office = open_office(tmp_path, endings, more=text)
        for end in (reader, desk):
            end.start()
            end.wait()
        found = Room(office, machine, beside, reader, desk)
        eventually(lambda: found.total_read() == 5000, 15, "the meters are read")
        yield found


def test_pages_of_an_outage_arrive_under_the_right_users_and_the_meter_agrees(room: Room) -> None:
    office, machine = room.office, room.machine
    first = machine.meters["total"]
    shown = room.now()
    assert (shown[DEVICE]["model"], shown[DEVICE]["serial"]) == ("Lab copier 1", "LAB1-1")
    assert shown[BESIDE]["meters"] == {"total": 0}
    status = office.shop.status()
    assert status["readers"] == [{"device": DEVICE, "reader": True, "server": True, "served_by": "server"}]
    assert [(row["device"], row["kind"], bool(row["read_at"])) for row in status["meters"]] == [
        (DEVICE, None, True),
        (BESIDE, None, True),
    ]
    room.desk.stop()
    office.go_offline()
    eventually(lambda: room.reader.connected, 5, "the reader is connected")
    assert [row["served_by"] for row in office.shop.status()["readers"]] == ["locum"]
    room.use(ADA, ("copy", 7, 2))
    room.use(BO, ("copy", 3, 0), ("print", 4, 4))
    machine.make("print", 11)  # nobody is there
    eventually(lambda: ("", "unknown", "print", 11, 0) in room.jobs(), 30, "nobody's pages are kept")
    room.use(STRANGER, ("scan", 6, 0), ("copy", 1, 0))
    assert room.jobs() == [
        (ADA, "offline", "copy", 7, 2),
        (BO, "offline", "copy", 3, 0),
        (BO, "offline", "print", 4, 4),
        ("", "unknown", "print", 11, 0),
        (STRANGER, "offline", "copy", 1, 0),
        (STRANGER, "offline", "scan", 6, None),
    ]
    room.desk.start()
    office.come_back()
    booked = sorted((job.user, job.pages) for job in office.booked(DEVICE))
    assert booked == [("ada", 7), ("bo", 3), ("bo", 4), ("unknown", 1), ("unknown", 6)]
    paper = office.shop.query("SELECT sum(pages) AS pages FROM jobs WHERE kind <> 'scan' AND device = ?", DEVICE)
    assert paper[0]["pages"] == machine.meters["total"] - first
    gaps = {gap["counter"]: gap for gap in office.locum_json("meters", "reconcile", DEVICE)}
    assert (gaps["total"]["meter"], gaps["total"]["gap"]) == (machine.meters["total"] - first, 0)
    assert gaps["color"]["gap"] == 0
    kept = office.shop.query("SELECT remark FROM meters WHERE device = ? AND counter = 'total'", DEVICE)
    remarks = " ".join(row["remark"] for row in kept)
    assert "beginning of an outage of hq" in remarks
    assert "end of an outage of hq" in remarks


def test_kill_9_in_a_session_counts_every_page_once(room: Room) -> None:
    office, machine = room.office, room.machine
    room.desk.stop()
    office.go_offline()
    eventually(lambda: room.reader.connected, 5, "the reader is connected")
    room.swipe(CY, beeps=2)
    eventually(lambda: room.now()[DEVICE]["in_session"], 5, "in session")
    machine.make("copy", 5)
    eventually(lambda: room.total_read() == 5005, 5, "read")
    machine.make("copy", 2)
    office.shop.kill()
    office.shop.start()
    office.shop.wait_for_state("offline")
    eventually(lambda: room.reader.connected and room.total_read() == 5007, 15, "read again")
    machine.make("copy", 1)
    room.swipe(CY, beeps=1)
    eventually(lambda: len(room.jobs()) >= 1, 10, "the job is kept")
    assert room.jobs() == [(CY, "offline", "copy", 8, 0)]
    office.shop.kill()
    office.shop.start()
    office.shop.wait_for_state("offline")
    eventually(lambda: room.total_read() == 5008, 15, "read again")
    assert room.jobs() == [(CY, "offline", "copy", 8, 0)]


def test_a_community_is_in_no_log_and_no_answer(room: Room) -> None:
    told = json.dumps(room.now()) + room.office.shop.log_text() + room.office.locum("status", "--json")
    assert COMMUNITY.decode() not in told
    assert "a bug was met" not in told
