"""`locum ledger erase-card`: delete what leads from a card to a person, and say what else may hold it."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance import ledger_access
from appliance.cli.common import Failed, appliance_options, json_option
from appliance.cli.ledger_common import in_one_line
from appliance.cli.questions import is_a_person
from appliance.cli.words import clean, count
from appliance.state_dir import LEDGER_NAME
from storage import database, erasure
from storage.remnants import Remnants, remnants

PATIENCE = 10.0
"""Seconds for readers of the ledger to come to their end."""
SHORTEST_TELLING = 6
"""A shorter number stands by chance in bytes that have nothing to do with it."""

_OF_LEDGER = ("-wal", "-shm", ".lock")
_KINDS = """SELECT kind, count(*) FROM entries WHERE seq IN (SELECT value FROM json_each(?))
GROUP BY kind ORDER BY kind"""
_IN_DOUBT = "SELECT count(*) FROM outbox WHERE state = 'in_doubt' AND seq IN (SELECT value FROM json_each(?))"
_COPIES = "SELECT seq, at, note, data FROM notes WHERE note IN ('backup', 'export', 'archive') ORDER BY seq"
_CALLED = {
    "job": ("job", "jobs"),
    "accounting": ("accounting record", "accounting records"),
    "login": ("login", "logins"),
    "delivery": ("delivery", "deliveries"),
    "app-log": ("line of App.Log", "lines of App.Log"),
    "quarantine": ("quarantined record", "quarantined records"),
    "trap": ("SNMP trap", "SNMP traps"),
    "note": ("correction by hand", "corrections by hand"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger has of a card: entries by kind, those in the outbox and how many of these are in doubt, whether
    the card memory knows it.
    """

    kinds: dict[str, int]
    waiting: int
    in_doubt: int
    remembered: bool

    @property
    def nothing(self) -> bool:
        return not self.kinds and not self.remembered


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup, export or archive that the ledger knows of. `holds`: data of this card that was erased now is in it, if
    no filter left it out; or else older data may be.
    """

    what: str
    to: str
    at: str
    holds: bool


@click.command("erase-card")
@appliance_options
@json_option
@click.argument("number", metavar="NUMBER")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in the ledger for ever. Name nobody.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_card(state_dir: Path, as_json: bool, number: str, reason: str, yes: bool) -> None:
    """Erase what leads from a card to a person: card, user, document, account and raw bytes of all its entries.

    Pages, times and devices stay, and so does the proof. NUMBER is the card as the copier reads it, in any case;
    `-` reads it from standard input, so that it does not stand in the shell's history. Refused while records of the
    card are in the outbox. Cannot be undone.

    Example: locum ledger erase-card - --reason "request of 23 November"
    """
    card = _number(number, yes)
    if erasure.names(reason.encode(errors="replace"), card):
        raise click.UsageError("--reason names the card, and is kept for ever; say it in other words")
    path = state_dir / LEDGER_NAME
    with in_one_line(path):
        found = _look(path, card)
        if found.waiting:
            raise _waits(found.waiting, found.in_doubt)
        if not (yes or found.nothing):
            _ask(found)
        answer = ledger_access.change(state_dir, "ledger-erase", card=card, reason=reason)
        if answer["waiting"]:
            raise _waits(answer["waiting"])
        left = _left(path, card)
        copies = _copies(path, answer["first"])
    files = [each.name for each in sorted(path.parent.glob(path.name + ".*")) if not each.name.endswith(_OF_LEDGER)]
    if as_json:
        told = {"entries": answer["entries"], "seq": answer["seq"], "kinds": found.kinds, "files": files}
        told |= {"copies": [asdict(each) for each in copies], "remnants": asdict(left)}
        click.echo(json.dumps(told, indent=2))
    else:
        _say_done(found, answer)
        _say_copies(copies, [str(path.parent / name) for name in files])
    sys.stdout.flush()
    _say_left(left, path)


def _number(given: str, yes: bool) -> str:
    if given == "-":
        if sys.stdin is None:
            raise click.UsageError("NUMBER is to come from standard input, which is closed")
        if not yes and not is_a_person():
            raise click.UsageError("where NUMBER comes from standard input, nobody can be asked; give --yes")
        given = click.prompt("Card", err=True, hide_input=True) if is_a_person() else sys.stdin.readline()
    card = given.strip()
    if not card or not card.isprintable():
        raise click.UsageError("NUMBER is no card's number; give it as the ledger shows it")
    return card


def _look(path: Path, card: str) -> Found:
    with database.reading(path) as reader:
        of_card = erasure.of_card(reader, card)
        seqs = msgspec.json.encode(of_card.seqs)
        kinds = dict(reader.execute(_KINDS, (seqs,)).fetchall())
        in_doubt = reader.execute(_IN_DOUBT, (seqs,)).fetchone()[0]
    return Found(kinds, of_card.waiting, in_doubt, of_card.remembered)


def _ask(found: Found) -> None:
    """Raises Failed unless the answer is yes."""
    click.echo(f"This erases the personal data of {_in_words(found)}.", err=True)
    try:
        agreed = click.confirm("It cannot be undone. Erase it?", err=True)
    except (click.Abort, RuntimeError):  # no answer; no standard input at all
        if is_a_person():
            raise
        raise Failed("nothing was erased: standard input is closed, and nobody can be asked; give --yes") from None
    if not agreed:
        raise Failed("nothing was erased")


def _waits(waiting: int, in_doubt: int = 0) -> Failed:
    records = count(waiting, "record")
    doubted = f"{in_doubt} of them in doubt: decide with locum outbox resolve. " if in_doubt else ""
    return Failed(
        f"{records} of this card {'is' if waiting == 1 else 'are'} in the outbox and must reach the server, or be "
        f"dropped, before; nothing was erased. {doubted}See: locum outbox list"
    )


def _left(path: Path, card: str) -> Remnants:
    """What is left of the number in the file's bytes, when the readers that are there have had their time."""
    end = time.monotonic() + PATIENCE
    while True:
        left = remnants(path, card)
        if len(card) < SHORTEST_TELLING:
            return Remnants(left.unused, 0)
        if not left.wal or time.monotonic() > end:
            return left
        time.sleep(0.5)
        ledger_access.change(path.parent, "ledger-sign")  # the ledger empties its WAL when it can, at a commit


