"""`locum outbox`: what waits for the server, and what a person may do with it."""

import json
from pathlib import Path
from typing import Any

import click

from appliance.cli import tables
from appliance.cli.common import Failed, appliance_options, json_option
from appliance.client import ask

STATES = ("waiting", "sent", "in_doubt", "rejected")
SHORTEST_ID, WHOLE_ID = 8, 36


@click.group()
def outbox() -> None:
    """Records that the server has not taken yet.

    Example: locum outbox list --state rejected
    """


@outbox.command("list")
@appliance_options
@json_option
@click.option("--state", type=click.Choice(STATES), help="Only records in this state.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many, oldest first.")
def list_records(state_dir: Path, as_json: bool, state: str | None, limit: int) -> None:
    """List what waits, is on its way, is in doubt or was refused.

    Example: locum outbox list --state rejected --json
    """
    rows = ask(state_dir, "outbox-list", state=state, limit=limit)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("Nothing is in the outbox." if state is None else f"Nothing in the outbox is {state}.")
    else:
        tables.show(tables.outbox_rows(rows))
        if len(rows) == limit:
            click.echo(f"The first {limit}; --limit shows more.", err=True)


@outbox.command()
@appliance_options
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="Every record that was refused.")
def retry(state_dir: Path, ids: tuple[str, ...], every: bool) -> None:
    """Send refused records once more.

    An ID may be cut short to its first 8 characters or more, as long as it names one record.

    Example: locum outbox retry --all
    """
    if every == bool(ids):
        raise click.UsageError("name the records to retry, or give --all")
    whole = None if every else [_whole_id(state_dir, given, ("rejected",)) for given in ids]
    result = ask(state_dir, "outbox-retry", ids=whole)
    count = int(result["retried"])
    click.echo(f"{count} {'record is' if count == 1 else 'records are'} sent once more.")


@outbox.command()
@appliance_options
@click.argument("id_", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the ledger with your name.")
def drop(state_dir: Path, id_: str, reason: str) -> None:
    """Give up a record: it is never sent, and stays in the ledger.

    Example: locum outbox drop 01936e3c-1f2a --reason "test job"
    """
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    whole = _whole_id(state_dir, id_, ("rejected", "in_doubt", "waiting"))
    result = ask(state_dir, "outbox-drop", id=whole, reason=reason.strip())
    click.echo(f"Dropped {result['dropped']}.")


def _whole_id(state_dir: Path, given: str, states: tuple[str, ...]) -> str:
    """The one record in the outbox whose id begins with `given`."""
    start = given.strip().lower()
    if len(start) == WHOLE_ID:
        return start
    if len(start) < SHORTEST_ID:
        raise Failed(f"{given!r} is too short for an id; give its first {SHORTEST_ID} characters or more", 2)
    found: list[dict[str, Any]] = []
    for state in states:
        found += [row for row in ask(state_dir, "outbox-list", state=state, limit=None) if row["id"].startswith(start)]
    if not found:
        raise Failed(f"no record {' or '.join(states)} has an id that begins with {given!r}; see: locum outbox list")
    if len(found) > 1:
        raise Failed(f"{len(found)} records have an id that begins with {given!r}; give more of it")
    return str(found[0]["id"])
