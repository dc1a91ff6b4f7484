"""What the shared secret does: authenticators, Message-Authenticator, hidden passwords and keys.

RFC 2865 sections 3 and 5.2, RFC 2866 section 3, RFC 2868 section 3.5, RFC 2869 section 5.14, RFC 2548 section 2.4,
RFC 5176 section 2.3. Message-Authenticator goes first in what Locum signs: a forger then cannot place chosen octets
before it (CVE-2024-3596). Salts of re-encrypted values are kept, so no random number is needed and values stay
distinct.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING

from protocols.errors import Malformed, NotAuthentic
from protocols.radius.packet import (
    HEADER_SIZE,
    NO_AUTHENTICATOR,
    Attributes,
    Code,
    Packet,
    Type,
    Vendor,
    build,
    build_encoded,
    encode,
    split_vendor,
)

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

MS_MPPE_KEYS = 12
MS_MPPE_SEND_KEY = 16
MS_MPPE_RECV_KEY = 17

LONGEST_PASSWORD = 128
_BLOCK = 16
_HMAC_BLOCK = 64
_EMPTY_MAC = bytes((Type.MESSAGE_AUTHENTICATOR, 18)) + bytes(16)
# Their Request Authenticator is a checksum over the packet, so it counts as zero while the Message-Authenticator is
# made.
_SELF_SIGNED = frozenset({Code.ACCOUNTING_REQUEST, Code.DISCONNECT_REQUEST, Code.COA_REQUEST})


def sign_request(code: int, identifier: int, authenticator: bytes, attributes: Attributes, secret: bytes) -> bytes:
    """An Access-Request or Status-Server with a right Message-Authenticator first, in place of any that was there.

    `authenticator` is the caller's 16 random octets. Raises TooLarge or Malformed as `packet.build` does.
    """
    return sign_encoded_request(code, identifier, authenticator, encode(_without_mac(attributes)), secret)


def sign_encoded_request(code: int, identifier: int, authenticator: bytes, body: bytes, secret: bytes) -> bytes:
    """As `sign_request`, of attributes that are octets already and have no Message-Authenticator among them."""
    return _with_first_mac(build_encoded(code, identifier, authenticator, _EMPTY_MAC + body), secret)


def sign_accounting_request(identifier: int, attributes: Attributes, secret: bytes) -> bytes:
    """An Accounting-Request with its Request Authenticator (RFC 2866 section 3).

    A Message-Authenticator among the attributes keeps its place and is made anew; a second one is dropped.
    """
    at, kept = HEADER_SIZE, []
    mac_at = 0
    for number, value in attributes:
        if number == Type.MESSAGE_AUTHENTICATOR:
            if mac_at:
                continue
            mac_at, value = at + 2, NO_AUTHENTICATOR
        kept.append((number, value))
        at += len(value) + 2
    datagram = build(Code.ACCOUNTING_REQUEST, identifier, NO_AUTHENTICATOR, tuple(kept))
    if mac_at:
        mac = _hmac_md5(secret, datagram)
        datagram = datagram[:mac_at] + mac + datagram[mac_at + 16 :]
    return datagram[:4] + _md5(datagram + secret) + datagram[HEADER_SIZE:]


def sign_response(
    code: int,
    identifier: int,
    attributes: Attributes,
    request_authenticator: bytes,
    secret: bytes,
    *,
    message_authenticator: bool,
) -> bytes:
    """An answer with its Response Authenticator (RFC 2865 section 3), and a Message-Authenticator first if asked for.

    One that is already among the attributes is dropped: it was made for another packet.
    """
    body = encode(_without_mac(attributes))
    return sign_encoded_response(
        code, identifier, body, request_authenticator, secret, message_authenticator=message_authenticator
    )


def sign_encoded_response(
    code: int,
    identifier: int,
    body: bytes,
    request_authenticator: bytes,
    secret: bytes,
    *,
    message_authenticator: bool,
) -> bytes:
    """As `sign_response`, of attributes that are octets already and have no Message-Authenticator among them."""
    if message_authenticator:
        datagram = build_encoded(code, identifier, request_authenticator, _EMPTY_MAC + body)
        datagram = _with_first_mac(datagram, secret)
    else:
        datagram = build_encoded(code, identifier, request_authenticator, body)
    return datagram[:4] + _md5(datagram + secret) + datagram[HEADER_SIZE:]


def verify_message_authenticator(
    datagram: bytes, packet: Packet, secret: bytes, request_authenticator: bytes | None = None
) -> bool:
    """Whether there is a Message-Authenticator; if there is, it is right.

    `packet` is what `parse(datagram)` gave. For an answer give its request's authenticator, for a request nothing.
    Raises NotAuthentic if it is wrong, has not 16 octets or is there twice (RFC 2869 section 5.14).
    """
    at, found = HEADER_SIZE, 0
    for number, value in packet.attributes:
        if number == Type.MESSAGE_AUTHENTICATOR:
            if len(value) != 16:
                raise NotAuthentic("bad-message-authenticator", f"it has {len(value)} octets instead of 16")
            if found:
                raise NotAuthentic("bad-message-authenticator", "there is more than one")
            found = at + 2
        at += len(value) + 2
    if not found:
        return False
    if request_authenticator is None:
        request_authenticator = NO_AUTHENTICATOR if packet.code in _SELF_SIGNED else packet.authenticator
    signed = b"".join(
        (datagram[:4], request_authenticator, datagram[20:found], NO_AUTHENTICATOR, datagram[found + 16 : at])
    )
    if not hmac.compare_digest(_hmac_md5(secret, signed), datagram[found : found + 16]):
        raise NotAuthentic("bad-message-authenticator", "wrong secret, or the packet was changed")
    return True


def verify_accounting_request(datagram: bytes, packet: Packet, secret: bytes) -> None:
    """Check the Request Authenticator of an Accounting-Request (RFC 2866 section 3). Raises NotAuthentic."""
    _check_md5(datagram, packet, NO_AUTHENTICATOR, secret)


def verify_response(datagram: bytes, packet: Packet, request_authenticator: bytes, secret: bytes) -> bool:
    """Check an answer's Response Authenticator, and its Message-Authenticator if there is one.

    Gives whether there was one. Raises NotAuthentic if either is wrong.
    """
    _check_md5(datagram, packet, request_authenticator, secret)
    return verify_message_authenticator(datagram, packet, secret, request_authenticator)


def hide_password(password: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """User-Password as it goes over the wire (RFC 2865 section 5.2). Raises Malformed over 128 octets."""
    if len(password) > LONGEST_PASSWORD:
        raise Malformed("password-length", f"{len(password)} octets, at most {LONGEST_PASSWORD}")
    return _hide(password.ljust(_padded(len(password)), b"\0"), authenticator, secret)


def reveal_password(hidden: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """The password in User-Password, without padding (RFC 2865 section 5.2).

    A wrong secret gives octets without meaning, not an error. Raises Malformed unless there are 16, 32, ... or 128
    octets.
    """
    _check_blocks(hidden, LONGEST_PASSWORD, "password-length")
    return _reveal(hidden, authenticator, secret).rstrip(b"\0")


def check_chap(password: bytes, chap_password: bytes, challenge: bytes) -> bool:
    """Whether CHAP-Password (an octet of identifier and 16 of digest) fits the password (RFC 2865 section 5.3).

    `challenge` is CHAP-Challenge, or the Request Authenticator where that is absent. Raises Malformed for a wrong
    length.
    """
    if len(chap_password) != 17:
        raise Malformed("chap-length", f"{len(chap_password)} octets instead of 17")
    return hmac.compare_digest(_md5(chap_password[:1] + password + challenge), chap_password[1:])


def hide_salted(value: bytes, salt: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """Salt, then the hidden value, as in Tunnel-Password after its tag (RFC 2868 section 3.5, RFC 2548 section 2.4.2).

    `salt` is 2 octets, the highest bit set, different for each value in a packet. `authenticator` is that of the
    request. Raises Malformed for another salt or for a value over 239 octets.
    """
    if len(salt) != 2 or salt[0] < 0x80:
        raise Malformed("salt", "a salt has 2 octets and its highest bit is set")
    if len(value) > 239:
        raise Malformed("password-length", f"{len(value)} octets, at most 239")
    plain = bytes((len(value),)) + value
    return salt + _hide(plain.ljust(_padded(len(plain)), b"\0"), authenticator + salt, secret)


def reveal_salted(hidden: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """The value that `hide_salted` hid.

    Raises Malformed for a wrong length, or if the length inside shows that the secret is wrong.
    """
    _check_salted(hidden)
    plain = _reveal(hidden[2:], authenticator + hidden[:2], secret)
    if plain[0] >= len(plain):
        raise Malformed("undecryptable", "the length inside is more than there is: the secret is wrong")
    return plain[1 : 1 + plain[0]]


def relayed_request(datagram: bytes, packet: Packet, device_secret: bytes, server_secret: bytes) -> bytes:
    """The attributes of an Access-Request as octets for the server: as they came but for Message-Authenticator and,
    where the secrets differ, User-Password.

    `packet` is what `parse(datagram)` gave. Raises Malformed as `translate_request` does.
    """
    attributes = packet.attributes
    if device_secret != server_secret and packet.get(Type.USER_PASSWORD) is not None:
        return encode(_without_mac(translate_request(packet, device_secret, server_secret)))
    return _cut(datagram, attributes, None)


def relayed_response(
    datagram: bytes, packet: Packet, request_authenticator: bytes, secrets: tuple[bytes, bytes], ours: bytes
) -> bytes:
    """The attributes of an answer as octets for the device: as they came but for Message-Authenticator, the
    Proxy-State with the value `ours` and, where the secrets differ, hidden keys.

    `packet` is what `parse(datagram)` gave, `secrets` the server's and the device's. Raises Malformed as
    `translate_response` does.
    """
    attributes = packet.attributes
    hidden = packet.get(Type.TUNNEL_PASSWORD) is not None or packet.get(Type.VENDOR_SPECIFIC) is not None
    if hidden and secrets[0] != secrets[1]:
        kept = tuple([pair for pair in attributes if pair != (Type.PROXY_STATE, ours)])
        return encode(_without_mac(translate_response(kept, request_authenticator, *secrets)))
    return _cut(datagram, attributes, ours)


def _cut(datagram: bytes, attributes: Attributes, proxy_state: bytes | None) -> bytes:
    """The attributes' octets without Message-Authenticator, and without the Proxy-State of this value."""
    pieces, at, kept_from = [], HEADER_SIZE, HEADER_SIZE
    for number, value in attributes:
        after = at + 2 + len(value)
        if number == Type.MESSAGE_AUTHENTICATOR or (number == Type.PROXY_STATE and value == proxy_state):
            pieces.append(datagram[kept_from:at])
            kept_from = after
        at = after
    pieces.append(datagram[kept_from:at])
    return b"".join(pieces)