def _copies(path: Path, first: int) -> list[Copy]:
    with database.reading(path) as reader:
        notes = reader.execute(_COPIES).fetchall()
    made = []
    for _, at, what, text in notes:
        data = msgspec.json.decode(text)
        if not data.get("pseudonymised"):
            holds = bool(first) and what != "archive" and data.get("through", 0) >= first
            made.append(Copy(what, str(data.get("to", "")), at, holds))
    return made


def _in_words(found: Found) -> str:
    parts = [count(number, *_CALLED.get(kind, (kind, kind))) for kind, number in found.kinds.items()]
    if found.remembered:
        parts.append("the card memory")
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _say_done(found: Found, answer: dict[str, Any]) -> None:
    if answer["entries"]:
        entries = count(answer["entries"], "entry", "entries")
        click.echo(f"Erased the personal data of {entries}; noted in entry {answer['seq']:,}.")
    elif found.remembered:
        click.echo("Erased the card from the card memory; no entry had data of it.")
    else:
        click.echo("Nothing in the ledger leads to this card.")


def _say_copies(copies: Sequence[Copy], files: Sequence[str]) -> None:
    for holds, words in ((True, "It is still in"), (False, "Older data of the card may be in")):
        some = [each for each in copies if each.holds is holds]
        if some:
            click.echo(f"{words}, unless a filter left it out:" if holds else f"{words}:")
        for each in some:
            click.echo(f"  {each.what} of {each.at[:10]}: {clean(each.to)}")
    if files:
        click.echo("It may be in these files beside the ledger:")
    for name in files:
        click.echo(f"  {name}")


def _say_left(left: Remnants, path: Path) -> None:
    if left.wal:
        raise Failed(
            f"another program still reads the ledger, so old bytes with the number stay in {path} or {path.name}-wal; "
            "end that program, and give this command again"
        )
    if left.unused:
        raise Failed(
            f"SQLite left the number in unused parts of {path}; stop the appliance when it suits, and run: "
            "locum ledger vacuum"
        )
