"""The session store's contract: atomic verbs over sessions, leases, calls and verdicts.

A store keeps bytes and decides nothing: what a state or a call means, when a session expires and
who may call it is the registry's. Each verb is one transaction. Every write of a session names the
lease it holds, and a store refuses one whose epoch is not the session's current one: a holder that
stalled past its lease, and was overtaken, is fenced out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

__all__ = [
    "ENDED",
    "Found",
    "Holding",
    "Lease",
    "NewSession",
    "Page",
    "SessionRow",
    "SessionStore",
    "SessionSummary",
    "Status",
    "Verdict",
    "read_cursor",
]

Status = Literal["open", "verifying", "verify_failed", "verified", "closed", "expired", "lost"]
"""open -> verifying -> verified, or verify_failed (and again); or closed, expired, lost."""

ENDED: frozenset[Status] = frozenset({"verified", "closed", "expired", "lost"})
"""The session takes no call any more. It stays readable until its retention."""


# Not frozen, and nobody changes them: each is made for every session, and a frozen one takes twice
# as long to make.
@dataclass(slots=True)
class Verdict:
    """A score, recorded once."""

    body_hash: bytes
    """`hash_body` of the verify body that was scored."""
    result: bytes
    """The `VerifyResult` as JSON."""
    failure_kind: str | None
    """What spoiled the sample before it was scored; None for a clean one."""
    recorded_at: float


@dataclass(slots=True)
class NewSession:
    """What a session is created with. Times are seconds since the epoch."""

    session_id: str
    environment: str
    token_hash: bytes
    """SHA-256 of the token; the token itself is nowhere."""
    task: bytes
    state: bytes
    allowed_tools: tuple[str, ...] | None
    created_at: float
    key: str | None = None
    """The Idempotency-Key, unique in the environment while the session lives."""
    body_hash: bytes = b""
    """`hash_body` of the seed body, to tell a repeated request from another one."""
    pinned: bool = False
    """It lives in one process: whoever else gets its lease has found it lost."""
    leased_until: float = 0.0
    """Its maker has its lease from the start, under epoch 0, till then."""

    def row(self) -> SessionRow:
        """Return the session as it is when it was created."""
        return SessionRow(
            session_id=self.session_id,
            environment=self.environment,
            status="open",
            created_at=self.created_at,
            used_at=None,
            ended_at=None,
            pinned=self.pinned,
            task=self.task,
            state=self.state,
            allowed_tools=self.allowed_tools,
            key=self.key,
            body_hash=self.body_hash,
            epoch=0,
        )


@dataclass(slots=True, kw_only=True)
class SessionSummary:
    """What a list says of a session: neither its task nor its state, which may be large.

    A copy, which is its reader's.
    """

    session_id: str
    environment: str
    status: Status
    created_at: float
    used_at: float | None
    """When a tool call or verify last began; None before the first."""
    ended_at: float | None
    pinned: bool = False
    verdict: Verdict | None = None
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """How its calls ended, by `ToolOutcome.kind`, and what else failed, by failure kind."""

    @property
    def touched_at(self) -> float:
        """When something last happened to it: it ended, else was used, else begun."""
        return next(at for at in (self.ended_at, self.used_at, self.created_at) if at is not None)


@dataclass(slots=True, kw_only=True)
class SessionRow(SessionSummary):
    """A session as the store has it. Not frozen: a holder notes in it what it has written."""

    task: bytes
    state: bytes
    allowed_tools: tuple[str, ...] | None
    key: str | None
    body_hash: bytes
    epoch: int
    closing: bool = False
    """It has ended, and its environment has yet to be told."""

    @property
    def is_final(self) -> bool:
        """Whether it has ended for good: one that expired may yet be scored, if not pinned."""
        return self.status in ENDED and (self.status != "expired" or self.pinned)

    def summary(self) -> SessionSummary:
        """Return what a list says of it."""
        return SessionSummary(
            session_id=self.session_id,
            environment=self.environment,
            status=self.status,
            created_at=self.created_at,
            used_at=self.used_at,
            ended_at=self.ended_at,
            pinned=self.pinned,
            verdict=self.verdict,
            counts=self.counts,
        )


class Found(NamedTuple):
    """Which session a token opens."""

    session_id: str
    environment: str
    status: Status


@dataclass(slots=True)
class Lease:
    """The right to write one session, until `expires_at` or until somebody takes it over."""

    session_id: str
    epoch: int
    expires_at: float


@dataclass(slots=True)
class Holding:
    """What whoever takes a lease gets: all that there is to know of the session."""

    lease: Lease
    row: SessionRow
    """Under the lease's epoch."""
    calls: list[bytes]
    """In the order of their commits."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some sessions, newest first, and where the next page begins (None: there is none)."""

    rows: tuple[SessionSummary, ...]
    cursor: str | None


