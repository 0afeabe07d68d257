"""The log, on standard error: lines of text for people, or of JSON for programs."""

from __future__ import annotations

import logging
import sys
import threading
from copy import copy
from types import TracebackType
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

__all__ = ["configure_logging"]

logger = logging.getLogger("gymhost.cli")


def configure_logging(log_format: Literal["text", "json"] = "text", *, quiet: bool = False) -> None:
    """Log to standard error. First of all: the MCP SDK configures logging where nobody has.

    With "json", everything that Python writes there is an object a line: warnings and what
    nobody caught, too. `quiet` is for commands that print failures themselves.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json() if log_format == "json" else _text())
    logging.basicConfig(level=logging.CRITICAL if quiet else logging.INFO, handlers=[handler])
    for noisy in ("mcp", "httpx2", "hypercorn", "gymhost.hypercorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if log_format == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_of_thread
        sys.unraisablehook = _log_unraisable


def _text() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class _Json(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except (TypeError, ValueError):  # wrong arguments: logging would print a traceback instead
            broken = copy(record)
            broken.msg, broken.args = f"not to be formatted: {record.msg}", ()
            return super().format(broken)


def _json() -> logging.Formatter:
    return _Json(
        ["levelname", "name", "message"],
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
    )


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    logger.critical("uncaught: %s", kind.__name__, exc_info=(kind, error, traceback))


def _log_uncaught_of_thread(failed: threading.ExceptHookArgs) -> None:
    logger.error("uncaught in a thread: %s", failed.exc_type.__name__, exc_info=failed.exc_value)


def _log_unraisable(failed: Any) -> None:
    logger.error(
        "%s: %r", failed.err_msg or "Exception ignored in", failed.object, exc_info=failed.exc_value
    )
