"""SNMPv3 messages and their user-based security (RFC 3412 section 6, RFC 3414, RFC 3826, RFC 7860): octets to values
and back, digests and ciphers.

Which user may do what, and whether a message is timely, is decided by `proxy/snmp`. DES is here for old copiers. AES
with 192 and 256 bits has no RFC; keys too short are lengthened as in draft-blumenthal-aes-usm-04, which matters with
MD5 and SHA-1 only. Left out: security models other than this one.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from protocols.errors import Malformed, NotAuthentic
from protocols.snmp import ber
from protocols.snmp.messages import LARGEST, V3

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:  # where it stood before
    from cryptography.hazmat.primitives.ciphers.modes import CFB

AUTHENTICATED, ENCRYPTED, REPORTABLE = 1, 2, 4
"""msgFlags."""
WINDOW = 150
"""Seconds by which a message's time may be off (RFC 3414 section 3.2)."""
MOST_BOOTS = (1 << 31) - 1

AUTH = {
    "md5": ("md5", 12),
    "sha1": ("sha1", 12),
    "sha224": ("sha224", 16),
    "sha256": ("sha256", 24),
    "sha384": ("sha384", 32),
    "sha512": ("sha512", 48),
}
"""Hash, and octets of the digest that are sent."""
PRIV = {"des": 16, "aes128": 16, "aes192": 24, "aes256": 32}
"""Octets of the key; of DES, the half is its initialisation vector's part."""

_USM = 3
_SALT = 8


@dataclass(frozen=True, slots=True)
class Keys:
    """A user's keys at one engine. `auth`, `priv`: names in `AUTH` and `PRIV`, "" for none."""

    auth: str
    auth_key: bytes = field(repr=False)
    priv: str
    priv_key: bytes = field(repr=False)

    @property
    def flags(self) -> int:
        return (AUTHENTICATED if self.auth else 0) | (ENCRYPTED if self.priv else 0)


@dataclass(frozen=True, slots=True)
class Secured:
    """A message of SNMPv3 as it stands on the wire. `data` is the scoped PDU, encrypted if `flags` say so."""

    number: int
    largest: int
    flags: int
    engine: bytes
    boots: int
    time: int
    user: bytes
    digest: bytes
    salt: bytes
    data: bytes
    digest_at: int = 0
    """Where the digest begins, in octets; only in messages that were read."""


@lru_cache(maxsize=1024)
def localised(auth: str, pass_phrase: bytes, engine: bytes) -> bytes:
    """A pass phrase as the key at one engine (RFC 3414 section A.2). Takes some milliseconds the first time."""
    name, _ = AUTH[auth]
    whole, rest = divmod(1 << 20, len(pass_phrase))
    key = hashlib.new(name, pass_phrase * whole + pass_phrase[:rest], usedforsecurity=False).digest()
    return hashlib.new(name, key + engine + key, usedforsecurity=False).digest()


def keys_of(auth: str, auth_phrase: bytes, priv: str, priv_phrase: bytes, engine: bytes) -> Keys:
    """A user's keys at an engine. Raises ValueError for what cannot be: encryption without authentication, a pass
    phrase of less than 8 octets.
    """
    if priv and not auth:
        raise ValueError("SNMPv3 cannot encrypt without authentication")
    for kind, phrase in ((auth, auth_phrase), (priv, priv_phrase)):
        if kind and len(phrase) < 8:
            raise ValueError("a pass phrase of SNMPv3 has at least 8 characters")
    auth_key = localised(auth, auth_phrase, engine) if auth else b""
    priv_key = b""
    if priv:
        priv_key = localised(auth, priv_phrase, engine)
        while len(priv_key) < PRIV[priv]:
            priv_key += hashlib.new(AUTH[auth][0], priv_key, usedforsecurity=False).digest()
        priv_key = priv_key[: PRIV[priv]]
    return Keys(auth, auth_key, priv, priv_key)


def decode(data: bytes) -> Secured:
    """Read a message; nothing is checked or decrypted. Raises Malformed."""
    tag, place, end = ber.header(data, 0, len(data))
    _expect(tag, ber.SEQUENCE)
    version, place = _integer(data, place, end)
    if version != V3:
        raise Malformed("snmp-version", f"version {version}")
    tag, at, place = ber.header(data, place, end)
    _expect(tag, ber.SEQUENCE)
    number, at = _integer(data, at, place)
    largest, at = _integer(data, at, place)
    flags, at = _octets(data, at, place)
    model, at = _integer(data, at, place)
    if model != _USM or len(flags) != 1 or number < 0:
        raise Malformed("snmp-security-model", f"security model {model}")
    tag, at, place = ber.header(data, place, end)
    _expect(tag, ber.OCTET_STRING)
    tag, at, inner = ber.header(data, at, place)
    _expect(tag, ber.SEQUENCE)
    engine, at = _octets(data, at, inner)
    boots, at = _integer(data, at, inner)
    time, at = _integer(data, at, inner)
    user, at = _octets(data, at, inner)
    digest, at = _octets(data, at, inner)
    digest_at = at - len(digest)
    salt, at = _octets(data, at, inner)
    if len(engine) > 32 or len(user) > 32 or not 0 <= boots <= MOST_BOOTS or not 0 <= time <= MOST_BOOTS:
        raise Malformed("snmp-security", "security parameters out of bounds")
    bits = flags[0]
    if bits & ENCRYPTED:
        if not bits & AUTHENTICATED:
            raise Malformed("snmp-security", "encrypted, but not authenticated")
        content, _ = _octets(data, place, end)
    else:
        content = data[place:end]
    return Secured(number, largest, bits, engine, boots, time, user, digest, salt, content, digest_at)