class SessionStore(Protocol):
    """What a store can do.

    `open` comes first and `aclose` last. Raises, from every verb: StoreError: it could not read or
    write; nothing was written. From every verb that takes a lease: LeaseLost: the session has
    another epoch; nothing was written.
    """

    durable: bool
    """Whether sessions outlive the process: a graceful stop leaves them open."""
    waits: bool
    """Whether a verb ever waits: in one that does not, nobody can be cancelled."""

    async def open(self) -> None:
        """Begin: connect, and bring an older schema up to date.

        Raises: StoreError: there is no store to be had; its text says why and what to do.
        """
        ...

    async def check(self) -> None:
        """Write as a session would.

        Raises: StoreError: it could not be written.
        """
        ...

    async def create(self, new: NewSession) -> SessionRow | None:
        """Create a session, open; or return the living one that has the same key."""
        ...

    async def add_token(self, session_id: str, token_hash: bytes) -> None:
        """Let one more token open the session."""
        ...

    async def find(self, token_hash: bytes) -> Found | None:
        """Return which session a token opens, also when it has ended."""
        ...

    async def find_key(self, environment: str, key: str) -> SessionRow | None:
        """Return the living session with that Idempotency-Key."""
        ...

    async def get(self, session_id: str) -> SessionRow | None:
        """Return a session."""
        ...

    async def calls(self, session_id: str) -> list[bytes]:
        """Return a session's calls, in the order of their commits."""
        ...

    async def acquire(self, session_id: str, now: float, seconds: float) -> Holding | None:
        """Take the lease under a new epoch; None while somebody has it, or without a session."""
        ...

    async def renew(self, lease: Lease, now: float, seconds: float) -> Lease:
        """Prolong a lease."""
        ...

    async def release(self, lease: Lease, *, closed: bool = False) -> bool:
        """Give a lease back, and say whether it was held; one that was lost is no error.

        `closed`: the environment has been told that the session ended.
        """
        ...

    async def commit(
        self,
        lease: Lease,
        *,
        call: bytes | None = None,
        state: bytes | None = None,
        counted: str | None = None,
        used_at: float | None = None,
    ) -> None:
        """Append a call, replace the state, count an outcome, note the use: all or nothing."""
        ...

    async def transition(
        self,
        lease: Lease,
        allowed: Collection[Status],
        status: Status,
        now: float,
        *,
        closing: bool = False,
    ) -> bool:
        """Change the status if it is one of the allowed ones; say whether it was.

        `closing`: the environment is to be told of this end. Until `release` says that it was,
        `claim_closing` finds the session.
        """
        ...

    async def record_verdict(
        self,
        lease: Lease,
        verdict: Verdict,
        *,
        trajectory: bytes | None = None,
        closing: bool = False,
        release: bool = False,
    ) -> Verdict:
        """Record a verdict and mark the session verified; return the one that was first.

        `trajectory` is kept beside it; `closing` is as in `transition`. With `release` the lease
        is given back in the same transaction.
        """
        ...

    async def trajectory(self, session_id: str) -> bytes | None:
        """Return the trajectory that was kept with the verdict."""
        ...

    async def claim_expired(
        self,
        now: float,
        *,
        unused: float,
        idle: float,
        total: float,
        environment: str,
        closing: bool = False,
    ) -> list[SessionSummary]:
        """End, and return, the living sessions nobody holds that are past their time or lost.

        `unused`, `idle` and `total` are seconds since the creation, the last use, the creation:
        past them a session is `expired`. A pinned one that nobody holds is `lost`. One process
        gets each session, under a new epoch: a holder that stalled is fenced out. `closing` is
        as in `transition`.
        """
        ...

    async def claim_closing(
        self, now: float, seconds: float, *, environment: str, limit: int = 100
    ) -> list[Lease]:
        """Take the leases of ended sessions whose environment has yet to be told, oldest first.

        Somebody marked them as `closing` and holds them no longer: it was told to leave that to
        the sweeper, or it crashed.
        """
        ...

    async def list(
        self,
        *,
        environment: str | None = None,
        status: Status | None = None,
        since: float | None = None,
        until: float | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Return sessions, newest first; those created from `since` on and before `until`.

        Raises: ValueError: a cursor that no list has answered.
        """
        ...

    async def forget(self, session_id: str) -> bool:
        """Forget a session that has ended, at once; say whether there was one."""
        ...

    async def counts(self) -> Mapping[tuple[str, Status], int]:
        """Count the sessions by environment and status."""
        ...

    async def prune(self, ended_before: float, *, environment: str | None = None) -> int:
        """Forget the sessions that ended before a time; return how many.

        Those stay whose environment has yet to be told of their end.
        """
        ...

    async def prune_abandoned(self, before: float, now: float, *, environment: str) -> int:
        """Forget the sessions of an environment that is gone; return how many.

        Also those that live, or that it was never told of: all that nobody holds, and that have
        not been begun, used or ended since `before`.
        """
        ...

    async def aclose(self) -> None:
        """Close the store."""
        ...


def read_cursor(cursor: str) -> int:
    """Return the number that a list's cursor is.

    Raises: ValueError: no list has answered it.
    """
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise ValueError(f"{cursor!r} is no cursor of a list")
    return int(cursor)
