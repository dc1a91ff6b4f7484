"""The service's log: one line an event, with fields, on standard error.

`2026-11-22T10:15:03.120Z warning the upstream is offline upstream=hq cause="no answer in 3 s"`, or the same as an
object of JSON. Everything goes through the standard library's logging, so that every package can write with a logger
of its own and `extra={...}`; what Twisted logs, and errors that nobody caught, arrive here too, each as one event. Of
such an error the type and the place are logged, not its text, which may hold what a device sent; `debug` adds the
whole traceback.

Fields are chosen by whoever logs. Secrets, codes and card numbers are never among them, and nothing is dumped whole.
"""

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO, cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogBeginner
from twisted.python.failure import Failure

LogFormat = Literal["text", "json"]

_NO_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
"""Twisted's levels."""
_ANNOUNCEMENT = "Unhandled error in Deferred:"
"""Twisted says this first and tells the error in an event of its own."""
_OURS = ("protocols.", "storage.", "proxy.", "appliance.")

_debug = False
_hears_twisted = False


class Events:
    """Writes events under a name: `Events("link").warning("the upstream is offline", upstream="hq")`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"locum.{name}")

    def debug(self, text: str, **fields: object) -> None:
        self._write(logging.DEBUG, text, fields)

    def info(self, text: str, **fields: object) -> None:
        self._write(logging.INFO, text, fields)

    def warning(self, text: str, **fields: object) -> None:
        self._write(logging.WARNING, text, fields)

    def error(self, text: str, **fields: object) -> None:
        self._write(logging.ERROR, text, fields)

    def failure(self, text: str, error: BaseException, **fields: object) -> None:
        """An error that should not have happened: its type and place, and with `debug` its traceback."""
        self._logger.error(text, extra=_extra(fields), exc_info=(type(error), error, error.__traceback__))

    def _write(self, level: int, text: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, text, extra=_extra(fields))


class Limiter:
    """Lets each cause through once in `interval` seconds and counts what it held back. It remembers `most` causes."""

    def __init__(self, interval: float = 60.0, most: int = 1024, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._most = most
        self._clock = clock
        self._causes: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def passes(self, cause: Hashable) -> int | None:
        """How many of this cause were held back since the last that passed; None when this one is held back too."""
        now = self._clock()
        last, held_back = self._causes.get(cause, (None, 0))
        if last is not None and now - last < self._interval:
            self._causes[cause] = (last, held_back + 1)
            return None
        self._causes[cause] = (now, 0)
        self._causes.move_to_end(cause)
        if len(self._causes) > self._most:
            self._causes.popitem(last=False)
        return held_back


def set_up(log_format: LogFormat = "text", *, debug: bool | None = None, stream: TextIO | None = None) -> None:
    """Send every event to `stream` (default: standard error). `debug` None leaves it as it was."""
    global _debug, _hears_twisted
    if debug is not None:
        _debug = debug
    out = sys.stderr if stream is None else stream
    handler = _Handler(out)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines(_is_journal(out)))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("locum").setLevel(logging.DEBUG if _debug else logging.INFO)
    logging.raiseExceptions = False  # a standard error that is gone must not bring the service down
    logging.captureWarnings(True)
    if not _hears_twisted:
        globalLogBeginner.beginLoggingTo(
            [cast(ILogObserver, _from_twisted)], discardBuffer=True, redirectStandardIO=False
        )
        _hears_twisted = True
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that `set_up` can be called again."""


class _TextLines(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        level, fields = record.levelname.lower(), _fields(record)
        parts = [_instant(record.created), level, _printable(record.getMessage())]
        parts += [f"{key}={_value(value)}" for key, value in fields.items()]
        line = " ".join(parts)
        if self._journal:
            line = f"<{_PRIORITIES.get(level, 5)}>{line}"
        return f"{line}\n{shown}" if (shown := _traceback(record)) else line


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _instant(record.created), "level": record.levelname.lower(), "text": record.getMessage()}
        line |= _fields(record)
        if shown := _traceback(record):
            line["traceback"] = shown
        return json.dumps(line, ensure_ascii=False, default=str)


def _extra(fields: dict[str, object]) -> dict[str, object]:
    """Fields under names that do not clash with those of logging."""
    return {f"{key}_" if key in _NO_FIELDS else key: value for key, value in fields.items() if value is not None}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {key: value for key, value in vars(record).items() if key not in _NO_FIELDS}
    fields = {key.removesuffix("_"): value for key, value in fields.items()}
    if record.exc_info and record.exc_info[1] is not None:
        fields |= _described(record.exc_info[1])
    return fields


def _described(error: BaseException) -> dict[str, str]:
    """What may be told of an error that was not foreseen; its text may hold what a device sent."""
    described = {"error": type(error).__name__}
    if isinstance(error, OSError) and error.strerror:
        described["reason"] = error.strerror
    if frames := traceback.extract_tb(error.__traceback__):
        described["at"] = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"
    return described


def _traceback(record: logging.LogRecord) -> str:
    if not _debug or not record.exc_info or record.exc_info[1] is None:
        return ""
    return "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")


def _value(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(letter in ' "=\\' for letter in text)
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


def _printable(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream is the journal's, which takes a level as `<4>` before a line (sd-daemon(3))."""
    try:
        about = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def _from_twisted(event: LogEvent) -> None:
    """What our packages say with Twisted's logger, and what goes wrong in Twisted; the rest of its talk is left out.

    Of Twisted's warnings the template is told, not what was to be filled in.
    """
    namespace = str(event.get("log_namespace", ""))
    ours = namespace.startswith(_OURS)
    failure = event.get("log_failure")
    level = getattr(event.get("log_level"), "name", "info")
    logger = logging.getLogger(f"locum.{namespace}" if ours else "twisted")
    if isinstance(failure, Failure) and (error := failure.value) is not None:
        trace: TracebackType | None = failure.getTracebackObject()  # type: ignore[no-untyped-call]
        text = formatEvent(event) if ours else "an error that nobody caught"
        logger.error("%s", text, exc_info=error.with_traceback(trace))
    elif ours:
        logger.log(_LEVELS.get(level, logging.INFO), "%s", formatEvent(event))
    elif level in ("warn", "error", "critical") and event.get("log_format") != _ANNOUNCEMENT:
        logger.log(
            _LEVELS[level],
            "Twisted reports a problem",
            extra={"source": namespace, "template": event.get("log_format")},
        )


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("locum").error("an error that nobody caught", exc_info=(kind, error, trace))
