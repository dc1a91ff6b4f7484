"""What `status`, `devices` and `outbox list` print: first what matters, in a sentence; then the figures.

In colour and as wide as the terminal is; where the output is no terminal, plain text of one line a row. Whatever came
over a wire is cleaned first.
"""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from appliance.cli.common import MOST_NAMES
from appliance.cli.words import ago, between, clean, count, local, size

_STYLES = {
    "online": "green",
    "grace": "yellow",
    "recovering": "yellow",
    "offline": "bold red",
    "locked": "yellow",
    "unlocked-once": "cyan",
    "unlocked-until-restored": "cyan",
    "rejected": "red",
    "in_doubt": "red",
}
_WIDE = 500
"""Columns where the output is no terminal, so that no row is broken."""


def show(content: RenderableType) -> None:
    """Print to standard output."""
    terminal = sys.stdout.isatty()
    console = Console(
        file=sys.stdout, width=None if terminal else _WIDE, highlight=False, markup=False, emoji=False, soft_wrap=False
    )
    if terminal:
        console.print(content)
        return
    with console.capture() as captured:
        console.print(content)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def status(answer: dict[str, Any], now: float) -> RenderableType:
    """The whole of `locum status`; `answer` as interfaces promise it, `now` in seconds since 1970."""
    upstreams = answer.get("upstreams") or []
    parts: list[RenderableType] = [Text(f"{clean(answer.get('name'))}, Locum {clean(answer.get('version'))}"), Text()]
    parts += [sentence for upstream in upstreams for sentence in _sentences(upstream, now)]
    parts += _storage(answer.get("storage") or {})
    parts += [Text(), _upstreams(upstreams, now), Text()]
    parts += _devices_line(answer.get("devices") or [])
    parts += _readers_line(answer.get("readers") or [])
    parts += _meters_line(answer.get("meters") or [], now)
    parts += _snmp_lines(answer.get("proxied") or [], answer.get("traps"))
    parts += _last_outage(answer.get("last_outage"), now)
    parts += _ledger_line(answer.get("ledger") or {})
    return Group(*parts)


def devices(rows: list[dict[str, Any]], now: float) -> Table:
    """The table of `locum devices`."""
    table = _table("device", "address", "upstream", "state", "#sessions", "last heard")
    for row in rows:
        table.add_row(
            Text(clean(row.get("id"))),
            clean(row.get("address") or "-"),
            clean(row.get("upstream") or "-"),
            _state(row.get("offline"), " (drill)" if row.get("drill") else ""),
            str(row.get("sessions", 0)),
            _since(row.get("last_seen"), now),
        )
    return table


def outbox_rows(rows: list[dict[str, Any]]) -> Table:
    """The table of `locum outbox list`."""
    table = _table("id", "state", "upstream", "device", "kind", "#pages", "taken", "#tries", "reason")
    for row in rows:
        pages = row.get("pages")
        table.add_row(
            clean(row.get("id")),
            _state(row.get("state")),
            clean(row.get("upstream")),
            Text(clean(row.get("device"))),
            clean(row.get("kind") or "-"),
            "-" if pages is None else f"{pages:,}",
            clean(row.get("at") or "-"),
            str(row.get("tries", 0)),
            Text(clean(row.get("reason") or "")),
        )
    return table


def details(answer: dict[str, Any]) -> RenderableType:
    """All of `locum outbox show`: a line a value, lists and tables indented under their name."""
    lines = list(_details(answer, 0))
    return Group(*(lines or [Text("Nothing is known of it.")]))


def _details(answer: dict[str, Any], depth: int) -> Iterable[Text]:
    width = max((len(key) for key in answer), default=0)
    for key, value in answer.items():
        name = "  " * depth + clean(key).replace("_", " ")
        if isinstance(value, dict) and value:
            yield Text(name, style="bold")
            yield from _details(value, depth + 1)
        elif isinstance(value, list) and value:
            yield Text(name, style="bold")
            for number, item in enumerate(value, 1):
                if isinstance(item, dict):
                    yield Text("  " * (depth + 1) + " ".join(f"{clean(k)}={_plain(v)}" for k, v in item.items() if v))
                else:
                    yield Text(f"{'  ' * (depth + 1)}{number}. {_plain(item)}")
        else:
            yield Text(f"{name:{width + 2 * depth + 2}}{_plain(value)}")


