"""What the commands on the ledger share: where it is, what they are given, and one line for what goes wrong."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.cli.common import Failed, config_option
from storage.errors import LedgerBroken, LedgerMissing, LedgerTooNew, LedgerTooOld, StorageError, translated
from storage.export.filters import WrongFilter
from storage.export.output import WrongPlace
from storage.verifying.opening import CannotVerify

F = TypeVar("F", bound=Callable[..., Any])

_WRONG_INPUT = (LedgerMissing, LedgerBroken, LedgerTooNew, LedgerTooOld, CannotVerify, WrongPlace, WrongFilter)
"""What is wrong with what was named, not with what was to be done: exit status 2."""


class NamedFile(click.Path):
    """A file that is named; an empty name, which a script's empty variable leads to, would mean this directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The file's path. Raises click.BadParameter."""
        if value == "":
            self.fail("the name is empty; name a file", param, ctx)
        return super().convert(value, param, ctx)


def where_options(function: F) -> F:
    """Adds `-c FILE` and `--state-dir DIR` as they were given, as `config` and `state_dir`."""
    directory = click.option(
        "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="The state directory instead."
    )
    return config_option(directory(function))


def failed(error: StorageError) -> Failed:
    """The failure of a command that a storage error stands for."""
    damaged = isinstance(error, LedgerBroken) and isinstance(error.__cause__, sqlite3.Error)
    return Failed(str(error), 2 if isinstance(error, _WRONG_INPUT) and not damaged else 1)


@contextmanager
def in_one_line(path: Path) -> Iterator[None]:
    """What the ledger `path` or the operating system refuses within a `with` is a failure of the command."""
    try:
        yield
    except StorageError as error:
        raise failed(error) from error
    except sqlite3.Error as error:
        raise Failed(str(translated(error, path))) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        raise Failed(f"{where}: {error.strerror or error}; run as root or as the service's user") from error


def milliseconds_now() -> int:
    """The time by this machine's clock."""
    return time.time_ns() // 1_000_000
