"""Why a plugin failed, in one line: the fact, and every cause of it."""

import pytest

from gymhost.config.mask import Mask
from gymhost.errors import PluginLoadError
from gymhost.plugin_records import PluginRecord, check_all_up, describe


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


class Mute(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such unit"), "ValueError: no such unit"),
        (ValueError(), "ValueError"),
        (PluginLoadError("it is blocked"), "it is blocked"),
        (SystemExit(2), "it called sys.exit(2)"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (Mute(), "Mute"),
        (
            caused(PluginLoadError("'x' failed"), caused(OSError("no file"), KeyError("path"))),
            "'x' failed: OSError: no file: KeyError: 'path'",
        ),
        # a cause whose words are there already adds nothing
        (caused(PluginLoadError("it is no file"), PluginLoadError("no file")), "it is no file"),
        (
            ExceptionGroup("group", [OSError("one"), caused(OSError("two"), KeyError("three"))]),
            "OSError: one; OSError: two: KeyError: 'three'",
        ),
    ],
)
def test_an_error_and_its_causes_are_one_line(error: BaseException, text: str) -> None:
    assert describe(error) == text
    assert PluginRecord("x", "unknown", "failed", error=error).reason == text


def test_all_that_failed_is_listed_with_the_first_cause() -> None:
    first, second = OSError("no GPU"), ValueError("no unit")
    records = [
        PluginRecord("a", "environment", "up"),
        PluginRecord("b", "environment", "failed", error=first),
        PluginRecord("c", "extension", "blocked"),
        PluginRecord("d", "unknown", "failed", error=second),
    ]
    with pytest.raises(PluginLoadError) as caught:
        check_all_up(records)
    assert str(caught.value) == (
        "not everything can be served:\n  b: OSError: no GPU\n  d: ValueError: no unit"
    )
    assert caught.value.__cause__ is first
    assert check_all_up(records[:1] + records[2:3]) is None


def test_neither_the_reason_nor_the_traceback_shows_what_is_masked() -> None:
    error = PluginLoadError("'db' could not be started")
    error.__cause__ = ConnectionError("no entry\nwith hunter2hunter2")
    mask = Mask(["with hunter2hunter2"])
    record = PluginRecord("db", "environment", "failed", error=error, mask=mask)
    assert record.reason == "'db' could not be started: ConnectionError: no entry ***"
    assert "ConnectionError: no entry\n***" in record.traceback
    assert "hunter2" not in record.traceback
    assert "hunter2" not in repr(record)
    with pytest.raises(PluginLoadError, match=r"db: .*no entry \*\*\*"):
        check_all_up([record])