def translate_request(packet: Packet, device_secret: bytes, server_secret: bytes) -> Attributes:
    """The attributes of an Access-Request as the server must see them: User-Password under its secret.

    The Request Authenticator must stay the device's, so that CHAP and MS-CHAP stay valid. Raises Malformed for a bad
    length.
    """
    if device_secret == server_secret:
        return packet.attributes
    translated = []
    for number, value in packet.attributes:
        if number == Type.USER_PASSWORD:
            _check_blocks(value, LONGEST_PASSWORD, "password-length")
            plain = _reveal(value, packet.authenticator, device_secret)
            value = _hide(plain, packet.authenticator, server_secret)
        translated.append((number, value))
    return tuple(translated)


def translate_response(
    attributes: Attributes, request_authenticator: bytes, server_secret: bytes, device_secret: bytes
) -> Attributes:
    """The attributes of an answer as the device must see them, all in order.

    Under the device's secret: Tunnel-Password and Microsoft's MPPE keys. Raises Malformed for what cannot be decrypted.
    """
    if server_secret == device_secret:
        return attributes
    translated = []
    for number, value in attributes:
        if number == Type.TUNNEL_PASSWORD:
            value = value[:1] + _resalt(value[1:], request_authenticator, server_secret, device_secret)
        elif number == Type.VENDOR_SPECIFIC and int.from_bytes(value[:4], "big") == Vendor.MICROSOFT:
            parts = [value[:4]]
            for inner, inner_value in split_vendor(value):
                if inner in (MS_MPPE_SEND_KEY, MS_MPPE_RECV_KEY):
                    inner_value = _resalt(inner_value, request_authenticator, server_secret, device_secret)
                elif inner == MS_MPPE_KEYS:
                    _check_blocks(inner_value, 2 * _BLOCK, "key-length")
                    plain = _reveal(inner_value, request_authenticator, server_secret)
                    inner_value = _hide(plain, request_authenticator, device_secret)
                parts += [bytes((inner, len(inner_value) + 2)), inner_value]
            value = b"".join(parts)
        translated.append((number, value))
    return tuple(translated)


