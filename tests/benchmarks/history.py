"""A ledger as months at two hundred copiers leave it, made quickly and the same each time but for ids and salts.

People log in, print and copy; every few days the server is away, cards are let in by Locum and their jobs wait until
it is back. A few cards are unknown, a few records are refused, each month a technician reads the meters. It ends in
an outage, so that something waits.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from storage.answers import Stored
from storage.ledger import Ledger
from storage.records import (
    AppLogLine,
    Counts,
    Delivery,
    DeviceSeen,
    DrillStep,
    Keepable,
    Login,
    Logout,
    MeterReading,
    Mode,
    Note,
    OutageStep,
    OutboxState,
    Personal,
    Quarantined,
    Record,
    Sign,
    UnlockStep,
)
from storage.signing import Signer

END = 1_795_302_000_000  # 2026-11-21T23:00:00Z
DEVICES, CARDS = 200, 3_000
ENTRIES_A_DAY = 2_750
_DAY, _MINUTE = 86_400_000, 60_000
_BATCH = 1_000
_VISITS_BETWEEN_OUTAGES = 2_500
_ENTRIES_A_VISIT = 6.2
_NAMES = ("ada", "béla", "chloé", "dmitri", "emre", "frida", "günther", "hana", "ines", "jörg", "kofi", "łukasz")
_DOCUMENTS = (
    "Leaflet",
    "Jahresbericht 2026.pdf",
    "=1+1.xlsx",
    "Prüfungsamt: Bescheid",
    "日本語.docx",
    "notes.txt",
    "a|b,c;d",
)
_HQ = "hq"


def entries_wanted() -> int:
    """How long a ledger the benchmarks make: a million entries, or LOCUM_BENCH_ENTRIES."""
    return int(os.environ.get("LOCUM_BENCH_ENTRIES", "1000000"))


def make(path: Path, entries: int, signer: Signer | None = None, seed: int = 1, days: int | None = None) -> None:
    """Make a ledger of exactly so many entries at `path`, where none is yet; the last of them is of 2026-11-21.

    `days` spreads them over so many days; without it a day has about 2,750.
    """
    office = _Office(random.Random(seed), days or max(1, round(entries / ENTRIES_A_DAY)))
    ledger = Ledger.open(path, office.now, signer)
    try:
        while (left := entries - ledger.head[0]) > 0:
            office.expect(left, ends_soon=left < min(400, entries // 10))
            batch = office.some(min(_BATCH, max(50, left // 4)))[:left]
            office.learn(batch, ledger.commit(batch))
        ledger.commit([Sign(office.now)])
    finally:
        ledger.close()


class _Office:
    """What happens, in order. `now`: ms, of the last thing that happened."""

    def __init__(self, chance: random.Random, days: int) -> None:
        self._chance = chance
        self.now = END - days * _DAY
        self._ends_soon = False
        self._pause = 0.0
        self._pages: dict[str, list[int]] = {
            f"KM-A4F-{number:06d}": [chance.randrange(10_000, 900_000), chance.randrange(1_000, 9_000)]
            for number in range(1, DEVICES + 1)
        }
        self._devices = list(self._pages)
        self._cards = [f"04{sha256(b'%d' % number).hexdigest()[:8].upper()}" for number in range(CARDS)]
        self._owners = {card: f"{_NAMES[place % len(_NAMES)]}{place}" for place, card in enumerate(self._cards)}
        self._visits = 0
        self._month = ""
        self._outage = 0
        self._back_after = 0
        self._handed: deque[tuple[int, Record]] = deque()
        self._todo: list[Keepable] = [Note(self.now, "start", {"version": "0.1.0", "in_flight": 0})]

    def expect(self, left: int, ends_soon: bool) -> None:
        """So many entries are still to come: they fill the time that is left."""
        self._ends_soon = ends_soon
        self._pause = max(1.0, (END - self.now) * _ENTRIES_A_VISIT / left)

    def some(self, count: int) -> list[Keepable]:
        """About so many things that happened next."""
        things, self._todo = self._todo, []
        if not self._outage:
            things += self._deliveries()
        while len(things) < count:
            things += self._visit()
        return things

    def learn(self, batch: list[Keepable], results: Sequence[object]) -> None:
        """Remember under which numbers the records of a batch were kept."""
        for item, result in zip(batch, results, strict=True):
            if type(item) is Record and type(result) is Stored:
                self._handed.append((result.seq, item))

    def _deliveries(self) -> list[Keepable]:
        made = [self._delivery(seq, record) for seq, record in self._handed]
        self._handed.clear()
        return made

    def _delivery(self, seq: int, record: Record) -> Keepable:
        luck = self._chance.random()
        card = record.personal.card
        if luck < 0.002:
            return Delivery(self.now, seq, _HQ, "refused", OutboxState.REJECTED, 3, "no printer of that name")
        if card not in self._owners:
            return Delivery(self.now, seq, _HQ, "delivered", None, 1, user="unknown", unknown_card=True)
        return Delivery(self.now, seq, _HQ, "delivered", None, 1, user=self._owners[card], maybe_twice=luck > 0.995)

    def _visit(self) -> list[Keepable]:
        self._visits += 1
        self._go_on()
        things = self._around()
        device = self._chance.choice(self._devices)
        client = f"10.7.{self._devices.index(device) // 100}.{self._devices.index(device) % 100 + 1}"
        stranger = self._chance.random() < (0.03 if self._outage else 0.01)
        card = f"FFEE{self._chance.randrange(40):04d}" if stranger else self._card()
        offline = bool(self._outage)
        granted = offline or not stranger
        mark = self._chance.randbytes(16).hex() if offline else ""
        mode = Mode.OFFLINE if offline else Mode.ONLINE
        things.append(
            Login(
                at=self.now,
                dialect="radius",
                upstream=_HQ,
                device=device,
                client=client,
                method="card",
                outcome="granted" if granted else "refused",
                decided_by="locum" if offline else "server",
                reason="" if granted else "no such card",
                mode=mode,
                personal=Personal(card=card, user="" if offline or stranger else self._owners[card]),
                session=mark,
                expires_at=self.now + 60 * _MINUTE if offline else None,
                teaches=not offline,
            )
        )
        if granted:
            session = f"{self._visits:08x}"
            things.append(self._record(device, client, card, session, mode, None))
            for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
                things.append(self._record(device, client, card, session, mode, self._counts(device)))
        if offline:
            things.append(Logout(self.now, device, mark, "stop"))
        return things

    def _go_on(self) -> None:
        self.now = min(END - 1, self.now + int(self._chance.expovariate(1 / self._pause)) + 1)

    def _card(self) -> str:
        return self._cards[int(CARDS * self._chance.random() ** 2)]

    def _counts(self, device: str) -> Counts:
        pages = min(400, int(self._chance.expovariate(1 / 9)) + 1)
        color = self._chance.choice((0, 0, pages, pages // 2))
        kind = self._chance.choice(("copy", "print", "print", "print", "scan", "fax"))
        if kind != "scan":
            self._pages[device][0] += pages
            self._pages[device][1] += color
        return Counts(kind, pages, color, (pages + 1) // 2, 1, self._chance.random() < 0.5, "A4")

    def _record(self, device: str, client: str, card: str, session: str, mode: Mode, counts: Counts | None) -> Record:
        number = self._chance.randbytes(8)
        document = self._chance.choice(_DOCUMENTS) if counts is not None and counts.kind == "print" else ""
        return Record(
            at=self.now,
            dialect="radius",
            upstream=_HQ,
            device=device,
            client=client,
            event="start" if counts is None else "stop",
            session=session,
            mode=mode,
            order_key=f"{device}/{session}",
            personal=Personal(card=card, document=document, raw=b"\x04" + number + self._chance.randbytes(90)),
            job_number="" if counts is None else str(int.from_bytes(number[:4], "big")),
            counts=counts,
            started_at=self.now - 30_000,
            ended_at=None if counts is None else self.now,
            repeat_scope=client,
            repeat_keys=(number,),
            outbox=OutboxState.WAITING if self._outage else OutboxState.SENT,
        )

    def _around(self) -> list[Keepable]:
        """What happens beside the visits."""
        things: list[Keepable] = []
        if self._outage and self.now >= self._back_after and not self._ends_soon:
            things += self._server_is_back()
        elif not self._outage and (self._ends_soon or self._visits % _VISITS_BETWEEN_OUTAGES == 400):
            things += self._server_goes()
        luck = self._chance.random()
        device = self._chance.choice(self._devices)
        if luck < 0.004:
            things.append(DeviceSeen(self.now, device, "10.7.0.1", "radius", _HQ))
        elif luck < 0.008:
            things.append(
                AppLogLine(
                    self.now, "warning", "the server has no such card", {"device": device}, Personal(card=self._card())
                )
            )
        elif luck < 0.009:
            things.append(Quarantined(self.now, "radius", device, "10.7.9.9", "too-short", self._chance.randbytes(30)))
        elif luck < 0.010:
            things.append(Note(self.now, "config", {"sha256": self._chance.randbytes(32).hex()}, "root (0)"))
        elif luck < 0.0105:
            things.append(DrillStep(self.now, device, "start", self.now + 30 * _MINUTE, "the yearly one", "root (0)"))
            things.append(DrillStep(self.now + _MINUTE, device, "stop", 0, "", "root (0)"))
        return [*things, *self._readings()]

    def _readings(self) -> Sequence[Keepable]:
        month = str(self.now // (30 * _DAY))
        if month == self._month:
            return []
        self._month = month
        return [
            MeterReading(self.now, device, counter, value, self.now - 5 * _MINUTE, source="csv", who="technician")
            for device, (total, color) in self._pages.items()
            for counter, value in (("total", total), ("color", color))
        ][: 40 if self._visits < 50 else None]

    def _server_goes(self) -> list[Keepable]:
        self._outage = self.now
        self._back_after = self.now + self._chance.randrange(15, 150) * _MINUTE
        device = self._chance.choice(self._devices)
        return [
            self._step("failed", "grace"),
            self._step("offline", "offline"),
            AppLogLine(self.now, "error", "hq does not answer", {"upstream": _HQ}),
            UnlockStep(self.now, device, _HQ, "wrong-code"),
            UnlockStep(self.now, device, _HQ, "unlocked", "once"),
        ]

    def _server_is_back(self) -> list[Keepable]:
        recovered = self._step("recovered", "recovering")
        deliveries = self._deliveries()
        drained = self._step("drained", "online")
        self._outage = 0
        return [recovered, *deliveries, drained]

    def _step(self, step: str, state: str) -> OutageStep:
        return OutageStep(
            self.now, _HQ, self._outage, step, state, "no answer in 3 s", "boot-1", self.now - END + _DAY * 500
        )
