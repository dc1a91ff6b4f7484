"""The terminals' port of a running Locum, met with an independent client: every frame, whole, cut, repeated or wrong.

`dialects/terminal.md`, "Frame" and "Rules". The server does not exist, so all of it is what Locum itself answers.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.peers.floor import Floor, Standing
from tests.peers.ports import free_port
from tests.peers.printshop import Printshop
from tests.peers.terminal import (
    ALREADY,
    ERROR,
    HELLO,
    JOB,
    LOGIN,
    LOGOUT,
    METHOD,
    NO_SERVER,
    NOT_TAKEN,
    PING,
    REPLY,
    STORED,
    UNAVAILABLE,
    Reply,
    frame,
    hello,
    job,
    login,
    read_ack,
    read_login,
)

BAD_MAGIC, BAD_VERSION, BAD_CHECKSUM, UNKNOWN_TYPE, MALFORMED, HELLO_EXPECTED = range(1, 7)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printshop]:
    with ExitStack() as endings:
        shop = Printshop.before_terminal(tmp_path_factory.mktemp("wire") / "locum", free_port())
        endings.callback(shop.stop)
        yield shop.start()


@pytest.fixture
def floor() -> Iterator[Floor]:
    with closing(Floor()) as floor:
        yield floor


def _raw(standing: Standing, data: bytes, replies: int) -> list[Reply]:
    """Write bytes as they are; wait for so many replies."""

    async def exchange() -> list[Reply]:
        line = standing.terminal
        line.unasked.clear()
        line.write_raw(data)
        until = time.monotonic() + 5
        while len(line.unasked) < replies and time.monotonic() < until:
            await asyncio.sleep(0.005)
        return list(line.unasked)

    return standing.floor.run(exchange())


async def _before_hello(port: int, data: bytes) -> bytes:
    """All that comes back to these bytes on a new connection, until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


