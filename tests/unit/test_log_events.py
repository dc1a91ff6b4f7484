"""The service's log: one line an event, whatever is logged and whoever logs it."""

import gc
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from appliance.log import Events, Limiter, LogFormat, set_up

ROOT = Path(__file__).resolve().parents[2]
events = Events("test")


@pytest.fixture(autouse=True)
def hooks_put_back() -> Iterator[None]:
    before = sys.excepthook, threading.excepthook, sys.unraisablehook, logging.raiseExceptions
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook, logging.raiseExceptions = before
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    logging.captureWarnings(False)


def lines_of(log_format: LogFormat = "text", debug: bool = False) -> io.StringIO:
    stream = io.StringIO()
    set_up(log_format, debug=debug, stream=stream)
    return stream


def test_a_line_has_time_level_text_and_fields() -> None:
    stream = lines_of()
    events.warning("the upstream is offline", upstream="hq", cause="no answer in 3 s", tries=2, nothing=None)
    time, rest = stream.getvalue().split(" ", 1)
    assert rest == 'warning the upstream is offline upstream=hq cause="no answer in 3 s" tries=2\n'
    assert len(time) == len("2026-11-22T10:15:03.120Z")
    assert time.endswith("Z")


def test_a_line_of_json_is_an_object() -> None:
    stream = lines_of("json")
    events.error("cannot store", path="/var/lib/locum", name="ledger")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "error", "text": "cannot store", "path": "/var/lib/locum", "name": "ledger"}


@given(st.text(), st.text())
def test_whatever_a_field_holds_the_line_stays_one(text: str, value: str) -> None:
    stream = lines_of()
    events.info(text, field=value)
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue()[:-1].isprintable()


def test_details_are_logged_with_debug_only() -> None:
    stream = lines_of()
    events.debug("a detail")
    assert stream.getvalue() == ""
    stream = lines_of(debug=True)
    events.debug("a detail")
    assert stream.getvalue().endswith("debug a detail\n")


def test_set_up_again_replaces_the_stream_and_keeps_debug() -> None:
    first = lines_of(debug=True)
    second = io.StringIO()
    set_up("json", stream=second)
    events.debug("once")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["text"] == "once"


def failing() -> None:
    raise ValueError("card 12345678")


def test_an_unforeseen_error_is_one_line_without_its_text() -> None:
    stream = lines_of()
    try:
        failing()
    except ValueError as error:
        events.failure("a reload failed", error, file="locum.toml")
    assert stream.getvalue().count("\n") == 1
    assert " error a reload failed file=locum.toml error=ValueError at=test_log_events.py:" in stream.getvalue()
    assert "12345678" not in stream.getvalue()


def test_with_debug_the_traceback_follows() -> None:
    stream = lines_of(debug=True)
    try:
        failing()
    except ValueError as error:
        events.failure("a reload failed", error)
    assert "Traceback (most recent call last)" in stream.getvalue()
    stream = io.StringIO()
    set_up("json", stream=stream)
    try:
        failing()
    except ValueError as error:
        events.failure("a reload failed", error)
    assert "Traceback" in json.loads(stream.getvalue())["traceback"]


def test_a_deferred_that_failed_unheard_is_one_error_event() -> None:
    stream = lines_of()
    deferred: Deferred[None] = Deferred()
    deferred.addCallback(lambda _: failing())
    deferred.callback(None)
    del deferred
    gc.collect()  # the error is told when nobody can ask for it any more
    assert stream.getvalue().count("\n") == 1
    assert " error an error that nobody caught error=ValueError at=test_log_events.py:" in stream.getvalue()


def test_what_our_packages_say_with_twisteds_logger_is_told() -> None:
    stream = lines_of()
    log = Logger(namespace="proxy.net.udp")
    log.warn("a datagram from {peer} was dropped", peer="10.7.0.31")
    log.debug("a detail")
    Logger(namespace="twisted.internet").info("starting factory")
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "warning a datagram from 10.7.0.31 was dropped"
    ]


def test_other_libraries_are_heard_when_they_warn() -> None:
    stream = lines_of()
    logging.getLogger("somebody.else").info("hello")
    logging.getLogger("somebody.else").warning("look out %d", 3)
    assert stream.getvalue().endswith("warning look out 3\n")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    "bug",
    [
        "1 / 0",
        "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
        "type('T', (), {'__del__': lambda self: 1 / 0})()",
    ],
)
def test_no_error_of_the_process_shows_a_traceback(bug: str) -> None:
    program = f"import threading\nfrom appliance import log\nlog.set_up()\n{bug}\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stderr.count("\n") == 1
    assert " error an error that nobody caught error=ZeroDivisionError at=<string>:" in done.stderr


def test_the_journal_is_told_the_priority() -> None:
    program = (
        "import os\nfrom appliance import log\nabout = os.fstat(2)\n"
        "os.environ['JOURNAL_STREAM'] = f'{about.st_dev}:{about.st_ino}'\n"
        "log.set_up()\nlog.Events('x').warning('low disk')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stderr.startswith("<4>2")


def test_a_standard_error_that_is_gone_does_not_matter() -> None:
    program = (
        "import os\nfrom appliance import log\nlog.set_up()\nos.close(2)\nlog.Events('x').error('e')\nprint('on')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == "on\n"


def test_a_cause_passes_once_a_minute_with_the_number_held_back() -> None:
    now = [0.0]
    limiter = Limiter(interval=60.0, clock=lambda: now[0])
    assert limiter.passes(("10.7.0.31", "bad-authenticator")) == 0
    assert limiter.passes(("10.7.0.32", "bad-authenticator")) == 0
    for second in range(1, 60):
        now[0] = float(second)
        assert limiter.passes(("10.7.0.31", "bad-authenticator")) is None
    now[0] = 60.0
    assert limiter.passes(("10.7.0.31", "bad-authenticator")) == 59
    assert limiter.passes(("10.7.0.32", "bad-authenticator")) == 0


def test_the_limiter_forgets_the_oldest_of_too_many_causes() -> None:
    limiter = Limiter(interval=60.0, most=10, clock=lambda: 0.0)
    assert [limiter.passes(cause) for cause in range(11)] == [0] * 11
    assert limiter.passes(0) == 0
    assert limiter.passes(10) is None