def _resalt(hidden: bytes, authenticator: bytes, old: bytes, new: bytes) -> bytes:
    reveal_salted(hidden, authenticator, old)
    first = authenticator + hidden[:2]
    return hidden[:2] + _hide(_reveal(hidden[2:], first, old), first, new)


def _hide(plain: bytes, first: bytes, secret: bytes) -> bytes:
    hidden, previous = b"", first
    for at in range(0, len(plain), _BLOCK):
        previous = _xor(plain[at : at + _BLOCK], _md5(secret + previous))
        hidden += previous
    return hidden


def _reveal(hidden: bytes, first: bytes, secret: bytes) -> bytes:
    plain, previous = b"", first
    for at in range(0, len(hidden), _BLOCK):
        block = hidden[at : at + _BLOCK]
        plain += _xor(block, _md5(secret + previous))
        previous = block
    return plain


def _xor(data: bytes, key: bytes) -> bytes:
    size = len(data)
    return (int.from_bytes(data, "big") ^ int.from_bytes(key[:size], "big")).to_bytes(size, "big")


def _padded(size: int) -> int:
    return max(_BLOCK, -(-size // _BLOCK) * _BLOCK)


def _check_blocks(hidden: bytes, largest: int, reason: str) -> None:
    if not hidden or len(hidden) % _BLOCK or len(hidden) > largest:
        raise Malformed(reason, f"{len(hidden)} octets, not a multiple of {_BLOCK} up to {largest}")


def _check_salted(hidden: bytes) -> None:
    size = len(hidden) - 2
    # FreeRADIUS lets a long value fill its attribute, so beyond the last whole block that fits the padding is cut
    # short.
    if size < _BLOCK or (size % _BLOCK and size < 240):
        raise Malformed("salted-length", f"{len(hidden)} octets are no salt and blocks of {_BLOCK}")


def _check_md5(datagram: bytes, packet: Packet, authenticator: bytes, secret: bytes) -> None:
    length = int.from_bytes(datagram[2:4], "big")
    expected = _md5(b"".join((datagram[:4], authenticator, datagram[HEADER_SIZE:length], secret)))
    if not hmac.compare_digest(expected, packet.authenticator):
        raise NotAuthentic("bad-authenticator", "wrong secret, or the packet was changed")


def _without_mac(attributes: Attributes) -> Attributes:
    return tuple([pair for pair in attributes if pair[0] != Type.MESSAGE_AUTHENTICATOR])


def _with_first_mac(datagram: bytes, secret: bytes) -> bytes:
    return datagram[:22] + _hmac_md5(secret, datagram) + datagram[38:]


@lru_cache(maxsize=512)
def _keyed(secret: bytes) -> tuple[Hash, Hash]:
    """HMAC's two halves with the key taken in (RFC 2104 section 2): a secret signs many packets."""
    key = _md5(secret) if len(secret) > _HMAC_BLOCK else secret
    padded = key.ljust(_HMAC_BLOCK, b"\0")
    inner = hashlib.md5(bytes(octet ^ 0x36 for octet in padded), usedforsecurity=False)
    outer = hashlib.md5(bytes(octet ^ 0x5C for octet in padded), usedforsecurity=False)
    return inner, outer


def _hmac_md5(secret: bytes, data: bytes) -> bytes:
    halves = _keyed(secret)
    inner, outer = halves[0].copy(), halves[1].copy()
    inner.update(data)
    outer.update(inner.digest())
    return outer.digest()


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
