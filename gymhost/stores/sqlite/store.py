"""The store behind `sqlite:///path`: its verbs, each on the thread that has the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from gymhost.stores.base import (
    Found,
    Holding,
    Lease,
    NewSession,
    Page,
    SessionRow,
    SessionSummary,
    Status,
    Verdict,
)
from gymhost.stores.sqlite import claims, lists, sessions
from gymhost.stores.sqlite.commits import Commits
from gymhost.stores.sqlite.database import BUSY_SECONDS, open_database
from gymhost.stores.sqlite.url import SqliteUrl

__all__ = ["SqliteStore"]

# Of a hundred thousand sessions, so many in one commit: nobody else waits for all of them.
MANY = 500


class SqliteStore:
    """Sessions in a file. What was acknowledged survives a `kill -9` of the process.

    Several processes of one machine may share the file.
    """

    durable = True
    waits = True

    def __init__(self, url: SqliteUrl, *, busy_seconds: float = BUSY_SECONDS) -> None:
        """`busy_seconds` is how long another program's lock is waited for."""
        path = url.path.absolute()  # as the working folder is now
        opening = partial(open_database, path, url.synchronous, busy_seconds)
        self._commits = Commits(path, opening)

    async def open(self) -> None:
        await self._commits.start()

    async def check(self) -> None:
        await self._commits.write(sessions.check)

    async def create(self, new: NewSession) -> SessionRow | None:
        return await self._commits.write(partial(sessions.create, new=new))

    async def add_token(self, session_id: str, token_hash: bytes) -> None:
        verb = partial(sessions.add_token, session_id=session_id, token_hash=token_hash)
        await self._commits.write(verb)

    async def find(self, token_hash: bytes) -> Found | None:
        return await self._commits.read(partial(sessions.find, token_hash=token_hash))

    async def find_key(self, environment: str, key: str) -> SessionRow | None:
        return await self._commits.read(
            partial(sessions.find_key, environment=environment, key=key)
        )

    async def get(self, session_id: str) -> SessionRow | None:
        return await self._commits.read(partial(sessions.get, session_id=session_id))

    async def calls(self, session_id: str) -> list[bytes]:
        return await self._commits.read(partial(sessions.calls, session_id=session_id))

    async def acquire(self, session_id: str, now: float, seconds: float) -> Holding | None:
        verb = partial(claims.acquire, session_id=session_id, now=now, seconds=seconds)
        return await self._commits.write(verb)

    async def renew(self, lease: Lease, now: float, seconds: float) -> Lease:
        verb = partial(claims.renew, lease=lease, now=now, seconds=seconds)
        return await self._commits.write(verb)

    async def release(self, lease: Lease, *, closed: bool = False) -> bool:
        return await self._commits.write(partial(claims.release, lease=lease, closed=closed))

    async def commit(
        self,
        lease: Lease,
        *,
        call: bytes | None = None,
        state: bytes | None = None,
        counted: str | None = None,
        used_at: float | None = None,
    ) -> None:
        verb = partial(
            sessions.commit, lease=lease, call=call, state=state, counted=counted, used_at=used_at
        )
        await self._commits.write(verb)

    async def transition(
        self,
        lease: Lease,
        allowed: Collection[Status],
        status: Status,
        now: float,
        *,
        closing: bool = False,
    ) -> bool:
        verb = partial(
            sessions.transition,
            lease=lease,
            allowed=allowed,
            status=status,
            now=now,
            closing=closing,
        )
        return await self._commits.write(verb)

    async def record_verdict(
        self,
        lease: Lease,
        verdict: Verdict,
        *,
        trajectory: bytes | None = None,
        closing: bool = False,
        release: bool = False,
    ) -> Verdict:
        verb = partial(
            sessions.record_verdict,
            lease=lease,
            verdict=verdict,
            trajectory=trajectory,
            closing=closing,
            release=release,
        )
        return await self._commits.write(verb)

    async def trajectory(self, session_id: str) -> bytes | None:
        return await self._commits.read(partial(sessions.trajectory, session_id=session_id))

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
        verb = partial(
            claims.claim_expired,
            now=now,
            unused=unused,
            idle=idle,
            total=total,
            environment=environment,
            closing=closing,
            limit=MANY,
        )
        claimed = found = await self._commits.write(verb)
        while len(found) == MANY:
            found = await self._commits.write(verb)
            claimed = claimed + found
        return claimed

    async def claim_closing(
        self, now: float, seconds: float, *, environment: str, limit: int = 100
    ) -> list[Lease]:
        verb = partial(
            claims.claim_closing, now=now, seconds=seconds, environment=environment, limit=limit
        )
        return await self._commits.write(verb)

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
        verb = partial(
            lists.list_sessions,
            environment=environment,
            status=status,
            since=since,
            until=until,
            cursor=cursor,
            limit=limit,
        )
        return await self._commits.read(verb)

    async def forget(self, session_id: str) -> bool:
        return await self._commits.write(partial(lists.forget, session_id=session_id))

    async def counts(self) -> Mapping[tuple[str, Status], int]:
        return await self._commits.read(lists.counts)

    async def prune(self, ended_before: float, *, environment: str | None = None) -> int:
        return await self._prune(
            partial(lists.prune_some, ended_before=ended_before, environment=environment)
        )

    async def prune_abandoned(self, before: float, now: float, *, environment: str) -> int:
        return await self._prune(
            partial(lists.prune_abandoned, before=before, now=now, environment=environment)
        )

    async def _prune(self, some: Callable[..., int]) -> int:
        verb = partial(some, limit=MANY)
        pruned = number = await self._commits.write(verb)
        while number == MANY:
            number = await self._commits.write(verb)
            pruned += number
        return pruned

    async def aclose(self) -> None:
        await self._commits.stop()
