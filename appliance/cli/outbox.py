"""`locum outbox`: what waits for the server, and what a person may do with it."""

import json
from pathlib import Path
from typing import Any

import click

from appliance.cli import tables
from appliance.cli.common import Failed, appliance_options, json_option, message_of
from appliance.client import ask

STATES = ("waiting", "sent", "in_doubt", "rejected")
CORRECTABLE = ("printer", "user")
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
@json_option
@click.argument("id_", metavar="ID")
def show(state_dir: Path, id_: str, as_json: bool) -> None:
    """Show everything about one record: the job, whose it is, every try, what helps to find out whether it arrived.

    Example: locum outbox show 01936e3c-1f2a
    """
    answer = ask(state_dir, "outbox-show", id=_whole_id(state_dir, id_, STATES))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        tables.show(tables.details(answer))


@outbox.command()
@appliance_options
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="Every record that was refused.")
@click.option(
    "--set",
    "corrections",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Say something else to the server: printer=NAME or user=NAME.",
)
def retry(state_dir: Path, ids: tuple[str, ...], every: bool, corrections: tuple[str, ...]) -> None:
    """Send refused records once more.

    An ID may be cut short to its first 8 characters or more, as long as it names one record. A correction is kept with
    the record; the ledger keeps what the device said.

    Example: locum outbox retry 01936e3c-1f2a --set printer="Library copier"
    """
    if every == bool(ids):
        raise click.UsageError("name the records to retry, or give --all")
    if every and corrections:
        raise click.UsageError("--set needs the records named, so that no other is corrected by mistake")
    changes = _corrections(corrections)
    whole = None if every else [_whole_id(state_dir, given, ("rejected",)) for given in ids]
    result = ask(state_dir, "outbox-retry", ids=whole, set=changes)
    count = int(result["retried"])
    click.echo(f"{count} {'record is' if count == 1 else 'records are'} sent once more.")


@outbox.command()
@appliance_options
@click.argument("id_", metavar="ID")
@click.option("--sent", is_flag=True, help="The server has it: it leaves the outbox.")
@click.option("--resend", is_flag=True, help="The server does not have it: it is sent again.")
@click.option("--reason", default="", metavar="TEXT", help="How you know; it is kept in the ledger with your name.")
def resolve(state_dir: Path, id_: str, sent: bool, resend: bool, reason: str) -> None:
    """Decide a record in doubt: whether the server took it.

    Look at the server first; `locum outbox show ID` says what helps.

    Example: locum outbox resolve 01936e3c-1f2a --sent --reason "seen in the server's log"
    """
    if sent == resend:
        raise click.UsageError("say what is the case: --sent (the server has it) or --resend (it has not)")
    how = "sent" if sent else "resend"
    whole = _whole_id(state_dir, id_, ("in_doubt",))
    answer = ask(state_dir, "outbox-resolve", id=whole, how=how, reason=reason.strip())
    done = "counts as sent" if how == "sent" else "is sent once more"
    click.echo(message_of(answer) or f"{whole} {done}.")


@outbox.command()
@appliance_options
@click.argument("upstream", required=False, metavar="[UPSTREAM]")
def claim(state_dir: Path, upstream: str | None) -> None:
    """Say that this Locum, and no other, forwards to a PaperCut server.

    Needed when Locum has stopped forwarding because another one of the same name, or an older copy of this one, has
    forwarded to that server. End the other one first.

    Example: locum outbox claim print
    """
    answer = ask(state_dir, "outbox-claim", upstream=upstream)
    click.echo(message_of(answer) or "Claimed; records are forwarded again.")


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


def _corrections(given: tuple[str, ...]) -> dict[str, str]:
    """The values of --set by field."""
    found: dict[str, str] = {}
    for each in given:
        field, equals, value = each.partition("=")
        if not equals or field not in CORRECTABLE:
            raise click.UsageError(f"--set {each!r} is not FIELD=VALUE with a field of {', '.join(CORRECTABLE)}")
        if not value.strip() or not value.isprintable():
            raise click.UsageError(f"--set {field}= must say something, in one line")
        if field in found:
            raise click.UsageError(f"--set {field}= is given twice")
        found[field] = value.strip()
    return found


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
