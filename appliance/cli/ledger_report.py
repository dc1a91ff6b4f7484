"""`locum ledger report`: what the ledger says of a period, as one page with charts, and as a PDF of it."""

import time
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from appliance import __version__
from appliance.cli.common import Failed
from appliance.cli.ledger_common import NamedFile, in_one_line, where_options
from appliance.cli.progress import interruptible, progress
from appliance.cli.words import count
from appliance.config import state_dir_of
from appliance.ledger_access import zone_of
from appliance.report import making
from appliance.state_dir import KEY_NAME, LEDGER_NAME
from storage.export.filters import WrongFilter, moment


@click.command()
@click.option("--from", "first", metavar="T", help="From this day or time on: 2026-11-01, 2026-11-01T08:00.")
@click.option("--to", "last", metavar="T", help="Up to and with this day or time.")
@click.option("--device", "devices", multiple=True, metavar="DEVICE", help="Only this copier; may be given again.")
@click.option("--pdf", is_flag=True, help="Print it to PDF too, beside the page; needs Chromium.")
@click.option("--pseudonymise", is_flag=True, help="Pseudonyms instead of names and card numbers.")
@click.option("--time-zone", metavar="ZONE", help="Zone of days and times, such as Europe/Berlin.")
@where_options
@click.option("--ledger", type=click.Path(path_type=Path), metavar="FILE", help="Report on this file, of no appliance.")
@click.option("--force", is_flag=True, help="Replace a report that is there.")
@click.option(
    "-o",
    "--output",
    type=NamedFile(),
    metavar="FILE",
    help="Where to put it, instead of locum-report-FROM-TO.html in this directory.",
)
def report(
    first: str | None,
    last: str | None,
    devices: tuple[str, ...],
    pdf: bool,
    pseudonymise: bool,
    time_zone: str | None,
    config: Path,
    state_dir: Path | None,
    ledger: Path | None,
    force: bool,
    output: Path | None,
) -> int:
    """Make a report for people: pages, outages, copiers, users, what is open, and whether the ledger is sound.

    Without --from and --to it is about the 30 days up to the day of the newest entry. The appliance may run meanwhile.
    With --ledger a copy, a backup, an archive or an export is read. Exit status 1 says that the ledger was found
    altered; the report is made all the same.

    Example: locum ledger report --from 2026-11-01 --to 2026-11-30 --pdf
    """
    zone = zone_of(config if config.exists() else None, time_zone)
    begin, end = _period(first, last, zone)
    source = (ledger or (state_dir or state_dir_of(config)) / LEDGER_NAME).absolute()
    wish = making.Wish(
        source=source,
        zone=zone,
        now=time.time_ns() // 1_000_000,
        version=__version__,
        folder=Path.cwd(),
        target=output.absolute() if output is not None else None,
        first=begin,
        last=end,
        devices=devices,
        pseudonymise=pseudonymise,
        pdf=pdf,
        force=force,
        state_dir=source.parent if ledger is None or (source.parent / KEY_NAME).exists() else None,
    )
    if output is not None and pdf and output.suffix == ".pdf":
        raise click.UsageError(f"-o names the page; {output} is where the PDF of it goes: give a name in .html")
    try:
        with in_one_line(source), interruptible(), progress() as tell:
            made = making.make(wish, tell)
    except KeyboardInterrupt:
        raise Failed("interrupted; nothing is left of the report") from None
    return _say(made, pseudonymise)


def _period(first: str | None, last: str | None, zone: ZoneInfo) -> tuple[int | None, int | None]:
    try:
        begin = moment(first, zone) if first else None
        end = moment(last, zone, end=True) if last else None
    except WrongFilter as error:
        raise click.UsageError(str(error)) from error
    if begin is not None and end is not None and end < begin:
        raise click.UsageError(f"--to {last} is before --from {first}")
    return begin, end


def _say(made: making.Made, pseudonymise: bool) -> int:
    for place in made.places:
        click.echo(place)
    click.echo(f"From {made.first} to {made.last}: {count(made.jobs, 'job')}.")
    if not pseudonymise:
        click.echo("It may hold card numbers and names of people; treat it so.")
    if made.wrong is None:
        return 0
    click.echo(f"The ledger was found altered or damaged: {made.wrong}; see: locum ledger verify", err=True)
    return 1
