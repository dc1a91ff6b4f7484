"""`locum inline`: what standing in line takes, into it, out of it, and how it stands."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from appliance.cli.common import Failed, config_option, json_option
from appliance.cli.words import count
from appliance.config import Config, InlineConfig, load
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
    with _at_work(config) as (loaded, at_kernel):
        _settings(loaded)
        _as_root()
        if not loaded.state_dir.is_dir():
            raise Failed(f"there is no state directory {loaded.state_dir}; start the appliance once, or run locum init")
        before = standing.standing(loaded.state_dir)
        if before is not None:
            standing.must_fit(before, planned(loaded, at_kernel))
        if _say_problems(loaded, at_kernel, made_here=before is not None):
            raise Failed("nothing is changed")
        standing.go(loaded.state_dir, planned(loaded, at_kernel), at_kernel)
        if confirm and not _confirmed():
            _leave(loaded, at_kernel, wire=before is None)
            raise Failed(f"it was not confirmed within {CONFIRM_WITHIN:g} seconds; everything is undone")
    click.echo("Locum stands in line; traffic is diverted while the appliance runs (locum inline status).")


@inline.command()
@config_option
@click.option(
    "--all", "wire", is_flag=True, help="Take away the bridge too, and with it the way between its interfaces."
)
def down(config: Path, wire: bool) -> None:
    """Go out of the line: a plain bridge, or a plain router, is left.

    Only what Locum set up is taken away, and settings get the values that they had.

    Example: locum inline down
    """
    with _at_work(config) as (loaded, at_kernel):
        _as_root()
        stood = standing.standing(loaded.state_dir)
        if stood is None or not (wire or stood.diverts):
            click.echo("Locum does not stand in line; there is nothing to take away.")
            return
        _leave(loaded, at_kernel, wire=wire)
        left = standing.standing(loaded.state_dir) is not None
    what = (
        "a plain bridge passes everything (locum inline down --all takes it away)" if left else "nothing of it is left"
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
        seen = watched(at_kernel, interfaces, bridge=settings.mode == "bridge")
    if as_json:
        click.echo(json.dumps(_as_json(settings.mode, stands, seen), indent=2))
        return
    for line in _as_lines(settings.mode, stands, seen):
        click.echo(line)


@contextmanager
def _at_work(config: Path) -> Iterator[tuple[Config, Kernel]]:
    loaded = load(config)
    try:
        with kernel() as at_kernel:
            yield loaded, at_kernel
    except KernelRefuses as error:
        raise Failed(str(error)) from error


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


def _leave(loaded: Config, at_kernel: Kernel, *, wire: bool) -> None:
    stood = standing.standing(loaded.state_dir)
    if stood is not None and (left := standing.leave(loaded.state_dir, stood, at_kernel, wire=wire)):
        raise Failed(f"not everything could be taken away: {'; '.join(left)}; run 'locum inline down' again")


def _confirmed() -> bool:
    """Whether somebody types yes in time. A line that was cut is nobody."""
    signal.signal(signal.SIGHUP, lambda *_: sys.stdin.close())
    click.echo(
        f"Locum stands in line. Type {YES} within {CONFIRM_WITHIN:g} seconds to stay there: ", err=True, nl=False
    )
    try:
        ready, _, _ = select.select([sys.stdin], [], [], CONFIRM_WITHIN)
        return bool(ready) and sys.stdin.readline().strip().lower() == YES
    except (OSError, ValueError, KeyboardInterrupt):
        return False


def _as_json(mode: str, stands: bool, seen: Watched) -> dict[str, Any]:
    counts = ("to_server", "to_copier", "sent", "unknown", "handed")
    return {
        "mode": mode,
        "standing": stands,
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
        yield "Locum stands in line, and the appliance does not run: everything passes without it."
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
    if seen.rules:
        yield f"  given to a socket {_said(seen.handed)}"


def _said(number: Count) -> str:
    return f"{count(number.packets, 'packet')} ({number.octets:,} bytes)"
