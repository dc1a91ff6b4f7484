"""`locum decode`: what a capture says, as a person reads it; and its records taken into the ledger."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from appliance.cli.common import Failed, config_option, json_option
from appliance.cli.progress import Progress, interruptible, progress
from appliance.cli.words import clean, count
from appliance.config import Config, OfflineConfig, load
from appliance.ledger_access import change, zone_of
from appliance.seeing import secrets, words
from appliance.seeing.conversations import Conversations, said_in
from appliance.seeing.files import CannotRead
from appliance.seeing.known import Imported, bring_in, unknown_to
from appliance.seeing.radius import card_rule
from appliance.seeing.recovering import Recovered, Recovery
from appliance.seeing.said import Said
from appliance.state_dir import LEDGER_NAME
from protocols.errors import ProtocolError
from protocols.radius.accounting import JobMapping, mapping_from_names
from protocols.radius.dictionary import parse_dictionary, shipped_dictionary
from storage import times
from storage.database import reading
from storage.errors import LedgerMissing, StorageError, translated

FILES = click.Path(path_type=Path)


@click.command()
@config_option
@json_option
@click.option("--secret-file", type=FILES, metavar="FILE", help="Holds the RADIUS secret, to check what is said.")
@click.option("--show-cards", is_flag=True, help="Show card numbers, codes and passwords in full.")
@click.option("--time-zone", "zone_name", metavar="ZONE", help="Zone of times, such as Europe/Berlin.")
@click.option("--import", "take_in", is_flag=True, help="Take the records into the ledger, marked as recovered.")
@click.option("--forward", is_flag=True, help="With --import: what the server has not acknowledged goes to it.")
@click.argument("captures", nargs=-1, required=True, type=FILES, metavar="FILE...")
@click.pass_context
def decode(
    context: click.Context,
    config: Path,
    as_json: bool,
    secret_file: Path | None,
    show_cards: bool,
    zone_name: str | None,
    take_in: bool,
    forward: bool,
    captures: tuple[Path, ...],
) -> None:
    """Print captures (pcap, pcapng) dialect by dialect, as a person reads them.

    Several files are read as one capture, in the order in which they are named. Card numbers are shortened, codes and
    passwords left out, unless they are asked for. With --import nothing is printed, and the accounting records of
    devices are taken into the ledger, as far as it does not have them: never twice.

    Example: locum decode office.pcapng
    """
    if forward and not take_in:
        raise click.UsageError("--forward belongs to --import")
    named = context.get_parameter_source("config") is click.core.ParameterSource.COMMANDLINE
    settings = load(config) if take_in or named else None
    offline = settings.offline if settings is not None else OfflineConfig()
    try:
        if secret_file is not None:
            secrets_of = secrets.from_file(secret_file)
        else:
            secrets_of = secrets.from_config(settings) if settings is not None else secrets.none_known
    except secrets.WrongSecret as error:
        raise Failed(str(error), 2) from error
    conversations = Conversations(secrets_of, card_rule(offline.card_pattern), _mapping(settings))
    if take_in and settings is not None:
        _import(conversations, settings, captures, forward)
        return
    zone = zone_of(settings, zone_name)
    devices: set[str] = set()
    messages = 0
    damaged: list[str] = []
    for said in _said(conversations, captures, damaged):
        messages += 1
        devices.add(said.source[0] if said.from_device else said.target[0])
        if as_json:
            click.echo(json.dumps(words.as_json(said, show_cards), ensure_ascii=False))
        else:
            click.echo(words.line(said, zone, show_cards))
    counts = conversations.counts
    if as_json:
        summary = {"messages": messages, "frames": counts.frames, "unreadable": dict(sorted(counts.unreadable.items()))}
        click.echo(json.dumps({"summary": summary}))
    else:
        click.echo(words.closing(messages, len(devices), counts.frames))
        if counts.unreadable:
            click.echo(words.unreadable(counts.unreadable))
    if damaged:
        raise Failed("; ".join(damaged))


def _said(conversations: Conversations, captures: tuple[Path, ...], damaged: list[str]) -> Iterator[Said]:
    try:
        yield from said_in(conversations, captures, damaged)
    except CannotRead as error:
        raise Failed(str(error), 2) from error


def _import(conversations: Conversations, config: Config, captures: tuple[Path, ...], forward: bool) -> None:
    recovery = Recovery(config)
    damaged: list[str] = []
    for said in _said(conversations, captures, damaged):
        recovery.heard(said)
    if damaged and forward:
        why = "the server's acknowledgement of a record may be missing; without --forward the records are taken in"
        raise Failed(f"{'; '.join(damaged)}; nothing is forwarded, for {why}")
    found = recovery.records()
    with _ledger(config.state_dir / LEDGER_NAME) as connection:
        fresh = unknown_to(connection, found)
    with progress() as tell, interruptible():
        done = _bring_in(config, captures, fresh, forward, tell)
    taken = sum(each.acknowledged for each in found)
    click.echo(
        f"{count(len(found), 'record')} of devices in {count(conversations.counts.frames, 'frame')}: "
        f"{taken:,} acknowledged by the server, {len(found) - taken:,} not."
    )
    known = len(found) - len(fresh) + done.known
    added = f"{count(done.added, 'record')} added to the ledger as recovered"
    conflicts = f", {done.conflicts:,} with a number that it has for another job" if done.conflicts else ""
    click.echo(f"{added}{conflicts}; it had {known:,} already.")
    if done.waiting:
        click.echo(f"{count(done.waiting, 'record')} of them to be forwarded (locum outbox list).")
    if recovery.left_out:
        reasons = ", ".join(f"{reason} {many:,}" for reason, many in sorted(recovery.left_out.items()))
        click.echo(f"Left out: {reasons}.")
    if conversations.counts.unreadable:
        click.echo(words.unreadable(conversations.counts.unreadable))
    if damaged:
        raise Failed("; ".join(damaged))


def _bring_in(
    config: Config, captures: tuple[Path, ...], fresh: list[Recovered], forward: bool, tell: Progress
) -> Imported:
    """Keep the records, and note where they came from."""
    done = bring_in(config.state_dir, [each.kept_as(forward) for each in fresh], tell)
    if done.added:
        moments = [each.record.at for each in fresh]
        data: dict[str, Any] = {
            "files": " ".join(clean(path.name) for path in captures)[:1_000],
            "sha256": " ".join(_digest(path) for path in captures)[:2_000],
            "records": done.added,
            "forwarded": done.waiting,
            "first": times.text(min(moments)),
            "last": times.text(max(moments)),
        }
        change(config.state_dir, "ledger-note", note="recovered", data=data)
    return done


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _ledger(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with reading(path) as connection:
            yield connection
    except sqlite3.Error as error:
        raise Failed(str(translated(error, path))) from error
    except StorageError as error:
        raise Failed(str(error), 2 if isinstance(error, LedgerMissing) else 1) from error


def _mapping(config: Config | None) -> JobMapping | None:
    """Where the devices of this configuration tell of their jobs."""
    if config is None:
        return None
    try:
        dictionary = shipped_dictionary()
        for path in config.radius.dictionary_files:
            dictionary = parse_dictionary(path.read_text("utf-8"), dictionary)
        return mapping_from_names(dictionary, config.radius.job, config.radius.vendor_id)
    except (ProtocolError, OSError, UnicodeDecodeError) as error:
        raise Failed(f"{config.path}: [radius] cannot be used ({error}); see: locum check", 2) from error
