"""`locum ledger verify`: whether a ledger is what Locum wrote, for people and for scripts.

Exit status 0: nothing is wrong; 1: something is; 2: there was nothing to verify, or with nothing.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from appliance.cli.common import Failed, json_option
from appliance.cli.words import clean, count
from storage import checkpoints
from storage.errors import StorageError
from storage.signing import NotAKey, installation_of, public_key_from
from storage.verify import Report
from storage.verify import verify as verify_file

_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    "keys",
    multiple=True,
    metavar="KEY|FILE",
    help="A key that must have signed it: base64, hex, or a file (PEM). May be given again, for a replaced appliance.",
)
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    metavar="FILE|LINE",
    help="A checkpoint that was kept elsewhere, or a file of such lines (a syslog server's); the mark at a PaperCut "
    "server; or NUMBER:HASH. May be given again.",
)
@json_option
@click.pass_context
def verify(context: click.Context, file: Path, keys: Sequence[str], witnesses: Sequence[str], as_json: bool) -> None:
    """Verify a ledger, or a backup, an archive or an SQLite export of one.

    Nothing is written to it, and the appliance may go on working with it. Says what is wrong first, and where; see
    docs/verifying.md for what each finding means and what cannot be proven.

    Example: locum ledger verify /var/lib/locum/ledger.db --public-key locum.pub --witness checkpoints.log
    """
    trusted = [_key(given) for given in keys]
    try:
        with _progress(as_json) as progress:
            report = verify_file(file, trusted, witnesses, progress)
    except StorageError as error:
        raise Failed(str(error), 2) from error
    if as_json:
        click.echo(json.dumps(_as_json(file, report), indent=2))
    else:
        for line in _in_words(file, report, bool(witnesses)):
            click.echo(line)
    if report.wrong is not None:
        context.exit(1)


def _key(given: str) -> bytes:
    """The public key that was given, or that is in the file that was named: its own or a checkpoint's."""
    text = given
    path = Path(given)
    try:
        if path.is_file():
            text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise Failed(f"the key {given} cannot be read ({error.strerror}); look at its owner and its mode", 2) from error
    lines = {point.public_key for point in checkpoints.lines_in(text)}
    if len(lines) == 1:
        return lines.pop()
    pem = _PEM.search(text)
    try:
        return public_key_from(pem[0] if pem else text)
    except NotAKey as error:
        raise Failed(
            f"--public-key {_short(given)} is neither a public key nor a file with one ({error})", 2
        ) from error


def _short(given: str) -> str:
    return clean(given if len(given) <= 60 else f"{given[:60]}...")


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, on standard error so that what is said can be piped."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _as_json(file: Path, report: Report) -> dict[str, Any]:
    wrong = report.wrong
    return {
        "file": str(file),
        "ok": report.ok,
        "wrong": {"where": wrong.where, "what": wrong.what} if wrong is not None else None,
        "kind": report.kind,
        "schema": report.version,
        "entries": report.entries,
        "first": report.first,
        "last": report.last,
        "head": f"sha256:{report.head}" if report.head else "",
        "checkpoints": report.checkpoints,
        "signed_through": report.signed_through,
        "signed_at": report.signed_at,
        "unsigned": report.unsigned,
        "personal": report.personal,
        "erased": report.erased,
        "lost": report.lost,
        "key": report.key.hex() if report.key is not None else None,
        "installation": report.installation,
        "key_source": report.key_source,
        "witnesses": report.witnesses,
        "remarks": list(report.remarks),
    }


def _in_words(file: Path, report: Report, witnessed: bool) -> Iterator[str]:
    if report.wrong is not None:
        yield f"{file}: WRONG"
        yield f"  {clean(report.wrong)}"
        yield f"  Sound before that: {count(report.entries, 'entry', 'entries')}."
    else:
        yield f"{file}: nothing is wrong"
        yield (
            f"  {count(report.entries, 'entry', 'entries')} (schema {report.version}): every hash, every plain row, "
            f"{count(report.personal, 'row')} of personal data."
        )
    if report.erased:
        yield f"  {count(report.erased, 'entry', 'entries')} without personal data, which was erased: notes say so."
    if report.lost:
        yield (
            f"  {count(report.lost, 'entry', 'entries')} without personal data, and no note up to entry {report.last} "
            "says that it was erased."
        )
    if report.head:
        yield f"  Entry {report.last} has the hash {report.head}."
    yield from _signed_in_words(report)
    if report.witnesses:
        yield f"  {count(report.witnesses, 'mark')} of witnesses {'agrees' if report.witnesses == 1 else 'agree'}."
    for remark in report.remarks:
        yield f"  Note: {clean(remark)}."
    if report.wrong is None:
        yield from _unproven(report, witnessed)


def _signed_in_words(report: Report) -> Iterator[str]:
    if report.key is None:
        if report.version >= 3:
            yield "  No checkpoint: nothing is signed."
        return
    installation = installation_of(report.key)
    if not report.signed_through:
        yield f"  Nothing is signed by the given key; what is signed is by {installation}."
        return
    signed = f"through entry {report.signed_through}, {report.signed_at}" if report.signed_at else "not at all"
    key = base64.b64encode(report.key).decode()
    yield f"  Signed {signed}: {count(report.checkpoints, 'checkpoint')}, key {key}, installation {installation}."
    if report.unsigned:
        yield f"  Not signed yet: {count(report.unsigned, 'entry', 'entries')} after that."


def _unproven(report: Report, witnessed: bool) -> Iterator[str]:
    """What a sound report does not say."""
    if report.key is None:
        yield "  Without a signature, whoever could write the file could make all hashes anew."
    elif report.key_source == "file":
        yield (
            "  The key is the file's own: compare it with the one written down when the appliance was set up "
            "(--public-key)."
        )
    if not witnessed:
        yield "  Whether the end was cut off, or all was made anew with the key, only a witness shows (--witness)."
