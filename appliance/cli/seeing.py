"""`locum discover` and `locum capture`: what is on the wire, and a record of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click

from appliance.cli import tables
from appliance.cli.common import Failed, json_option
from appliance.cli.progress import progress, stoppable
from appliance.cli.words import clean, count
from appliance.cli.words import size as size_of
from appliance.config import OfflineConfig
from appliance.seeing import discovered, naming, papercut, radius, secrets, terminal
from appliance.seeing.conversations import Conversations, said_in
from appliance.seeing.files import CannotRead
from appliance.seeing.listening import CannotListen, Heard, Listening, become, give_up_root, service_user
from appliance.seeing.proposing import configuration
from appliance.seeing.radius import card_rule
from appliance.seeing.ring import CannotWrite, Ring
from appliance.seeing.sieve import MOST_PORTS
from appliance.seeing.sightings import Sightings

FILES = click.Path(path_type=Path)
PORTS = radius.PORTS | terminal.PORTS | papercut.PORTS | papercut.TLS_PORTS


@click.command()
@json_option
@click.option("--interface", "interfaces", multiple=True, metavar="IF", help="Where to listen; twice to stand in line.")
@click.option("--pcap", "captures", multiple=True, type=FILES, metavar="FILE", help="A capture to read instead.")
@click.option("--seconds", type=click.FloatRange(1, 86_400), default=60, show_default=True, help="How long to listen.")
@click.option("--write", "target", type=FILES, metavar="FILE", help="Write a configuration for what was seen.")
def discover(
    as_json: bool, interfaces: tuple[str, ...], captures: tuple[Path, ...], seconds: float, target: Path | None
) -> None:
    """Tell which copiers talk to which servers, by which protocols, and propose a configuration.

    Only listens. It sends nothing, asks nobody, and gives up root once it can hear. Ctrl-C ends it early. Given twice,
    the first --interface is the copiers' side, unless they are heard on the other.

    Example: locum discover --interface eth1 --seconds 300 --write locum.toml
    """
    if bool(interfaces) == bool(captures) or len(interfaces) > 2:
        raise click.UsageError("name one or two interfaces, or captures with --pcap")
    sightings = Sightings()
    conversations = Conversations(secrets.none_known, card_rule(OfflineConfig().card_pattern), passed=sightings.packet)
    if captures:
        heading, lost = "from " + ", ".join(clean(path.name) for path in captures), 0
        output = _created(target) if target is not None else None
        damaged = _read(conversations, sightings, captures)
    else:
        damaged = []
        heading = f"from {count(round(seconds), 'second')} on {', '.join(interfaces)}"
        with stoppable() as stopped, _listening(interfaces) as heard:
            output = _created(target) if target is not None else None
            naming.load()
            if sys.stderr.isatty():
                click.echo(f"Listening {heading.replace('from', 'for', 1)}; Ctrl-C ends it early.", err=True)
            give_up_root()
            try:
                for each in heard.frames(seconds, stopped):
                    _saw(conversations, sightings, each, several=len(interfaces) > 1)
            except CannotListen as error:
                raise Failed(str(error)) from error
            for said in conversations.close(0):
                sightings.said(said)
            lost = heard.dropped()
    copiers = sightings.copiers()
    if output is not None:
        with output:
            output.write(
                configuration(sightings, heading, interfaces) if copiers else f"# Nobody was seen {heading}.\n"
            )
    if as_json:
        click.echo(json.dumps(discovered.as_json(copiers, conversations.counts, lost), indent=2, ensure_ascii=False))
    else:
        if copiers:
            tables.show(discovered.table(copiers))
        click.echo(discovered.closing(copiers, conversations.counts.frames, lost))
        if target is not None and copiers:
            click.echo(f"Wrote {target}; write the secrets that it names, then: locum check -c {target}")
    if damaged:
        raise Failed("; ".join(damaged))


@click.command()
@click.option("--interface", required=True, metavar="IF", help="Where to listen.")
@click.option("--dir", "directory", type=FILES, required=True, metavar="DIR", help="Where the files go.")
@click.option(
    "--files", "many", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many are kept."
)
@click.option("--size", type=click.IntRange(1, 10_000), default=100, show_default=True, help="MB of each.")
@click.option("--port", "ports", type=click.IntRange(1, 65_535), multiple=True, help="A further port to record.")
@click.option("--seconds", type=click.FloatRange(1), help="How long; else until Ctrl-C.")
def capture(
    interface: str, directory: Path, many: int, size: int, ports: tuple[int, ...], seconds: float | None
) -> None:
    """Record the dialects' traffic to a ring of pcapng files.

    RADIUS, terminals and PaperCut, by their ports; the kernel sorts out everything else. The files hold card numbers
    and whatever else crossed the network, and are closed to others.

    Example: locum capture --interface eth1 --dir /var/lib/locum/capture
    """
    wanted = sorted({*PORTS, *ports})
    if len(wanted) > MOST_PORTS:
        raise click.UsageError(f"{len(wanted)} ports; at most {MOST_PORTS} can be recorded")
    ring = Ring(directory, many, size * 1_000_000)
    with stoppable() as stopped, _listening((interface,), wanted) as heard:
        _own(directory)
        try:
            for each in heard.frames(seconds, stopped):
                ring.write(each.frame)
            ring.close()
        except (CannotWrite, CannotListen) as error:
            ring.close()
            raise Failed(f"{error}; {_recorded(ring, heard.dropped())} before") from error
        click.echo(f"{_recorded(ring, heard.dropped())} in {directory}.")


def _saw(conversations: Conversations, sightings: Sightings, heard: Heard, *, several: bool) -> None:
    """A frame has passed. On `several` interfaces it goes out by one after it came in by another."""
    if several and heard.going_out:
        return
    sightings.interface = "" if heard.going_out else heard.interface
    for said in conversations.frame(heard.frame.at, heard.frame.link, heard.frame.data):
        sightings.said(said)


def _read(conversations: Conversations, sightings: Sightings, captures: tuple[Path, ...]) -> list[str]:
    """What could not be read of them, a line each."""
    damaged: list[str] = []
    try:
        with progress() as bar:
            for said in said_in(conversations, captures, damaged, bar):
                sightings.said(said)
    except CannotRead as error:
        raise Failed(str(error), 2) from error
    return damaged


def _listening(interfaces: tuple[str, ...], ports: Sequence[int] = ()) -> Listening:
    try:
        return Listening(interfaces, ports)
    except CannotListen as error:
        raise Failed(str(error)) from error


def _created(target: Path) -> TextIO:
    """A new file, closed to others but the service."""
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        if (someone := service_user()) is not None and os.geteuid() == 0:
            os.fchown(descriptor, 0, someone[1])
            os.fchmod(descriptor, 0o640)
        return open(descriptor, "w", encoding="utf-8")
    except FileExistsError:
        raise Failed(f"{target} is there already; name another file with --write", 2) from None
    except OSError as error:
        raise Failed(f"{target}: cannot be written ({error.strerror}); name another file with --write", 2) from error


def _own(directory: Path) -> None:
    """Make the directory if need be, for the service's user, and become whom it belongs to."""
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700)
            someone = service_user()
            if someone is not None and os.geteuid() == 0:
                os.chown(directory, *someone)
        owner = directory.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            become(owner.st_uid, owner.st_gid)
    except OSError as error:
        raise Failed(f"{directory}: cannot be used ({error.strerror}); name another --dir", 2) from error


def _recorded(ring: Ring, lost: int) -> str:
    missed = f", {lost:,} lost because they came too fast" if lost else ""
    return f"{count(ring.frames, 'frame')} ({size_of(ring.octets)}) recorded{missed}"
