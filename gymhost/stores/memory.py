"""Sessions in this process's memory: gone when it ends, and otherwise like a durable store."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from gymhost.errors import LeaseLost, StoreError
from gymhost.stores.base import (
    ENDED,
    Found,
    Holding,
    Lease,
    NewSession,
    Page,
    SessionRow,
    SessionSummary,
    Status,
    Verdict,
    read_cursor,
)

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Entry:
    new: NewSession
    serial: int
    tokens: list[bytes]
    state: bytes
    lease_until: float
    status: Status = "open"
    epoch: int = 0
    used_at: float | None = None
    ended_at: float | None = None
    closing: bool = False
    verdict: Verdict | None = None
    trajectory: bytes | None = None
    counts: dict[str, int] = field(default_factory=dict[str, int])
    calls: list[bytes] = field(default_factory=list[bytes])

    def row(self) -> SessionRow:
        new = self.new
        return SessionRow(
            session_id=new.session_id,
            environment=new.environment,
            status=self.status,
            created_at=new.created_at,
            used_at=self.used_at,
            ended_at=self.ended_at,
            pinned=new.pinned,
            verdict=self.verdict,
            counts=dict(self.counts),
            task=new.task,
            state=self.state,
            allowed_tools=new.allowed_tools,
            key=new.key,
            body_hash=new.body_hash,
            epoch=self.epoch,
            closing=self.closing,
        )


class MemoryStore:
    """The store behind `memory://`. It keeps the last `keep_ended` ended sessions.

    Every verb runs without awaiting anything, and so is atomic on one event loop.
    """

    durable = False
    waits = False

    def __init__(self, keep_ended: int = 10_000) -> None:
        self._entries: dict[str, _Entry] = {}
        self._tokens: dict[bytes, str] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._ended: OrderedDict[str, _Entry] = OrderedDict()
        # by environment: each is maintained by itself, and there may be a thousand
        self._living_in: defaultdict[str, dict[str, _Entry]] = defaultdict(dict)
        self._ended_in: defaultdict[str, dict[str, _Entry]] = defaultdict(dict)
        self._closing_in: defaultdict[str, dict[str, _Entry]] = defaultdict(dict)
        self._counts: defaultdict[tuple[str, Status], int] = defaultdict(int)
        self._keep_ended = keep_ended
        self._serial = 0

    async def open(self) -> None:
        """Do nothing: memory is there."""

    async def check(self) -> None:
        """Do nothing: memory can be written."""

    async def create(self, new: NewSession) -> SessionRow | None:
        if new.key is not None:
            known = self._keys.get((new.environment, new.key))
            if known is not None:
                return self._entries[known].row()
        self._serial += 1
        entry = _Entry(new, self._serial, [new.token_hash], new.state, new.leased_until)
        self._entries[new.session_id] = self._living_in[new.environment][new.session_id] = entry
        self._tokens[new.token_hash] = new.session_id
        self._counts[new.environment, entry.status] += 1
        if new.key is not None:
            self._keys[new.environment, new.key] = new.session_id
        return None

    async def add_token(self, session_id: str, token_hash: bytes) -> None:
        entry = self._entries.get(session_id)
        if entry is None:
            raise StoreError(f"session {session_id!r} is gone")
        entry.tokens.append(token_hash)
        self._tokens[token_hash] = session_id

    async def find(self, token_hash: bytes) -> Found | None:
        session_id = self._tokens.get(token_hash)
        if session_id is None:
            return None
        entry = self._entries[session_id]
        return Found(session_id, entry.new.environment, entry.status)

    async def find_key(self, environment: str, key: str) -> SessionRow | None:
        session_id = self._keys.get((environment, key))
        return None if session_id is None else self._entries[session_id].row()

    async def get(self, session_id: str) -> SessionRow | None:
        entry = self._entries.get(session_id)
        return None if entry is None else entry.row()

    async def calls(self, session_id: str) -> list[bytes]:
        entry = self._entries.get(session_id)
        return [] if entry is None else list(entry.calls)

    async def acquire(self, session_id: str, now: float, seconds: float) -> Holding | None:
        entry = self._entries.get(session_id)
        if entry is None or entry.lease_until > now:
            return None
        lease = self._lease(entry, now, seconds)
        return Holding(lease, entry.row(), list(entry.calls))

    async def renew(self, lease: Lease, now: float, seconds: float) -> Lease:
        entry = self._held(lease)
        entry.lease_until = now + seconds
        return replace(lease, expires_at=entry.lease_until)

    async def release(self, lease: Lease, *, closed: bool = False) -> bool:
        entry = self._entries.get(lease.session_id)
        if entry is None or entry.epoch != lease.epoch:
            return False
        entry.lease_until = 0.0
        if closed and entry.closing:
            entry.closing = False
            del self._closing_in[entry.new.environment][lease.session_id]
            self._keep(entry)
        return True

    async def commit(
        self,
        lease: Lease,
        *,
        call: bytes | None = None,
        state: bytes | None = None,
        counted: str | None = None,
        used_at: float | None = None,
    ) -> None:
        entry = self._held(lease)
        if state is not None:
            entry.state = state
        if used_at is not None:
            entry.used_at = used_at
        if counted is not None:
            entry.counts[counted] = entry.counts.get(counted, 0) + 1
        if call is not None:
            entry.calls.append(call)

    async def transition(
        self,
        lease: Lease,
        allowed: Collection[Status],
        status: Status,
        now: float,
        *,
        closing: bool = False,
    ) -> bool:
        entry = self._held(lease)
        if entry.status not in allowed:
            return False
        self._set_status(entry, status, now, closing=closing)
        return True

    async def record_verdict(
        self,
        lease: Lease,
        verdict: Verdict,
        *,
        trajectory: bytes | None = None,
        closing: bool = False,
        release: bool = False,
    ) -> Verdict:
        entry = self._held(lease)
        if release:
            entry.lease_until = 0.0
        if entry.verdict is not None:
            return entry.verdict
        entry.verdict = verdict
        entry.trajectory = trajectory
        self._set_status(entry, "verified", verdict.recorded_at, closing=closing)
        return verdict

    async def trajectory(self, session_id: str) -> bytes | None:
        entry = self._entries.get(session_id)
        return None if entry is None else entry.trajectory

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
        claimed: list[SessionSummary] = []
        for entry in list(self._living_in[environment].values()):
            created_at, used_at = entry.new.created_at, entry.used_at
            since = created_at + unused if used_at is None else used_at + idle
            over = min(since, created_at + total) <= now
            if entry.lease_until <= now and (over or entry.new.pinned):
                entry.epoch += 1
                status: Status = "lost" if entry.new.pinned else "expired"
                self._set_status(entry, status, now, closing=closing)
                claimed.append(entry.row().summary())
        return claimed

    async def claim_closing(
        self, now: float, seconds: float, *, environment: str, limit: int = 100
    ) -> list[Lease]:
        leases: list[Lease] = []
        for entry in self._closing_in[environment].values():
            if len(leases) == limit:
                break
            if entry.lease_until <= now:
                leases.append(self._lease(entry, now, seconds))
        return leases

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
        before = float("inf") if cursor is None else read_cursor(cursor)
        found = [
            entry
            for entry in reversed(self._entries.values())
            if entry.serial < before
            and environment in (None, entry.new.environment)
            and status in (None, entry.status)
            and (since is None or entry.new.created_at >= since)
            and (until is None or entry.new.created_at < until)
        ]
        rows = tuple(entry.row().summary() for entry in found[:limit])
        more = len(found) > limit
        return Page(rows, str(found[limit - 1].serial) if more else None)

    async def forget(self, session_id: str) -> bool:
        entry = self._entries.get(session_id)
        if entry is None or entry.status not in ENDED:
            return False
        self._forget(session_id)
        return True

    async def counts(self) -> Mapping[tuple[str, Status], int]:
        return {key: number for key, number in self._counts.items() if number}

    async def prune(self, ended_before: float, *, environment: str | None = None) -> int:
        names = list(self._ended_in) if environment is None else [environment]
        old = [
            session_id
            for name in names
            for session_id, entry in self._ended_in[name].items()
            if entry.ended_at is not None and entry.ended_at < ended_before and not entry.closing
        ]
        for session_id in old:
            self._forget(session_id)
        return len(old)

    async def prune_abandoned(self, before: float, now: float, *, environment: str) -> int:
        old = [
            session_id
            for entries in (self._living_in[environment], self._ended_in[environment])
            for session_id, entry in entries.items()
            if entry.lease_until <= now and entry.row().touched_at < before
        ]
        for session_id in old:
            self._forget(session_id)
        return len(old)

    async def aclose(self) -> None:
        """Do nothing: the memory goes with the process."""

    def _lease(self, entry: _Entry, now: float, seconds: float) -> Lease:
        entry.epoch += 1
        entry.lease_until = now + seconds
        return Lease(entry.new.session_id, entry.epoch, entry.lease_until)

    def _held(self, lease: Lease) -> _Entry:
        entry = self._entries.get(lease.session_id)
        if entry is None or entry.epoch != lease.epoch:
            raise LeaseLost(f"session {lease.session_id!r} was taken over")
        return entry

    def _set_status(self, entry: _Entry, status: Status, now: float, *, closing: bool) -> None:
        environment, session_id = entry.new.environment, entry.new.session_id
        was_ended, ended = entry.status in ENDED, status in ENDED
        counts = self._counts
        counts[environment, entry.status] -= 1
        counts[environment, status] += 1
        entry.status = status
        if not (was_ended or ended):
            return
        entry.closing = ended and (closing or entry.closing)
        entry.ended_at = now if ended else None
        if was_ended:
            self._ended.pop(session_id, None)
            self._ended_in[environment].pop(session_id, None)
            self._closing_in[environment].pop(session_id, None)
        else:
            del self._living_in[environment][session_id]
        if not ended:
            self._living_in[environment][session_id] = entry
            return
        if entry.new.key is not None:
            self._free_key(entry)
        self._ended_in[environment][session_id] = entry
        if entry.closing:
            self._closing_in[environment][session_id] = entry
        else:
            self._keep(entry)

    def _free_key(self, entry: _Entry) -> None:
        key = (entry.new.environment, entry.new.key or "")
        if self._keys.get(key) == entry.new.session_id:  # not another session's, begun since
            del self._keys[key]

    def _keep(self, entry: _Entry) -> None:
        """Count an ended session among those that are kept: the oldest may go."""
        self._ended[entry.new.session_id] = entry
        while len(self._ended) > self._keep_ended:
            self._forget(next(iter(self._ended)))

    def _forget(self, session_id: str) -> None:
        entry = self._entries.pop(session_id)
        environment = entry.new.environment
        self._ended.pop(session_id, None)
        for entries in (self._living_in, self._ended_in, self._closing_in):
            entries[environment].pop(session_id, None)
        self._free_key(entry)
        self._counts[environment, entry.status] -= 1
        for token_hash in entry.tokens:
            self._tokens.pop(token_hash, None)
