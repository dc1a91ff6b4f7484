"""What the commands share: how the appliance is found, and how a command fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.cli.words import clean, count
from appliance.config import state_dir_of

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = Path("/etc/locum/locum.toml")
MOST_NAMES = 10
"""So many devices are named in an answer; more are counted."""


class Failed(Exception):
    """A command could not do its work. The text is one line: what, where, what to do."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def config_option(function: F) -> F:
    """Adds `-c FILE`."""
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        default=DEFAULT_CONFIG,
        show_default=True,
        metavar="FILE",
        help="The configuration.",
    )(function)


def appliance_options(function: F) -> F:
    """Adds `-c FILE` and `--state-dir DIR`, and gives the function the state directory as `state_dir`."""
    directory = click.option(
        "--state-dir",
        callback=_state_dir,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where the appliance keeps its state, instead of asking the configuration.",
    )
    # The configuration is only needed to find the directory, so it must be read first and is not handed on.
    config = click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        default=DEFAULT_CONFIG,
        show_default=True,
        metavar="FILE",
        help="The configuration, which names the state directory.",
        is_eager=True,
        expose_value=False,
        callback=_remember_config,
    )
    return config(directory(function))


def devices_option(function: F) -> F:
    """Adds `DEVICE` and `--all`, as `device` and `every`; `which_devices` judges them."""
    every = click.option("--all", "every", is_flag=True, help="Every device.")
    return click.argument("device", required=False, metavar="[DEVICE]")(every(function))


def which_devices(device: str | None, every: bool) -> str | None:
    """The device that was named, None for all."""
    if every == (device is not None):
        raise click.UsageError("name a device, or give --all")
    return device


def say_devices(answer: Any, done: Callable[[str], str], nothing: str) -> None:
    """Print what the appliance did: its own words if it has any, else `done` with the devices' names, or `nothing`."""
    names = [clean(each) for each in answer.get("devices") or []] if isinstance(answer, dict) else []
    few = ", ".join(names) if len(names) <= MOST_NAMES else count(len(names), "device")
    click.echo(message_of(answer) or (done(few) if names else nothing))


def message_of(answer: Any) -> str:
    """What the appliance wants to be said to a person, "" if nothing."""
    return clean(answer.get("message") or "") if isinstance(answer, dict) else ""


def json_option(function: F) -> F:
    """Adds `--json` as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(function)


def _remember_config(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    context.meta["locum.config"] = value
    return value


def _state_dir(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    return value.absolute() if value is not None else state_dir_of(context.meta["locum.config"])
