"""Any bytes from a PaperCut server, in any pieces: nothing is raised, and each record is in exactly one place.

First the decoders alone, then a whole upstream with a real ledger whose server answers whatever it likes, whenever it
likes, and breaks connections off.
"""

from __future__ import annotations

import tempfile
import xmlrpc.client
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.papercut.calls import Fault, NotXmlRpc, Value, decode_answer, encode_call
from protocols.papercut.cards import CONVERTERS, number_of
from protocols.papercut.jobs import joined
from proxy.dialects.papercut.http import Line, Nonsense, Status
from tests.flows.papercut_house import House, http_answer, pairs_of

FAST = settings(max_examples=300, deadline=None)
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=6,
)
tags = st.sampled_from(
    ["methodResponse", "params", "param", "value", "array", "data", "struct", "member", "name", "fault", "int", "nil",
     "string", "boolean", "double", "base64", "dateTime.iso8601", "bigdecimal", "methodName", "html"]
)  # fmt: skip
pieces = st.lists(
    tags.map(lambda tag: f"<{tag}>")
    | tags.map(lambda tag: f"</{tag}>")
    | st.sampled_from(["1", "x", "faultString", " "]),
    max_size=20,
)  # fmt: skip
tag_soup = pieces.map(lambda parts: "".join(parts).encode())
good = values.map(lambda value: xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode("utf-8"))
bodies = st.one_of(
    st.binary(max_size=100),
    tag_soup,
    good,
    st.builds(lambda body, end: body[:end], good, st.integers(0, 200)),
    st.just(xmlrpc.client.dumps(xmlrpc.client.Fault(0, "java.lang.Exception: no"), methodresponse=True).encode()),
    st.just(b"<!DOCTYPE x [<!ENTITY a 'b'>]><methodResponse>&a;</methodResponse>"),
)
answers = st.one_of(
    st.binary(max_size=120),
    st.builds(http_answer, st.sampled_from([200, 200, 200, 204, 301, 404, 500, 503]), bodies),
    st.builds(lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body, bodies),
    st.builds(lambda body: b"HTTP/1.1 100 Continue\r\n\r\n" + http_answer(200, body), bodies),
    st.builds(lambda body: http_answer(200, body) + http_answer(200, body), bodies),
)


@FAST
@given(bodies)
def test_any_body_is_a_value_a_fault_or_neither(body: bytes) -> None:
    assert isinstance(decode_answer(body), Value | Fault | NotXmlRpc)


@FAST
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_a_call_can_carry_any_text(text: str) -> None:
    (got,), method = xmlrpc.client.loads(encode_call("api.x", text).decode())
    assert method == "api.x"
    assert len(str(got)) <= len(text)


@FAST
@given(st.dictionaries(st.text("abc-", min_size=1), st.text(st.characters(codec="utf-8"), min_size=1), max_size=6))
def test_job_details_are_read_back_as_they_were_written(pairs: dict[str, str]) -> None:
    pairs = {name: "".join(c if c.isprintable() else " " for c in value) for name, value in pairs.items()}
    assert pairs_of(joined(pairs.items())) == pairs


@FAST
@given(st.text(max_size=40), st.lists(st.sampled_from(list(CONVERTERS)), max_size=4))
def test_any_card_goes_through_any_converters(card: str, converters: list[str]) -> None:
    assert number_of(card, None, converters) or not card


@FAST
@given(answers, st.lists(st.integers(1, 40), max_size=30))
def test_any_octets_in_any_pieces_mean_the_same(data: bytes, cuts: list[int]) -> None:
    def said(chunks: list[bytes]) -> object:
        line = Line("h", "/")
        line.request(b"x")
        for chunk in chunks:
            found = line.received(chunk)
            if found is not None:
                return found
            if not line.usable:
                return None
        return line.received(b"") if line.busy else None

    whole = said([data] if data else [])
    chunks, rest = [], data
    for cut in cuts:
        if rest[:cut]:
            chunks.append(rest[:cut])
        rest = rest[cut:]
    if rest:
        chunks.append(rest)
    assert said(chunks) == whole
    assert whole is None or isinstance(whole, Value | Fault | Status | Nonsense)


