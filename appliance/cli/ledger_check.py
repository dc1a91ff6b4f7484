"""`locum ledger check`, `repair` and `vacuum`: whether the ledger's file is sound, and what to do when it is not."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from appliance.cli.common import Failed, appliance_options, json_option
from appliance.cli.ledger_common import failed, milliseconds_now, where_options
from appliance.cli.words import clean, size
from appliance.config import state_dir_of
from appliance.state_dir import LEDGER_NAME
from storage import keeping
from storage.errors import StorageError


@click.command()
@where_options
@json_option
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(path_type=Path))
def check(config: Path, state_dir: Path | None, as_json: bool, file: Path | None) -> None:
    """Check the ledger's file: its pages, guards, counts, the end of its chain, and the room that is left.

    FILE is another ledger, a backup, an archive or an export. The appliance may run; nothing is changed. Exit status 1:
    something is wrong. The whole proof is checked by `locum ledger verify`.

    Example: locum ledger check
    """
    path = file if file is not None else (state_dir or state_dir_of(config)) / LEDGER_NAME
    try:
        found = keeping.check(path)
    except StorageError as error:
        raise failed(error) from error
    if as_json:
        click.echo(json.dumps([{**asdict(each), "wrong": each.wrong} for each in found], indent=2))
    else:
        for each in found:
            click.echo(f"{'wrong' if each.wrong else 'ok':<6}{each.what:<11} {clean(each.words)}")
            if each.wrong:
                click.echo(f"{'':<18}{each.cure}")
    if any(each.wrong for each in found):
        sys.stdout.flush()
        raise Failed(f"{path}: {sum(each.wrong for each in found)} of {len(found)} checks found something wrong")


@click.command()
@appliance_options
def repair(state_dir: Path) -> None:
    """Put right what `locum ledger check` finds. The appliance must be stopped.

    A damaged file is set aside, never deleted, and what can be read of it goes into a new one. Counts are counted anew
    and guards put back. A chain that does not hold is evidence and stays as it is. Exit status 1: it could not be done,
    or records that waited for the server are lost, and which.

    Example: locum ledger repair
    """
    try:
        done = keeping.repair(state_dir / LEDGER_NAME, milliseconds_now())
    except StorageError as error:
        raise failed(error) from error
    if not done:
        click.echo("Nothing is wrong that could be repaired; nothing was changed.")
    for each in done:
        click.echo(f"{'lost' if each.lost else 'done':<6}{clean(each.words)}")
    if any(each.lost for each in done):
        sys.stdout.flush()
        raise Failed(f"{state_dir / LEDGER_NAME}: not all could be repaired; what is lost is said above and in App.Log")


@click.command()
@appliance_options
def vacuum(state_dir: Path) -> None:
    """Rewrite the ledger without the room that nothing uses. The appliance must be stopped.

    Needs as much free room as the ledger takes. Worth it after much was erased.

    Example: locum ledger vacuum
    """
    try:
        before, after = keeping.vacuum(state_dir / LEDGER_NAME, milliseconds_now())
    except StorageError as error:
        raise failed(error) from error
    click.echo(f"The ledger took {size(before)} and takes {size(after)} now.")
