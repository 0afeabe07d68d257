"""What can go wrong, as one tree; an error that answers a request carries its HTTP status.

GymhostError
├── PluginError                  a plugin is wrong; the others serve
│   ├── PluginLoadError          it could not be found, imported, built or started
│   ├── ToolDefinitionError      one of its tools can't be offered
│   └── HookError                a wrapper broke the rules of a wrapper
├── ServeError                   this process can't serve (a port in use)
├── ToolError                    raised by an author: the agent reads its text
│   ├── UnknownTool
│   ├── InvalidArguments
│   └── ToolRefused              a limit or the session's state forbids the call
├── CallTimeout                  a hook or tool took longer than its limit
└── RequestError         503     answers a control-plane request as problem+json
    ├── InternalError    503     a bug of gymhost's own
    ├── InvalidBody      400     not JSON, or not an object
    ├── InvalidField     422     a field of the wrong type, a parameter with a wrong value
    │   └── InvalidTask  422     raised by an author: the task is none of this environment's
    ├── Unauthorized     401
    ├── Forbidden        403     --no-key: a Host or Origin that is not this machine
    ├── NotFound         404     no such page
    ├── UnknownEnvironment 404
    ├── MethodNotAllowed 405
    ├── BodyTooLarge     413
    ├── EnvironmentDown  503     it failed to load; the answer says why
    ├── EnvironmentFailed 502    its code raised
    │   └── SampleMasked 502     it scored, but an earlier failure spoils the sample
    ├── EnvironmentTimeout 504
    ├── OverCapacity     503
    ├── StoreError       503
    │   └── LeaseLost            another holder has taken the session over
    └── SessionError
        ├── SessionLost      404 never known here
        ├── SessionEnded     410 known once
        ├── EnvironmentMissing 409   it can't be ended: nobody could tell its environment
        ├── TaskMismatch     409
        ├── AlreadyVerified  409
        └── KeyConflict      409 an Idempotency-Key with another body
"""

from __future__ import annotations

from typing import Any, Literal

__all__ = [
    "AlreadyVerified",
    "BodyTooLarge",
    "CallTimeout",
    "EnvironmentDown",
    "EnvironmentFailed",
    "EnvironmentMissing",
    "EnvironmentTimeout",
    "Forbidden",
    "GymhostError",
    "HookError",
    "InternalError",
    "InvalidArguments",
    "InvalidBody",
    "InvalidField",
    "InvalidTask",
    "KeyConflict",
    "LeaseLost",
    "MethodNotAllowed",
    "NotFound",
    "OverCapacity",
    "PluginError",
    "PluginLoadError",
    "RequestError",
    "SampleMasked",
    "ServeError",
    "SessionEnded",
    "SessionError",
    "SessionLost",
    "StoreError",
    "StoreReason",
    "TaskMismatch",
    "ToolDefinitionError",
    "ToolError",
    "ToolRefused",
    "Unauthorized",
    "UnknownEnvironment",
    "UnknownTool",
    "is_crash",
]


class GymhostError(Exception):
    """Base of every error that gymhost raises on purpose."""


class PluginError(GymhostError):
    """A plugin is wrong. It is out; the others serve."""


class PluginLoadError(PluginError):
    """A plugin could not be found, imported, built, registered or started."""


class ToolDefinitionError(PluginError):
    """A tool can't be offered: its name is reserved, or its signature can't be a schema."""


class HookError(PluginError):
    """A hook wrapper did not yield, or yielded twice."""


class ServeError(GymhostError):
    """This process can't serve as it was asked to."""


class ToolError(GymhostError):
    """Raise it from a tool: the agent reads the text word for word."""

    kind = "tool_error"


class UnknownTool(ToolError):
    """No tool of that name, or not in this session."""

    kind = "unknown_tool"


class InvalidArguments(ToolError):
    """The arguments do not fit the tool's input schema."""

    kind = "invalid_arguments"


