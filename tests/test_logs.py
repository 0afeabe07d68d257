"""The log on standard error, as lines of text or of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.measured

# What is written to standard error by everything that writes there.
PROGRAM = """
import logging, sys, threading, warnings
from gymhost.logs import configure_logging

configure_logging({arguments})
log = logging.getLogger("gymhost.test")
log.info("two\\nlines of %s", "text \\u2028 \\u00fc")
log.debug("too fine")
logging.getLogger("mcp.server").info("chatter")
try:
    raise LookupError("no city")
except LookupError:
    log.exception("it failed")
log.warning("%d", "no number")
log.warning("odd", extra={{"odd": object, "number": 7}})
warnings.warn("old", UserWarning)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()

class Dying:
    def __del__(self):
        raise OSError("gone")

Dying()
raise RuntimeError("the end")
"""


def log(arguments: str, program: str = PROGRAM) -> str:
    """Run a program, and return what it wrote to standard error."""
    ran = subprocess.run(
        [sys.executable, "-c", program.format(arguments=arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    return ran.stderr


def test_json_is_an_object_a_line_whatever_is_written() -> None:
    records: list[dict[str, Any]] = [json.loads(line) for line in log("'json'").splitlines()]
    first = records[0]
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "INFO",
        "logger": "gymhost.test",
        "message": "two\nlines of text \u2028 \u00fc",
    }
    said = [(each["level"], each["message"][:17].split(":")[0]) for each in records[1:]]
    assert said == [
        ("ERROR", "it failed"),
        ("WARNING", "not to be formatt"),
        ("WARNING", "odd"),
        ("WARNING", "<string>"),
        ("ERROR", "uncaught in a thr"),
        ("ERROR", "Exception ignored"),
        ("CRITICAL", "uncaught"),
    ]
    assert records[1]["exception"].startswith("Traceback (most recent call last):\n")
    assert records[1]["exception"].endswith("\nLookupError: no city")
    assert records[3]["number"] == 7
    assert "UserWarning: old" in records[4]["message"]
    assert "ZeroDivisionError" in records[5]["exception"]
    assert "OSError: gone" in records[6]["exception"]
    assert records[7]["exception"].endswith("\nRuntimeError: the end")


def test_text_is_a_line_with_time_level_and_logger() -> None:
    lines = log("").splitlines()
    assert lines[0].endswith(" INFO gymhost.test: two")
    assert "LookupError: no city" in lines
    assert "RuntimeError: the end" in lines
    assert not any("chatter" in line for line in lines)


CARELESS = """
import logging, sys, threading, warnings
from pathlib import Path
from gymhost.logs import configure_logging
from gymhost.config.mask import Mask

SECRET = "se'cret of \\"env\\""
mask = Mask([SECRET])
configure_logging({arguments}, mask=mask)
log = logging.getLogger("gymhost.test")
mask.learn(["learnt-later"])
log.info("plain %s and learnt-later", SECRET)
log.info("repeated %r", [{{"in": SECRET}}])
log.warning("not %d", SECRET)
log.warning("more", extra={{"also": SECRET, "deep": {{SECRET: [SECRET, Path(SECRET)]}}, "fine": 5}})
log.info({{"dict": SECRET}})
log.info("stack", stack_info=True, extra={{SECRET: 1}})
try:
    try:
        raise LookupError(SECRET)
    except LookupError as exc:
        raise ExceptionGroup("two", [ValueError(repr(SECRET)), KeyError(SECRET)]) from exc
except ExceptionGroup:
    log.exception("it failed")
warnings.warn(SECRET, UserWarning)
thread = threading.Thread(target=lambda: {{}}[SECRET])
thread.start()
thread.join()

class Dying:
    def __del__(self):
        raise OSError(SECRET)

Dying()
raise RuntimeError(SECRET)
"""


@pytest.mark.parametrize("arguments", ["", "'json'"])
def test_secrets_are_hidden_in_all_that_is_written(arguments: str) -> None:
    written = log(arguments or "'text'", CARELESS)
    # the traceback of a program of one string has no lines of it
    assert "cret of" not in written
    assert "learnt-later" not in written
    for said in ("plain *** and ***", "repeated", "not to be formatted", "it failed", "Traceback"):
        assert said in written
    for said in ("LookupError: ***", "UserWarning: ***", "OSError: ***", "RuntimeError: ***"):
        assert said in written
    if arguments:
        records = [json.loads(line) for line in written.splitlines()]
        assert {"also": "***", "deep": {"***": ["***", "***"]}, "fine": 5}.items() <= (
            records[3].items()
        )
        assert records[4]["dict"] == "***"
        assert all(record["level"] and record["time"] for record in records)


@pytest.mark.parametrize("arguments", ["quiet=True", "'json', quiet=True"])
def test_quiet_is_for_commands_that_say_it_themselves(arguments: str) -> None:
    written = log(arguments)
    assert "it failed" not in written
    assert "the end" in written
