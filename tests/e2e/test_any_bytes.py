"""Any bytes to every socket of a running Locum: no traceback, no growth, and people are still served.

`LOCUM_FUZZ_SECONDS` sets how long (10 by default). The random bytes are seeded by the time, and the seed is printed.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterator

from tests.e2e.line import Line
from tests.peers import wire
from tests.peers.locum import Locum
from tests.peers.ports import LOOPBACK

SECONDS = float(os.environ.get("LOCUM_FUZZ_SECONDS", "10"))
GROWTH = 5 * 1024 * 1024


def _spoiled(dice: random.Random, good: bytes) -> bytes:
    """A good datagram with some bytes changed, cut, doubled or appended."""
    data = bytearray(good)
    for _ in range(dice.randrange(1, 6)):
        where = dice.randrange(len(data) or 1)
        match dice.randrange(5):
            case 0 if data:
                data[where] = dice.randrange(256)
            case 1:
                del data[where:]
            case 2:
                data[where:where] = dice.randbytes(dice.randrange(1, 40))
            case 3:
                data += data[where:]
            case _:
                data[2:4] = dice.randrange(65536).to_bytes(2)
    return bytes(data[:5000])


def _datagrams(dice: random.Random, secret: bytes) -> Iterator[bytes]:
    """Noise, spoiled requests, well signed requests with nonsense inside, requests under a wrong secret."""
    while True:
        identifier = dice.randrange(256)
        attributes = b"".join(
            wire.attribute(dice.randrange(1, 256), dice.randbytes(dice.randrange(0, 40)))
            for _ in range(dice.randrange(8))
        )
        jobs = b"".join(wire.vendor(dice.randrange(0, 14), dice.randbytes(dice.randrange(0, 12))) for _ in range(4))
        status = wire.attribute(wire.STATUS_TYPE, dice.randrange(12))
        yield dice.randbytes(dice.choice((0, 1, 19, 20, 21, 60, 400, 4096, 4097, 9000)))
        yield _spoiled(dice, wire.access_request(secret, identifier, attributes))
        yield _spoiled(dice, wire.accounting_request(secret, identifier, status + jobs))
        yield wire.access_request(secret, identifier, attributes)
        yield wire.accounting_request(secret, identifier, attributes + jobs + status)
        yield wire.accounting_request(b"wrong", identifier, status + jobs)
        yield wire.packet(dice.randrange(256), identifier, dice.randbytes(16), attributes)


def _shout(locum: Locum, dice: random.Random, seconds: float) -> int:
    """Throw datagrams at both ports and nonsense at the control socket for `seconds`; how many."""
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.setblocking(False)
    count, made, until = 0, _datagrams(dice, locum.secret), time.monotonic() + seconds
    with out:
        while time.monotonic() < until:
            for port in (locum.auth_port, locum.acct_port):
                try:
                    out.sendto(next(made), (LOOPBACK[4], port))
                except OSError:
                    continue
                count += 1
            if count % 400 == 0:
                _mutter(locum, dice)
            if count % 40 == 0:
                # Without a breath now and then the kernel drops what Locum has no time to read, and nothing is tested.
                time.sleep(0.005)
    return count


def _mutter(locum: Locum, dice: random.Random) -> None:
    folder = os.open(locum.state_dir, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1)
            line.connect(f"/proc/self/fd/{folder}/control.sock")
            line.sendall(
                dice.choice(
                    (
                        dice.randbytes(200),
                        b'{"command": 7}\n',
                        b"[]\n",
                        b'{"command": "status", "x": []}\n',
                        b"{" * 5000 + b"\n",
                        b'{"command": "drop"}\n',
                        b"",
                    )
                )
            )
    except OSError:
        pass
    finally:
        os.close(folder)


def test_any_bytes_to_every_socket(make_line: Callable[..., Line]) -> None:
    """Half of the time while online, half while offline; the second half of each costs at most 5 MB of memory."""
    line = make_line()
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(2):
        _shout(line.locum, dice, SECONDS / 4)
        half = line.locum.memory()
        count = _shout(line.locum, dice, SECONDS / 4)
        grown = line.locum.memory() - half
        assert count > 100
        assert grown <= GROWTH, f"{grown / 1e6:.1f} MB more in the second half"
        assert line.copier.swipe("0A1B2C3D", wait=8.0, resend_every=1.0) is not None
        line.shift.job("s1", wait=8.0)
        line.locum.assert_no_traceback()
        if line.locum.state() == "online":
            line.go_offline()
