"""What the writer thread writes to: the ledger, with an eye on the room that is left.

When the disk is nearly full nothing new is kept, so that nothing is acknowledged that a later failure could take back;
what the outbox needs in order to drain still goes through, on the reserve that is given back then. All of this runs on
the writer's thread; `state` is read from the reactor's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from storage.answers import Outcome
from storage.errors import CannotStore, StorageError
from storage.ledger import Ledger
from storage.records import Keepable
from storage.space import Level, Space, SpaceWatch, may_be_kept

LOOK_EVERY = 1.0
FULL = "the disk is nearly full; make room in the state directory's file system"


class Keeper:
    """A ledger that stops taking new things before the disk does."""

    def __init__(self, ledger: Ledger, watch: SpaceWatch) -> None:
        self.space: Space | None = None
        self.error = ""
        self._ledger = ledger
        self._watch = watch
        self._looked = float("-inf")

    def commit(self, batch: Sequence[Keepable]) -> list[Outcome | StorageError]:
        """Keep what may be kept; what may not is answered with CannotStore. Raises StorageError if nothing could be."""
        self._look(time.monotonic())
        level = self.space.level if self.space is not None else Level.ENOUGH
        allowed = [item for item in batch if may_be_kept(item, level)]
        if len(allowed) == len(batch):
            try:
                results = self._commit(batch)
            except CannotStore:
                self._watch.failed()
                self._looked = time.monotonic()
                self.space = None if self.space is None else replace(self.space, level=Level.FULL)
                allowed = [item for item in batch if may_be_kept(item, Level.FULL)]
            else:
                if level < Level.FULL:
                    self.error = ""
                return results
        kept = iter(self._commit(allowed))
        refused = CannotStore(self.error or FULL)
        names = {id(item) for item in allowed}
        return [next(kept) if id(item) in names else refused for item in batch]

    def _commit(self, batch: Sequence[Keepable]) -> list[Outcome | StorageError]:
        try:
            return self._ledger.commit(batch)
        except StorageError as error:
            self.error = str(error)
            raise

    def _look(self, now: float) -> None:
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            self.space = self._watch.look()
        except OSError as error:
            self.error = f"the state directory's file system cannot be asked for its room: {error.strerror}"
