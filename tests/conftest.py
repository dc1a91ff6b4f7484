"""Fixtures for tests that run real ends: each is made by a factory and ended after the test, by process id.

What a machine lacks is skipped with a printed reason (`tests/peers/skips.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.line import Line, Shift
from tests.peers.copier import Copier
from tests.peers.freeradius import FreeRadius
from tests.peers.locum import Locum
from tests.peers.relay import Relay
from tests.peers.sink import Sink


@pytest.fixture
def endings() -> Iterator[ExitStack]:
    """What must be ended after the test, last first; every one is, whatever the others raise."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def make_server(tmp_path: Path, endings: ExitStack) -> Callable[..., FreeRadius]:
    """Starts FreeRADIUS: `make_server(cards={...}, ...)`."""
    made: list[FreeRadius] = []

    def make(**how: Any) -> FreeRadius:
        server = FreeRadius(tmp_path / f"server-{len(made)}", **how)
        made.append(server)
        endings.callback(server.stop)
        return server.start()

    return make


@pytest.fixture
def make_locum(tmp_path: Path, endings: ExitStack) -> Callable[..., Locum]:
    """Makes (not starts) Locum: `make_locum(server, offline={...}, ...)`; a traceback in its log fails the test."""
    made: list[Locum] = []

    def make(server: Any, **how: Any) -> Locum:
        locum = Locum.before(tmp_path / f"locum-{len(made)}", server, **how)
        made.append(locum)
        endings.callback(locum.stop)
        return locum

    return make


@pytest.fixture
def make_copier(endings: ExitStack) -> Callable[..., Copier]:
    """Makes a copier in front of a Locum (or anything with ports and a secret): `make_copier(locum, name="c2")`."""

    def make(behind: Any, **how: Any) -> Copier:
        copier = Copier(behind.auth_port, behind.acct_port, how.pop("secret", behind.secret), **how)
        endings.callback(copier.close)
        return copier

    return make


@pytest.fixture
def make_relay(endings: ExitStack) -> Callable[..., Relay]:
    """Starts a bad network in front of a server: `make_relay(server, drop=0.01, round_trip=0.05)`."""

    def make(server: Any, **how: Any) -> Relay:
        relay = Relay([server.auth_port, server.acct_port], **how)
        endings.callback(relay.stop)
        return relay

    return make


@pytest.fixture
def make_sink(endings: ExitStack) -> Callable[..., Sink]:
    """Starts a fast server that counts: `make_sink(delay=0.05)`."""

    def make(**how: Any) -> Sink:
        sink = Sink(**how)
        endings.callback(sink.stop)
        return sink

    return make


@pytest.fixture
def make_line(
    make_server: Callable[..., FreeRadius], make_locum: Callable[..., Locum], make_copier: Callable[..., Copier]
) -> Callable[..., Line]:
    """A whole line that is up and proven: `make_line(cards={...}, behind=relay_or_None, offline={...}, ...)`."""

    def make(*, cards: Any = None, default: str = "accept", **how: Any) -> Line:
        server = make_server(cards=cards, default=default)
        locum = make_locum(server, **how).start()
        locum.wait_until_proven()
        return Line(server, locum, Shift(make_copier(locum)))

    return make
