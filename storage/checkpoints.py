"""Checkpoints: Ed25519 signatures over the end of the chain, so that a ledger cannot be hashed anew without the key.

What is signed is "locum-checkpoint-1" followed by canonical JSON (RFC 8785) of `hash` (of the entry, hex),
`installation`, `previous` (hex of the SHA-256 of what the checkpoint before signed; null at the first), `seq` and
`time`. Each is also one line of text that leaves the box: whoever keeps such a line can show that a ledger was cut or
replaced.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from storage import proof, signing, times

DOMAIN = b"locum-checkpoint-1"
EVERY_ENTRIES = 1_000
EVERY_MS = 15 * 60_000

_LINE = re.compile(r"locum-checkpoint-1 (\{[^{}]*\}) key=([A-Za-z0-9+/]{43}=) signature=([A-Za-z0-9+/]{86}==)")


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    hash: str
    installation: str
    previous: str | None
    seq: int
    time: str


_read_body = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`number` counts them in a ledger from 1; 0 where it is not known (a line). `public_key`: 32 bytes; `signature`:
    64. `body`: what was signed, without the domain.
    """

    number: int
    seq: int
    body: str
    signature: bytes
    public_key: bytes

    @property
    def message(self) -> bytes:
        """What is signed."""
        return DOMAIN + self.body.encode()

    @property
    def digest(self) -> str:
        """What the next checkpoint calls `previous`."""
        return sha256(self.message).hexdigest()

    @property
    def line(self) -> str:
        """The checkpoint as a line of text, to be kept elsewhere."""
        key, signature = (base64.b64encode(each).decode() for each in (self.public_key, self.signature))
        return f"{DOMAIN.decode()} {self.body} key={key} signature={signature}"

    @property
    def row(self) -> tuple[Any, ...]:
        """The row in the table `checkpoints`."""
        return self.number, self.seq, self.body, self.signature, self.public_key

    def said(self) -> Said | None:
        """What it says; None if it makes no sense."""
        try:
            body = _read_body(self.body)
            if body.seq != self.seq or len(bytes.fromhex(body.hash)) != 32:
                return None
            return Said(body.installation, body.seq, bytes.fromhex(body.hash), body.time, body.previous)
        except (msgspec.MsgspecError, ValueError):
            return None

    def signed(self) -> bool:
        """Whether the signature is that of its public key."""
        return signing.holds(self.public_key, self.signature, self.message)


@dataclass(frozen=True, slots=True)
class Said:
    """What a checkpoint says. `hash`: 32 bytes, of entry `seq`; `time`: ISO 8601; `previous`: hex or None."""

    installation: str
    seq: int
    hash: bytes
    time: str
    previous: str | None


def make(signer: signing.Signer, seq: int, head: bytes, at: int, before: Checkpoint | None) -> Checkpoint:
    """Sign the entry `seq` with the hash `head` (32 bytes). `at` in ms; `before`: the checkpoint before."""
    body = proof.canonical(
        {
            "hash": head.hex(),
            "installation": signer.installation,
            "previous": before.digest if before is not None else None,
            "seq": seq,
            "time": times.text(at),
        }
    )
    number = before.number + 1 if before is not None else 1
    return Checkpoint(number, seq, body.decode(), signer.sign(DOMAIN + body), signer.public_key)


def lines_in(text: str) -> Iterator[Checkpoint]:
    """The checkpoints whose lines stand in a text, as in a syslog server's file. Signatures are not checked."""
    for body, key, signature in _LINE.findall(text):
        said = _seq_of(body)
        if said is not None:
            yield Checkpoint(0, said, body, base64.b64decode(signature), base64.b64decode(key))


def _seq_of(body: str) -> int | None:
    try:
        return _read_body(body).seq
    except msgspec.MsgspecError:
        return None
