"""PaperCut: the mark at the server names an entry that has gone into an archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.archive import DAY, archive
from storage.ledger import Ledger
from storage.records import Sign
from storage.signing import Signer
from tests.flows.papercut_house import House, Make, make_houses, mark_of

make = pytest.fixture(make_houses)


@pytest.fixture
def house(make: Make) -> House:
    return make()


def sign(house: House, signer: Signer) -> None:
    """Sign the end of the chain, with the ledger closed and opened again as a stop and a start do."""
    house.close()
    ledger = Ledger.open(house.folder / "ledger.db", house.wall, signer)
    ledger.commit([Sign(house.wall)])
    ledger.close()


def test_forwarding_goes_on_although_the_entry_of_the_mark_was_archived(house: House, tmp_path: Path) -> None:
    signer = Signer.new()
    stored = house.job("CARD-ann")
    house.pass_time(6)
    assert mark_of(house)["highest"] == stored.seq
    sign(house, signer)
    house.now, house.wall = house.now + 200_000, house.wall + 3 * DAY
    done = archive(house.folder / "ledger.db", tmp_path / "old.db", house.wall - DAY, house.wall, signer, "root")
    assert done.through >= stored.seq
    house.start()
    house.pass_time(3)
    house.job("CARD-ann")
    house.pass_time(5)
    assert house.upstream.trouble == ""
    assert len(house.server.book) == 2
