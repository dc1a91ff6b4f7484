"""`locum inline`: what standing in line takes, into it, out of it, and how it stands."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from appliance.cli.common import Failed, config_option, json_option
from appliance.cli.words import count
from appliance.config import Config, InlineConfig, load, state_dir_of
from appliance.inline import standing
from appliance.inline.kernel import Kernel, KernelRefuses, kernel
from appliance.inline.plan import plan as planned
from appliance.inline.plan import problems
from appliance.inline.watching import Count, Watched, watched

CONFIRM_WITHIN = 60.0
YES = "yes"


@click.group()
def inline() -> None:
    """Stand in line between copiers and server, as a bridge or a router.

    The section [inline] of the configuration says where. `locum check` says what is in the way.

    Example: locum inline up --confirm
    """


@inline.command()
@config_option
def plan(config: Path) -> None:
    """Print every step into the line, and change nothing.

    Each line is the command that would do the same by hand.

    Example: locum inline plan
    """
    with _at_work(config) as (loaded, at_kernel):
        _settings(loaded)
        stands = standing.standing(loaded.state_dir) is not None
        steps = planned(loaded, at_kernel)
        fatal = _say_problems(loaded, at_kernel, made_here=stands)
        for step in steps:
            click.echo(step.words)
        if fatal:
            raise Failed("with this in the way, 'locum inline up' would not begin")


@inline.command()
@config_option
@click.option(
    "--confirm", is_flag=True, help="Undo everything unless you type yes, within 60 seconds, over the same network."
)
def up(config: Path, confirm: bool) -> None:
    """Stand in line: all of it, or nothing.

    Traffic is diverted from the moment the appliance runs; before, and whenever it does not, everything passes. Done
    again after a change of the configuration, it gives the kernel the new rules; where interfaces change, go out of the
    line first.

    Example: locum inline up --confirm
    """
    with _at_work(config) as (loaded, at_kernel), _stopped_in_order():
        _settings(loaded)
        _as_root()
        if not loaded.state_dir.is_dir():
            raise Failed(f"there is no state directory {loaded.state_dir}; start the appliance once, or run locum init")
        with standing.alone(loaded.state_dir):
            before = standing.standing(loaded.state_dir)
            if before is not None:
                standing.must_fit(before, planned(loaded, at_kernel))
            if _say_problems(loaded, at_kernel, made_here=before is not None):
                raise Failed("nothing is changed")
            try:
                standing.go(loaded.state_dir, planned(loaded, at_kernel), at_kernel)
                if confirm:
                    _ask()
            except (_Unconfirmed, KeyboardInterrupt, OSError) as error:
                standing.back(loaded.state_dir, before, at_kernel)
                why = str(error) or "it was interrupted"
                raise Failed(f"{why}; {'all is as it was before' if before else 'everything is undone'}") from None
    click.echo("Locum stands in line; traffic is diverted while the appliance runs (locum inline status).")
    if standing.gone_at_boot():
        click.echo(f"warning: {standing.AT_BOOT}", err=True)


@inline.command()
@config_option
@click.option(
    "--all", "wire", is_flag=True, help="Take away the bridge too, and with it the way between its interfaces."
)
def down(config: Path, wire: bool) -> None:
    """Go out of the line: a plain bridge, or a plain router, is left.

    Only what Locum set up is taken away, and settings get the values that they had; those that a plain bridge needs get
    them with --all.

    Example: locum inline down
    """
    # What was set up is in the state directory: a file that has mistakes by now is in nobody's way.
    state_dir = state_dir_of(config)
    with _refusals(), kernel() as at_kernel:
        _as_root()
        if not state_dir.is_dir():
            raise Failed(f"there is no state directory {state_dir}")
        with standing.alone(state_dir):
            stood = standing.standing(state_dir)
            if stood is None or not (wire or stood.diverts):
                click.echo("Locum does not stand in line; there is nothing to take away.")
                return
            if left := standing.leave(state_dir, stood, at_kernel, wire=wire):
                raise Failed(f"not everything could be taken away: {'; '.join(left)}; run 'locum inline down' again")
            bridged = standing.standing(state_dir) is not None
    what = (
        "a plain bridge passes everything (locum inline down --all takes it away)"
        if bridged
        else "nothing of it is left"
    )
    click.echo(f"Locum is out of the line; {what}.")


@inline.command()
@config_option
@json_option
def status(config: Path, as_json: bool) -> None:
    """Say how Locum stands in line, and what is diverted.

    Example: locum inline status
    """
    with _at_work(config) as (loaded, at_kernel):
        settings = _settings(loaded)
        stood = standing.standing(loaded.state_dir)
        interfaces = [settings.copier_side, settings.server_side]
        if settings.mode == "bridge":
            interfaces.append(settings.bridge)
        stands = stood is not None and stood.diverts
        lost = standing.lost(stood, at_kernel) if stood is not None else []
        seen = watched(at_kernel, interfaces, bridge=settings.mode == "bridge")
    if as_json:
        click.echo(json.dumps(_as_json(settings.mode, stands, lost, seen), indent=2))
        return
    for line in _as_lines(settings.mode, stands, seen):
        click.echo(line)
    for words in lost:
        click.echo(f"  taken away by others: {words}; put it back with: locum inline up")


@contextmanager
def _at_work(config: Path) -> Iterator[tuple[Config, Kernel]]:
    loaded = load(config)
    with _refusals(), kernel() as at_kernel:
        yield loaded, at_kernel


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except KernelRefuses as error:
        raise Failed(str(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(f"{error.filename or 'the system'}: {error.strerror}") from error


def _settings(loaded: Config) -> InlineConfig:
    if loaded.inline is None:
        raise Failed(f"{loaded.path} has no section [inline]; see docs/inline.md", 2)
    return loaded.inline


def _as_root() -> None:
    if os.geteuid() != 0:
        raise Failed("only root may change the network; run it with sudo")


def _say_problems(loaded: Config, at_kernel: Kernel, *, made_here: bool) -> bool:
    """Print what is in the way; whether anything is that must not be."""
    fatal = False
    for each in problems(loaded, at_kernel, made_here=made_here):
        fatal = fatal or each.fatal
        click.echo(f"{'error' if each.fatal else 'warning'}: {each.text}", err=True)
    return fatal


class _Unconfirmed(Exception):
    """Nobody said yes."""


def _ask() -> None:
    """Raises _Unconfirmed unless somebody types yes in time. A line that was cut is nobody."""
    click.echo(
        f"Locum stands in line. Type {YES} within {CONFIRM_WITHIN:g} seconds to stay there: ", err=True, nl=False
    )
    until, typed = time.monotonic() + CONFIRM_WITHIN, b""
    while b"\n" not in typed:
        ready, _, _ = select.select([sys.stdin], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            raise _Unconfirmed(f"it was not confirmed within {CONFIRM_WITHIN:g} seconds")
        more = os.read(sys.stdin.fileno(), 256)
        if not more:
            raise _Unconfirmed("nobody is there to confirm it")
        typed += more
    if typed.strip().lower() != YES.encode():
        raise _Unconfirmed(f"{YES} was not typed")


@contextmanager
def _stopped_in_order() -> Iterator[None]:
    """A hangup or a request to end is an interruption, as Ctrl-C is: what was begun is undone."""
    asked = (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT)
    before = {number: signal.signal(number, signal.default_int_handler) for number in asked}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_json(mode: str, stands: bool, lost: list[str], seen: Watched) -> dict[str, Any]:
    counts = ("no_room", "to_server", "to_copier", "sent", "unknown", "handed")
    return {
        "mode": mode,
        "standing": stands,
        "lost": lost,
        "rules": seen.rules,
        "diverting": seen.rules and seen.beating,
        "flows": seen.flows,
        "links": seen.links,
        **{name: {"packets": each.packets, "bytes": each.octets} for name in counts if (each := _count(seen, name))},
    }


def _count(seen: Watched, name: str) -> Count:
    found: Count = getattr(seen, name)
    return found


def _as_lines(mode: str, stands: bool, seen: Watched) -> Iterator[str]:
    if not stands and not seen.rules:
        yield f"Locum does not stand in line ({mode}): locum inline up."
    elif not seen.rules:
        yield "The rules are gone and everything passes; put them back with: locum inline up."
    elif not seen.beating:
        yield "Locum stands in line; no appliance runs that was started with [inline], so everything passes without it."
    else:
        yield (
            f"Locum stands in line and diverts {count(seen.flows, 'flow')}."
            if mode == "bridge"
            else ("Locum stands in line and diverts.")
        )
    for name, how in seen.links.items():
        yield f"  {name} {how}"
    if seen.rules and mode == "bridge":
        yield f"  taken from copiers {_said(seen.to_server)}, from servers {_said(seen.to_copier)}"
        yield f"  sent in their names {_said(seen.sent)}; not sent, for no MAC address was seen {_said(seen.unknown)}"
    if seen.no_room.packets:
        yield f"  passed, for there were too many flows to remember another: {_said(seen.no_room)}"
    if seen.rules:
        yield f"  given to a socket {_said(seen.handed)}"


def _said(number: Count) -> str:
    return f"{count(number.packets, 'packet')} ({number.octets:,} bytes)"
