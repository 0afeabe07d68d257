"""The schedule: every attempt at every task, so many at a time, until all are scored or failed."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import anyio

from gymhost.errors import GymhostError
from gymhost.rollouts.attempt import Attempts
from gymhost.rollouts.done import Key
from gymhost.rollouts.records import Records

__all__ = ["Plan", "Runner", "Tally"]

logger = logging.getLogger("gymhost.rollouts")

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How attempts are made."""

    concurrency: int = 16
    retries: int = 2
    """How often a failed attempt is tried again in this run."""
    max_attempts: int = 10
    """How often one is tried over all runs."""
    grace: float = 10.0
    """Seconds that running attempts get when the run is stopped."""


@dataclass(slots=True)
class Tally:
    """How far a run is."""

    total: int
    scored: int
    rewards: float
    failed: Counter[str]
    """Attempts that are failed by now, by the class of their last failure."""
    running: int
    played: int
    """Attempts that this run has ended."""
    left: int
    """Attempts that this run has still to end."""

    @property
    def mean(self) -> float | None:
        """The mean reward of what is scored."""
        return self.rewards / self.scored if self.scored else None


class Runner:
    """Plays what is left of a run."""

    def __init__(self, records: Records, attempts: Attempts, plan: Plan) -> None:
        self._records = records
        self._attempts = attempts
        self._plan = plan
        self._stopping = anyio.Event()
        self._scope = anyio.CancelScope()
        self._failure: GymhostError | None = None
        self._running = 0
        self._played = 0
        self._todo = sum(1 for _ in self._places())
        self._next = self._places()

    def tally(self) -> Tally:
        """Return how far it is."""
        done = self._records.done
        return Tally(
            total=len(done.scored),
            scored=done.scores,
            rewards=done.rewards,
            failed=+done.failures,
            running=self._running,
            played=self._played,
            left=self._todo - self._played,
        )

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before its end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Begin no attempt any more. A second time, end those that run."""
        if self._stopping.is_set():
            self._scope.cancel()
        self._stopping.set()

    async def run(self) -> None:
        """Play until everything is scored or failed, or until it is stopped.

        Raises: RecordError, HostGone: sessions are closed.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_grace)
            with self._scope:
                await self._play_all()
            tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        if not self._stopping.is_set():
            self._records.forget_journal()

    async def _end_grace(self) -> None:
        await self._stopping.wait()
        await anyio.sleep(self._plan.grace)
        self._scope.cancel()

    async def _play_all(self) -> None:
        async with anyio.create_task_group() as workers:
            for session_id in self._records.orphans:
                workers.start_soon(self._attempts.close_orphan, session_id)
            for _ in range(min(self._plan.concurrency, self._todo)):
                workers.start_soon(self._work)

    def _places(self) -> Iterator[Key]:
        """Yield what is to be done, a task's attempts one after another."""
        done = self._records.done
        for place in range(len(done.scored)):
            if not self._is_over(place):
                yield self._records.key(place)

    def _is_over(self, place: int) -> bool:
        done = self._records.done
        return bool(
            done.scored[place]
            or done.terminal[place]
            or done.tries[place] >= self._plan.max_attempts
        )

    async def _work(self) -> None:
        for key in self._next:
            if self._stopping.is_set():
                return
            self._running += 1
            try:
                await self._play(key)
            except GymhostError as exc:  # of the run, not of one attempt
                self._failure = self._failure or exc
                self._scope.cancel()
                return
            finally:
                self._running -= 1
            self._played += 1

    async def _play(self, key: Key) -> None:
        pending = self._records.pending.pop(key, None)
        again = True
        tries = 0
        if pending is not None:
            again = await self._attempts.finish(key, pending)
        while again and not self._stopping.is_set() and not self._is_over(self._records.place(key)):
            if tries:
                await self._wait(tries)
                if self._stopping.is_set():
                    return
            again = await self._attempts.play(key)
            tries += 1
            if tries > self._plan.retries:
                return

    async def _wait(self, tries: int) -> None:
        """Let pass what may have been the reason; a stop is not waited for."""
        longest = min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT)
        with anyio.move_on_after(longest * random.uniform(0.5, 1.0)):
            await self._stopping.wait()
