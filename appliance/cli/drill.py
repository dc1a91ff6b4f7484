"""`locum drill`: offline mode on purpose, while the server is there."""

from pathlib import Path

import click

from appliance.cli.common import appliance_options, devices_option, say_devices
from appliance.cli.words import length
from appliance.client import ask
from appliance.config.tables import Duration, decode_hook

LONGEST = 4 * 3600.0
SHORTEST = 10.0


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """A length of time as in the configuration: 90s, 30m, 2h."""
    try:
        found = decode_hook(Duration, value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no length of time; write for example 30m") from None
    seconds = found.seconds if isinstance(found, Duration) else 0.0
    if not SHORTEST <= seconds <= LONGEST:
        raise click.BadParameter(f"{value} is not between {length(SHORTEST)} and {length(LONGEST)}")
    return seconds


@click.group()
def drill() -> None:
    """Rehearse an outage.

    Devices in a drill behave as if the server were away. What is done there is marked as a drill in the ledger, and
    forwarded when the drill ends.

    Example: locum drill start KM-A4F-000123 --for 10m --reason "new copiers"
    """


@drill.command()
@appliance_options
@devices_option
@click.option(
    "--for",
    "seconds",
    callback=_seconds,
    default="30m",
    show_default=True,
    metavar="TIME",
    help="It ends by itself after so long, at most 4h.",
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the ledger with your name.")
def start(state_dir: Path, device: str | None, every: bool, seconds: float, reason: str) -> None:
    """Begin a drill on a device, or on all.

    Example: locum drill start --all --for 30m --reason "rehearsal before the holidays"
    """
    name = _which(device, every)
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    answer = ask(state_dir, "drill-start", device=name, seconds=round(seconds), reason=reason.strip())
    nothing = "A drill has begun on all devices." if name is None else f"A drill has begun on {name}."
    say_devices(answer, lambda devices: f"A drill has begun for {length(seconds)}: {devices}.", nothing)


@drill.command()
@appliance_options
@devices_option
def stop(state_dir: Path, device: str | None, every: bool) -> None:
    """End a drill before its time.

    Sessions that are open finish as offline sessions.

    Example: locum drill stop --all
    """
    answer = ask(state_dir, "drill-stop", device=_which(device, every))
    say_devices(answer, lambda devices: f"The drill has ended: {devices}.", "No drill was running.")


def _which(device: str | None, every: bool) -> str | None:
    """The device that was named, None for all; a drill is for all unless one is named."""
    if every and device is not None:
        raise click.UsageError("name a device or give --all, not both")
    return device
