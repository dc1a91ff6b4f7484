"""`locum demo`: a whole outage on one machine, told as it happens, and figures that must add up.

`stage.py` sets up server and Locum as processes of their own, `floor.py` the copiers; `story.py` is what happens and
`plan.py` who comes when; `telling.py` says it; `audit.py` compares the copiers' own counts, Locum's ledger and the
server's own book afterwards.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from appliance.cli.common import Failed
from appliance.demo.figures import Audit
from appliance.demo.floor import Place, places_of
from appliance.demo.stage import DemoFailed, Stage
from appliance.demo.story import Story
from appliance.demo.telling import Teller
from appliance.simulator.book import BookError
from storage.errors import StorageError

INTERRUPTED = 128 + signal.SIGINT


def run(*, copiers: int, jobs: int, keep: Path | None, as_json: bool) -> int:
    """Run the demo; gives the exit status. `keep` is a directory for all files, `as_json` prints the figures only.

    Raises Failed if it could not be played to its end.
    """
    with ExitStack() as cleaning:
        if keep is None:
            directory = Path(cleaning.enter_context(tempfile.TemporaryDirectory(prefix="locum-demo-")))
        else:
            directory = _to_keep(keep)
        teller, places = Teller(silent=as_json), places_of(copiers)
        try:
            audit = _play(cleaning.enter_context(Stage(directory, places)), teller, places, jobs)
        except (DemoFailed, BookError, StorageError) as error:
            where = f"; the logs are in {directory}" if keep else "; run it again with --keep DIR to keep the logs"
            raise Failed(f"the demo broke off: {error}{where}") from None
        if audit is None:
            return INTERRUPTED
        if as_json:
            print(json.dumps(audit.figures.as_object()))
            print("".join(f"locum: {each}\n" for each in audit.complaints), end="", file=sys.stderr)
        else:
            teller.close(audit, directory if keep else None)
    return 0 if audit.figures.ok else 1


def _play(stage: Stage, teller: Teller, places: list[Place], jobs: int) -> Audit | None:
    """What the story ends with; None if somebody stopped it. Raises DemoFailed, BookError or StorageError."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    running: Any = reactor
    story = Story(running, stage, teller, places=places, jobs=jobs)
    ended: list[Any] = []

    def end(result: Any) -> None:
        ended.append(result)
        if running.running:
            running.stop()

    running.callWhenRunning(lambda: Deferred.fromCoroutine(story.play()).addBoth(end))
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        # The terminal was closed: the children must not outlive it.
        signal.signal(signal.SIGHUP, lambda *_: running.callFromThread(running.stop))
    running.run()
    if not ended:
        return None
    if not isinstance(ended[0], Audit):
        ended[0].raiseException()
    audit: Audit = ended[0]
    return audit


def _to_keep(directory: Path) -> Path:
    """The directory, made if it was not there. Raises Failed unless it is empty."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = next(directory.iterdir(), None)
    except OSError as error:
        raise Failed(f"--keep {directory}: cannot be used ({error.strerror}); name another directory", 2) from None
    if taken is not None:
        raise Failed(f"--keep {directory}: is not empty; name a directory that is new or empty", 2)
    directory.chmod(0o700)
    return directory.absolute()
