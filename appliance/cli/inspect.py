"""`locum status`, `locum devices` and `locum log`: how things stand, for a person or a script."""

import json
import time
from pathlib import Path

import click

from appliance.cli import tables
from appliance.cli.common import Failed, appliance_options, json_option
from appliance.client import ask

FOLLOW_EVERY = 0.5
"""Seconds between two looks into the ledger for new lines."""


@click.command()
@appliance_options
@json_option
def status(state_dir: Path, as_json: bool) -> None:
    """Show servers, devices and the last outage.

    What needs attention stands first: who is offline since when and why, what waits, what was refused.

    Example: locum status --json
    """
    answer = ask(state_dir, "status")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        tables.show(tables.status(answer, time.time()))


@click.command()
@appliance_options
@json_option
def devices(state_dir: Path, as_json: bool) -> None:
    """List the devices that were heard.

    Example: locum devices -c /etc/locum/locum.toml
    """
    rows = ask(state_dir, "devices")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        tables.show(tables.devices(rows, time.time()))
    else:
        click.echo("No device has been heard yet.")


@click.command()
@appliance_options
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
@click.option("-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="The last so many lines.")
@json_option
def log(state_dir: Path, follow: bool, lines: int, as_json: bool) -> None:
    """Print the lines an admin should read.

    They are App.Log, read from the ledger itself, so this works also while Locum is down.

    Example: locum log -n 50 -f
    """
    from appliance.app_log import AppLog
    from storage.errors import StorageError

    try:
        book = AppLog(state_dir)
        for line in book.last(lines):
            click.echo(line.as_json() if as_json else line.as_text())
        while follow:
            time.sleep(FOLLOW_EVERY)
            for line in book.new():
                click.echo(line.as_json() if as_json else line.as_text())
    except StorageError as error:
        raise Failed(str(error)) from None
    except PermissionError as error:
        raise Failed(
            f"{state_dir}: cannot be looked into ({error.strerror}); run as root or as the service's user"
        ) from None
    except KeyboardInterrupt:
        return
