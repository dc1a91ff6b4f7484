"""Datagrams put together from the fragments of IP packets. RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722.

A packet goes in, a whole one comes out once its last missing piece is there. Pieces that overlap spoil their datagram.
What does not become whole within a minute of the capture's own time is given up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from protocols.capture.frames import Packet
from protocols.errors import Malformed

PATIENCE = 60_000
"""Milliseconds."""
MOST = 1_024
LARGEST = 65_535

_Key = tuple[str, str, int, int, tuple[int, ...]]


@dataclass(slots=True)
class _Pieces:
    began: int
    first: Packet
    parts: dict[int, bytes] = field(default_factory=dict)
    size: int | None = None
    spoilt: bool = False


class Fragments:
    """What waits for the rest of its datagram. `given_up`: how many datagrams never became whole."""

    def __init__(self) -> None:
        self._open: dict[_Key, _Pieces] = {}
        self.given_up = 0

    def add(self, packet: Packet, at: int) -> Packet | None:
        """The whole packet, if it is one or has become one. `at` in ms. Raises Malformed for pieces that cannot be."""
        piece = packet.fragment
        if piece is None:
            return packet
        self._forget(at)
        key = (packet.source, packet.target, packet.protocol, piece.identifier, packet.vlans)
        pieces = self._open.get(key)
        if pieces is None:
            pieces = self._open[key] = _Pieces(at, packet)
        if pieces.spoilt or pieces.parts.get(piece.offset) == packet.payload:
            return None
        if piece.offset == 0:
            pieces.first = packet
        end = piece.offset + len(packet.payload)
        if end > LARGEST or not packet.payload or (piece.more and len(packet.payload) % 8):
            self._spoil(pieces)
            raise Malformed("fragment-length", f"{len(packet.payload)} octets at {piece.offset}")
        if any(piece.offset < start + len(part) and start < end for start, part in pieces.parts.items()):
            self._spoil(pieces)
            raise Malformed("fragment-overlap", f"octet {piece.offset}")
        pieces.parts[piece.offset] = packet.payload
        if not piece.more:
            pieces.size = end
        if pieces.size is None or sum(map(len, pieces.parts.values())) != pieces.size:
            return None
        del self._open[key]
        whole = b"".join(part for _, part in sorted(pieces.parts.items()))
        return replace(pieces.first, payload=whole, fragment=None)

    def close(self) -> None:
        """The capture has ended: what waits is given up."""
        self.given_up += sum(not pieces.spoilt for pieces in self._open.values())
        self._open.clear()

    def _forget(self, at: int) -> None:
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if len(self._open) < MOST and -PATIENCE <= at - oldest.began <= PATIENCE:
                return
            del self._open[key]
            self.given_up += not oldest.spoilt

    @staticmethod
    def _spoil(pieces: _Pieces) -> None:
        pieces.spoilt = True
        pieces.parts.clear()
