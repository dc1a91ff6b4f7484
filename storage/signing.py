"""Ed25519 (RFC 8032) for checkpoints: the key that signs, and the check of a signature.

Keys come and go as PEM, so that `openssl pkeyutl` and others read them too. An installation is known by its public key:
the first 32 hex digits of the SHA-256 of its 32 bytes.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

KEY_BYTES = 32
SIGNATURE_BYTES = 64


class NotAKey(ValueError):
    """This is no Ed25519 key."""


def installation_of(public_key: bytes) -> str:
    """How an installation is called in its checkpoints."""
    return sha256(public_key).hexdigest()[:32]


class Signer:
    """The private key of this installation. `public_key`: its 32 bytes."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.installation = installation_of(self.public_key)

    @classmethod
    def new(cls) -> Signer:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> Signer:
        """Raises NotAKey."""
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise NotAKey("no private key in PEM") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise NotAKey("a private key of another kind than Ed25519")
        return cls(private)

    def pem(self) -> bytes:
        """The private key in PEM (PKCS #8), not encrypted."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(message)


def public_pem(public_key: bytes) -> str:
    """A public key of 32 bytes in PEM."""
    loaded = Ed25519PublicKey.from_public_bytes(public_key)
    return loaded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_key_from(text: str) -> bytes:
    """The 32 bytes of a public key that is given as PEM, base64 or hex. Raises NotAKey."""
    text = text.strip()
    if text.startswith("-----"):
        try:
            loaded = load_pem_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise NotAKey("no public key in PEM") from error
        if not isinstance(loaded, Ed25519PublicKey):
            raise NotAKey("a public key of another kind than Ed25519")
        return loaded.public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        raw = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise NotAKey("neither PEM nor 32 bytes in base64 or hex") from error
    if len(raw) != KEY_BYTES:
        raise NotAKey(f"{len(raw)} bytes; an Ed25519 public key has {KEY_BYTES}")
    return raw


def holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this key signed this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
