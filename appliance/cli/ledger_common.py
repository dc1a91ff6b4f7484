"""What the commands on the ledger share."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.cli.common import Failed, config_option
from storage.errors import LedgerBroken, LedgerMissing, LedgerTooNew, LedgerTooOld, StorageError
from storage.export.filters import WrongFilter
from storage.export.output import WrongPlace
from storage.verifying.opening import CannotVerify

F = TypeVar("F", bound=Callable[..., Any])

_WRONG_INPUT = (LedgerMissing, LedgerBroken, LedgerTooNew, LedgerTooOld, CannotVerify, WrongPlace, WrongFilter)
"""What is wrong with what was named, not with what was to be done: exit status 2."""


def where_options(function: F) -> F:
    """Adds `-c FILE` and `--state-dir DIR` as they were given, as `config` and `state_dir`."""
    directory = click.option(
        "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="The state directory instead."
    )
    return config_option(directory(function))


def failed(error: StorageError) -> Failed:
    """The failure of a command that a storage error stands for."""
    return Failed(str(error), 2 if isinstance(error, _WRONG_INPUT) else 1)


def milliseconds_now() -> int:
    """The time by this machine's clock."""
    return time.time_ns() // 1_000_000
