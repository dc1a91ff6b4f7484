"""What the writer thread writes to: the ledger, with an eye on the room that is left.

When the disk is nearly full nothing new is kept, so that nothing is acknowledged that a later failure could take back;
what the outbox needs in order to drain still goes through, on the reserve that is given back then. All of this runs on
the writer's thread; `space`, `error`, `answered` and `looks_again` are read from the reactor's.
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
LOOK_IDLE_EVERY = 2.0
FULL = "the disk is nearly full; make room in the state directory's file system"


class Keeper:
    """A ledger that stops taking new things before the disk does. `answered`: when the writer's thread last ended a
    batch, whatever became of it, in monotonic seconds.
    """

    def __init__(self, ledger: Ledger, watch: SpaceWatch) -> None:
        self.answered = float("-inf")
        self._ledger = ledger
        self._watch = watch
        self._looked = float("-inf")
        self._space: Space | None = None
        self._met_full = False
        self._failed = ""
        self._unseen = ""

    @property
    def space(self) -> Space | None:
        """The room as it was last looked at; None before that. Where a commit has met a full disk it is full until one
        succeeds, for a quota may be full on a file system that has room.
        """
        space = self._space
        return space if space is None or not self._met_full else replace(space, level=Level.FULL)

    @property
    def error(self) -> str:
        """Why storing fails, or why nobody knows whether there is room; "" all is well."""
        return self._failed or self._unseen

    def looks_again(self, now: float) -> bool:
        """Whether the last look at the room is so long ago that an empty batch should bring another."""
        return now - self._looked >= LOOK_IDLE_EVERY

    def commit(self, batch: Sequence[Keepable]) -> list[Outcome | StorageError]:
        """Keep what may be kept; what may not is answered with CannotStore. Raises StorageError if nothing could be.

        An empty batch is a look at the room.
        """
        try:
            return self._kept(batch)
        finally:
            self.answered = time.monotonic()

    def _kept(self, batch: Sequence[Keepable]) -> list[Outcome | StorageError]:
        self._look(time.monotonic())
        if not batch:
            return []
        level = self._space.level if self._space is not None else Level.ENOUGH
        allowed = [item for item in batch if may_be_kept(item, level)]
        if len(allowed) == len(batch):
            try:
                results = self._commit(batch)
            except CannotStore:
                self._watch.failed()
                self._looked = time.monotonic()
                self._met_full = True
                self._space = None if self._space is None else replace(self._space, level=Level.FULL)
                allowed = [item for item in batch if may_be_kept(item, Level.FULL)]
            else:
                if level < Level.FULL:
                    self._failed, self._met_full = "", False
                return results
        kept = iter(self._commit(allowed))
        refused = CannotStore(self.error or FULL)
        names = {id(item) for item in allowed}
        return [next(kept) if id(item) in names else refused for item in batch]

    def _commit(self, batch: Sequence[Keepable]) -> list[Outcome | StorageError]:
        try:
            return self._ledger.commit(batch)
        except StorageError as error:
            self._failed = str(error)
            raise

    def _look(self, now: float) -> None:
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            self._space = self._watch.look()
            self._unseen = ""
        except OSError as error:
            self._unseen = f"the state directory's file system cannot be asked for its room: {error.strerror}"
