"""Which records of the outbox a command is for: those that are named, or those that filters choose.

What filters choose is counted, and asked about, before it is changed; then it goes in requests of some hundred.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from appliance.cli.common import Failed
from appliance.cli.questions import is_a_person
from appliance.cli.words import clean, count
from appliance.ledger_access import zone_of
from appliance.outbox_access import Queue
from appliance.outbox_deeds import AT_ONCE
from storage.export.filters import WrongFilter, moment

SHORTEST_ID, WHOLE_ID = 8, 36
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Choice:
    """What the filters say, as the command `outbox-list` wants it. `any`: whether there is one, or `--all`; `yes`:
    nobody is to be asked.
    """

    wanted: dict[str, Any]
    any: bool
    yes: bool


def filters(states: Sequence[str], meant: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the filters, as `choice`. `states`: in which a record can be chosen; `meant`: those that are where none is
    said, for a command that changes records: it has `--all` and `--yes` too.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def chosen(
            *given: Any,
            state: str | None,
            upstream: str | None,
            outage: str | None,
            before: str | None,
            zone: str | None,
            every: bool = False,
            yes: bool = False,
            **others: Any,
        ) -> Any:
            at = _time(before, zone)
            said = {"state": state, "upstream": upstream, "outage": outage, "before": at}
            wanted: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
            named = every or bool(wanted)
            if state is None and meant:
                wanted |= {"state": meant[0]} if len(meant) == 1 else {"states": list(meant)}
            return function(*given, choice=Choice(wanted, named, yes), **others)

        options = [
            click.option("--state", type=click.Choice(states), help="Only records in this state."),
            click.option("--upstream", metavar="NAME", help="Only records for this server."),
            click.option(
                "--outage",
                is_flag=False,
                flag_value="last",
                metavar="[NAME]",
                help="Only records of an outage: when it started; without a name the last one.",
            ),
            click.option("--before", metavar="TIME", help="Only records from before this day or time."),
            click.option("--time-zone", "zone", metavar="ZONE", help="Zone of TIME, such as Europe/Berlin."),
        ]
        if meant:
            options.insert(0, click.option("--all", "every", is_flag=True, help="Every record that can be."))
            options.append(click.option("--yes", is_flag=True, help="Do not ask."))
        decorated: Callable[..., Any] = chosen
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return add


def names_or_filters(ids: Sequence[str], choice: Choice) -> None:
    """Raises UsageError unless one of both is given."""
    if choice.any == bool(ids):
        raise click.UsageError("name the records, or choose them: --all, --upstream, --state, --outage, --before")


def whole_id(queue: Queue, given: str, states: Sequence[str]) -> str:
    """The one record in the outbox whose id begins with `given`."""
    start = given.strip().lower()
    if len(start) == WHOLE_ID:
        return start
    if len(start) < SHORTEST_ID:
        raise Failed(f"{given!r} is too short for an id; give its first {SHORTEST_ID} characters or more", 2)
    found: list[dict[str, Any]] = []
    for state in states:
        found += [row for row in queue.rows(state=state, limit=None) if row["id"].startswith(start)]
    if not found:
        raise Failed(f"no record {' or '.join(states)} has an id that begins with {given!r}; see: locum outbox list")
    if len(found) > 1:
        raise Failed(f"{len(found)} records have an id that begins with {given!r}; give more of it")
    return str(found[0]["id"])


def change_chosen(
    queue: Queue, choice: Choice, command: str, question: str, arguments: dict[str, Any], *, harmless: bool = False
) -> tuple[int, int]:
    """Ask, and do a deed to all that the filters choose: how many were changed, and how many had changed meanwhile.

    `question` is what will be done, before "1 record"; `harmless`: it is done too where nobody can be asked. Raises
    Failed if it shall not be done.
    """
    rows = _all(queue, choice.wanted)
    if rows and not choice.yes:
        _ask(f"{question} {_summary(rows)}?", harmless)
    states = sorted({row["state"] for row in rows})
    seqs = [int(row["seq"]) for row in rows]
    changed = 0
    for start in range(0, len(seqs), AT_ONCE):
        try:
            changed += queue.many(command, seqs[start : start + AT_ONCE], states=states, **arguments)
        except Exception:
            if changed:
                click.echo(f"Changed before this: {changed:,} of {count(len(seqs), 'record')}.", err=True)
            raise
    return changed, len(seqs) - changed


def _all(queue: Queue, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = queue.rows(**wanted, limit=PAGE, after=found[-1]["seq"] if found else 0)
        found += page
        if len(page) < PAGE:
            return found


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    """How many, of which kinds, and from when."""
    kinds = Counter((clean(row["state"]).replace("_", " "), clean(row["upstream"])) for row in rows)
    said = ", ".join(f"{number:,} {state} for {upstream}" for (state, upstream), number in sorted(kinds.items()))
    times = f"{clean(rows[0]['at'])} to {clean(rows[-1]['at'])}"
    return f"{count(len(rows), 'record')} ({said}; {times})"


def _ask(question: str, harmless: bool) -> None:
    if is_a_person():
        if not click.confirm(question, err=True):
            raise Failed("nothing was changed")
    elif not harmless:
        raise Failed(f"{question} Nobody can be asked: standard input is no terminal; add --yes", 2)


def _time(text: str | None, zone: str | None) -> int | None:
    if text is None:
        return None
    config = click.get_current_context().meta["locum.config"]
    try:
        return moment(text, zone_of(config if config.exists() else None, zone))
    except WrongFilter as error:
        raise click.UsageError(f"--before: {error}") from error
