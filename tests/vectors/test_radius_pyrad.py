"""pyrad as an independent second implementation: what one signs and hides, the other checks and reveals."""

from __future__ import annotations

import hashlib
from io import StringIO
from typing import Any

import pytest

from protocols.radius import accounting
from protocols.radius.dictionary import parse_dictionary, shipped_text
from protocols.radius.packet import Code, Type, parse, vendor_attribute
from protocols.radius.secrets import (
    check_chap,
    hide_password,
    hide_salted,
    reveal_password,
    reveal_salted,
    sign_accounting_request,
    sign_request,
    sign_response,
    verify_accounting_request,
    verify_message_authenticator,
    verify_response,
)
from tests.vectors.radius_inputs import need_data

pyrad_packet = pytest.importorskip("pyrad.packet", reason="pyrad is not installed")
pyrad_dictionary = pytest.importorskip("pyrad.dictionary")

SECRET = b"s3cret"
STANDARD = """
ATTRIBUTE User-Name 1 string
ATTRIBUTE User-Password 2 string encrypt=1
ATTRIBUTE CHAP-Password 3 octets
ATTRIBUTE NAS-IP-Address 4 ipaddr
ATTRIBUTE Reply-Message 18 string
ATTRIBUTE NAS-Identifier 32 string
ATTRIBUTE Acct-Status-Type 40 integer
ATTRIBUTE Acct-Delay-Time 41 integer
ATTRIBUTE Acct-Session-Id 44 string
ATTRIBUTE CHAP-Challenge 60 octets
ATTRIBUTE Tunnel-Password 69 string has_tag,encrypt=2
ATTRIBUTE Message-Authenticator 80 octets
ATTRIBUTE NAS-IPv6-Address 95 ipv6addr
"""


def names() -> Any:
    return pyrad_dictionary.Dictionary(StringIO(STANDARD + shipped_text()))


def test_pyrads_login_is_authentic_and_its_password_readable() -> None:
    request = pyrad_packet.AuthPacket(id=7, secret=SECRET, dict=names())
    request["User-Name"] = "04A1B2C3"
    request["User-Password"] = request.PwCrypt("unlock me, please, now")
    request.add_message_authenticator()
    datagram = request.RequestPacket()
    packet = parse(datagram)
    assert packet.get(Type.USER_NAME) == b"04A1B2C3"
    assert verify_message_authenticator(datagram, packet, SECRET) is True
    hidden = packet.get(Type.USER_PASSWORD)
    assert hidden is not None
    assert reveal_password(hidden, packet.authenticator, SECRET) == b"unlock me, please, now"


def test_our_login_is_authentic_for_pyrad_and_its_password_readable() -> None:
    authenticator = bytes(range(16))
    hidden = hide_password("grün".encode(), authenticator, SECRET)
    datagram = sign_request(1, 7, authenticator, ((1, b"bob"), (2, hidden)), SECRET)
    request = pyrad_packet.AuthPacket(secret=SECRET, dict=names(), packet=datagram)
    assert request.verify_message_authenticator()
    assert request["User-Name"] == ["bob"]
    assert request.PwDecrypt(request[2][0]) == "grün"


def test_pyrads_accounting_is_authentic_and_its_job_read() -> None:
    request = pyrad_packet.AcctPacket(id=9, secret=SECRET, dict=names())
    request["User-Name"] = "alice"
    request["Acct-Status-Type"] = 2
    request["Acct-Session-Id"] = "s-1"
    request["NAS-IPv6-Address"] = "2001:db8::7"
    request["Acct-Delay-Time"] = 3
    request["Locum-Job-Kind"] = "Scan"
    request["Locum-Pages"] = 12
    request["Locum-Color-Pages"] = 4
    request["Locum-Document"] = "Prüfung.pdf"
    datagram = request.RequestPacket()
    packet = parse(datagram)
    verify_accounting_request(datagram, packet, SECRET)
    read = accounting.read(packet, accounting.default_mapping())
    assert (read.status, read.user_name, read.session_id, read.delay) == ("stop", "alice", "s-1", 3)
    assert (read.nas_address, read.problem) == ("2001:db8::7", None)
    assert read.job == accounting.JobFields("scan", "", 12, 4, document="Prüfung.pdf")


