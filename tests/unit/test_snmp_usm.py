"""SNMPv3's user-based security: keys against RFC 3414 and pysnmp, messages there and back, nothing else than our errors
for any octets.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysnmp.proto.rfc1902 import OctetString
from pysnmp.proto.secmod.rfc3414 import localkey

from protocols.errors import NotAuthentic, ProtocolError
from protocols.snmp import messages, usm
from protocols.snmp.messages import Message, Pdu, Varbind

ENGINE = bytes(11) + b"\x02"
PDU = messages.encode_pdu(Message(messages.V3, b"", Pdu.GET, 5, 0, 0, (Varbind("1.3.6.1.2.1.1.1.0", "null"),)))


def message(flags: int) -> usm.Secured:
    return usm.Secured(7, 4096, flags, ENGINE, 3, 400, b"ada", b"", b"\x01" * 8, usm.scoped(ENGINE, b"ctx", PDU))


def keys(auth: str = "sha256", priv: str = "aes128", phrase: bytes = b"maplesyrup") -> usm.Keys:
    return usm.keys_of(auth, phrase, priv, phrase, ENGINE)


def test_keys_are_those_of_rfc_3414_appendix_a3() -> None:
    assert usm.localised("md5", b"maplesyrup", ENGINE).hex() == "526f5eed9fcce26f8964c2930787d82b"
    assert usm.localised("sha1", b"maplesyrup", ENGINE).hex() == "6695febc9288e36282235fc7151f128497b38f3f"


@pytest.mark.parametrize("phrase", ["maplesyrup", "eight888", "a much longer pass phrase, with blanks"])
def test_keys_of_sha_2_are_those_of_another_implementation(phrase: str) -> None:
    whole = localkey.hash_passphrase(phrase, hashlib.sha256)
    assert usm.localised("sha256", phrase.encode(), ENGINE) == bytes(
        localkey.localize_key(whole, OctetString(ENGINE), hashlib.sha256)
    )


@pytest.mark.parametrize("auth", usm.AUTH)
@pytest.mark.parametrize("priv", ["", *usm.PRIV])
def test_what_was_sealed_is_read_by_who_has_the_keys(auth: str, priv: str) -> None:
    own = keys(auth, priv)
    data = usm.encode(message(own.flags | usm.REPORTABLE), own)
    read = usm.decode(data)
    usm.check(data, read, own)
    plain = usm.decrypted(read, own) if priv else read.data
    assert usm.unscoped(plain) == (ENGINE, b"ctx", PDU)
    assert (read.number, read.boots, read.time, read.user) == (7, 3, 400, b"ada")
    other = keys(auth, priv, b"other syrup")
    with pytest.raises(NotAuthentic):
        usm.check(data, read, other)


def test_encryption_without_authentication_and_short_phrases_cannot_be() -> None:
    for auth, priv, phrase in (("", "aes128", b"maplesyrup"), ("sha256", "", b"short"), ("sha256", "aes128", b"")):
        with pytest.raises(ValueError, match="SNMPv3"):
            usm.keys_of(auth, phrase, priv, phrase, ENGINE)


@given(st.data())
def test_a_message_with_any_octet_changed_is_none_of_the_users(data: st.DataObject) -> None:
    own = keys()
    whole = bytearray(usm.encode(message(own.flags), own))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolError):  # noqa: PT012 - the one or the other must refuse it
        read = usm.decode(bytes(whole))
        if read.flags & usm.AUTHENTICATED == 0:
            raise NotAuthentic("snmp-security-level")
        usm.check(bytes(whole), read, own)


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    for reading in (usm.decode, usm.unscoped, messages.decode_pdu, messages.version_of):
        try:
            reading(octets)
        except ProtocolError:
            continue


@given(st.binary(max_size=200))
def test_what_decrypts_to_anything_is_refused_or_a_sequence(octets: bytes) -> None:
    read = replace(message(3), data=octets, salt=b"\x02" * 8)
    for priv in usm.PRIV:
        try:
            assert usm.decrypted(read, keys(priv=priv))[:1] == b"0"
        except ProtocolError:
            continue
