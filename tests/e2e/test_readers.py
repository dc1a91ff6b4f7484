"""Card readers, a real `locum run`, and the simulated PaperCut server as the upstream whose state decides.

One reader of each kind of connection, and one on IPv6; each test leaves the line online.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.appliance import table
from tests.peers.office import ADA, BO, BO_SECOND, CY, DEE, STRANGER, Office, open_office
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.reader import CardReader, Desk
from tests.peers.waiting import eventually

WELCOME = (ADA, BO, BO_SECOND, CY)
ADMINS = "0042ADAD"


@dataclass
class Place:
    """A copier with its reader and the server's end of that reader's line. `listen`: Locum's port between them."""

    device: str
    reader: CardReader
    desk: Desk
    listen: int


@dataclass
class Hall:
    """`listens`: a reader that listens; `connects`: one that connects; `six`: one of rf IDEAS on IPv6."""

    office: Office
    listens: Place
    connects: Place
    six: Place

    @property
    def places(self) -> tuple[Place, ...]:
        return self.listens, self.connects, self.six

    def go_offline(self) -> None:
        """The server's machine is gone: its API, and its ends of the lines."""
        for place in self.places:
            place.desk.stop()
        self.office.go_offline()
        eventually(lambda: all(place.reader.connected for place in self.places), 5, "readers are connected")

    def come_back(self) -> None:
        for place in self.places:
            place.desk.start()
        self.office.come_back()

    def wait_until_served(self) -> None:
        """Wait until the server sees what is swiped, and what it said of that is in the ledger."""
        for place in self.places:
            eventually(lambda place=place: _served(place), 15, f"{place.device} is the server's")  # type: ignore[misc]
            eventually(lambda place=place: self._has_all(place), 5, f"{place.device}: all is in the ledger")  # type: ignore[misc]

    def _has_all(self, place: Place) -> bool:
        told = [card for _, by, _, card in self.logins(place.device) if by != "locum"]
        return told.count(STRANGER) >= place.desk.cards.count(STRANGER)

    def logins(self, device: str) -> list[tuple[str, str, str, str]]:
        rows = self.office.shop.query(
            "SELECT outcome, decided_by, mode, card FROM logins JOIN personal USING (seq) WHERE device = ?"
            " ORDER BY logins.seq",
            device,
        )
        return [tuple(row) for row in rows]  # type: ignore[misc]

    def waits_for_logins(self, device: str, count: int) -> list[tuple[str, str, str, str]]:
        eventually(lambda: len(self.logins(device)) >= count, 5, f"{count} logins on {device}")
        return self.logins(device)


def _places(endings: ExitStack) -> tuple[str, tuple[Place, Place, Place]]:
    """The config of three readers, and their ends; those that Locum dials are started."""
    one, two, three = free_port(), free_port(), free_port()
    listens = Place("OLD-1", CardReader(), Desk(WELCOME, one, connects=True), one)
    connects = Place("OLD-2", CardReader(two, connects=True), Desk(WELCOME), two)
    six = Place(
        "OLD-6",
        CardReader(rfideas=True, address=LOOPBACK[6]),
        Desk(WELCOME, three, connects=True, address=LOOPBACK[6]),
        three,
    )
    text = ""
    for place in (listens, connects, six):
        end = place.reader
        address = f"[{end.address}]" if ":" in end.address else end.address
        keys: dict[str, object] = {"device": place.device, "upstream": "hq", "listen": f"{address}:{place.listen}"}
        if end.connects:
            keys |= {"connects": True, "server": f"{address}:{place.desk.port}"}
        else:
            keys |= {"address": end.address, "port": end.port}
        text += table("[[reader]]", keys) + "\n"
        endings.callback(place.reader.stop)
        endings.callback(place.desk.stop)
    return text, (listens, connects, six)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    with ExitStack() as endings:
        text, places = _places(endings)
        office = open_office(tmp_path_factory.mktemp("hall"), endings, more=text)
        for place in places:
            place.reader.start()
            place.desk.start()
        for place in places:
            place.reader.wait()
            place.desk.wait()
        yield Hall(office, *places)


