"""Tokens to sessions: who may use which, under a lease of the store."""

from __future__ import annotations

import logging
from binascii import b2a_base64
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from os import urandom
from weakref import WeakValueDictionary

import anyio

from gymhost.clock import Clock
from gymhost.errors import (
    LeaseLost,
    OverCapacity,
    RequestError,
    SessionEnded,
    SessionLost,
    StoreError,
    ToolRefused,
)
from gymhost.pins import Pin
from gymhost.slots import Slot
from gymhost.stores import ENDED, Lease, SessionRow, SessionStore

__all__ = ["LEASE_SECONDS", "MINTED", "Registry", "hash_token", "mint_session_id", "mint_token"]

logger = logging.getLogger("gymhost.registry")

LEASE_SECONDS = 30.0
MINTED = 4096
"""As many tokens as are known before their first use."""
URL_SAFE = bytes.maketrans(b"+/", b"-_")


def mint_token() -> str:
    """Return 256 random bits, as text that a header takes: what `secrets.token_urlsafe` does."""
    return b2a_base64(urandom(32), newline=False).translate(URL_SAFE, b"=").decode()


def mint_session_id() -> str:
    """Return 128 random bits, as text."""
    return urandom(16).hex()


def hash_token(token: str) -> bytes:
    """Return what is kept of a token. A guess by its hash tells nothing of the token."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclass(slots=True)
class SessionsUse:
    """What the sessions of one environment use of what its limits allow to each."""

    session_calls: int = 0
    """The most that one has made."""
    session_queue: int = 0
    """The most that wait, or run at once, in one."""
    calls_waiting: int = 0
    """In all of them."""


class Registry:
    """The sessions that this process works on, over a store.

    A session's lease is taken with the first use, kept while it is used and for a while after,
    and given back by `maintain`, so that another process may serve it, or it may expire.
    """

    def __init__(self, store: SessionStore, clock: Clock) -> None:
        self.store = store
        self._clock = clock
        self._slots: dict[str, Slot] = {}
        self._slots_of: defaultdict[str, dict[str, Slot]] = defaultdict(dict)
        """By environment: each is swept and counted by itself, and there may be a thousand."""
        self._tokens: dict[bytes, Slot] = {}
        self._minted: dict[bytes, tuple[str, str]] = {}
        """Environments and sessions by the latest tokens' hashes, until their first use."""
        self._stopped = False
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        """One for each session whose lease is being taken, renewed or given back."""

    def adopt(self, row: SessionRow, leased_until: float, pin: Pin) -> None:
        """Work on a pinned session from its creation on: it is this process's for its life."""
        lease = Lease(row.session_id, row.epoch, leased_until)
        self._hold(Slot(row, [], lease, self._clock.monotonic(), pin))

    def holds(self, slot: Slot) -> bool:
        """Whether a session was not let go of since."""
        return self._slots.get(slot.id) is slot

    def is_here(self, session_id: str) -> bool:
        """Whether this process works on a session."""
        return session_id in self._slots

    def pinned(self, environment: str) -> list[Slot]:
        """Return the pinned sessions of an environment that are here."""
        return [slot for slot in self._of(environment) if slot.pin is not None]

    def use(self, environment: str) -> SessionsUse:
        """Return how far the sessions of an environment that are here are from their limits."""
        used = SessionsUse()
        for slot in self._of(environment):
            used.session_calls = max(used.session_calls, len(slot.calls))
            # one call alone waits for nobody: most sessions
            waiting = slot.turns.waiting if slot.users > 1 else 0
            used.calls_waiting += waiting
            used.session_queue = max(used.session_queue, waiting, slot.turns.concurrent)
        return used

    async def by_token(self, environment: str, token: str | None) -> Slot:
        """Return the session that a token opens in this environment.

        Raises: ToolRefused: no token, or none of a session of this environment (which of these
        it is stays untold); one that has ended, or that another process works on.
        """
        if not token:
            raise ToolRefused("This call carries no session token.", "no_session")
        token_hash = hash_token(token)
        slot = self._tokens.get(token_hash)
        if slot is None:
            slot = await self._open_by_token(environment, token_hash)
            self._tokens[token_hash] = slot
            slot.token_hashes.append(token_hash)
        elif slot.row.environment != environment:
            raise ToolRefused("The session token is not valid here.", "no_session")
        slot.used_at = self._clock.monotonic()
        return slot

    async def _open_by_token(self, environment: str, token_hash: bytes) -> Slot:
        minted = self._minted.get(token_hash)
        if minted is not None and minted[0] == environment:
            session_id = minted[1]
            del self._minted[token_hash]
        else:
            found = await self.store.find(token_hash)
            if found is None or found.environment != environment:
                raise ToolRefused("The session token is not valid here.", "no_session")
            if found.status in ENDED:
                raise ToolRefused("The session has ended.", "session_ended")
            session_id = found.session_id
        try:
            slot = await self._open(session_id, living=True)
        except SessionEnded as exc:
            raise ToolRefused(str(exc), "session_ended") from exc
        except SessionLost as exc:  # forgotten since
            raise ToolRefused("The session token is not valid here.", "no_session") from exc
        except OverCapacity as exc:
            text = "The session can't be used at this moment. Try again in half a minute."
            raise ToolRefused(text, "over_capacity") from exc
        if slot.row.status in ENDED:  # an agent that uses it would keep it from the sweeper
            raise ToolRefused("The session has ended.", "session_ended")
        return slot

    def expect(self, environment: str, session_id: str, token_hash: bytes) -> None:
        """Know what a token opens that was just minted: its first use need not ask the store."""
        if self.store.waits:
            self._minted[token_hash] = environment, session_id
            if len(self._minted) > MINTED:
                del self._minted[next(iter(self._minted))]

    async def by_id(self, environment: str, session_id: str) -> Slot:
        """Return a session of this environment. One that can change no more is not held.

        Raises: SessionLost: there is none; SessionEnded: it was pinned to a process that is gone;
        OverCapacity: another process has it, or this one stops.
        """
        slot = self._slots.get(session_id)
        if slot is None:
            row = await self.store.get(session_id)
            if row is None or row.environment != environment:
                raise SessionLost(f"No session {session_id!r} is known in {environment!r}.")
            if row.is_final:
                return Slot(row, [], Lease(session_id, row.epoch, 0.0), self._clock.monotonic())
            slot = await self._open(row.session_id)
        elif slot.row.environment != environment:
            raise SessionLost(f"No session {session_id!r} is known in {environment!r}.")
        slot.used_at = self._clock.monotonic()
        return slot

    async def peek(self, token: str) -> SessionRow | None:
        """Return the session that a token opens, without working on it."""
        token_hash = hash_token(token)
        slot = self._tokens.get(token_hash)
        if slot is not None:
            return slot.row
        found = await self.store.find(token_hash)
        return None if found is None else await self.store.get(found.session_id)

    def _lock(self, session_id: str) -> anyio.Lock:
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = anyio.Lock(fast_acquire=True)
        return lock

    async def _open(self, session_id: str, *, living: bool = False) -> Slot:
        """Return a session's slot, new or not; with `living`, only of one that has not ended."""
        if not self.store.waits:  # nobody comes between what was found and its lease
            return self._slots.get(session_id) or await self._take(session_id, living)
        # locked: two first uses at once share one slot, and a lease on its way back is waited for
        async with self._lock(session_id):
            return self._slots.get(session_id) or await self._take(session_id, living)

    async def _take(self, session_id: str, living: bool) -> Slot:
        self._refuse_stopped()
        taken = await self.store.acquire(session_id, self._clock.time(), LEASE_SECONDS)
        if taken is None:
            if await self.store.get(session_id) is None:
                raise SessionLost(f"No session {session_id!r} is known.")
            raise OverCapacity(f"Session {session_id!r} is in use by another process.")
        row = taken.row
        try:
            if row.pinned and row.status not in ENDED:
                # what it had entered is gone; it is marked, and closed, by the sweeper
                raise SessionEnded("The session was lost in a crash.", "session_lost")
            if living and row.status in ENDED:
                raise SessionEnded("The session has ended.", "session_ended")
            if self.store.waits:
                self._refuse_stopped()
        except RequestError:
            with anyio.CancelScope(shield=True), suppress(StoreError):
                await self.store.release(taken.lease)
            raise
        slot = Slot(row, taken.calls, taken.lease, self._clock.monotonic())
        self._hold(slot)
        return slot

    def _hold(self, slot: Slot) -> None:
        self._slots[slot.id] = self._slots_of[slot.row.environment][slot.id] = slot

    def _of(self, environment: str) -> Collection[Slot]:
        return self._slots_of[environment].values()

    def _refuse_stopped(self) -> None:
        if self._stopped:
            raise OverCapacity("The server is stopping.")

    def leave(self, slot: Slot) -> None:
        """Stop working on a session whose lease is given back, or is about to be."""
        if self._slots.get(slot.id) is slot:
            del self._slots[slot.id], self._slots_of[slot.row.environment][slot.id]
            for token_hash in slot.token_hashes:
                self._tokens.pop(token_hash, None)

    async def drop(self, slot: Slot, *, closed: bool = False) -> bool:
        """Stop working on a session, and give its lease back; say whether it was held.

        `closed`: its environment has been told that it ended.
        """
        self.leave(slot)  # before anything is awaited: nobody must find one whose lease is going
        if not self.store.waits:
            return await self._release(slot.lease, closed)
        async with self._lock(slot.id):
            return await self._release(slot.lease, closed)

    async def _release(self, lease: Lease, closed: bool) -> bool:
        try:
            return await self.store.release(lease, closed=closed)
        except StoreError:  # it runs out by itself
            return False

    async def maintain(self) -> list[Slot]:
        """Renew the leases of the sessions in use, and drop those nobody has used for a while.

        Returns the pinned ones that another process has taken over: they are lost to this one.
        """
        lost: list[Slot] = []
        now = self._clock.monotonic()
        for slot in list(self._slots.values()):
            if not slot.users and slot.pin is None and now - slot.used_at >= LEASE_SECONDS:
                await self.drop(slot)
            elif not await self._renew(slot):
                logger.warning("session %s was taken over by another process", slot.id)
                await self.drop(slot)
                if slot.pin is not None:
                    lost.append(slot)
        return lost

    async def renew_lapsed(self, environment: str) -> None:
        """Renew what has lapsed, or nearly, before a sweep claims it: it is in use here."""
        soon = self._clock.time() + LEASE_SECONDS / 3
        for slot in list(self._of(environment)):
            if slot.lease.expires_at <= soon:
                await self._renew(slot)

    async def _renew(self, slot: Slot) -> bool:
        """Renew a lease; say whether it is ours still."""
        async with self._lock(slot.id):
            if self._slots.get(slot.id) is not slot or slot.giving_back:
                return True  # let go of, or about to be: renewing would take it again
            try:
                slot.lease = await self.store.renew(slot.lease, self._clock.time(), LEASE_SECONDS)
            except LeaseLost:
                return False
            except StoreError:
                logger.exception("the lease of session %s could not be renewed", slot.id)
            return True

    async def forget(self, session_id: str) -> bool:
        """Forget a session that has ended, and its tokens; say whether there was one.

        Raises: StoreError: it is as it was.
        """
        async with self._lock(session_id):  # nobody opens it meanwhile
            forgotten = await self.store.forget(session_id)
            slot = self._slots.get(session_id)
            if forgotten and slot is not None:
                self.leave(slot)
            return forgotten

    async def drop_all(self) -> None:
        """Give every lease back, and take none any more."""
        self._stopped = True
        for slot in list(self._slots.values()):
            await self.drop(slot)