def _with_wrong_checksum(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def _checked(head: bytes) -> bytes:
    return head + struct.pack(">I", zlib.crc32(head))


WRONG = {
    "magic": (b"XT" + frame(PING, 9)[2:], 0, BAD_MAGIC, True),
    "version": (_checked(struct.pack(">2sBBIH", b"CT", 2, PING, 9, 0)), 0, BAD_VERSION, True),
    "length": (struct.pack(">2sBBIH", b"CT", 1, PING, 9, 4097), 0, MALFORMED, True),
    "checksum": (_with_wrong_checksum(frame(PING, 9)), 0, BAD_CHECKSUM, True),
    "trailing bytes": (frame(PING, 9, b"x"), 9, MALFORMED, True),
    "a text that is longer than the payload": (frame(LOGIN, 9, b"\x01\xff123"), 9, MALFORMED, True),
    "UTF-8 in a credential": (frame(LOGIN, 9, b"\x01\x02\xff\xfe\x00"), 9, MALFORMED, True),
    "type": (frame(0x7F, 9, b"anything"), 9, UNKNOWN_TYPE, False),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_frame_gets_its_error_and_is_closed_on_or_not(kind: str, shop: Printshop, floor: Floor) -> None:
    """What lost the framing carries sequence 0 and the rest is not read; an unknown type leaves the line open."""
    data, sequence, code, closes = WRONG[kind]
    terminal = floor.terminal(shop.port, f"KM-{kind}"[:40])
    (reply, *more) = _raw(terminal, data + frame(PING, 10), 1 if closes else 2)
    assert (reply.kind, reply.sequence, reply.status) == (ERROR, sequence, code)
    if closes:
        floor.run(terminal.terminal.ended())
        assert more == []
    else:
        assert [(each.kind, each.sequence) for each in more] == [(PING | REPLY, 10)]
        assert terminal.ping() == NO_SERVER


def test_anything_before_hello_is_refused(shop: Printshop, floor: Floor) -> None:
    """ERROR 6 and the end, whatever it was."""
    for data in (frame(PING, 5), frame(LOGIN, 5, login("04A1C3F2")), frame(0x7F, 5)):
        answer = floor.run(_before_hello(shop.port, data + frame(HELLO, 6, hello("KM-late"))))
        assert struct.unpack_from(">2sBBI", answer) == (b"CT", 1, ERROR, 5)
        assert answer[10] == HELLO_EXPECTED


def test_a_stream_cut_anywhere_and_many_requests_at_once(shop: Printshop, floor: Floor) -> None:
    """Byte by byte, then 200 jobs in one write: each has its reply, and stands in the ledger once."""
    slow = floor.terminal(shop.port, "KM-slow")

    async def drip() -> list[Reply]:
        line = slow.terminal
        for byte in frame(JOB, 70, job(1, 1, document="drip")) + frame(PING, 71):
            line.write_raw(bytes((byte,)))
            await asyncio.sleep(0)
        while len(line.unasked) < 2:
            await asyncio.sleep(0.005)
        return list(line.unasked)

    replies = floor.run(drip(), 10)
    assert sorted((each.kind, each.sequence) for each in replies) == [(JOB | REPLY, 70), (PING | REPLY, 71)]
    many = floor.terminal(shop.port, "KM-many")
    frames = b"".join(frame(JOB, 1000 + n, job(1, n, pages=n)) for n in range(1, 201))
    for expected in (STORED, ALREADY):
        acks = {each.sequence - 1000: read_ack(each) for each in _raw(many, frames, 200)}
        assert acks == {n: (n, expected) for n in range(1, 201)}
    assert many.job(1, 7, pages=8) == STORED, "another content under a number that is known: kept as a conflict"
    rows = shop.query("SELECT job_number, event FROM jobs WHERE device = 'KM-many'")
    assert Counter(row["job_number"] for row in rows) == {**{str(n): 1 for n in range(1, 201)}, "7": 2}
    assert [row["job_number"] for row in rows if row["event"] == "conflict"] == ["7"]


def test_unknown_values_get_the_reply_s_own_refusal(shop: Printshop, floor: Floor) -> None:
    """Method, kind, scope and what: never ERROR. Bad UTF-8 in a document is kept with replacement characters."""
    terminal = floor.terminal(shop.port, "KM-values")
    send = terminal.terminal.request
    assert read_login(floor.run(send(LOGIN, login("04A1C3F2", method=9)))).status in (METHOD, UNAVAILABLE)
    assert terminal.swipe("04A1C3F2").status == UNAVAILABLE
    assert terminal.job(1, 1, kind=9) == NOT_TAKEN
    assert terminal.unlock("123456", scope=9)[0] != 0
    assert terminal.query(99, 1)[0] != 0
    assert terminal.job(1, 2, document=b"gr\xfc\xdfe.pdf", flags=0xFFFE) == STORED
    reply = floor.run(send(LOGOUT, struct.pack(">Q", 12345)))
    assert reply.kind == LOGOUT | REPLY, "LOGOUT is always acknowledged"
    (row,) = shop.query("SELECT document FROM jobs_full WHERE device = 'KM-values' AND job_number = '2'")
    assert row["document"] == "gr\ufffd\ufffde.pdf"


def test_a_second_connection_of_a_device_wins(shop: Printshop, floor: Floor) -> None:
    """The older one is closed, with a warning."""
    older = floor.terminal(shop.port, "KM-twin")
    newer = floor.terminal(shop.port, "KM-twin")
    floor.run(older.terminal.ended())
    assert newer.ping() == NO_SERVER
    assert any("KM-twin" in text for text in shop.log_text().splitlines() if "warning" in text)


def test_garbage_harms_nobody_else(shop: Printshop, floor: Floor) -> None:
    """300 connections of random bytes and broken frames beside one that works; no traceback, no bug."""
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    honest = floor.terminal(shop.port, "KM-honest")

    def garbage() -> bytes:
        whole = frame(HELLO, 1, hello(f"KM-g{dice.randrange(50)}")) + frame(dice.randrange(256), 2, dice.randbytes(40))
        return dice.choice((dice.randbytes(dice.randrange(1, 200)), whole[: dice.randrange(1, len(whole))], whole))

    async def throw(data: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", shop.port)
        writer.write(data)
        await writer.drain()
        writer.close()

    async def all_of_it() -> None:
        for _ in range(10):
            await asyncio.gather(*(throw(garbage()) for _ in range(30)))

    busy = floor.begin(all_of_it())
    for number in range(1, 51):
        assert honest.job(1, number) == STORED
    busy.result(30)
    assert honest.ping() == NO_SERVER
    assert "bug" not in shop.log_text()
    assert "met-a-bug" not in shop.status()["dropped"]