def test_online_the_server_answers_and_locum_reads_along(hall: Hall) -> None:
    for place in hall.places:
        place.reader.beeps = place.reader.errors = 0
        place.reader.swipe(ADA, pieces=3)
        if place.reader.rfideas:
            eventually(lambda place=place: b"b" in place.reader.raw, 5, "a beep")  # type: ignore[misc]
        else:
            place.reader.hears(beeps=1)
        assert hall.waits_for_logins(place.device, 1) == [("granted", "server", "online", ADA)]
        place.reader.swipe(ADA)
        eventually(lambda place=place: place.desk.cards == [ADA, ADA], 5, "shown twice")  # type: ignore[misc]
        eventually(lambda place=place: not _session(hall, place.device), 5, "logged out")  # type: ignore[misc]
    hall.listens.reader.beeps = 0
    hall.listens.reader.swipe(STRANGER)
    hall.listens.reader.hears(errors=1)
    assert hall.waits_for_logins("OLD-1", 2)[-1] == ("refused", "server", "online", STRANGER)


def _session(hall: Hall, device: str) -> int:
    (found,) = [each for each in hall.office.shop.status()["devices"] if each["id"] == device]
    return int(found["sessions"])


def test_through_an_outage_cards_are_let_in_and_the_readers_handed_back(hall: Hall) -> None:
    hall.go_offline()
    for place, card in zip(hall.places, (ADA, BO, CY), strict=True):
        place.reader.beeps = place.reader.errors = 0
        place.reader.swipe(card)
        place.reader.hears(beeps=2)
        assert hall.waits_for_logins(place.device, 1)[-1] == ("granted", "locum", "offline", card)
    assert hall.six.reader.light == 2
    hall.come_back()
    shown = {place.device: len(place.desk.cards) for place in hall.places}
    for place, card in zip(hall.places, (ADA, BO, CY), strict=True):
        place.reader.beeps = place.reader.errors = 0
        place.reader.swipe(card)
        place.reader.hears(beeps=1)
        assert len(place.desk.cards) == shown[place.device], "the offline session ends where it began"
    hall.wait_until_served()


def test_offline_cards_come_split_joined_with_other_ends_and_among_garbage(hall: Hall) -> None:
    hall.go_offline()
    reader = hall.listens.reader
    known = len(hall.logins("OLD-1"))
    reader.beeps = reader.errors = 0
    reader.swipe(ADA, pieces=5)
    reader.hears(beeps=2)
    reader.send(f"{ADA}\r\n{BO}\r".encode())  # ADA leaves; of BO the line is not over yet
    reader.hears(beeps=1)
    reader.send(b"\n")
    reader.hears(beeps=2)
    reader.send(b"\xff\xfe\x00 no card \xfc\n" + CY.encode()[:3])
    reader.send(CY.encode()[3:] + b"\n")
    reader.hears(beeps=2)
    assert [each[::3] for each in hall.waits_for_logins("OLD-1", known + 3)[known:]] == [
        ("granted", ADA),
        ("granted", BO),
        ("granted", CY),
    ]
    assert hall.office.shop.status()["dropped"]["reader-no-card"] >= 1
    reader.swipe(CY)
    reader.hears(beeps=1)
    hall.come_back()
    hall.wait_until_served()


def _served(place: Place) -> bool:
    """Whether the server sees a card that is swiped."""
    before = len(place.desk.cards)
    if not place.reader.connected:
        return False
    place.reader.swipe(STRANGER)
    try:
        eventually(lambda: len(place.desk.cards) > before, 1)
    except AssertionError:
        return False
    return place.desk.cards[-1] == STRANGER


def test_kill_9_in_the_middle_of_an_offline_session(hall: Hall) -> None:
    hall.go_offline()
    reader = hall.listens.reader
    reader.beeps = reader.errors = 0
    reader.swipe(CY)
    reader.hears(beeps=2)
    hall.office.shop.kill()
    hall.office.shop.start()
    hall.office.shop.wait_for_state("offline")
    eventually(lambda: all(place.reader.connected for place in hall.places), 10, "readers are connected")
    eventually(lambda: _session(hall, "OLD-1") == 1, 5, "the session is open")
    reader.beeps = reader.errors = 0
    reader.swipe(CY)
    reader.hears(beeps=1)
    assert _session(hall, "OLD-1") == 0
    hall.come_back()
    hall.wait_until_served()


