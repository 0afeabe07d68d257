"""Ends what is past its time, for each environment by itself: one that hangs keeps no other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import anyio

from gymhost.ending import Ending
from gymhost.mount import Mount
from gymhost.stores import ENDED, SessionStore

__all__ = ["Sweeper"]

SWEEP_SECONDS = 10.0
"""What a stop gives to the sweeps that run."""


class Sweeper:
    """Sweeps one environment at a time once, and several beside each other."""

    def __init__(self, store: SessionStore, ending: Ending) -> None:
        self._store = store
        self._ending = ending
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._sweeps: set[anyio.CancelScope] = set()
        self._stopped = False

    async def sweep(self, mount: Mount) -> None:
        """End the sessions of an environment that are past their time, and forget the old ones.

        Raises: StoreError.
        """
        async with self._locks[mount.name]:
            if self._stopped:  # the environments are being shut down
                return
            with anyio.CancelScope() as scope:
                self._sweeps.add(scope)
                try:
                    await self._ending.expire(mount)
                finally:
                    self._sweeps.remove(scope)

    async def count_open(self, mounts: Mapping[str, Mount]) -> None:
        """Count the open sessions anew: another process may have ended, or begun, some.

        Raises: StoreError.
        """
        before = {name: (each.open_sessions, each.seeding) for name, each in mounts.items()}
        living = await self.living()
        for name, mount in mounts.items():
            # those that are being claimed are counted when all of them are
            if not mount.claiming and before.get(name) == (mount.open_sessions, mount.seeding):
                mount.open_sessions = living[name] + mount.seeding

    async def living(self) -> Counter[str]:
        """Return how many sessions live, by environment.

        Raises: StoreError.
        """
        living: Counter[str] = Counter()
        for (name, status), number in (await self._store.counts()).items():
            if status not in ENDED:
                living[name] += number
        return living

    async def stop(self) -> None:
        """Begin no more, and wait for those that run: what is expiring is still to be closed."""
        self._stopped = True
        with anyio.move_on_after(SWEEP_SECONDS):
            return await self._ended()
        for scope in self._sweeps:
            scope.cancel()  # what is left is told by the next process
        await self._ended()

    async def _ended(self) -> None:
        for lock in list(self._locks.values()):
            async with lock:
                continue
