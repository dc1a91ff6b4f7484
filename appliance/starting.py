"""`locum run`: the process in which the appliance works, in the foreground.

Anything that keeps it from starting is one line and exit status 2.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from contextlib import suppress
from pathlib import Path

from appliance import log, witness
from appliance.config import Config
from appliance.service import CannotStart, Service
from appliance.state_dir import (
    LEDGER_NAME,
    UNLOCK_CARD_NAME,
    StateDirError,
    installation_key,
    prepare,
    signing_key,
    unlock_hash,
)
from proxy.net.driver import this_moment
from proxy.net.reactor import lean_reactor
from storage import replacing
from storage.errors import StorageError
from storage.ledger import Ledger

SWITCH_INTERVAL = 0.01
"""Seconds after which the writer's thread gives way to the reactor's. Longer than most commits: one login that waits
for a commit is better than twenty that wait for pieces of it.
"""


def run(config: Config, log_format: log.LogFormat = "text") -> int:
    """Run the appliance until it is told to stop; the exit status."""
    log.set_up(log_format)
    faulthandler.enable()  # a watchdog's SIGABRT says into the log where every thread stood
    sys.setswitchinterval(SWITCH_INTERVAL)
    stay_on_one_cpu()
    try:
        prepare(config.state_dir)
        key = installation_key(config.state_dir)
        codes = unlock_hash(config.state_dir), unlock_hash(config.state_dir, UNLOCK_CARD_NAME)
        signer = signing_key(config.state_dir)
        _refuse_a_lost_ledger(config.state_dir)
        ledger = Ledger.open(config.state_dir / LEDGER_NAME, this_moment().wall, signer)
    except (StateDirError, StorageError) as error:
        return _refuse(str(error))
    reactor = lean_reactor()
    try:
        service = Service(reactor, config, ledger, signer, key, codes)
    except (StorageError, StateDirError) as error:
        ledger.close()
        return _refuse(str(error))
    try:
        service.start()
    except CannotStart as error:
        service.abandon()
        return _refuse(str(error))
    reactor.run(installSignalHandlers=False)
    return 0


def stay_on_one_cpu() -> None:
    """Keep the reactor's and the writer's thread on the CPU where this process runs now.

    The interpreter runs one thread at a time, and handing its lock from CPU to CPU costs more than it gains: on one CPU
    Locum relays a third more logins a second. Where the kernel does not allow it, all goes on as before.
    """
    with suppress(OSError, ValueError, IndexError):
        cpu = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[36])
        os.sched_setaffinity(0, {cpu})


def _refuse_a_lost_ledger(state_dir: Path) -> None:
    """A new ledger in the place of one that is gone would hide that it is. Raises StateDirError."""
    known, file = witness.newest(state_dir), state_dir / LEDGER_NAME
    if known is None or replacing.is_there(file):
        return
    raise StateDirError(
        f"{file} is gone, and {known.source} beside it knows {known.seq} entries of it; put the newest backup in its "
        f"place (locum ledger adopt), or to begin a new ledger, move {witness.NAME} and {witness.HEAD_NAME} away"
    )


def _refuse(text: str) -> int:
    print(f"locum: {text}", file=sys.stderr)
    return 2
