"""SNMPv1 and v2c messages: the same octets as pysnmp's, and nothing but the three errors for whatever comes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto import api

from protocols.errors import Malformed, ProtocolError
from protocols.snmp import ber, messages
from protocols.snmp.asking import MOST_REQUESTS, Asking
from protocols.snmp.messages import V1, V2C, Message, Pdu, Varbind, decode, encode, request

OIDS = st.builds(
    lambda first, second, rest: ".".join(map(str, (first, second, *rest))),
    st.integers(0, 2),
    st.integers(0, 39),
    st.lists(st.integers(0, (1 << 32) - 1), max_size=20),
)
VALUES = st.one_of(
    st.tuples(st.just("integer"), st.integers(-(1 << 31), (1 << 31) - 1)),
    st.tuples(st.sampled_from(["counter32", "gauge32", "timeticks"]), st.integers(0, (1 << 32) - 1)),
    st.tuples(st.just("counter64"), st.integers(0, (1 << 64) - 1)),
    st.tuples(st.just("octets"), st.binary(max_size=300)),
    st.tuples(st.just("oid"), OIDS),
    st.tuples(st.sampled_from(["null", "no-such-object", "no-such-instance", "end-of-mib"]), st.none()),
)
VARBINDS = st.lists(st.builds(lambda oid, value: Varbind(oid, *value), OIDS, VALUES), max_size=8)


@settings(max_examples=200, deadline=None)
@given(VARBINDS, st.sampled_from([V1, V2C]), st.binary(max_size=40), st.integers(0, (1 << 31) - 1))
def test_what_is_encoded_is_read_back(varbinds: list[Varbind], version: int, community: bytes, number: int) -> None:
    message = Message(version, community, Pdu.RESPONSE, number, 0, 0, tuple(varbinds))
    assert decode(encode(message)) == message


@settings(max_examples=150, deadline=None)
@given(VARBINDS.filter(bool), st.integers(0, (1 << 31) - 1))
def test_pysnmp_reads_our_octets_as_we_do_and_makes_the_same(varbinds: list[Varbind], number: int) -> None:
    ours = encode(Message(V2C, b"public", Pdu.RESPONSE, number, 0, 0, tuple(varbinds)))
    theirs, rest = decoder.decode(ours, asn1Spec=api.v2c.Message())
    assert not rest
    pdu = api.v2c.apiMessage.get_pdu(theirs)
    assert int(api.v2c.apiPDU.get_request_id(pdu)) == number
    for (name, value), each in zip(api.v2c.apiPDU.get_varbinds(pdu), varbinds, strict=True):
        assert str(name) == each.oid
        if isinstance(each.value, int):
            assert int(value) == each.value
        elif isinstance(each.value, bytes):
            assert bytes(value) == each.value
    assert encoder.encode(theirs) == ours


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_are_a_message_or_refused(data: bytes) -> None:
    with suppress(ProtocolError):
        decode(data)


@settings(max_examples=500, deadline=None)
@given(VARBINDS, st.data())
def test_a_damaged_message_is_read_or_refused(varbinds: list[Varbind], data: st.DataObject) -> None:
    whole = bytearray(encode(Message(V2C, b"public", Pdu.RESPONSE, 7, 0, 0, tuple(varbinds))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        decode(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_an_unsigned_value_without_its_leading_zero_is_read_as_meant() -> None:
    assert ber.read_integer(b"\xff\xff\xff\xff", 0, 4, signed=False) == 0xFFFFFFFF
    assert ber.read_integer(b"\xff\xff\xff\xff", 0, 4) == -1


@pytest.mark.parametrize("text", ["", "1", "1.40.1", "3.1", "1.3.x", "1..3", "1.3." + "9" * 11, "1.3.4294967296"])
def test_what_is_no_object_identifier_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        request(V2C, b"p", 1, [text])


def test_a_version_1_answer_without_one_object_asks_for_the_others() -> None:
    asking = Asking(["1.3.1", "1.3.2", "1.3.3"], bulk=False)
    first = asking.next_request()
    assert first is not None
    assert first.oids == ("1.3.1", "1.3.2", "1.3.3")
    asking.answered(messages.Status.NO_SUCH_NAME, 2, ())
    second = asking.next_request()
    assert second is not None
    assert second.oids == ("1.3.1", "1.3.3")
    asking.answered(0, 0, [Varbind("1.3.1", "integer", 1), Varbind("1.3.3", "integer", 3)])
    assert asking.next_request() is None
    assert set(asking.found) == {"1.3.1", "1.3.3"}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(OIDS, max_size=60),
    st.lists(OIDS, max_size=3),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 70), VARBINDS), max_size=200),
    st.booleans(),
)
def test_whatever_is_answered_a_reading_comes_to_an_end(
    oids: list[str], walks: list[str], answers: list[tuple[int, int, list[Varbind]]], bulk: bool
) -> None:
    asking = Asking(oids, walks, bulk)
    asked = 0
    for status, index, varbinds in [*answers, *[(0, 0, [])] * 400]:
        if asking.next_request() is None:
            break
        asked += 1
        asking.answered(status, index, varbinds)
    else:
        raise AssertionError("no end")
    assert asked <= MOST_REQUESTS