class ToolRefused(ToolError):
    """The call was never started: no session, a session that has ended, or a limit.

    `kind` says which, and is what it is counted under; `limit` names the one of `Limits`.
    """

    def __init__(self, message: str, kind: str = "refused", *, limit: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.limit = limit


class CallTimeout(GymhostError):
    """A hook or a tool took longer than its limit. What it started in a thread is abandoned."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} took longer than {seconds:g} s")
        self.seconds = seconds


class RequestError(GymhostError):
    """Answers a control-plane request as `application/problem+json` (RFC 9457).

    None of these is a reward: each answer carries `mask_sample: true`.
    """

    # never 500, which proxies and servers answer by themselves: a 5xx of ours says who failed
    status = 503
    failure_kind = "internal_error"

    def __init__(self, detail: str = "", **extra: Any) -> None:
        super().__init__(detail)
        self.extra: dict[str, Any] = extra
        self.headers: dict[str, str] = {}

    @classmethod
    def failure_kinds(cls) -> tuple[str, ...]:
        """Return what `failure_kind` may be."""
        return (cls.failure_kind,)


class InternalError(RequestError):
    """gymhost itself failed. The cause is in the log, not in the answer."""


class InvalidBody(RequestError):
    """The body is not JSON, or not a JSON object."""

    status = 400
    failure_kind = "invalid_request"


class InvalidField(RequestError):
    """A field of the body, or a parameter, has a value that it can't have."""

    status = 422
    failure_kind = "invalid_request"


class InvalidTask(InvalidField):
    """Raise it from seed or verify: the task is none of this environment's.

    It is the trainer's mistake, so the text reaches them, and no failure is counted.
    """


class Unauthorized(RequestError):
    """The control key is missing or wrong."""

    status = 401
    failure_kind = "unauthorized"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers = {"www-authenticate": 'Bearer realm="gymhost"'}


class Forbidden(RequestError):
    """Without a key, only requests that name this machine are taken."""

    status = 403
    failure_kind = "forbidden"


class NotFound(RequestError):
    """No such page."""

    status = 404
    failure_kind = "not_found"


class UnknownEnvironment(RequestError):
    """No environment of that name is mounted."""

    status = 404
    failure_kind = "unknown_environment"


class MethodNotAllowed(RequestError):
    """The page exists, under another method."""

    status = 405
    failure_kind = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"Allowed here: {allowed}.")
        self.headers = {"allow": allowed}


class BodyTooLarge(RequestError):
    """The body is past its limit; it was not read whole."""

    status = 413
    failure_kind = "body_too_large"


class EnvironmentDown(RequestError):
    """The environment failed to load or to start."""

    status = 503
    failure_kind = "environment_error"


class EnvironmentFailed(RequestError):
    """The environment's code raised. The cause is in the log, not in the answer."""

    status = 502
    failure_kind = "environment_error"


class SampleMasked(EnvironmentFailed):
    """verify scored, but something failed in the session: `unmasked_reward` has the score."""

    def __init__(self, detail: str, failure_kind: str, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.failure_kind = failure_kind

    @classmethod
    def failure_kinds(cls) -> tuple[str, ...]:
        return ("environment_error", "environment_timeout", "store_error", "cancelled")


class EnvironmentTimeout(RequestError):
    """The environment's code took longer than its limit."""

    status = 504
    failure_kind = "environment_timeout"


class OverCapacity(RequestError):
    """A limit is reached, or the server is stopping. Try again after `retry_after` seconds."""

    status = 503
    failure_kind = "over_capacity"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.headers = {"retry-after": str(retry_after)}


StoreReason = Literal[
    "failed", "full", "locked", "read-only", "corrupt", "newer", "foreign", "gone", "stalled"
]
"""What is wrong with a store, as it may be said to anybody."""


class StoreError(RequestError):
    """The session store could not read or write.

    Its text is for the log: it may name the store's file or server. `reason` is for the answer.
    """

    status = 503
    failure_kind = "store_error"

    def __init__(self, detail: str = "", reason: StoreReason = "failed") -> None:
        super().__init__(detail)
        self.reason: StoreReason = reason


class LeaseLost(StoreError):
    """Another process has taken the session over; nothing was written."""


class SessionError(RequestError):
    """Something about one session."""

    status = 409


class SessionLost(SessionError):
    """The session was never known here, or is past its retention."""

    status = 404
    failure_kind = "session_lost"


class SessionEnded(SessionError):
    """The session has ended; `failure_kind` says how."""

    status = 410

    def __init__(self, detail: str, failure_kind: str) -> None:
        super().__init__(detail)
        self.failure_kind = failure_kind

    @classmethod
    def failure_kinds(cls) -> tuple[str, ...]:
        return ("session_closed", "session_expired", "session_lost")


class EnvironmentMissing(SessionError):
    """The session's environment has to be told that it ends, and is not mounted."""

    failure_kind = "environment_missing"


class TaskMismatch(SessionError):
    """verify names another task than the one that was seeded."""

    failure_kind = "task_mismatch"


class AlreadyVerified(SessionError):
    """The session has a score, for another body."""

    failure_kind = "already_verified"


class KeyConflict(SessionError):
    """The Idempotency-Key was used with another body."""

    failure_kind = "idempotency_conflict"


def is_crash(error: BaseException) -> bool:
    """Whether an author's code failed: an exception or a `sys.exit()`, alone or in a group.

    Cancellation and Ctrl-C are not: they must go on.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_crash(part) for part in error.exceptions)
    return isinstance(error, Exception | SystemExit)
