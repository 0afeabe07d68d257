"""The session store's contract: atomic verbs over sessions, leases, calls and verdicts.

A store keeps bytes and decides nothing: what a state or a call means, when a session expires and
who may call it is the registry's. Each verb is one transaction. Every write of a session names the
lease it holds, and a store refuses one whose epoch is not the session's current one: a holder that
stalled past its lease, and was overtaken, is fenced out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

__all__ = ["Lease", "NewSession", "Page", "SessionRow", "SessionStore", "Status", "Verdict"]

Status = Literal["open", "verifying", "verify_failed", "verified", "closed", "expired", "lost"]
"""open -> verifying -> verified, or verify_failed (and again); or closed, expired, lost."""

ENDED: frozenset[Status] = frozenset({"verified", "closed", "expired", "lost"})
"""The session takes no call any more. It stays readable until its retention."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A score, recorded once."""

    body_hash: bytes
    """SHA-256 of the verify body that was scored."""
    result: bytes
    """The `VerifyResult` as JSON."""
    failure_kind: str | None
    """What spoiled the sample before it was scored; None for a clean one."""
    recorded_at: float


@dataclass(frozen=True, slots=True)
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
    """SHA-256 of the seed body, to tell a repeated request from another one."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as the store has it."""

    session_id: str
    environment: str
    status: Status
    task: bytes
    state: bytes
    allowed_tools: tuple[str, ...] | None
    created_at: float
    used_at: float | None
    """When a tool call or verify last began; None before the first."""
    ended_at: float | None
    key: str | None
    body_hash: bytes
    epoch: int
    verdict: Verdict | None = None
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """How its calls ended, by `ToolOutcome.kind`, and what else failed, by failure kind."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one session, until `expires_at` or until somebody takes it over."""

    session_id: str
    epoch: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class Page:
    """Some sessions, newest first, and where the next page begins (None: there is none)."""

    rows: tuple[SessionRow, ...]
    cursor: str | None


class SessionStore(Protocol):
    """What a store can do.

    Raises, from every verb: StoreError: it could not read or write; nothing was written. From
    every verb that takes a lease: LeaseLost: the session has another epoch; nothing was written.
    """

    durable: bool
    """Whether sessions outlive the process: a graceful stop leaves them open."""

    async def create(self, new: NewSession) -> tuple[SessionRow, bool]:
        """Create a session, open; or return the living one that has the same key, and False."""
        ...

    async def add_token(self, session_id: str, token_hash: bytes) -> None:
        """Let one more token open the session."""
        ...

    async def find(self, token_hash: bytes) -> SessionRow | None:
        """Return the session that a token opens, also when it has ended."""
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

    async def acquire(self, session_id: str, now: float, seconds: float) -> Lease | None:
        """Take the lease under a new epoch; None while somebody has it, or without a session."""
        ...

    async def renew(self, lease: Lease, now: float, seconds: float) -> Lease:
        """Prolong a lease."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give a lease back. One that was lost is no error."""
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
        self, lease: Lease, allowed: Collection[Status], status: Status, now: float
    ) -> bool:
        """Change the status if it is one of the allowed ones; say whether it was."""
        ...

    async def record_verdict(self, lease: Lease, verdict: Verdict) -> Verdict:
        """Record a verdict and mark the session verified; return the one that was first."""
        ...

    async def claim_expired(
        self, now: float, *, unused: float, idle: float, total: float, environment: str
    ) -> list[SessionRow]:
        """Mark as expired, and return, the living sessions nobody holds that are past their time.

        `unused`, `idle` and `total` are seconds since the creation, the last use, the creation.
        One process gets each session, under a new epoch: a holder that stalled is fenced out.
        """
        ...

    async def list(
        self,
        *,
        environment: str | None = None,
        status: Status | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Return sessions, newest first."""
        ...

    async def counts(self) -> Mapping[tuple[str, Status], int]:
        """Count the sessions by environment and status."""
        ...

    async def prune(self, ended_before: float, *, environment: str | None = None) -> int:
        """Forget the sessions that ended before a time; return how many."""
        ...

    async def aclose(self) -> None:
        """Close the store."""
        ...
