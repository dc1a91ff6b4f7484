"""`locum ledger archive`, `backup` and `adopt`: a year closed, a copy kept, a ledger from elsewhere put in place."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from appliance.cli.common import Failed, appliance_options
from appliance.cli.ledger_common import NamedFile, in_one_line, milliseconds_now, where_options
from appliance.cli.progress import Progress, interruptible, progress
from appliance.cli.words import count, size
from appliance.client import is_running
from appliance.config import state_dir_of
from appliance.ledger_access import by_hand, change, zone_of
from appliance.state_dir import LEDGER_NAME, StateDirError, signing_key
from appliance.witness import newest
from storage import adopting, times
from storage import archive as archiving
from storage import backup as copying
from storage.export.filters import WrongFilter, moment
from storage.verify import verify


@click.command()
@click.option("--until", required=True, metavar="DATE", help="Up to this day or time, without it: 2026-01-01.")
@click.option("--time-zone", metavar="ZONE", help="Zone of the date, such as Europe/Berlin.")
@where_options
@click.argument("dest", type=NamedFile())
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
    path, target = _stopped(home) / LEDGER_NAME, dest.absolute()
    try:
        signer = signing_key(home)
        with in_one_line(path), _ending(f"{dest}: interrupted; the ledger is whole"), progress() as bar:
            archiving.refuse(path, target)
            wrong = _verifier(bar)(path)
            if wrong:
                raise Failed(f"nothing is archived: {path} does not verify: {wrong}")
            done = archiving.archive(
                path, target, before, milliseconds_now(), signer, by_hand(), lambda what: bar(what, 0, 0)
            )
    except StateDirError as error:
        raise Failed(str(error), 2) from error
    entries = count(done.entries, "entry", "entries")
    click.echo(f"{dest}: {entries}, {done.first} to {done.through}. SHA-256 {done.sha256}")
    click.echo(f"The ledger took {size(done.before)} and takes {size(done.after)} now; it goes on from {done.through}.")
    click.echo("The archive is the only copy of what it holds, personal data too: keep it well, and more than once.")


@click.command()
@appliance_options
@click.argument("dest", type=NamedFile())
def backup(state_dir: Path, dest: Path) -> None:
    """Copy the whole ledger to the file DEST; the appliance may run meanwhile.

    The end of the chain is signed first, and the ledger notes the backup when it is whole. To restore one:
    `locum ledger adopt`.

    Example: locum ledger backup /srv/backup/ledger-2026-11-23.db
    """
    path, target = state_dir / LEDGER_NAME, dest.absolute()
    identity, now = uuid.uuid4().hex, milliseconds_now()
    with in_one_line(path), _ending(f"{dest}: interrupted; nothing is left of it"), progress() as bar:
        copying.refuse(path, target)
        signed = change(state_dir, "ledger-sign")

        def note(digest: str) -> None:
            data = {"to": str(target), "backup": identity, "through": signed["seq"], "sha256": digest}
            change(state_dir, "ledger-note", note="backup", data=data)

        digest = copying.backup(
            path, target, identity, times.text(now), lambda done, of: bar("copying", done, of), note
        )
    click.echo(f"{dest}: {size(target.stat().st_size)}, checked. SHA-256 {digest}")
    click.echo("It holds card numbers, names and documents of people; treat it so.")


@click.command()
@appliance_options
@click.option("--older", is_flag=True, help="FILE is not the last state: records may have been delivered since.")
@click.option("--anyway", is_flag=True, help="Also if FILE is damaged or does not verify.")
@click.argument("file", metavar="FILE", type=NamedFile())
def adopt(state_dir: Path, older: bool, anyway: bool, file: Path) -> None:
    """Put the ledger FILE in place: the disk of a box that died, or a backup. The appliance must be stopped.

    FILE is copied with the -wal beside it and not changed. This box's own ledger is set aside, and only if nothing
    waits in it. The next start finds out where the ledger comes from, and puts in doubt what may have been delivered
    since.

    Example: locum ledger adopt /mnt/old/var/lib/locum/ledger.db
    """
    path = _stopped(state_dir) / LEDGER_NAME
    with in_one_line(path), _ending(f"{file}: interrupted; it is not adopted"), progress() as bar:
        adopted = adopting.adopt(
            path,
            file.absolute(),
            milliseconds_now(),
            _verifier(bar),
            anyway=anyway,
            older=older,
            witness=newest(file.absolute().parent),
        )
    entries, records = count(adopted.entries, "entry", "entries"), count(adopted.records, "record")
    click.echo(f"{file} is this appliance's ledger now: {entries}, {records} in its outbox.")
    for line in adopted.words:
        click.echo(line)
    if adopted.aside is not None:
        click.echo(f"The ledger that was here is kept as {adopted.aside}.")
    click.echo("Start the appliance to go on with it (locum run); then look at: locum log, locum outbox list.")


@contextmanager
def _ending(words: str) -> Iterator[None]:
    """Whoever interrupts what is done within a `with` is told these words."""
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        raise Failed(words) from None


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
