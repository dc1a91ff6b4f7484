"""Ten thousand records in doubt, decided by a few commands while the appliance works, each with who and why.

One PaperCut server takes what is sent again; `dialects/papercut.md`, "What that means for delivery".
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from appliance.state_dir import LEDGER_NAME, signing_key
from storage.ledger import Ledger
from storage.records import Counts, Delivery, OutboxState, Personal, Record
from storage.verify import verify
from tests.peers.office import ADA, BO, Office, open_office
from tests.peers.waiting import eventually
from tests.unit.storage_samples import DAY, job

MANY, LATE = 10_000, 200
NOT_THERE = "restored from a backup of Monday"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with ExitStack() as endings:
        yield open_office(tmp_path_factory.mktemp("many"), endings)


def _job(number: int, device: str, card: str, at: int) -> Record:
    said: dict[str, Any] = {"personal": Personal(card=card), "counts": Counts("copy", 1), "order_key": f"card|{card}"}
    return job(number, at=at, key=f"{number}", dialect="terminal", device=device, **said)


def _put_in_doubt(state_dir: Path, count: int, card: str, at: int) -> None:
    book = Ledger.open(state_dir / LEDGER_NAME, at, signing_key(state_dir))
    last = book.head[0]
    book.commit([_job(last + number, "KM-1", card, at) for number in range(1, count + 1)])
    book.commit(
        [
            Delivery(at, seq, "hq", "unknown", OutboxState.IN_DOUBT, 1, "the line was cut", maybe_twice=True)
            for seq in range(last + 1, last + count + 1)
        ]
    )
    book.close()


def test_ten_thousand_in_doubt_are_decided_by_filters_each_with_an_entry(office: Office) -> None:
    shop, now = office.shop, time.time_ns() // 1_000_000
    shop.stop()
    _put_in_doubt(shop.state_dir, MANY, ADA, now - 3 * DAY)
    _put_in_doubt(shop.state_dir, LATE, BO, now)
    shop.start()
    shop.wait_until_proven()
    assert office.locum_json("status")["outbox"]["in_doubt"] == MANY + LATE
    before = time.strftime("%Y-%m-%d", time.gmtime(now / 1000 - 86_400))
    chosen = ("--before", before, "--time-zone", "UTC", "--upstream", "hq")

    unasked = shop.run_to_its_end("outbox", "resolve", *chosen, "--sent")
    assert unasked.returncode == 2, "nobody can be asked, and --yes is not there"
    assert f"Count as sent {MANY:,} records ({MANY:,} in doubt for hq; " in unasked.stderr
    assert office.locum_json("status")["outbox"]["in_doubt"] == MANY + LATE

    began = time.monotonic()
    said = office.locum("outbox", "resolve", *chosen, "--sent", "--yes", "--reason", NOT_THERE)
    assert said == f"{MANY:,} records count as sent.\n"
    assert time.monotonic() - began < 60
    (row,) = shop.query(
        "SELECT count(*) AS entries, count(DISTINCT record) AS records, min(who) AS first, max(who) AS last "
        "FROM deliveries WHERE outcome = 'resolved-sent' AND answer = ?",
        NOT_THERE,
    )
    assert (row["entries"], row["records"]) == (MANY, MANY)
    assert row["first"].startswith("root (uid 0")
    assert office.locum_json("status")["outbox"]["in_doubt"] == LATE

    said = office.locum("outbox", "resolve", "--all", "--resend", "--yes")
    assert said == f"{LATE} records are sent once more.\n"
    eventually(lambda: len(office.booked("KM-1")) == LATE, 30, "each of these is booked")
    shop.wait_until_drained()
    assert {each.user for each in office.booked("KM-1")} == {"bo"}
    assert verify(shop.state_dir / LEDGER_NAME).wrong is None


def test_refused_records_are_sent_again_or_dropped_by_filters(office: Office) -> None:
    shop, now = office.shop, time.time_ns() // 1_000_000
    shop.stop()
    book = Ledger.open(shop.state_dir / LEDGER_NAME, now, signing_key(shop.state_dir))
    first = book.head[0] + 1
    book.commit([_job(first + number, "KM-2", ADA, now) for number in range(1_200)])
    refused = [Delivery(now, first + n, "hq", "refused", OutboxState.REJECTED, 1, "no printer") for n in range(1_200)]
    book.commit(refused)
    book.close()
    shop.start()
    shop.wait_until_proven()
    assert office.locum("outbox", "drop", "--state", "in_doubt", "--reason", "x", "--yes") == "Dropped 0 records.\n"
    listed = office.locum_json("outbox", "list", "--upstream", "hq", "--state", "rejected", "--limit", "2000")
    assert len(listed) == 1_200
    ids = [row["id"] for row in listed[:100]]
    said = office.locum("outbox", "drop", *ids, "--reason", "test pages")
    assert said.splitlines() == [f"Dropped {each}." for each in ids]
    assert office.locum("outbox", "retry", "--all") == "1,100 records are sent once more.\n"
    notes = shop.query("SELECT data FROM notes WHERE json_extract(data, '$.did') = 'outbox retry' ORDER BY seq")
    named = [json.loads(row["data"]) for row in notes]
    assert [each["count"] for each in named] == [500, 500, 100]
    assert sum(len(each["records"].split()) for each in named) == 1_100, "each is named"
    shop.wait_until_drained(60)
    assert len(office.booked("KM-2")) == 1_100
