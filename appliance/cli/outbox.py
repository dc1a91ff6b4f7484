"""`locum outbox`: what waits for the server, and what a person may do with it."""

import json
from pathlib import Path
from typing import Any

import click

from appliance.cli import tables
from appliance.cli.common import appliance_options, json_option, message_of
from appliance.cli.outbox_choice import Choice, change_chosen, filters, names_or_filters, whole_id
from appliance.cli.words import count
from appliance.client import ask
from appliance.outbox_access import Queue, Running, with_outbox
from appliance.outbox_deeds import CORRECTABLE

STATES = ("waiting", "sent", "in_doubt", "rejected")
DROPPED = ("rejected", "in_doubt", "waiting")


@click.group()
def outbox() -> None:
    """Records that the server has not taken yet.

    Example: locum outbox list --state rejected
    """


@outbox.command("list")
@appliance_options
@json_option
@filters(STATES)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many, oldest first.")
def list_records(state_dir: Path, as_json: bool, choice: Choice, limit: int) -> None:
    """List what waits, is on its way, is in doubt or was refused.

    Example: locum outbox list --state rejected --json
    """
    state = choice.wanted.get("state")
    rows = ask(state_dir, "outbox-list", **{"state": None, **choice.wanted}, limit=limit)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        others = choice.wanted.keys() - {"state"}
        nothing = "Nothing is in the outbox." if state is None else f"Nothing in the outbox is {state}."
        click.echo("Nothing in the outbox is like that." if others else nothing)
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
    answer = ask(state_dir, "outbox-show", id=whole_id(Running(state_dir), id_, STATES))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        tables.show(tables.details(answer))


@outbox.command()
@appliance_options
@click.argument("ids", nargs=-1, metavar="[ID]...")
@filters(("rejected", "waiting"), ("rejected",))
@click.option(
    "--set",
    "corrections",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Say something else to the server: printer=NAME or user=NAME.",
)
def retry(state_dir: Path, ids: tuple[str, ...], choice: Choice, corrections: tuple[str, ...]) -> None:
    """Send refused records once more.

    An ID may be cut short to its first 8 characters or more, as long as it names one record. Filters choose among the
    refused ones, or with `--state waiting` among those that wait out a pause. A correction is kept with the record; the
    ledger keeps what the device said.

    Example: locum outbox retry 01936e3c-1f2a --set printer="Library copier"
    """
    names_or_filters(ids, choice)
    if choice.any and corrections:
        raise click.UsageError("--set needs the records named, so that no other is corrected by mistake")
    changes = _corrections(corrections)

    def work(queue: Queue) -> tuple[int, int]:
        if choice.any:
            return change_chosen(queue, choice, "outbox-retry", "Send once more", {}, harmless=True)
        return queue.retry([whole_id(queue, given, ("rejected",)) for given in ids], changes), 0

    changed, others = with_outbox(state_dir, work)
    click.echo(f"{count(changed, 'record is', 'records are')} sent once more.{_meanwhile(others)}")


@outbox.command()
@appliance_options
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--sent", is_flag=True, help="The server has it: it leaves the outbox.")
@click.option("--resend", is_flag=True, help="The server does not have it: it is sent again.")
@click.option("--reason", default="", metavar="TEXT", help="How you know; it is kept in the ledger with your name.")
@filters(("in_doubt",), ("in_doubt",))
def resolve(state_dir: Path, ids: tuple[str, ...], choice: Choice, sent: bool, resend: bool, reason: str) -> None:
    """Decide records in doubt: whether the server took them.

    Look at the server first; `locum outbox show ID` says what helps. Filters choose many at once: right only if the
    same is known of all of them, as after the server was restored from a backup.

    Example: locum outbox resolve 01936e3c-1f2a --sent --reason "seen in the server's log"
    """
    if sent == resend:
        raise click.UsageError("say what is the case: --sent (the server has it) or --resend (it has not)")
    names_or_filters(ids, choice)
    how: dict[str, Any] = {"how": "sent" if sent else "resend", "reason": reason.strip()}

    def work(queue: Queue) -> list[str]:
        if choice.any:
            question = "Count as sent" if sent else "Send once more"
            changed, others = change_chosen(queue, choice, "outbox-resolve", question, how)
            one, many = ("record counts", "records count") if sent else ("record is", "records are")
            return [f"{count(changed, one, many)} {'as sent' if sent else 'sent once more'}.{_meanwhile(others)}"]
        said = []
        for whole in [whole_id(queue, given, ("in_doubt",)) for given in ids]:
            answer = queue.one("outbox-resolve", whole, **how)
            said.append(message_of(answer) or f"{whole} {'counts as sent' if sent else 'is sent once more'}.")
        return said

    click.echo("\n".join(with_outbox(state_dir, work)))


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
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the ledger with your name.")
@filters(DROPPED, DROPPED)
def drop(state_dir: Path, ids: tuple[str, ...], choice: Choice, reason: str) -> None:
    """Give up records: they are never sent, and stay in the ledger.

    Example: locum outbox drop 01936e3c-1f2a --reason "test job"
    """
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    names_or_filters(ids, choice)
    why: dict[str, Any] = {"reason": reason.strip()}

    def work(queue: Queue) -> list[str]:
        if choice.any:
            changed, others = change_chosen(queue, choice, "outbox-drop", "Drop", why)
            return [f"Dropped {count(changed, 'record')}.{_meanwhile(others)}"]
        wholes = [whole_id(queue, given, DROPPED) for given in ids]
        for whole in wholes:
            queue.one("outbox-drop", whole, **why)
        return [f"Dropped {whole}." for whole in wholes]

    click.echo("\n".join(with_outbox(state_dir, work)))


def _meanwhile(others: int) -> str:
    return f" {count(others, 'other')} had changed meanwhile." if others else ""


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
