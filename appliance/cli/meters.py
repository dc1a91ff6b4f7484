"""`locum meters`: what the copiers' own page counters show, and how that goes with the ledger."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.table import Table

from appliance import meters as entering
from appliance.cli import tables
from appliance.cli.common import Failed, appliance_options, json_option
from appliance.cli.words import clean, count
from appliance.client import ClientError, ask
from appliance.ledger_access import change, zone_of
from appliance.ledger_deeds import COUNTERS, EVENTS, MOST_READINGS
from appliance.state_dir import LEDGER_NAME
from storage import outages, times
from storage.database import reading
from storage.errors import LedgerMissing, StorageError, translated
from storage.export.filters import WrongFilter, moment
from storage.reconciliation import DeviceGap, reconcile

MOST_MISTAKES = 20
MONTH = 30 * 24 * 3_600_000


def _zone(context: click.Context, parameter: click.Parameter, value: str | None) -> ZoneInfo:
    config = context.meta["locum.config"]
    return zone_of(config if config.exists() else None, value)


def zone_option(function: Any) -> Any:
    """Adds `--time-zone` as `zone`; the configuration that `-c` names is read for the default."""
    return click.option(
        "--time-zone", "zone", callback=_zone, metavar="ZONE", help="Zone of times, such as Europe/Berlin."
    )(function)


@click.group()
def meters() -> None:
    """Page meters of the copiers, read by SNMP or entered by hand, and the ledger beside them.

    Example: locum meters add KM-A4F-000123 total=120345 color=20110
    """


@meters.command()
@appliance_options
@zone_option
@click.option("--at", "taken_at", metavar="TIME", help="When it was read, such as 2026-11-23T14:05; default: now.")
@click.option("--event", type=click.Choice(EVENTS), default=EVENTS[0], show_default=True, help="What happened.")
@click.option("--remark", default="", metavar="TEXT", help="Anything to remember; no names of persons.")
@click.option("--new", is_flag=True, help="Also for a device that the ledger does not know.")
@click.argument("device")
@click.argument("counters", nargs=-1, required=True, metavar="COUNTER=VALUE...")
def add(
    state_dir: Path,
    zone: ZoneInfo,
    taken_at: str | None,
    event: str,
    remark: str,
    new: bool,
    device: str,
    counters: tuple[str, ...],
) -> None:
    """Enter what the counters of a device show: total, color, mono, copy, print, scan, fax.

    Say `--event reset` or `--event exchange` with the first values after a counter was reset or the machine exchanged.
    A value that was mistyped is entered once more: with the same `--at`, and a `--remark` that says why.

    Example: locum meters add KM-A4F-000123 total=120345 color=20110
    """
    now = _now()
    try:
        at = entering.time_of(taken_at, zone) if taken_at else now
        readings = [_given(device, each, at, event, remark) for each in counters]
    except entering.WrongReading as error:
        raise click.UsageError(str(error)) from error
    _enter(state_dir, readings, now, "by-hand", new, correct=bool(remark.strip()))


@meters.command("import")
@appliance_options
@zone_option
@click.option("--new", is_flag=True, help="Also for devices that the ledger does not know.")
@click.argument("file", type=click.Path(path_type=Path))
def import_(state_dir: Path, zone: ZoneInfo, new: bool, file: Path) -> None:
    """Enter a technician's sheet (CSV): device,taken_at,counter,value or device,taken_at,total,color,...

    All of it is entered, or with a mistake in it nothing. What the ledger has already is not entered twice.

    Example: locum meters import readings.csv
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        raise Failed(f"{file}: cannot be read ({error.strerror})", 2) from error
    except UnicodeDecodeError as error:
        raise Failed(f"{file}: is no text in UTF-8; save it as 'CSV UTF-8'", 2) from error
    try:
        readings = entering.sheet(text, zone)
    except entering.WrongReading as error:
        raise _mistakes(error, f"{file}: ") from error
    _enter(state_dir, readings, _now(), "csv", new, f"{file}: ")


