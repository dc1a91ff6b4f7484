"""`locum ledger export`: the ledger as a file for an auditor, in one of five formats, while the appliance works."""

import json
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from appliance import __version__
from appliance.cli.common import MOST_NAMES, Failed
from appliance.cli.ledger_common import NamedFile, in_one_line, where_options
from appliance.cli.progress import Progress, interruptible, progress
from appliance.cli.words import count
from appliance.config import state_dir_of
from appliance.ledger_access import change, zone_of
from appliance.state_dir import KEY_NAME, LEDGER_NAME
from storage.export import making
from storage.export.filters import Filters, WrongFilter, moment
from storage.export.making import Exported, Wish


@click.command()
@click.option("--format", "format_", type=click.Choice(making.FORMATS), required=True, help="What to make.")
@click.option("--from", "first", metavar="T", help="From this day or time on: 2026-11-01, 2026-11-01T08:00.")
@click.option("--to", "last", metavar="T", help="Up to and with this day or time.")
@click.option("--device", "devices", multiple=True, metavar="DEVICE", help="Only of this device; may be given again.")
@click.option("--card", "cards", multiple=True, metavar="CARD", help="Only of this card; may be given again.")
@click.option("--outage", default="", metavar="NAME", help="Only of this outage: when it started, or: last.")
@click.option("--pseudonymise", is_flag=True, help="Pseudonyms for cards, users, documents, accounts; no wire bytes.")
@click.option("--time-zone", metavar="ZONE", help="Zone of local times, such as Europe/Berlin.")
@where_options
@click.option("--ledger", type=click.Path(path_type=Path), metavar="FILE", help="Export this file, of no appliance.")
@click.option("--force", is_flag=True, help="Replace an export that is there.")
@click.argument("target", metavar="DEST", type=NamedFile())
def export(
    format_: str,
    first: str | None,
    last: str | None,
    devices: tuple[str, ...],
    cards: tuple[str, ...],
    outage: str,
    pseudonymise: bool,
    time_zone: str | None,
    config: Path,
    state_dir: Path | None,
    ledger: Path | None,
    force: bool,
    target: Path,
) -> None:
    """Export the ledger to DEST, signed, with a manifest; the appliance may run meanwhile.

    Filters that are given together must all hold. It is said if the chain does not hold; the whole proof is checked by
    `locum ledger verify` only. With --ledger a copy, a backup, an archive or an export is read, and nothing is signed
    or noted anywhere.

    Example: locum ledger export --format xlsx --from 2026-11-01 --to 2026-11-30 november.xlsx
    """
    zone = zone_of(config if config.exists() else None, time_zone)
    home: Path | None = None
    if ledger is None:
        home = (state_dir or state_dir_of(config)).absolute()
        source = home / LEDGER_NAME
    elif ledger.is_file():
        source = ledger.absolute()
    else:
        raise Failed(f"{ledger}: there is no such file; name a ledger, a backup, an archive or an export", 2)
    wish = Wish(
        source=source,
        target=target.absolute(),
        format=format_,
        now=time.time_ns() // 1_000_000,
        version=__version__,
        zone=zone,
        filters=_filters(first, last, devices, cards, outage, zone),
        pseudonymise=pseudonymise,
        force=force,
        state_dir=source.parent if home is not None or (source.parent / KEY_NAME).exists() else None,
    )
    try:
        with in_one_line(source), interruptible(), progress() as bar:
            making.refuse(wish)
            exported = _signed_and_noted(home, wish, bar) if home is not None else making.export(wish, bar)
    except KeyboardInterrupt:
        raise Failed(f"{target}: interrupted; nothing is left of the export") from None
    _say(wish, exported)


def _filters(
    first: str | None, last: str | None, devices: tuple[str, ...], cards: tuple[str, ...], outage: str, zone: ZoneInfo
) -> Filters:
    try:
        begin = moment(first, zone) if first else None
        end = moment(last, zone, end=True) if last else None
    except WrongFilter as error:
        raise click.UsageError(str(error)) from error
    if begin is not None and end is not None and end < begin:
        raise click.UsageError(f"--to {last} is before --from {first}")
    return Filters(begin, end, devices, cards, outage)


def _signed_and_noted(home: Path, wish: Wish, bar: Progress) -> Exported:
    """Sign the end of the chain, export it, and have the ledger say that it was exported before anybody gets it."""

    def note(made: Exported) -> None:
        said = made.about.chosen.filters.said(naming_cards=False)
        few = {
            name: len(each) if isinstance(each, list) and len(each) > MOST_NAMES else each
            for name, each in said.items()
        }
        data = {
            "format": wish.format,
            "to": str(wish.target),
            "filters": json.dumps(few, sort_keys=True),
            "pseudonymised": int(wish.pseudonymise),
            "sha256": made.sha256,
            "through": made.about.chosen.through,
        }
        change(home, "ledger-note", note="export", data=data)

    bar("signing", 0, 0)
    change(home, "ledger-sign")
    return making.export(wish, bar, note)


def _say(wish: Wish, exported: Exported) -> None:
    """What was made, and what whoever hands it on should know."""
    chosen, written, checkpoint = exported.about.chosen, exported.written, exported.about.checkpoint
    click.echo(f"{wish.target}: {count(chosen.entries, 'entry', 'entries')} exported as {wish.format}.")
    click.echo(f"The manifest is {exported.manifest}, its SHA-256 {exported.sha256}.")
    if not chosen.entries:
        click.echo("Nothing matches the filters: the export is sound and empty.")
    elif checkpoint is None:
        click.echo("No checkpoint signs any of it: locum ledger sign makes one in a running appliance.")
    else:
        rest = chosen.through - checkpoint.seq
        newer = f"; {count(rest, 'newer entry is', 'newer entries are')} not signed yet" if rest else ""
        click.echo(f"Signed through entry {checkpoint.seq}{newer}.")
    if written.altered:
        why = "were too long for a cell" if wish.format == "xlsx" else "look like formulas and got an apostrophe"
        click.echo(f"{count(written.altered, 'cell')} {why}; the column `altered` names them.")
    if exported.in_words:
        click.echo(
            f"{count(exported.in_words, 'entry names', 'entries name')} a person in the words of the server or of the "
            "device; sqlite and jsonl keep them, for they are part of the chain."
        )
    if exported.about.wrong:
        click.echo(
            f"The ledger was found altered or damaged: {exported.about.wrong}; see: locum ledger verify", err=True
        )
    if chosen.entries and not exported.about.pseudonymised:
        click.echo("It holds card numbers, names and documents of people; treat it so.")
