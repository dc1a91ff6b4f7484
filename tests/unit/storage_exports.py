"""A small ledger for the tests of exports: a day with an outage, awkward texts, and a person in every place that has
one.
"""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

from storage.answers import Stored
from storage.export.filters import ALL, Filters
from storage.export.making import Exported, Wish, export
from storage.ledger import Ledger
from storage.records import (
    AppLogLine,
    Counts,
    Delivery,
    DrillStep,
    Logout,
    MeterReading,
    Note,
    OutboxState,
    Personal,
    Quarantined,
    Retry,
    Sign,
    Take,
    UnlockStep,
)
from storage.signing import Signer
from tests.unit.storage_samples import DAY, NOW, job, login, mark, offline_login, step

BERLIN = ZoneInfo("Europe/Berlin")
CARD, USER, DOCUMENT, ACCOUNT = "C0FFEE77", "zoe.quint", '=HYPERLINK("http://x")', "Fakultät 7"
OTHER_CARD, OTHER_DEVICE = "BEEF0042", "KM-B"
SECRETS = (CARD, CARD.lower(), USER, "HYPERLINK", ACCOUNT)
"""What a pseudonymised export must not hold anywhere."""
SOMEBODY = Personal(CARD, USER, DOCUMENT, ACCOUNT, b"\x04" + CARD.encode() + b"\x00" + USER.encode())
AWKWARD = "<script>alert(1)</script>\x01\ttab\nline \N{SNOWMAN}"


def ledger(path: Path, signer: Signer | None = None) -> Path:
    """Make it: entries of two days, the second with an outage in which two cards made jobs; all is signed."""
    opened = Ledger.open(path, NOW, signer or Signer.new())
    day = NOW + DAY
    opened.commit(
        [
            Note(NOW, "start", {"version": "1"}),
            login(CARD, at=NOW, personal=SOMEBODY),
            job(1, at=NOW + 1, personal=SOMEBODY, counts=Counts("copy", 12, 2, 6, 1, True, "A4")),
            mark("start", at=NOW + 2, key="m", personal=Personal(card=OTHER_CARD), device=OTHER_DEVICE),
            AppLogLine(NOW + 3, "warning", "@late", {"device": OTHER_DEVICE}, Personal(card=CARD)),
            Quarantined(NOW + 4, "radius", OTHER_DEVICE, "10.7.9.9", "too-short", CARD.encode()),
            Sign(NOW + 5),
        ]
    )
    opened.commit(
        [
            step("failed", "grace", at=day, outage=day),
            step("offline", "offline", at=day + 1, outage=day),
            UnlockStep(day + 2, OTHER_DEVICE, "hq", "unlocked", "once", "-", ""),
            offline_login("ab" * 16, at=day + 3, personal=Personal(card=OTHER_CARD), device=OTHER_DEVICE),
        ]
    )
    second, third = (
        each.seq
        for each in opened.commit(
            [
                job(2, at=day + 4, personal=Personal(OTHER_CARD, document=AWKWARD), device=OTHER_DEVICE),
                job(3, at=day + 5, personal=SOMEBODY, order_key=CARD),
            ]
        )
        if isinstance(each, Stored)
    )
    opened.commit(
        [
            Logout(day + 6, OTHER_DEVICE, "ab" * 16, "stop"),
            step("recovered", "recovering", at=day + 10, outage=day),
            Take(day + 11, "hq", (third,), evidence=((third, f'{{"user":"{USER}"}}'),)),
            Delivery(day + 12, second, "hq", "delivered", None, 1, user="nobody-known", unknown_card=True),
            Delivery(day + 13, third, "hq", "refused", OutboxState.REJECTED, 1, "no such printer", USER),
        ]
    )
    opened.commit([Retry(day + 14, (third,), "root (0)", (("user", USER), ("printer", "Library")))])
    opened.commit(
        [
            DrillStep(day + 15, "*", "start", day + 3_600_000, "yearly", "root (0)"),
            MeterReading(day + 16, OTHER_DEVICE, "total", 4711, day, remark="-5 of them spoilt"),
            Note(day + 17, "config", {"sha256": "00"}, "root (0)"),
            Sign(day + 18),
        ]
    )
    opened.close()
    return path


def wish(source: Path, target: Path, format: str, filters: Filters = ALL, **more: object) -> Wish:
    """To export a ledger, a week later."""
    given = {"now": NOW + 7 * DAY, "version": "0.0.0", "zone": BERLIN, **more}
    return Wish(source, target, format, filters=filters, **given)  # type: ignore[arg-type]


def exported(source: Path, target: Path, format: str, filters: Filters = ALL, **more: object) -> Exported:
    """An export that is made."""
    return export(wish(source, target, format, filters, **more), lambda what, done, of: None)
