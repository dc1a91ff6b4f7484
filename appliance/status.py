"""What `locum status` and `locum devices` say, as plain values: read from the flows and from the ledger, changing
nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.assembly import Assembly
from appliance.keeper import Keeper
from appliance.outbox_deeds import row_of
from proxy.dialects.cardreader.listener import ReaderListener
from proxy.upstream import Upstream
from storage import signed
from storage.checkpoints import Checkpoint
from storage.outbox import Outbox, OutboxCounts
from storage.reader import Reader


def instant(milliseconds: int | None) -> str | None:
    """Milliseconds UTC as ISO 8601, or None."""
    if not milliseconds:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class StatusBoard:
    """Answers the questions of `locum status`, `locum devices` and `locum outbox show`."""

    def __init__(
        self,
        assembly: Assembly,
        connection: sqlite3.Connection,
        ledger: Path,
        keeper: Keeper,
        losses: Callable[[], dict[str, int]],
    ) -> None:
        self._losses = losses
        self._assembly = assembly
        self._connection = connection
        self._outbox = Outbox(connection)
        self._reader = Reader(ledger, connection)
        self._keeper = keeper
        self.management: Callable[[], dict[str, Any]] = dict
        """What the SNMP proxy and the trap store have to show, by key."""

    def status(self) -> dict[str, Any]:
        """The object of `locum status --json`."""
        assembly, figures = self._assembly, self._reader.figures()
        space = self._keeper.space
        return {
            "name": assembly.config.name,
            "version": __version__,
            "upstreams": [self._upstream(flow) for flow in assembly.upstreams.values()],
            "devices": [
                {key: device[key] for key in ("id", "upstream", "offline", "drill", "sessions")}
                for device in self.devices()
            ],
            "drills": [
                {"device": name, "until": instant(drill.until), "reason": drill.reason}
                for name, drill in assembly.site.drills.running().items()
            ],
            "readers": self._readers(),
            "meters": self._meters(),
            **self.management(),
            "unlock_code": bool(assembly.site.unlocking.hash),
            "outbox": _counts(self._outbox.counts()),
            "last_outage": self._reader.last_outage(),
            "ledger": {**asdict(figures), "signed": _signed(signed.newest(self._connection))},
            "storage": {
                "error": self._keeper.error or None,
                "free_bytes": space.free if space else None,
                "total_bytes": space.total if space else None,
                "level": space.level.name.lower() if space else None,
            },
            "dropped": {**assembly.tally.counts, **self._losses()},
        }

    def devices(self) -> list[dict[str, Any]]:
        """A row for each device that was ever heard."""
        rows, site = [], self._assembly.site
        for name, seen in sorted(site.seen.items()):
            flow = self._assembly.upstreams.get(seen.upstream)
            rows.append(
                {
                    "id": name,
                    "address": seen.client,
                    "upstream": seen.upstream,
                    "dialect": seen.dialect,
                    "last_seen": instant(seen.heard),
                    "offline": site.shown(name, flow) if flow else "online",
                    "drill": site.drills.on(name),
                    "sessions": site.sessions.count(name),
                }
            )
        return rows

    def outbox_detail(self, seq: int) -> dict[str, Any]:
        """The object of `locum outbox show`; LookupError if the record has left meanwhile."""
        detail = self._outbox.show(seq)
        if detail is None:
            raise LookupError(seq)
        facts = detail.facts
        return {
            **row_of(detail.row),
            "dialect": detail.dialect,
            "order_key": detail.order_key,
            "first_try": instant(detail.row.first_try),
            "job": {**asdict(facts), "started_at": instant(facts.started_at), "ended_at": instant(facts.ended_at)},
            "corrections": dict(detail.corrections),
            "evidence": _readable(detail.evidence),
            "deliveries": [{**asdict(each), "at": instant(each.at)} for each in detail.tries],
        }

    def _readers(self) -> list[dict[str, Any]]:
        """A row for each card reader: whether the two ends of its line are connected, and who serves it."""
        flows = (listening.flow for listening in self._assembly.listeners.values())
        readers = sorted((flow for flow in flows if isinstance(flow, ReaderListener)), key=lambda flow: flow.device)
        return [
            {
                "device": flow.device,
                "reader": flow.connected[0],
                "server": flow.connected[1],
                "served_by": "locum" if flow.locum_serves else "server",
            }
            for flow in readers
        ]

    def _meters(self) -> list[dict[str, Any]]:
        """A row for each copier whose meters are read: when last, and what is wrong."""
        return [
            {
                "device": row["device"],
                "read_at": instant(row["read_at"]),
                "in_session": row["in_session"],
                "kind": row["kind"] or None,
                "trouble": row["trouble"] or None,
            }
            for row in self._assembly.metering.shown()
        ]

    def _upstream(self, flow: Upstream) -> dict[str, Any]:
        link = flow.link
        return {
            "name": flow.name,
            "dialect": flow.dialect,
            "state": link.state.value,
            "proven": link.proven,
            "since": instant(link.since_wall),
            "cause": link.cause,
            "outage_started": instant(link.outage_wall),
            "trouble": flow.trouble or None,
            "codes_refused": self._assembly.site.unlocking.codes_refused(flow.name),
            **flow.details(),
            "outbox": _counts(self._outbox.counts(flow.name)),
        }


def _readable(evidence: Any) -> Any:
    """Evidence with its times as texts."""
    if not isinstance(evidence, dict) or not isinstance(evidence.get("read_at"), int):
        return evidence
    return {**evidence, "read_at": instant(evidence["read_at"])}


def _signed(newest: Checkpoint | None) -> dict[str, Any] | None:
    """How far the ledger is signed; None if no checkpoint signs anything."""
    said = newest.said() if newest is not None else None
    if newest is None or said is None:
        return None
    return {"seq": said.seq, "time": said.time, "number": newest.number}


def _counts(counts: OutboxCounts) -> dict[str, Any]:
    return {**asdict(counts), "oldest": instant(counts.oldest)}
