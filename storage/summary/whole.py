"""The whole summary of a period: every question of this package, asked of one copy in one go."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from storage import times
from storage.export.pseudonyms import Pseudonyms
from storage.summary import hands, meters, outages, records, volume
from storage.summary.scope import Scope, Source


@dataclass(frozen=True, slots=True)
class Logins:
    """Logins of the period: by the server, by Locum (in drills too), refused by either, and those that nobody
    decided.
    """

    by_server: int
    by_locum: int
    refused: int
    undecided: int


@dataclass(frozen=True, slots=True)
class Summary:
    """`began` and `until`: ms of the first and of the newest entry of the copy. `about_copy`: what an export,
    a backup or an archive says of itself; empty for a ledger. `pseudonyms`: people are not named.
    """

    scope: Scope
    began: int
    until: int
    about_copy: dict[str, str]
    pseudonyms: bool
    logins: Logins
    pages: volume.Pages
    devices: volume.Volumes
    users: volume.Volumes
    unknown_cards: tuple[volume.UnknownCard, ...]
    outages: tuple[outages.Outage, ...]
    fates: records.Fates
    open: tuple[records.Open, ...]
    gaps: tuple[meters.Gap, ...]
    unlocks: hands.Unlocks
    drills: tuple[hands.Drill, ...]
    by_hand: hands.Deeds
    troubles: hands.Troubles


def summarise(connection: sqlite3.Connection, scope: Scope, pseudonyms: Pseudonyms | None) -> Summary:
    """Ask everything; `connection` is to a private copy, which is changed. Raises sqlite3.Error."""
    began, until = (
        times.milliseconds(row[0]) if row is not None else scope.last
        for row in (
            connection.execute(f"SELECT recorded_at FROM entries ORDER BY seq {way} LIMIT 1").fetchone()
            for way in ("ASC", "DESC")
        )
    )
    source = Source(connection, scope, pseudonyms)
    return Summary(
        scope=scope,
        began=began,
        until=until,
        about_copy=source.about_copy,
        pseudonyms=source.has_pseudonyms,
        logins=_logins(source),
        pages=volume.pages(source),
        devices=volume.by_device(source),
        users=volume.by_user(source),
        unknown_cards=tuple(volume.unknown_cards(source)),
        outages=tuple(outages.outages(source, until)),
        fates=records.fates(source),
        open=tuple(records.still_open(source)),
        gaps=tuple(meters.gaps(source)),
        unlocks=hands.unlocks(source),
        drills=tuple(hands.drills(source)),
        by_hand=hands.by_hand(source),
        troubles=hands.troubles(source),
    )


def _logins(source: Source) -> Logins:
    row = source.connection.execute(
        f"""SELECT count(*) FILTER (WHERE outcome = 'granted' AND decided_by = 'server'),
        count(*) FILTER (WHERE outcome = 'granted' AND decided_by = 'locum'),
        count(*) FILTER (WHERE outcome IN ('refused', 'locked')),
        count(*) FILTER (WHERE outcome IN ('unavailable', 'unanswered'))
        FROM logins WHERE at BETWEEN ? AND ? AND late = 0 AND {source.of_devices()}""",
        source.period,
    ).fetchone()
    return Logins(*row)
