"""The log, on standard error: lines of text for people, or of JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
import threading
from copy import copy
from types import TracebackType
from typing import Any, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

from gymhost.config.mask import Mask

__all__ = ["configure_logging"]

logger = logging.getLogger("gymhost.cli")

OWN = ("level", "logger", "time")
"""What the log says itself."""
SAID = ("message", "exception", "stack_info")
"""Keys of its own for what others say."""


def configure_logging(
    log_format: Literal["text", "json"] = "text",
    *,
    quiet: bool = False,
    level: str = "INFO",
    mask: Mask | None = None,
) -> None:
    """Log to standard error. First of all: the MCP SDK configures logging where nobody has.

    With "json", everything that Python writes there is an object a line: warnings and what
    nobody caught, too. `quiet` is for commands that print failures themselves.

    `mask` hides secrets, which an author's error may quote; it may learn more later. With one,
    warnings and what nobody caught come here in a log of text, too.
    """
    handler = _Handler()
    handler.setFormatter((_Json if log_format == "json" else _Text)(mask or Mask()))
    logging.basicConfig(level="CRITICAL" if quiet else level, handlers=[handler])
    # hpack writes down each header, with keys and tokens, where somebody turns on all of DEBUG
    for noisy in ("mcp", "httpx2", "httpcore2", "hypercorn", "gymhost.hypercorn", "hpack", "h2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if log_format == "json" or mask is not None:
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_of_thread
        sys.unraisablehook = _log_unraisable


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to what is standard error by then: a display in the terminal has it for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Text(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(_formattable(record)))


class _Json(JsonFormatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        )
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return super().format(_formattable(record))

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        # as the encoder writes it: what is in an object is hidden, too
        plain = json.loads(self.jsonify_log_record(log_data))
        own = {key: plain.pop(key) for key in OWN}
        said = {key: self._masked(plain.pop(key)) for key in SAID if key in plain}
        more: dict[str, Any] = self._masked(plain)
        return {**own, **said, **more}

    def _masked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._mask(key): self._masked(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._masked(each) for each in value]
        if isinstance(value, str):
            return self._mask(value)
        written = json.dumps(value)
        masked = self._mask(written)
        return value if masked == written else masked


def _formattable(record: logging.LogRecord) -> logging.LogRecord:
    """Return a record that can be formatted: of others, logging prints the parts as they are.

    A copy: what one handler's formatter notes on a record, the others would write as it is.
    """
    record = copy(record)
    try:
        record.getMessage()
    except Exception:  # noqa: BLE001 - wrong arguments, or an author's __str__
        record.msg, record.args = f"not to be formatted: {record.msg}", ()
    return record


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