def test_our_accounting_is_authentic_for_pyrad() -> None:
    pages = vendor_attribute(32473, 3, (12).to_bytes(4, "big"))
    datagram = sign_accounting_request(9, ((44, b"s-1"), pages), SECRET)
    request = pyrad_packet.AcctPacket(secret=SECRET, dict=names(), packet=datagram)
    assert request.VerifyAcctRequest()
    assert request["Locum-Pages"] == [12]
    changed = datagram[:-1] + b"\x0d"
    assert not pyrad_packet.AcctPacket(secret=SECRET, dict=names(), packet=changed).VerifyAcctRequest()


@pytest.mark.parametrize("wanted", [True, False])
def test_answers_are_authentic_both_ways(wanted: bool) -> None:
    request = pyrad_packet.AuthPacket(id=7, secret=SECRET, dict=names())
    request["User-Name"] = "bob"
    asked = request.RequestPacket()
    authenticator = parse(asked).authenticator
    ours = sign_response(
        Code.ACCESS_ACCEPT, 7, ((18, b"welcome"),), authenticator, SECRET, message_authenticator=wanted
    )
    assert request.VerifyReply(request.CreateReply(packet=ours), ours)
    reply = request.CreateReply()
    reply.code = Code.ACCESS_REJECT
    reply["Reply-Message"] = "no"
    theirs = reply.ReplyPacket()
    answered = parse(theirs)
    # Newer versions of pyrad add a Message-Authenticator of their own accord.
    assert verify_response(theirs, answered, authenticator, SECRET) is (answered.get(80) is not None)


def test_chap_of_pyrad_fits() -> None:
    request = pyrad_packet.AuthPacket(id=7, secret=SECRET, dict=names(), authenticator=bytes(range(16)))
    assert request.VerifyChapPasswd("wrong") is False
    digest = b"\x05" + hashlib.md5(b"\x05arctangent" + bytes(range(16))).digest()
    request["CHAP-Password"] = digest
    assert request.VerifyChapPasswd("arctangent")
    assert check_chap(b"arctangent", digest, bytes(range(16)))


def test_salted_values_of_pyrad_are_revealed() -> None:
    request = pyrad_packet.AuthPacket(id=7, secret=SECRET, dict=names(), authenticator=bytes(range(16)))
    for value in (b"", b"x", b"fifteen octets!", b"sixteen octets!!", b"more than sixteen octets"):
        assert reveal_salted(request.SaltCrypt(value), bytes(range(16)), SECRET) == value
        assert request.SaltDecrypt(hide_salted(value, b"\x80\x01", bytes(range(16)), SECRET)) == value


@pytest.mark.parametrize("name", ["simple", "realistic", "full", "chap"])
def test_pyrads_dictionaries_are_read_alike(name: str) -> None:
    text = (need_data() / "radius" / "pyrad-data" / name).read_text("utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("$INCLUDE"))
    ours, theirs = parse_dictionary(text), pyrad_dictionary.Dictionary(StringIO(text))
    compared = 0
    for label, attribute in theirs.attributes.items():
        if label.lower() not in ours.unreadable:
            definition = ours.attribute(label)
            assert definition.number == attribute.code, label
            assert (definition.vendor or 0) == theirs.vendors.GetForward(attribute.vendor or "") or not attribute.vendor
            compared += 1
    assert compared


@pytest.mark.parametrize("name", ["rfc2865", "rfc2866", "rfc2868", "rfc2869", "rfc5176", "hp"])
def test_freeradius_dictionaries_are_read_and_agree_with_our_standard_table(name: str) -> None:
    text = (need_data() / "radius" / "dictionaries" / f"dictionary.{name}").read_text("utf-8")
    merged, table = parse_dictionary(text), parse_dictionary("")
    for label, definition in table.by_name.items():
        theirs = merged.by_name[label]
        assert (theirs.number, theirs.vendor) == (definition.number, definition.vendor)
        assert theirs.type == definition.type, label
        assert all(theirs.values.get(word, number) == number for word, number in definition.values.items()), label
    assert len(merged.by_name) >= len(table.by_name)