def test_a_restricted_persons_card_is_let_in_offline_for_the_server_alone_knows(hall: Hall) -> None:
    hall.go_offline()
    reader = hall.connects.reader
    reader.beeps = reader.errors = 0
    reader.swipe(DEE)
    reader.hears(beeps=2)
    reader.swipe(DEE)
    reader.hears(beeps=1)
    hall.come_back()
    hall.wait_until_served()


def test_no_card_number_is_in_the_log(hall: Hall) -> None:
    text = hall.office.shop.log_text().upper()
    lines = " ".join(line for _, line in hall.office.app_log()).upper()
    bodies = " ".join(row["body"] for row in hall.office.shop.query("SELECT body FROM entries")).upper()
    for card in (ADA, BO, CY, DEE, STRANGER):
        assert card not in text
        assert card not in lines
        assert card not in bodies


def test_the_unlock_card_at_a_reader(tmp_path: Path) -> None:
    """Education: `unlock-code set --card`, then one swipe is a single use."""
    with ExitStack() as endings:
        text, places = _places(endings)
        office = open_office(tmp_path, endings, more=text, offline={"environment": "education"})
        hall = Hall(office, *places)
        for place in places:
            place.reader.start()
            place.desk.start()
        for place in places:
            place.desk.wait()
            place.reader.wait()
        assert "is set" in office.locum("unlock-code", "set", "--card", stdin=ADMINS.lower() + "\n")
        assert (office.shop.state_dir / "unlock-card").stat().st_mode & 0o777 == 0o600
        hall.go_offline()
        reader = hall.listens.reader
        reader.beeps = reader.errors = 0
        reader.swipe(ADA)
        reader.hears(errors=1)
        reader.swipe(ADMINS)
        reader.hears(beeps=1)
        reader.swipe(ADA)
        reader.hears(beeps=2)
        reader.swipe(ADA)
        reader.hears(beeps=1)
        reader.swipe(ADA)
        reader.hears(errors=1)
        reader.swipe(ADMINS)
        reader.hears(beeps=1)
        reader.swipe(ADMINS)
        reader.hears(beeps=3)
        rows = office.shop.query("SELECT outcome, scope FROM unlocks WHERE device = 'OLD-1' ORDER BY seq")
        assert [tuple(row) for row in rows] == [
            ("unlocked", "once"),
            ("begun", "once"),
            ("used", "once"),
            ("unlocked", "once"),
            ("unlocked", "until-restored"),
        ]
        assert ADMINS not in office.shop.log_text().upper()
        assert office.shop.query("SELECT * FROM personal WHERE card = ?", ADMINS) == []


def test_a_reload_takes_readers_over_and_lets_others_go(hall: Hall) -> None:
    """Another idle time leaves the line as it is; a reader that is gone from the config is hung up on."""
    shop = hall.office.shop
    made = [(place.reader.made, place.desk.made) for place in hall.places]
    whole = shop.config_text()
    shop.write_config(whole.replace('device = "OLD-1"', 'device = "OLD-1"\nsession_idle = "90s"'))
    shop.reload()
    hall.office.wait_for_line("the config was taken over")
    assert [(place.reader.made, place.desk.made) for place in hall.places] == made
    first, _, _ = whole.partition("[[reader]]")
    shop.write_config(first)
    shop.reload()
    for place in hall.places:
        eventually(lambda place=place: not place.reader.connected or place.reader.connects, 5, "hung up")  # type: ignore[misc]
    shop.write_config(whole)
    shop.reload()
    hall.wait_until_served()


def test_a_megabyte_without_an_end_passes_and_is_said_once(hall: Hall) -> None:
    hall.wait_until_served()
    place = hall.listens
    before = len(place.desk.raw)
    for _ in range(16):
        place.reader.send(b"z" * 65536)
    place.reader.send(b"\n")
    eventually(lambda: len(place.desk.raw) >= before + 16 * 65536 + 1, 10, "all of it has passed")
    assert hall.office.shop.status()["dropped"]["reader-too-long"] == 1
    hall.office.wait_for_line("is no card (too-long)")
    lines = [text for _, text in hall.office.app_log() if "is no card (too-long)" in text]
    assert len(lines) == 1
    assert hall.office.shop.memory() < 150_000_000
