"""The copiers' own page meters against the ledger, as `storage.reconciliation` works it out for the period."""

from __future__ import annotations

from dataclasses import dataclass

from storage.reconciliation import reconcile
from storage.summary.scope import Source


@dataclass(frozen=True, slots=True)
class Gap:
    """One counter of one device between its first and its last reading (ms). `gap`: meter less ledger, in pages;
    `percent`: of the meter, None where that counted nothing.
    """

    device: str
    counter: str
    first: int
    last: int
    meter: int
    ledger: int
    gap: int
    percent: float | None
    remarks: tuple[str, ...] = ()


def gaps(source: Source) -> list[Gap]:
    """The largest first; none where no meters were read. Raises sqlite3.Error."""
    scope = source.scope
    found = [
        Gap(
            each.device,
            each.counter,
            each.first_reading.at,
            each.last_reading.at,
            each.meter,
            each.ledger,
            each.gap,
            each.percent,
            each.remarks,
        )
        for each in reconcile(source.connection, scope.first, scope.last)
        if not scope.devices or each.device in scope.devices
    ]
    return sorted(found, key=lambda each: (-abs(each.gap), each.device, each.counter))
