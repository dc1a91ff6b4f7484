"""Card readers beside Locum in line: reached at the address of a third interface, for a bridge has none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.in_line import InLine, in_line
from tests.e2e.test_inline_commands import Box
from tests.peers.appliance import table
from tests.peers.netns import Wire, wire
from tests.peers.reader import CardReader, Desk
from tests.peers.skips import need_program
from tests.peers.waiting import eventually

OWN, OFFICE = ("10.77.0.1", "fd00:77::1"), ("10.77.0.2", "fd00:77::2")
CARD = "04A1C3F2"
READER = table(
    "[[upstream]]",
    {
        "name": "print",
        "dialect": "papercut",
        "url": "http://10.77.0.2:9191/rpc/api/xmlrpc",
        "token": "not there",
        "time_zone": "UTC",
    },
) + table(
    "[[reader]]",
    {"device": "OLD-1", "upstream": "print", "address": OFFICE[0], "port": 7778, "listen": "0.0.0.0:17778"},
)


@pytest.fixture
def line() -> Iterator[Wire]:
    need_program("nft", "nftables")
    need_program("ping", "iputils-ping")
    with wire() as made:
        yield made


def third_interface(line: Wire) -> str:
    """The namespace at its other end."""
    office = line.namespace("m")
    line.cable(line.appliance, "m0", office, "m1")
    line.address(line.appliance, "m0", OWN)
    line.address(office, "m1", OFFICE)
    return office


def test_a_bridge_without_any_address_refuses_card_readers_in_words(line: Wire, tmp_path: Path) -> None:
    box = Box(line, tmp_path)
    box.config.write_text(box.config.read_text() + READER)
    done = box.locum("inline", "plan")
    assert done.returncode == 1
    assert "the bridge has none, and no other interface has one" in done.stderr + done.stdout
    third_interface(line)
    done = box.locum("inline", "plan")
    assert done.returncode == 0
    assert "card readers (1) do not stand in line" in done.stderr + done.stdout
    assert "such as 10.77.0.1 (m0)" in done.stderr + done.stdout


def test_a_reader_and_its_server_reach_locum_by_the_third_interface(line: Wire, tmp_path: Path) -> None:
    office = third_interface(line)
    with in_line(line, tmp_path, more=READER) as stands:
        stands.stand()
        reader = CardReader(7778, address=OFFICE[0])
        desk = Desk([CARD], 17778, connects=True, address=OWN[0])
        try:
            with line.inside(office):
                reader.start()
                desk.start()
            reader.wait()
            desk.wait()
            reader.swipe(CARD)
            reader.hears(beeps=1)
            assert desk.cards == [CARD]
            _still_in_line(stands)
        finally:
            reader.stop()
            desk.stop()


def _still_in_line(stands: InLine) -> None:
    assert stands.login() == ["Access-Accept"]
    eventually(lambda: stands.decided_by() != {}, 5, "the login went through Locum")
