"""The outbox's order and pace, which also knows the newest record that came in: the mark at the server covers it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.events import Moment
from proxy.forward import Forwarder
from storage.answers import WaitingRef


class Outbox(Forwarder):
    """`highest`: the sequence of the newest record, -1 before the first."""

    highest = -1

    def load(self, refs: Iterable[WaitingRef], at: Moment) -> None:
        super().load(self._noted(refs), at)

    def add(self, seq: int, order_key: str) -> None:
        super().add(seq, order_key)
        self.highest = max(self.highest, seq)

    def add_sent(self, seq: int, order_key: str) -> None:
        super().add_sent(seq, order_key)
        self.highest = max(self.highest, seq)

    def _noted(self, refs: Iterable[WaitingRef]) -> Iterator[WaitingRef]:
        for ref in refs:
            self.highest = max(self.highest, ref.seq)
            yield ref
