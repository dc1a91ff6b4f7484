"""What a decoder may raise: the peer's fault, in three kinds, each with a counter key.

Nothing else ever leaves a decoder. Any other exception is a bug of ours, and the fuzz tests look for it.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Base of all that may be wrong with what a peer sent.

    `reason` is a short constant in kebab-case, used as a counter key ("length-lies"). The text is for a person and
    never holds secrets, codes or card numbers.
    """

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(f"{reason}: {text}" if text else reason)
        self.reason = reason


class Malformed(ProtocolError):
    """The bytes do not follow the format."""


class NotAuthentic(ProtocolError):
    """The bytes are well formed, but were not made, or not left unchanged, by one who knows the secret."""


class TooLarge(ProtocolError):
    """More bytes than the protocol allows in one message or field."""
