"""The exception tree: drawn as it is, each error with its status and its failure kind."""

import inspect
import re
from collections.abc import Iterator

import anyio
import pytest

from gymhost import errors
from gymhost.errors import (
    GymhostError,
    RequestError,
    SessionEnded,
    SessionError,
    ToolError,
    is_crash,
)

LINE = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:\s+(?P<status>\d{3})\b)?")


def drawn() -> Iterator[tuple[str, str | None, str | None]]:
    """Each line of the tree in the module's docstring: name, parent, status."""
    parents: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines()[2:]:
        match = LINE.match(line)
        assert match is not None, line
        depth = len(match["indent"])
        while parents and parents[-1][0] >= depth:
            parents.pop()
        yield match["name"], parents[-1][1] if parents else None, match["status"]
        parents.append((depth, match["name"]))


CLASSES = {
    name: each
    for name, each in vars(errors).items()
    if inspect.isclass(each) and issubclass(each, GymhostError)
}


def test_the_tree_is_drawn_as_it_is() -> None:
    tree = {name: parent for name, parent, _ in drawn()}
    assert tree.pop("GymhostError") is None
    assert tree == {
        name: each.__base__.__name__
        for name, each in CLASSES.items()
        if each is not GymhostError and each.__base__ is not None
    }


def test_the_statuses_are_drawn_as_they_are() -> None:
    for name, _, status in drawn():
        each = CLASSES[name]
        if status is not None:
            assert issubclass(each, RequestError)
            assert each.status == int(status)
        elif issubclass(each, RequestError):  # it is its parent's, or another one is named for it
            assert each in (RequestError, SessionError) or each.status == each.__base__.status


def test_the_public_names_are_all_and_sorted() -> None:
    assert errors.__all__ == sorted(errors.__all__)
    assert set(errors.__all__) == {*CLASSES, "StoreReason", "is_crash"}


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("RequestError", 503, "internal_error"),
        ("InternalError", 503, "internal_error"),
        ("InvalidBody", 400, "invalid_request"),
        ("InvalidField", 422, "invalid_request"),
        ("Unauthorized", 401, "unauthorized"),
        ("Forbidden", 403, "forbidden"),
        ("NotFound", 404, "not_found"),
        ("UnknownEnvironment", 404, "unknown_environment"),
        ("MethodNotAllowed", 405, "method_not_allowed"),
        ("BodyTooLarge", 413, "body_too_large"),
        ("EnvironmentDown", 503, "environment_error"),
        ("EnvironmentFailed", 502, "environment_error"),
        ("EnvironmentTimeout", 504, "environment_timeout"),
        ("OverCapacity", 503, "over_capacity"),
        ("StoreError", 503, "store_error"),
        ("LeaseLost", 503, "store_error"),
        ("SessionLost", 404, "session_lost"),
        ("TaskMismatch", 409, "task_mismatch"),
        ("AlreadyVerified", 409, "already_verified"),
        ("KeyConflict", 409, "idempotency_conflict"),
    ],
)
def test_an_error_has_its_status_and_failure_kind(name: str, status: int, kind: str) -> None:
    error = CLASSES[name]("detail")
    assert isinstance(error, RequestError)
    assert (error.status, error.failure_kind) == (status, kind)


def test_errors_that_are_told_their_failure_kind_have_it() -> None:
    ended = SessionEnded("over", "session_expired")
    assert (ended.status, ended.failure_kind, str(ended)) == (410, "session_expired", "over")
    masked = errors.SampleMasked("spoiled", "store_error", unmasked_reward=1.0)
    assert (masked.status, masked.failure_kind) == (502, "store_error")
    assert masked.extra == {"unmasked_reward": 1.0}


def test_errors_carry_the_headers_that_their_status_asks_for() -> None:
    assert errors.Unauthorized("no").headers == {"www-authenticate": 'Bearer realm="gymhost"'}
    assert errors.MethodNotAllowed("GET, POST").headers == {"allow": "GET, POST"}
    assert errors.OverCapacity("full").headers == {"retry-after": "1"}
    assert errors.OverCapacity("full", retry_after=7).headers == {"retry-after": "7"}
    assert errors.NotFound("no").headers == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ToolError", "tool_error"),
        ("UnknownTool", "unknown_tool"),
        ("InvalidArguments", "invalid_arguments"),
        ("ToolRefused", "refused"),
    ],
)
def test_a_tool_error_is_counted_under_its_kind(name: str, kind: str) -> None:
    error = CLASSES[name]("no")
    assert isinstance(error, ToolError)
    assert error.kind == kind
    assert errors.ToolRefused("no", "limit").kind == "limit"


def test_a_timeout_says_how_long_it_was_waited_for() -> None:
    error = errors.CallTimeout("verify of 'weather'", 300.0)
    assert (str(error), error.seconds) == ("verify of 'weather' took longer than 300 s", 300.0)


@pytest.mark.parametrize(
    ("error", "crash"),
    [
        (ValueError(), True),
        (SystemExit(1), True),
        (ExceptionGroup("g", [ValueError()]), True),
        (BaseExceptionGroup("g", [ValueError(), SystemExit()]), True),
        (BaseExceptionGroup("g", [ExceptionGroup("g", [ValueError()]), SystemExit()]), True),
        (KeyboardInterrupt(), False),
        (GeneratorExit(), False),
        (BaseException(), False),
        (BaseExceptionGroup("g", [ValueError(), KeyboardInterrupt()]), False),
        (
            BaseExceptionGroup("g", [ValueError(), BaseExceptionGroup("g", [BaseException()])]),
            False,
        ),
    ],
    ids=repr,
)
def test_a_crash_is_an_authors_exception_or_exit_alone_or_in_a_group(
    error: BaseException, crash: bool
) -> None:
    assert is_crash(error) is crash


async def test_a_cancellation_is_no_crash() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(anyio.get_cancelled_exc_class()) as caught:
            await anyio.lowlevel.checkpoint()
    assert not is_crash(caught.value)
    assert not is_crash(BaseExceptionGroup("g", [caught.value, ValueError()]))