@meters.command("list")
@appliance_options
@zone_option
@json_option
@click.argument("device", required=False)
def list_readings(state_dir: Path, zone: ZoneInfo, as_json: bool, device: str | None) -> None:
    """List the readings, with what each counter went up since the one before. JSON has times in UTC.

    Example: locum meters list KM-A4F-000123
    """
    with _ledger(state_dir) as connection:
        connection.row_factory = sqlite3.Row
        rows = [
            dict(row) for row in connection.execute("SELECT * FROM readings WHERE ?1 IS NULL OR device = ?1", (device,))
        ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("No meter was read yet; enter one with: locum meters add DEVICE total=VALUE")
    else:
        names = ("device", "counter", "taken_at", "value", "since_before", "event", "source", "remark")
        for row in rows:
            row["taken_at"] = _local(times.milliseconds(row["taken_at"]), zone)
        tables.show(_table(names, [[_cell(row[name]) for name in names] for row in rows]))


@meters.command("now")
@appliance_options
@zone_option
@json_option
def now_(state_dir: Path, zone: ZoneInfo, as_json: bool) -> None:
    """Show what the meters that Locum reads by SNMP showed last: model, counters, and what is wrong.

    Example: locum meters now
    """
    try:
        found = ask(state_dir, "meters-read")
    except ClientError as error:
        raise Failed(str(error)) from error
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo('No meter is read by SNMP; give a [[device]] snmp = { address = "10.7.0.31" } in the configuration.')
    else:
        names = ("device", "model", "serial", "read_at", *COUNTERS, "trouble")
        for row in found:
            row["read_at"] = _local(row["read_at"], zone) if row["read_at"] else None
            row.update({name: row["meters"].get(name) for name in COUNTERS})
        tables.show(_table(names, [[_cell(row[name]) for name in names] for row in found], figures=COUNTERS))


@meters.command("reconcile")
@appliance_options
@zone_option
@json_option
@click.option("--from", "first", metavar="DATE", help="From this day or time on; default: 30 days back.")
@click.option("--to", "last", metavar="DATE", help="Up to this day or time; default: now.")
@click.option(
    "--outage",
    is_flag=False,
    flag_value=outages.LAST,
    metavar="[NAME]",
    help="The time of an outage: when it started; without a name the last one.",
)
@click.argument("device", required=False)
def reconcile_(
    state_dir: Path,
    zone: ZoneInfo,
    as_json: bool,
    first: str | None,
    last: str | None,
    outage: str | None,
    device: str | None,
) -> None:
    """Compare the meters with the ledger, by device and counter.

    A gap above zero: the device made pages that the ledger does not have. Of an outage the readings next around it
    count, if there are not two within it.

    Example: locum meters reconcile --from 2026-11-01 --to 2026-11-30
    """
    if outage is not None and (first or last):
        raise click.UsageError("give --outage, or --from and --to")
    try:
        end = moment(last, zone, end=True) if last else _now()
        start = moment(first, zone) if first else end - MONTH
    except WrongFilter as error:
        raise click.UsageError(str(error)) from error
    with _ledger(state_dir) as connection:
        if outage is not None:
            start, end = _time_of(outages.named(connection, outage), _now())
            if not as_json:
                click.echo(f"The outage of {_local(start, zone)} to {_local(end, zone)}:", err=True)
        found = reconcile(connection, start, end, device)
    if as_json:
        click.echo(json.dumps([_as_json(each) for each in found], indent=2))
    elif not found:
        click.echo("No counter was read twice; enter readings with: locum meters add DEVICE total=VALUE")
    else:
        names = ("device", "counter", "from", "to", "meter", "ledger", "gap", "of the meter", "remarks")
        tables.show(_table(names, [_cells(each, zone) for each in found]))


def _time_of(found: list[outages.Outage], now: int) -> tuple[int, int]:
    """From the first failed contact until contact was back (ms): of each upstream that it struck."""
    ends = [times.milliseconds(each.recovered) if each.recovered else now for each in found]
    return times.milliseconds(found[0].started), max(ends)


def _given(device: str, text: str, at: int, event: str, remark: str) -> entering.Reading:
    counter, equals, value = text.partition("=")
    if not equals:
        raise entering.WrongReading(f"{text!r} is no COUNTER=VALUE, such as total=120345")
    return entering.Reading(
        device, entering.counter_of(counter), entering.value_of(value), at, entering.event_of(event), remark
    )


def _enter(
    state_dir: Path,
    readings: list[entering.Reading],
    now: int,
    source: str,
    new: bool,
    where: str = "",
    correct: bool = False,
) -> None:
    if len(readings) > MOST_READINGS:
        raise Failed(f"{where}{len(readings):,} readings; at most {MOST_READINGS:,} at once: split the sheet", 2)
    with _ledger(state_dir) as connection:
        try:
            fresh = entering.fresh(connection, readings, now, new=new, correct=correct)
        except entering.WrongReading as error:
            raise _mistakes(error, where) from error
    if fresh:
        change(state_dir, "meters-add", readings=[each.asked(source) for each in fresh])
    known = len(readings) - len(fresh)
    click.echo(f"{count(len(fresh), 'reading')} entered." + (f" The ledger had {known:,} already." if known else ""))


def _mistakes(error: entering.WrongReading, where: str) -> Failed:
    if len(error.lines) == 1:
        return Failed(f"{where}{error.lines[0]}; nothing was entered")
    for line in error.lines[:MOST_MISTAKES]:
        click.echo(f"{where}{line}", err=True)
    return Failed(f"{where}{len(error.lines)} mistakes; nothing was entered")


@contextmanager
def _ledger(state_dir: Path) -> Iterator[sqlite3.Connection]:
    path = state_dir / LEDGER_NAME
    try:
        with reading(path) as connection:
            yield connection
    except sqlite3.Error as error:
        raise Failed(str(translated(error, path))) from error
    except StorageError as error:
        raise Failed(str(error), 2 if isinstance(error, LedgerMissing) else 1) from error


def _as_json(gap: DeviceGap) -> dict[str, Any]:
    given = asdict(gap)
    for name in ("first_reading", "last_reading"):
        given[name] = _reading(getattr(gap, name))
    given["segments"] = [
        {"start": _reading(each.start), "end": _reading(each.end), "meter": each.meter, "ledger": each.ledger}
        for each in gap.segments
    ]
    return given


def _reading(taken: tuple[int, int]) -> dict[str, Any]:
    value, at = taken
    return {"value": value, "taken_at": times.text(at)}


def _cells(gap: DeviceGap, zone: ZoneInfo) -> list[str]:
    percent = "-" if gap.percent is None else f"{gap.percent:+.1f} %"
    ends = (gap.first_reading, gap.last_reading)
    spans = [_local(each.at, zone) for each in ends]
    figures = [f"{gap.meter:,}", f"{gap.ledger:,}", f"{gap.gap:+,}", percent]
    return [clean(gap.device), gap.counter, *spans, *figures, clean("; ".join(gap.remarks))]


def _local(at: int, zone: ZoneInfo) -> str:
    return f"{datetime.fromtimestamp(at / 1000, zone):%Y-%m-%d %H:%M}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else clean(value)


def _table(names: tuple[str, ...], rows: list[list[str]], figures: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        figure = name in ("value", "since_before", "meter", "ledger", "gap", "of the meter", *figures)
        table.add_column(name.replace("_", " "), justify="right" if figure else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _now() -> int:
    return time.time_ns() // 1_000_000