def encode(message: Secured, keys: Keys | None) -> bytes:
    """The message's octets. `message.data` is the plain scoped PDU; it is encrypted and the digest made by `keys` as
    `flags` say. `salt`: 8 octets that no other message under these keys has. Raises TooLarge.
    """
    content, salt, digest = message.data, b"", b""
    if keys is not None and message.flags & ENCRYPTED:
        content, salt = _encrypted(message, keys)
        content = ber.tlv(ber.OCTET_STRING, content)
    if keys is not None and message.flags & AUTHENTICATED:
        digest = bytes(AUTH[keys.auth][1])
    parameters = ber.tlv(
        ber.SEQUENCE,
        ber.tlv(ber.OCTET_STRING, message.engine)
        + ber.integer(message.boots)
        + ber.integer(message.time)
        + ber.tlv(ber.OCTET_STRING, message.user)
        + ber.tlv(ber.OCTET_STRING, digest)
        + ber.tlv(ber.OCTET_STRING, salt),
    )
    head = ber.tlv(
        ber.SEQUENCE,
        ber.integer(message.number)
        + ber.integer(message.largest)
        + ber.tlv(ber.OCTET_STRING, bytes((message.flags,)))
        + ber.integer(_USM),
    )
    whole = ber.tlv(ber.SEQUENCE, ber.integer(V3) + head + ber.tlv(ber.OCTET_STRING, parameters) + content)
    if keys is None or not digest:
        return whole
    place = len(whole) - len(content) - len(salt) - 2 - len(digest)
    return whole[:place] + _digest(keys, whole) + whole[place + len(digest) :]


def check(data: bytes, message: Secured, keys: Keys) -> None:
    """That the digest of a message that was read from `data` is of these keys. Raises NotAuthentic."""
    size = AUTH[keys.auth][1]
    if len(message.digest) == size:
        zeroed = data[: message.digest_at] + bytes(size) + data[message.digest_at + size :]
        if hmac.compare_digest(_digest(keys, zeroed), message.digest):
            return
    raise NotAuthentic("snmp-wrong-digest", "the digest is not of the user's key")


def decrypted(message: Secured, keys: Keys) -> bytes:
    """The scoped PDU of an encrypted message. Raises Malformed for what cannot have been made with these keys."""
    if len(message.salt) != _SALT:
        raise Malformed("snmp-decryption", "no salt of eight octets")
    data = message.data
    if keys.priv == "des":
        if not data or len(data) % 8:
            raise Malformed("snmp-decryption", "not whole blocks")
        decryptor = _des(keys, message.salt).decryptor()
    else:
        decryptor = _aes(keys, message.boots, message.time, message.salt).decryptor()
    plain = decryptor.update(data) + decryptor.finalize()
    try:
        tag, _, end = ber.header(plain, 0, len(plain))
        _expect(tag, ber.SEQUENCE)
    except Malformed:
        raise Malformed("snmp-decryption", "not decrypted by this key") from None
    return plain[:end]


def scoped(engine: bytes, context: bytes, pdu: bytes) -> bytes:
    """A scoped PDU."""
    head = ber.tlv(ber.OCTET_STRING, engine) + ber.tlv(ber.OCTET_STRING, context)
    return ber.tlv(ber.SEQUENCE, head + pdu)


def unscoped(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Context engine, context name and PDU of a scoped PDU. Raises Malformed."""
    tag, place, end = ber.header(data, 0, len(data))
    _expect(tag, ber.SEQUENCE)
    engine, place = _octets(data, place, end)
    context, place = _octets(data, place, end)
    return engine, context, data[place:end]


def _encrypted(message: Secured, keys: Keys) -> tuple[bytes, bytes]:
    if keys.priv == "des":
        padded = message.data + bytes(-len(message.data) % 8)
        encryptor = _des(keys, message.salt).encryptor()
        return encryptor.update(padded) + encryptor.finalize(), message.salt
    encryptor = _aes(keys, message.boots, message.time, message.salt).encryptor()
    return encryptor.update(message.data) + encryptor.finalize(), message.salt


def _aes(keys: Keys, boots: int, time: int, salt: bytes) -> Cipher[CFB]:
    vector = boots.to_bytes(4, "big") + time.to_bytes(4, "big") + salt
    return Cipher(AES(keys.priv_key), CFB(vector))


def _des(keys: Keys, salt: bytes) -> Cipher[CBC]:
    vector = bytes(one ^ other for one, other in zip(keys.priv_key[8:16], salt, strict=True))
    return Cipher(TripleDES(keys.priv_key[:8] * 3), CBC(vector))


def _digest(keys: Keys, whole: bytes) -> bytes:
    name, size = AUTH[keys.auth]
    return hmac.new(keys.auth_key, whole, name).digest()[:size]


def _integer(data: bytes, place: int, end: int) -> tuple[int, int]:
    tag, start, stop = ber.header(data, place, end)
    _expect(tag, ber.INTEGER)
    return ber.read_integer(data, start, stop), stop


def _octets(data: bytes, place: int, end: int) -> tuple[bytes, int]:
    tag, start, stop = ber.header(data, place, end)
    _expect(tag, ber.OCTET_STRING)
    return data[start:stop], stop


def _expect(tag: int, wanted: int) -> None:
    if tag != wanted:
        raise Malformed("snmp-structure", f"the tag {tag:#04x} stands where {wanted:#04x} should be")


__all__ = [
    "AUTH", "AUTHENTICATED", "ENCRYPTED", "LARGEST", "PRIV", "REPORTABLE", "WINDOW", "Keys", "Secured", "check",
    "decode", "decrypted", "encode", "keys_of", "localised", "scoped", "unscoped",
]  # fmt: skip