def _plain(value: object) -> str:
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else clean(value)


def _sentences(upstream: dict[str, Any], now: float) -> Iterable[Text]:
    """What an admin should know of one upstream before anything else."""
    name, state = clean(upstream.get("name")), str(upstream.get("state"))
    outbox = upstream.get("outbox") or {}
    said = Text(f"{name} is ")
    said.append(state.upper() if state == "offline" else state, style=_STYLES.get(state, ""))
    if since := upstream.get("since"):
        said.append(f" since {local(since, now)} ({ago(since, now)})")
    if state != "online" and upstream.get("cause"):
        said.append(f": {clean(upstream['cause'])}")
    yield said
    if not upstream.get("proven", True):
        yield Text(
            "  It has never answered under this address and secret, so nobody is let in for it. Run: locum check",
            style="yellow",
        )
    if trouble := upstream.get("trouble"):
        yield Text(f"  It is there, but: {clean(trouble)}", style="bold red")
    if waiting := int(outbox.get("waiting") or 0):
        verb = "waits" if waiting == 1 else "wait"
        oldest = f", the oldest for {ago(outbox['oldest'], now)}" if outbox.get("oldest") else ""
        yield Text(f"  {count(waiting, 'record')} {verb} for it{oldest}.")
    if rejected := int(outbox.get("rejected") or 0):
        yield Text(f"  It refused {count(rejected, 'record')}. See: locum outbox list --state rejected", style="red")
    if doubtful := int(outbox.get("in_doubt") or 0):
        text = f"  {count(doubtful, 'record')} may or may not have arrived. See: locum outbox list --state in_doubt"
        yield Text(text, style="red")


def _storage(storage: dict[str, Any]) -> Iterable[Text]:
    if storage.get("level") == "full":
        text = "The disk is FULL: nothing more is kept or acknowledged, and nobody is let in offline. Make room."
        yield Text(text, style="bold red")
    elif storage.get("error"):
        yield Text(f"Storing fails: {clean(storage['error'])}", style="bold red")
    elif storage.get("level") in ("low", "very_low"):
        yield Text(f"The disk is getting full: {size(int(storage.get('free_bytes') or 0))} are free.", style="yellow")


def _upstreams(upstreams: list[dict[str, Any]], now: float) -> Table:
    table = _table(
        "upstream", "dialect", "state", "proven", "since", "#waiting", "#sent", "#in doubt", "#rejected", "#oldest"
    )
    for upstream in upstreams:
        outbox = upstream.get("outbox") or {}
        table.add_row(
            clean(upstream.get("name")),
            clean(upstream.get("dialect")),
            _state(upstream.get("state")),
            "yes" if upstream.get("proven") else Text("no", style="yellow"),
            local(upstream.get("since"), now),
            *(f"{int(outbox.get(key) or 0):,}" for key in ("waiting", "sent", "in_doubt", "rejected")),
            ago(outbox.get("oldest"), now),
        )
    return table


def _devices_line(rows: list[dict[str, Any]]) -> Iterable[Text]:
    if not rows:
        yield Text("Devices      none heard yet")
        return
    states: dict[str, int] = {}
    for row in rows:
        states[str(row.get("offline"))] = states.get(str(row.get("offline")), 0) + 1
    said = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
    sessions = sum(int(row.get("sessions") or 0) for row in rows)
    yield Text(f"Devices      {said}; {count(sessions, 'open session')}")
    unlocked = [_named(row) for row in rows if str(row.get("offline")).startswith("unlocked")]
    if unlocked:
        yield Text(f"Unlocked     {_few(unlocked)}")
    if drilling := [clean(row.get("id")) for row in rows if row.get("drill")]:
        yield Text(f"Drill        {_few(drilling)}", style="yellow")


def _readers_line(rows: list[dict[str, Any]]) -> Iterable[Text]:
    if not rows:
        return
    ours = sum(row.get("served_by") == "locum" for row in rows)
    there = sum(bool(row.get("reader")) for row in rows)
    yield Text(f"Readers      {there:,} of {len(rows):,} connected; Locum serves {ours:,}")
    if away := [clean(row.get("device")) for row in rows if not row.get("reader")]:
        yield Text(f"             no reader at {_few(away)}", style="yellow")
    if alone := [
        clean(row.get("device"))
        for row in rows
        if row.get("reader") and not row.get("server") and row.get("served_by") == "server"
    ]:
        yield Text(f"             no connection with the server: {_few(alone)}", style="yellow")


