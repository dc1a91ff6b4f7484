"""A terminal server as upstream, with a tap on the line between. `dialects/terminal.md`, "Between Locum and a server".

The server is the simulated one's terminal face; what went over the wire is what the tap has recorded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers.floor import Floor
from tests.peers.office import ADA, BO, BO_SECOND, CY, STRANGER, Office, write_users
from tests.peers.printshop import Printshop
from tests.peers.simulated import SimulatedServer
from tests.peers.tap import Tap
from tests.peers.terminal import (
    ALREADY,
    GRANTED,
    HELLO,
    JOB,
    LOGIN,
    LOGOUT,
    OFFLINE,
    QUERY,
    RECORD,
    REFUSED,
    STORED,
    frame,
    hello,
    job,
    login,
    read_ack,
    read_login,
    text,
)


class TappedOffice(Office):
    """The line, and the tap between Locum and the server."""

    tap: Tap


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TappedOffice]:
    home: Path = tmp_path_factory.mktemp("terminals")
    with ExitStack() as endings:
        users = write_users(home / "users.csv")
        server = SimulatedServer(home / "server", "--users", str(users))
        endings.callback(server.stop)
        server.start()
        tap = Tap(server.terminal_port)
        endings.callback(tap.close)
        shop = Printshop.before_terminal(home / "locum", tap.port, offline={"delay": "300ms"})
        endings.callback(shop.stop)
        floor = Floor()
        endings.callback(floor.close)
        shop.start()
        shop.wait_until_proven()
        office = TappedOffice(server, shop, floor)
        office.tap = tap
        yield office


def test_online_every_frame_is_relayed_bit_for_bit_both_ways(office: TappedOffice) -> None:
    """HELLO is repeated; LOGIN, QUERY, JOB and LOGOUT and their replies cross unchanged, sequences included."""
    terminal = office.terminal("KM-relayed")
    line = terminal.terminal
    reply = office.floor.run(line.send_as(0x01020304, LOGIN, login(ADA)))
    assert office.tap.has_sent(hello("KM-relayed"))
    granted = read_login(reply)
    assert (granted.status, granted.user, granted.balance) == (GRANTED, "ada", 1240)
    assert granted.session >> 63 == 0, "the server's own session"
    asked = [
        (0x7F000001, QUERY, b"\x01" + struct.pack(">Q", granted.session) + text("")),
        (0x7F000002, JOB, job(granted.session, 77, pages=4, color=2, copies=2, flags=0x8001, document="Ümlaut.pdf")),
        (0x7F000003, JOB, job(granted.session, 77, pages=4, color=2, copies=2, flags=0x8001, document="Ümlaut.pdf")),
        (0x7F000004, LOGOUT, struct.pack(">Q", granted.session)),
    ]
    replies = [(0x01020304, reply)]
    for sequence, kind, payload in asked:
        replies.append((sequence, office.floor.run(line.send_as(sequence, kind, payload))))
    assert read_ack(replies[2][1]) == (77, STORED)
    assert read_ack(replies[3][1]) == (77, ALREADY)
    for sequence, kind, payload in [(0x01020304, LOGIN, login(ADA)), *asked[:2], asked[3]]:
        assert office.tap.has_sent(frame(kind, sequence, payload)), f"request {sequence:#x} did not cross as it was"
    for sequence, answer in [*replies[:3], replies[4]]:
        assert office.tap.has_received(frame(answer.kind, sequence, answer.payload)), f"reply {sequence:#x}"
    (booked,) = office.booked("KM-relayed")
    assert (booked.user, booked.pages, booked.via, booked.job_number) == ("ada", 4, "terminal", "77")
    assert terminal.swipe(STRANGER).status == REFUSED
    (row,) = office.shop.query("SELECT mode FROM jobs WHERE device = 'KM-relayed'")
    assert row["mode"] == "online"


def test_an_outage_is_worked_through_and_drained_by_record_which_names_the_user(office: TappedOffice) -> None:
    """Offline grants have bit 63; RECORD carries card and device; RECORD_ACK's user is in the deliveries.

    The server dies once in the middle, after it committed and before it answered: what was in flight is sent again, and
    it knows it by (device, job). So nothing is in doubt, and nothing is there twice.
    """
    owners = {"KM-a": "ada", "KM-b": "bo", "KM-b2": "bo", "KM-c": "cy", "KM-x": "unknown"}
    cards = dict(zip(owners, (ADA, BO, BO_SECOND, CY, "FEEDC0DE"), strict=True))
    terminals = {device: office.terminal(device) for device in cards}
    office.go_offline()
    for device, terminal in terminals.items():
        assert terminal.ping() == OFFLINE
        session = terminal.log_in(cards[device])
        assert session >> 63 == 1
        for pages in range(1, 6):
            assert terminal.job(session, pages=pages) == STORED
        terminal.logout(session)
    connections = len(office.tap.connections)
    office.server.switch(die_after_commit=3)
    office.server.start()
    office.server.wait_until_dead(15)
    office.server.switch()
    office.shop.wait_for_state("grace", "offline")
    office.come_back()
    for device, user in owners.items():
        found = office.booked(device)
        assert [(each.user, each.pages, each.via) for each in found] == [(user, n, "terminal") for n in range(1, 6)]
        rows = office.shop.query(
            "SELECT DISTINCT p.user FROM deliveries d JOIN jobs j ON j.seq = d.record JOIN personal p ON p.seq = d.seq"
            " WHERE j.device = ? AND d.outcome = 'delivered'",
            device,
        )
        assert [row["user"] for row in rows] == [user]
    assert office.server.query("SELECT * FROM jobs_twice") == []
    assert int(office.shop.outbox()["in_doubt"]) == 0
    assert office.shop.query("SELECT * FROM maybe_forwarded_twice"), "what was sent again is named"
    record = struct.pack(">2sBB", b"CT", 1, RECORD)
    drained = [bytes(each.there) for each in office.tap.connections[connections:] if record in bytes(each.there)]
    assert len(drained) == 2, "one connection for what was kept, and another after the server died"
    for said in drained:
        assert said[:4] == struct.pack(">2sBB", b"CT", 1, HELLO)
        assert said[11 : 11 + said[10]] == b"test", "HELLO names the appliance"
    for row in office.shop.query("SELECT session FROM logins WHERE decided_by = 'locum'"):
        assert not office.tap.has_sent(bytes.fromhex(row["session"])), "a session of Locum's own never crosses"
