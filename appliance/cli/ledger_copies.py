"""`locum ledger archive`, `backup` and `adopt`: a year closed, a copy kept, a ledger from elsewhere put in place."""

import uuid
from collections.abc import Callable
from pathlib import Path

import click

from appliance.cli.common import Failed, appliance_options
from appliance.cli.ledger_common import failed, milliseconds_now, where_options
from appliance.cli.progress import Progress, progress
from appliance.cli.words import count, size
from appliance.client import is_running
from appliance.config import state_dir_of
from appliance.ledger_access import by_hand, change, zone_of
from appliance.state_dir import LEDGER_NAME, StateDirError, signing_key
from appliance.witness import newest
from storage import adopting, times
from storage import archive as archiving
from storage import backup as copying
from storage.errors import StorageError
from storage.export.filters import WrongFilter, moment
from storage.verify import verify


@click.command()
@click.option("--until", required=True, metavar="DATE", help="Up to this day or time, without it: 2026-01-01.")
@click.option("--time-zone", metavar="ZONE", help="Zone of the date, such as Europe/Berlin.")
@where_options
@click.argument("dest", type=click.Path(path_type=Path))
def archive(until: str, time_zone: str | None, config: Path, state_dir: Path | None, dest: Path) -> None:
    """Close everything up to a date into the archive DEST. The appliance must be stopped.

    The archive is a ledger that proves itself; what stays refers to it. The last checkpoint before the date is where
    it is cut. Refused while anything from before then waits, goes on or is open.

    Example: locum ledger archive --until 2026-01-01 /srv/archive/ledger-2025.db
    """
    zone = zone_of(config if config.exists() else None, time_zone)
    home = (state_dir or state_dir_of(config)).absolute()
    try:
        before = moment(until, zone)
    except WrongFilter as error:
        raise click.UsageError(str(error)) from error
    path = _stopped(home) / LEDGER_NAME
    try:
        signer = signing_key(home)
        with progress() as bar:
            wrong = _verifier(bar)(path)
            if wrong:
                raise Failed(f"nothing is archived: {path} does not verify: {wrong}")
            done = archiving.archive(
                path, dest.absolute(), before, milliseconds_now(), signer, by_hand(), lambda what: bar(what, 0, 0)
            )
    except StorageError as error:
        raise failed(error) from error
    except StateDirError as error:
        raise Failed(str(error), 2) from error
    entries = count(done.entries, "entry", "entries")
    click.echo(f"{dest}: {entries}, {done.first} to {done.through}. SHA-256 {done.sha256}")
    click.echo(f"The ledger took {size(done.before)} and takes {size(done.after)} now; it goes on from {done.through}.")
    click.echo("The archive is the only copy of what it holds, personal data too: keep it well, and more than once.")


@click.command()
@appliance_options
@click.argument("dest", type=click.Path(path_type=Path))
def backup(state_dir: Path, dest: Path) -> None:
    """Copy the whole ledger to the file DEST; the appliance may run meanwhile.

    The end of the chain is signed first, and the ledger notes the backup. To restore one: `locum ledger adopt`.

    Example: locum ledger backup /srv/backup/ledger-2026-11-23.db
    """
    target = dest.absolute()
    identity, now = uuid.uuid4().hex, milliseconds_now()
    try:
        copying.refuse(state_dir / LEDGER_NAME, target)
        signed = change(state_dir, "ledger-sign")
        data = {"to": str(target), "backup": identity, "through": signed["seq"]}
        change(state_dir, "ledger-note", note="backup", data=data)
        change(state_dir, "ledger-sign")
        with progress() as bar:
            digest = copying.backup(
                state_dir / LEDGER_NAME, target, identity, times.text(now), lambda done, of: bar("copying", done, of)
            )
    except StorageError as error:
        raise failed(error) from error
    click.echo(f"{dest}: {size(target.stat().st_size)}, checked. SHA-256 {digest}")
    click.echo("It holds card numbers, names and documents of people; treat it so.")


@click.command()
@appliance_options
@click.option("--older", is_flag=True, help="FILE is not the last state: records may have been delivered since.")
@click.option("--anyway", is_flag=True, help="Also if FILE is damaged or does not verify.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def adopt(state_dir: Path, older: bool, anyway: bool, file: Path) -> None:
    """Put the ledger FILE in place: the disk of a box that died, or a backup. The appliance must be stopped.

    FILE is copied with the -wal beside it and not changed. This box's own ledger is set aside, and only if nothing
    waits in it. The next start finds out where the ledger comes from, and puts in doubt what may have been delivered
    since.

    Example: locum ledger adopt /mnt/old/var/lib/locum/ledger.db
    """
    path = _stopped(state_dir) / LEDGER_NAME
    try:
        with progress() as bar:
            adopted = adopting.adopt(
                path,
                file.absolute(),
                milliseconds_now(),
                _verifier(bar),
                anyway=anyway,
                older=older,
                witness=newest(file.absolute().parent),
            )
    except StorageError as error:
        raise failed(error) from error
    entries, records = count(adopted.entries, "entry", "entries"), count(adopted.records, "record")
    click.echo(f"{file} is this appliance's ledger now: {entries}, {records} in its outbox.")
    for line in adopted.words:
        click.echo(line)
    if adopted.aside is not None:
        click.echo(f"The ledger that was here is kept as {adopted.aside}.")
    click.echo("Start the appliance to go on with it (locum run); then look at: locum log, locum outbox list.")


def _stopped(state_dir: Path) -> Path:
    """The state directory, if there is one and no appliance works in it."""
    if not state_dir.is_dir():
        raise Failed(f"there is no state directory {state_dir}; run 'locum init', or start the appliance once", 2)
    if is_running(state_dir):
        raise Failed(f"the appliance on {state_dir} runs; stop it first")
    return state_dir


def _verifier(bar: Progress) -> Callable[[Path], str]:
    """What is wrong with the proof of a ledger file, "" nothing."""

    def wrong_with(path: Path) -> str:
        wrong = verify(path, progress=lambda done, of: bar("verifying", done, of)).wrong
        return f"{wrong.where}: {wrong.what}" if wrong is not None else ""

    return wrong_with
