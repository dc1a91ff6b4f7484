"""How the commands change a ledger: through the running appliance, or on the file itself where none runs.

One function, so that a command need not know which of the two it is. Both do the deeds of `ledger_deeds`, and the
ledger says who did them. Here is also which time zone the commands show times in.
"""

from __future__ import annotations

import os
import pwd
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from appliance import ledger_deeds, witness
from appliance.cli.common import Failed
from appliance.cli.ledger_common import failed
from appliance.client import ClientError, NotRunning, ask
from appliance.config import Config, time_zone_of, zones
from appliance.state_dir import LEDGER_NAME, StateDirError, prepare, signing_key
from storage import signed
from storage.answers import Outcome
from storage.database import reading
from storage.errors import LedgerMissing, StorageError, translated
from storage.inheriting import kept_for_start
from storage.ledger import Ledger
from storage.records import AppLogLine, Keepable
from storage.signing import Signer


def change(state_dir: Path, command: str, **arguments: Any) -> dict[str, Any]:
    """Do one of `ledger_deeds.COMMANDS` to the ledger in a state directory; its answer, once it is on stable storage.

    Raises ClientError or Failed.
    """
    try:
        answer = ask(state_dir, command, **arguments)
    except NotRunning:
        return _by_hand(state_dir, command, arguments)
    return answer if isinstance(answer, dict) else {}


def zone_of(config: Config | Path | None, option: str | None) -> ZoneInfo:
    """The time zone to show times in: the one named by an option, else the one of [ledger] in the configuration (which
    may be given as its file), else this machine's. Raises Failed or ConfigError.
    """
    if option:
        try:
            return ZoneInfo(zones.known(option))
        except ValueError as error:
            raise Failed(f"--time-zone {option} {error}", 2) from error
    if isinstance(config, Path):
        named = time_zone_of(config)
    else:
        named = config.ledger.time_zone if config is not None else None
    return ZoneInfo(named) if named else zones.of_this_machine()


@contextmanager
def opened_by_hand(state_dir: Path) -> Iterator[Ledger]:
    """The ledger of a state directory that no appliance works with, to be changed by hand; signed at the end. One that
    is damaged, or an older copy than is known, is refused: what follows from that is not for a deed to decide.

    Raises ClientError or Failed, also for a StorageError while it is open.
    """
    at, file = time.time_ns() // 1_000_000, state_dir / LEDGER_NAME
    try:
        if not file.exists():
            raise LedgerMissing(f"there is no ledger {file}; start the appliance first, or name its state directory")
        prepare(state_dir)
        signer = signing_key(state_dir)
        ledger = Ledger.open(file, at, signer, recovers=False)
        signed_at: int | None = None
        try:
            before = _of_opening(ledger, signer, state_dir, at)
            signed_at = at
            ledger.commit(before)
            yield ledger
        finally:
            ledger.close(signed_at)
    except StateDirError as error:
        raise ClientError(str(error)) from error
    except StorageError as error:
        raise failed(error) from error
    except OSError as error:
        raise ClientError(
            f"{file}: cannot be looked at ({error.strerror}); run as root or as the service's user"
        ) from error


def _of_opening(ledger: Ledger, signer: Signer, state_dir: Path, at: int) -> list[Keepable]:
    """What the ledger keeps before a deed by hand. Raises StorageError."""
    with reading(ledger.path) as connection:
        try:
            origin = kept_for_start(connection, signer, witness.newest(state_dir), witness.heard_of(state_dir))
        except sqlite3.Error as error:
            raise translated(error, ledger.path) from error
        keys = signed.key_notes(connection, signer, at)
    return [*origin, *keys, *(AppLogLine(at, "warning", words, {}) for words in ledger.words)]


def committed(ledger: Ledger, changes: Sequence[Keepable]) -> list[Outcome]:
    """Keep changes; what became of each. Raises StorageError if one could not be kept."""
    outcomes: list[Outcome] = []
    for result in ledger.commit(changes):
        if isinstance(result, StorageError):
            raise result
        outcomes.append(result)
    return outcomes


def _by_hand(state_dir: Path, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same on a ledger that no appliance works with."""
    try:
        changes, answer = ledger_deeds.plan(command, arguments, time.time_ns() // 1_000_000, by_hand())
    except ledger_deeds.BadRequest as error:
        raise ClientError(str(error)) from error
    with opened_by_hand(state_dir) as ledger:
        return answer(committed(ledger, changes))


def by_hand() -> str:
    """Who does something while no appliance runs, for the ledger."""
    uid, name = os.getuid(), "?"
    with suppress(KeyError):
        name = pwd.getpwuid(uid).pw_name
    return f"{name}, uid {uid} (by hand, appliance stopped)"
