"""XML-RPC as bytes: what a call looks like, and what an answer is told to be."""

from __future__ import annotations

import xmlrpc.client

import pytest

from protocols.papercut.calls import LARGEST_ANSWER, Fault, NotXmlRpc, Value, decode_answer, encode_call


def answer(value: str) -> bytes:
    return f"<?xml version='1.0'?><methodResponse><params><param>{value}</param></params></methodResponse>".encode()


def test_a_call_is_read_by_another_library() -> None:
    body = encode_call("api.getUserProperties", "token", "jörg & co", ["balance", "full-name"])
    assert xmlrpc.client.loads(body.decode()) == (
        ("token", "jörg & co", ["balance", "full-name"]),
        "api.getUserProperties",
    )


def test_characters_that_xml_cannot_carry_become_spaces() -> None:
    (text,), _ = xmlrpc.client.loads(encode_call("api.x", "a\x00b\x1fc\ud800d").decode())
    assert text == "a b c d"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (answer("<value><string>ann</string></value>"), "ann"),
        (answer("<value>ann</value>"), "ann"),
        (answer("<value/>"), ""),
        (answer("<value><boolean>1</boolean></value>"), True),
        (answer("<value><i4>7</i4></value>"), 7),
        (answer("<value><double>-1.5</double></value>"), -1.5),
        (answer("<value><nil/></value>"), None),
        (answer("<value><array><data><value>a</value><value>b</value></data></array></value>"), ["a", "b"]),
        (b"<methodResponse><params/></methodResponse>", None),
        (b"\n  " + answer("<value>blanks in front</value>"), "blanks in front"),
    ],
)
def test_values_of_every_kind_are_read(body: bytes, value: object) -> None:
    assert decode_answer(body) == Value(value)


def test_a_fault_is_its_words_on_one_line() -> None:
    fault = xmlrpc.client.Fault(8, "java.lang.Exception: no\n\tsuch user" + "!" * 1000)
    said = decode_answer(xmlrpc.client.dumps(fault, methodresponse=True).encode())
    assert isinstance(said, Fault)
    assert said.text.startswith("java.lang.Exception: no such user!")
    assert len(said.text) == 500


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<!DOCTYPE html><html></html>", "html"),
        (b"<html><body>unclosed<br></body></html>", "html"),
        (b"<html><body/></html>", "html"),
        (answer("<value>x</value>")[:-20], "half"),
        (b"<?xml version='1.0'?>", "half"),
        (b"", "other"),
        (b"\x00\x01", "other"),
        (b"<methodCall><methodName>x</methodName></methodCall>", "other"),
        (b"<other/>", "other"),
        (answer("<value><int>seven</int></value>"), "other"),
        (answer("<value><boolean>2</boolean></value>"), "other"),
        (answer("<value>a</value></param><param><value>b</value>"), "other"),
        (b"<methodResponse><fault><value>no struct</value></fault></methodResponse>", "other"),
        (b" " * (LARGEST_ANSWER + 1), "other"),
    ],
)
def test_what_is_no_answer_is_told_apart(body: bytes, reason: str) -> None:
    said = decode_answer(body)
    assert said == NotXmlRpc(reason)
    assert isinstance(said, NotXmlRpc)
    assert said.words


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_a_document_type_is_refused_whatever_its_encoding(encoding: str) -> None:
    bomb = (
        f"<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE a [<!ENTITY b 'bbbbbbbb'>]>"
        "<methodResponse><params><param><value>&b;</value></param></params></methodResponse>"
    )
    assert decode_answer(bomb.encode(encoding)) == NotXmlRpc("other")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252", "us-ascii"])
def test_an_answer_is_read_in_the_encoding_that_it_declares(encoding: str) -> None:
    name = "jorg" if encoding == "us-ascii" else "jörg"
    body = (
        f"<?xml version='1.0' encoding='{encoding}'?><methodResponse><params><param>"
        f"<value>{name}</value></param></params></methodResponse>"
    )
    assert decode_answer(body.encode(encoding)) == Value(name)


@pytest.mark.parametrize("encoding", ["shift_jis", "no-such-encoding", "idna", "utf-7"])
def test_an_encoding_that_cannot_be_read_is_no_answer(encoding: str) -> None:
    body = f"<?xml version='1.0' encoding='{encoding}'?><methodResponse><params/></methodResponse>"
    assert decode_answer(body.encode()) == NotXmlRpc("other")