@contextmanager
def a_house() -> Iterator[House]:
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        for name in ("ann", "bob", "cleo"):
            house.server.person(name, name.upper())
        house.pass_time(0.2)
        try:
            yield house
        finally:
            house.close()


actions = st.one_of(
    st.tuples(st.just("answer"), st.sampled_from(
        ["processJob", "lookUpUserNameByCardNo", "getConfigValue", "setConfigValue", "getUserProperty", "getTotalUsers",
         "isUserExists", "addNewInternalUser"]), answers),
    st.tuples(st.just("cut"), st.sampled_from(["processJob", "setConfigValue", "*"]),
              st.sampled_from(["connected", "sent", "half", "unread"])),
    st.tuples(st.just("inject"), st.just(""), st.binary(max_size=60)),
    st.tuples(st.just("end"), st.just(""), st.booleans()),
    st.tuples(st.just("well"), st.just(""), st.just(0)),
    st.tuples(st.just("restart"), st.just(""), st.just(0)),
    st.tuples(st.just("down"), st.just(""), st.booleans()),
    st.tuples(st.just("job"), st.sampled_from(["ANN", "BOB", "CLEO", "NOBODYS", ""]), st.just(0)),
)  # fmt: skip


def act(house: House, what: str, name: str, how: object) -> None:
    server = house.server
    if what == "answer" and isinstance(how, bytes):
        if name == "processJob" and b"fault" in how:
            return  # a server that logs a job and says that it refused it cannot be helped
        server.raw[name] = how
    elif what == "cut" and isinstance(how, str):
        server.cut[name] = how
    elif what == "inject" and isinstance(how, bytes):
        for channel in house.channels()[:1]:
            house.receive(channel, how)
    elif what == "end":
        house.end_all(refused=bool(how))
    elif what == "down":
        server.down = bool(how)
    elif what == "restart":
        house.restart()
    elif what == "job":
        house.job(name)
    else:
        server.raw.clear()
        server.cut.clear()


@SLOW
@given(st.lists(st.tuples(actions, st.sampled_from([0.05, 0.3, 1.2, 6.0])), max_size=14))
def test_whatever_the_server_does_each_record_is_in_exactly_one_place(
    steps: list[tuple[tuple[str, str, object], float]],
) -> None:
    with a_house() as house:
        for (what, name, how), pause in steps:
            act(house, what, name, how)
            house.job(("ANN", "BOB", "CLEO")[len(name) % 3])
            house.pass_time(pause)
        act(house, "well", "", 0)
        house.server.down = False
        house.pass_time(60)
        # A look-up that failed many times waits for minutes by then; a person would retry, and so does this test.
        for (seq,) in house.rows("SELECT seq FROM outbox WHERE state = 'waiting'"):
            house.run(house.upstream.retry(seq, "", house.moment()))
        house.run(house.upstream.claim(house.moment()))
        house.pass_time(90)
        kept = {row[0]: row[1] for row in house.rows("SELECT seq, id FROM entries WHERE kind = 'job'")}
        left = {row[0] for row in house.rows("SELECT record FROM deliveries WHERE outcome = 'delivered'")}
        in_outbox = dict(house.rows("SELECT seq, state FROM outbox"))
        assert not left & in_outbox.keys()
        assert left | in_outbox.keys() == kept.keys(), "a record was lost"
        assert set(in_outbox.values()) <= {"in_doubt", "rejected", "waiting"}
        assert len(house.upstream.desk.parcels) == 0
        booked = Counter(house.server.booked())
        assert max(booked.values(), default=0) <= 1, "sent twice"
        waiting = {kept[seq] for seq, state in in_outbox.items() if state in ("waiting", "rejected")}
        assert not waiting & booked.keys(), "the server has what is said to wait"
