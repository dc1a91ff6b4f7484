"""How the commands change a ledger: through the running appliance, or on the file itself where none runs.

One function, so that a command need not know which of the two it is. Both do the deeds of `ledger_deeds`, and the
ledger says who did them. Here is also which time zone the commands show times in.
"""

from __future__ import annotations

import os
import pwd
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from appliance import ledger_deeds
from appliance.cli.common import Failed
from appliance.client import ClientError, NotRunning, ask
from appliance.config import Config, time_zone_of, zones
from appliance.state_dir import LEDGER_NAME, StateDirError, prepare, signing_key
from storage import signed
from storage.answers import Outcome
from storage.database import reading
from storage.errors import LedgerBroken, LedgerMissing, LedgerTooNew, StorageError
from storage.ledger import Ledger
from storage.records import AppLogLine, Keepable

_WRONG_INPUT = (LedgerMissing, LedgerBroken, LedgerTooNew)


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


def _by_hand(state_dir: Path, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same on a ledger that no appliance works with."""
    at, file = time.time_ns() // 1_000_000, state_dir / LEDGER_NAME
    try:
        changes, answer = ledger_deeds.plan(command, arguments, at, by_hand())
        if not file.exists():
            raise LedgerMissing(f"there is no ledger {file}; start the appliance first, or name its state directory")
        prepare(state_dir)
        signer = signing_key(state_dir)
        ledger = Ledger.open(file, at, signer)
        try:
            with reading(file) as connection:
                before: list[Keepable] = [*signed.key_notes(connection, signer, at)]
            before += [AppLogLine(at, "warning", words, {}) for words in ledger.words]
            results = ledger.commit([*before, *changes])[len(before) :]
        finally:
            ledger.close(at)
    except (ledger_deeds.BadRequest, StateDirError) as error:
        raise ClientError(str(error)) from error
    except StorageError as error:
        raise Failed(str(error), 2 if isinstance(error, _WRONG_INPUT) else 1) from error
    except OSError as error:
        raise ClientError(
            f"{file}: cannot be looked at ({error.strerror}); run as root or as the service's user"
        ) from error
    outcomes: list[Outcome] = []
    for result in results:
        if isinstance(result, StorageError):
            raise Failed(str(result))
        outcomes.append(result)
    return answer(outcomes)


def by_hand() -> str:
    """Who does something while no appliance runs, for the ledger."""
    uid, name = os.getuid(), "?"
    with suppress(KeyError):
        name = pwd.getpwuid(uid).pw_name
    return f"{name}, uid {uid} (by hand, appliance stopped)"
