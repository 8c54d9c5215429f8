"""Logs: one JSON object per line on standard error (CONTRACT §4), from structlog and the standard library alike.

{"timestamp": "2026-11-23T02:00:00.000Z", "level": "INFO", "service": "orchestrator", "message": "ready", "details": {}}

No prompt, answer or key gets out: details named like one are masked, objects other than plain data show only their
type, and what `hide` was told is masked wherever it occurs, also in tracebacks. Lines are ASCII: whatever a string
holds, it neither breaks a line nor moves a terminal's cursor.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Any, Final

import structlog

from schemas.units import rfc3339
from streams.runtime.redaction import Bounds, hide, masked, plain, said

__all__ = ["LEVELS", "MAX_LINE_BYTES", "configure", "hide"]

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
SERVICE: Final = "orchestrator"
MAX_LINE_BYTES: Final = 16 * 1024
QUIET: Final = ("aiokafka", "faust", "httpx", "mode", "streams.runtime")
"""They log every record at DEBUG, and cost 13 % of a core even unprinted (KAFKA.md); INFO is their start-up chatter."""

_WIDER_TO_NARROWER: Final = (
    Bounds(text=8_000, entries=200),
    Bounds(text=1_000, entries=40),
    Bounds(text=200, entries=8),
)
_LEAST: Final = Bounds(text=1_000, entries=0)
_MOST_FRAMES: Final = 30
_MOST_CAUSES: Final = 8


def configure(level: str = "INFO", *, quiet: str = "WARNING") -> None:
    """Send everything that this process logs at `level` or above to standard error. May be repeated; the last counts.

    `quiet` is the level of the chatty libraries. Warnings and exceptions that nobody caught become lines as well.
    """
    threshold = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Lines,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for attached in [*root.handlers]:
        if isinstance(attached, _StandardLibrary):
            root.removeHandler(attached)
    root.addHandler(_StandardLibrary())
    root.setLevel(threshold)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.getLevelNamesMapping()[quiet]))
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda crash: _uncaught(crash.exc_type, crash.exc_value, crash.exc_traceback)


def line_of(level: str, message: str, details: Mapping[Any, Any], error: BaseException | None = None) -> str:
    """Return one log line without its end: valid JSON, ASCII, at most `MAX_LINE_BYTES`, nothing hidden in it."""
    told = dict(details)
    if error is not None:
        told |= {"exception": f"{type(error).__name__}: {said(error)}", "traceback": _traceback(error)}
    for bounds in _WIDER_TO_NARROWER:
        line = _line(level, plain(message, bounds), plain(told, bounds))
        if len(line) <= MAX_LINE_BYTES:
            return line
    return _line(level, plain(message, _LEAST), {"details_left_out": True})


def _line(level: str, message: Any, details: Any) -> str:
    timestamp = rfc3339(time.time_ns() // 1_000_000)
    line = {"timestamp": timestamp, "level": level, "service": SERVICE, "message": message, "details": details}
    return json.dumps(line, ensure_ascii=True, allow_nan=False)


def _traceback(error: BaseException) -> str:
    """Return file, line and function of each frame, causes first, as Python shows them; no values of variables."""
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) < _MOST_CAUSES:
        seen.add(id(link))
        frames = traceback.extract_tb(link.__traceback__, limit=-_MOST_FRAMES)
        within = [f"{type(inner).__name__}: {said(inner)}" for inner in getattr(link, "exceptions", ())[:_MOST_CAUSES]]
        parts.append(
            "".join(traceback.format_list(frames)) + "\n".join([f"{type(link).__name__}: {said(link)}", *within])
        )
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\nled to\n".join(reversed(parts))


def _render(_: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """Turn a structlog event into a line: the last processor."""
    level = {"exception": "ERROR", "warn": "WARNING", "fatal": "CRITICAL", "msg": "INFO"}.get(method, method.upper())
    message = event.pop("event", None)
    error = _exception(event.pop("exc_info", None))
    event.pop("stack_info", None)
    return line_of(level, "" if message is None else str(plain(message, _WIDER_TO_NARROWER[0])), event, error)


def _exception(given: Any) -> BaseException | None:
    """Return the exception that `exc_info` means, in any of the ways in which callers say it."""
    match given:
        case BaseException():
            return given
        case (_, BaseException() as error, _):
            return error
        case tuple() | None | False:
            return None
        case _:
            return sys.exc_info()[1]


_writing: Final = threading.Lock()


def _write(line: str) -> None:
    """Write one line in one piece. Where nobody listens any more (closed, broken pipe) there is nobody to tell."""
    with _writing, suppress(OSError, ValueError):
        stream = sys.stderr
        stream.write(line + "\n")
        stream.flush()


class _Lines:
    """What structlog writes to; standard error as it is at that moment."""

    def __init__(self, *_: Any) -> None:
        """Take what structlog gives to a logger factory."""

    def msg(self, line: str) -> None:
        """Write a rendered line."""
        _write(line)

    debug = info = warning = warn = error = exception = critical = fatal = log = msg


class _StandardLibrary(logging.Handler):
    """Renders records of the standard library's loggers (faust, aiokafka, asyncio, aiohttp) in the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, whatever the record holds."""
        details: dict[str, Any] = {"logger": record.name}
        error = _exception(record.exc_info) if record.exc_info else None
        try:
            message = _message(record)
        except Exception as failure:  # noqa: BLE001 - a wrong log call is told, and never stops who made it
            details |= {"at": f"{record.pathname}:{record.lineno}", "problem": type(failure).__name__}
            message = "a log call is wrong"
        _write(line_of(record.levelname, message, details, error))


def _message(record: logging.LogRecord) -> str:
    message = str(record.msg)
    if isinstance(record.args, Mapping):
        message %= {name: _argument(value) for name, value in record.args.items()}
    elif record.args:
        message %= tuple(map(_argument, record.args))
    if record.name == "asyncio":  # what follows is the repr of a task, with that of its exception
        return message.partition("\n")[0]
    return message


def _argument(value: object) -> object:
    """Return an argument of a log call; without its content where it may be a record or what one holds."""
    match value:
        case BaseException():
            return f"{type(value).__name__}: {said(value)}"
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Enum():
            return value
        case _ if hasattr(type(value), "value") or hasattr(value, "messages"):
            return f"<{type(value).__qualname__}>"
        case _:
            return value


def _uncaught(kind: type[BaseException], error: BaseException | None, _: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    _write(line_of("CRITICAL", "an exception that nobody caught", {"type": masked(kind.__name__)}, error))