_UNREAD = {
    "silent": "silent",
    "nobody": "no SNMP agent",
    "denied": "wrong key or access",
    "unreadable": "not understood",
    "strange": "no counter of pages",
}


def _meters_line(rows: list[dict[str, Any]], now: float) -> Iterable[Text]:
    if not rows:
        return
    times = sorted(str(row["read_at"]) for row in rows if row.get("read_at"))
    well = sum(bool(row.get("read_at")) and not row.get("kind") for row in rows)
    said = f", the last {ago(times[-1], now)} ago, the longest {ago(times[0], now)} ago" if times else ""
    yield Text(f"Meters       {well:,} of {len(rows):,} read{said}")
    for kind, words in _UNREAD.items():
        if names := [clean(row.get("device")) for row in rows if row.get("kind") == kind]:
            yield Text(f"             {words}: {_few(names)}. See: locum meters now", style="yellow")


def _snmp_lines(rows: list[dict[str, Any]], traps: dict[str, Any] | None) -> Iterable[Text]:
    if rows:
        asked, remembered = (sum(int(row.get(key) or 0) for row in rows) for key in ("asked", "from_memory"))
        yield Text(f"SNMP proxy   {asked:,} questions, {remembered:,} answered from memory")
        if silent := [clean(row.get("device")) for row in rows if row.get("silent")]:
            yield Text(f"             silent: {_few(silent)}", style="yellow")
    if traps is not None:
        waiting = int(traps.get("waiting") or 0)
        text = f"Traps        {traps.get('kept', 0):,} kept, {traps.get('forwarded', 0):,} forwarded, {waiting:,} wait"
        yield Text(text, style="yellow" if waiting else "")


def _named(row: dict[str, Any]) -> str:
    return f"{clean(row.get('id'))} ({str(row.get('offline')).removeprefix('unlocked-').replace('-', ' ')})"


def _few(names: list[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")


def _last_outage(outage: dict[str, Any] | None, now: float) -> Iterable[Text]:
    if not outage:
        yield Text("Last outage  none yet")
        return
    end = outage.get("recovered")
    lasted = (
        f"lasted {between(outage.get('started'), end)}" if end else f"goes on for {ago(outage.get('started'), now)}"
    )
    figures = ", ".join(
        count(int(outage.get(key) or 0), one)
        for key, one in (("logins", "login"), ("jobs", "job"), ("pages", "page"), ("unknown_cards", "unknown card"))
        if outage.get(key) is not None
    )
    said = f"Last outage  began {local(outage.get('started'), now)}, {lasted}; {figures}"
    waiting = int(outage.get("waiting") or 0) + int(outage.get("sent") or 0)
    left = [
        f"{number:,} {what}"
        for number, what in (
            (waiting, "still to be forwarded"),
            (int(outage.get("in_doubt") or 0), "in doubt"),
            (int(outage.get("rejected") or 0), "refused"),
            (int(outage.get("dropped") or 0), "dropped by hand"),
        )
        if number
    ]
    if outage.get("drained"):
        said += f"; {'forwarded' if left else 'all forwarded'} at {local(outage['drained'], now)}"
        said += f", but {', '.join(left)}" if left else ""
    elif left:
        said += f"; {', '.join(left)}"
    yield Text(said)


def _ledger_line(ledger: dict[str, Any]) -> Iterable[Text]:
    if ledger:
        entries, jobs = int(ledger.get("entries") or 0), int(ledger.get("jobs") or 0)
        taken = size(int(ledger.get("bytes") or 0))
        yield Text(f"Ledger       {count(entries, 'entry', 'entries')}, {count(jobs, 'job')}, {taken}")


def _since(iso: str | None, now: float) -> str:
    return "-" if not iso else f"{local(iso, now)} ({ago(iso, now)} ago)"


def _state(state: object, more: str = "") -> Text:
    word = clean(state or "-")
    return Text(word.replace("_", " ") + more, style=_STYLES.get(word, ""))


def _table(*columns: str) -> Table:
    """A table without lines; a column whose name begins with `#` holds numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        numbers = name.startswith("#")
        table.add_column(name.removeprefix("#").upper(), justify="right" if numbers else "left", overflow="fold")
    return table
