"""One thread that works on the file, and writes what waits together in one commit."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, TypeVar

import anyio

from gymhost.errors import GymhostError, StoreError
from gymhost.stores.sqlite.database import Database
from gymhost.stores.sqlite.failures import store_error
from gymhost.threads import EventLoop

__all__ = ["Commits", "Job", "read_each", "write_together"]

T = TypeVar("T")
Verb = Callable[[Database], Any]

AT_ONCE = 256
# How long the thread may be at verbs until those behind them are given up: more than SQLite waits
# for another program's lock.
STALLED_SECONDS = 15.0
LOOK_SECONDS = 1.0
# How long a cancelled caller waits for its verb that has begun, so that it knows how it ended.
ENDING_SECONDS = 2.0


class Job:
    """A verb that waits, and what becomes of it. Its error is raised where it is awaited."""

    def __init__(self, verb: Verb, *, writes: bool) -> None:
        self.verb = verb
        self.writes = writes
        self.done = anyio.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self._claimed = threading.Lock()

    def claim(self) -> bool:
        """Begin it, or give it up: whoever asks first gets True."""
        return self._claimed.acquire(blocking=False)

    def run(self, database: Database) -> None:
        """Run the verb; what it raises on purpose is its answer.

        Raises: whatever else went wrong.
        """
        try:
            self.result, self.error = self.verb(database), None
        except GymhostError as exc:  # a lost lease; verbs raise before they write
            self.error = exc
        except ValueError as exc:  # a cursor of no list
            if self.writes:
                raise
            self.error = exc


class Commits:
    """Runs verbs on the thread that has the file."""

    def __init__(self, path: Path, open_database: Callable[[], Database]) -> None:
        self._path = path
        self._open_database = open_database
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._loop: EventLoop | None = None
        self._ended: anyio.Event | None = None
        self._busy_since: float | None = None
        """When the thread began with the verbs it is at."""

    async def start(self) -> None:
        """Start the thread and open the file.

        Raises: StoreError: it could not be opened.
        """
        opening = Job(lambda _: None, writes=False)
        self._loop, self._ended, self._queue = EventLoop(), anyio.Event(), SimpleQueue()
        life = self._loop, self._ended, self._queue, opening
        # daemon: a disk that hangs does not keep the process
        threading.Thread(target=self._serve, args=life, name="gymhost-sqlite", daemon=True).start()
        try:
            await opening.done.wait()
            if opening.error is not None:
                raise opening.error
        except BaseException:
            self._loop = None
            self._queue.put(None)
            raise

    async def stop(self) -> None:
        """Close the file after the verbs that wait, and end the thread."""
        if self._loop is not None and self._ended is not None:
            self._loop = None
            self._queue.put(None)
            await self._ended.wait()

    async def read(self, verb: Callable[[Database], T]) -> T:
        """Run a verb of one statement, which sees what was committed."""
        result: T = await self._run(Job(verb, writes=False))
        return result

    async def write(self, verb: Callable[[Database], T]) -> T:
        """Run a verb in a transaction, and return when it is committed.

        One whose caller is cancelled before it began is given up; one that has begun ends.
        """
        result: T = await self._run(Job(verb, writes=True))
        return result

    async def _run(self, job: Job) -> Any:
        if self._loop is None:
            raise StoreError(f"The session store {self._path} is closed.")
        self._queue.put(job)
        try:
            await job.done.wait()
        except anyio.get_cancelled_exc_class():
            if job.claim():
                raise
            # it has begun, so its caller learns how it ends: a lease must find its holder
            with anyio.move_on_after(ENDING_SECONDS, shield=True):
                await job.done.wait()
            if not job.done.is_set() or not _is_scopes():
                raise
        if job.error is not None:
            raise job.error
        return job.result

    def _serve(
        self, loop: EventLoop, ended: anyio.Event, queue: SimpleQueue[Job | None], opening: Job
    ) -> None:
        over = threading.Event()
        try:
            database = self._open_database()
            try:
                watch = partial(self._watch, loop, queue, over)
                threading.Thread(target=watch, name="gymhost-sqlite-watch", daemon=True).start()
            except BaseException:
                database.close()
                raise
        except BaseException as exc:  # noqa: BLE001 - raised where the opening is awaited
            opening.error = _raised(self._path, exc)
            loop.call_soon(_answer, [opening])
            return
        loop.call_soon(_answer, [opening])
        try:
            while (batch := self._next_batch(queue)) is not None:
                reads = [job for job in batch if not job.writes]
                writes = [job for job in batch if job.writes]
                if reads:
                    read_each(database, reads)
                    loop.call_soon(_answer, reads)
                if writes:
                    write_together(database, writes)
                    loop.call_soon(_answer, writes)
        finally:
            over.set()
            try:
                database.close()
            finally:
                loop.call_soon(ended.set)

    def _watch(
        self, loop: EventLoop, queue: SimpleQueue[Job | None], over: threading.Event
    ) -> None:
        """Fail what waits behind a verb that hangs, as on a disk that does not answer."""
        # One look in a while: a timer for each verb costs as much as the verb.
        while not over.wait(LOOK_SECONDS):
            since = self._busy_since
            if since is not None and monotonic() - since >= STALLED_SECONDS:
                loop.call_soon(_answer, self._stalled(queue, since))

    def _stalled(self, queue: SimpleQueue[Job | None], since: float) -> list[Job]:
        """Return the verbs that wait, each with its error; what has begun may yet be written."""
        jobs: list[Job] = []
        ended = False
        with suppress(Empty):
            while self._busy_since is since:  # else it goes on
                job = queue.get_nowait()
                ended = ended or job is None
                if job is not None and job.claim():
                    job.error = StoreError(
                        f"The session store {self._path} has not answered for "
                        f"{STALLED_SECONDS:g} s. See whether its disk is well.",
                        "stalled",
                    )
                    jobs.append(job)
        if ended:
            queue.put(None)
        return jobs

    def _next_batch(self, queue: SimpleQueue[Job | None]) -> list[Job] | None:
        self._busy_since = None
        batch = _waiting(queue)
        self._busy_since = monotonic()
        return batch


def _waiting(queue: SimpleQueue[Job | None]) -> list[Job] | None:
    """Return the verbs that wait, at least one; None when there will be no more."""
    batch: list[Job] = []
    job = queue.get()
    while job is not None:
        if job.claim():
            batch.append(job)
        if len(batch) == AT_ONCE:
            return batch
        try:
            job = queue.get(block=not batch)
        except Empty:
            return batch
    if not batch:
        return None
    queue.put(None)  # these first
    return batch


def read_each(database: Database, jobs: Sequence[Job]) -> None:
    """Run verbs that only read, each by itself: nobody's lock stands in their way."""
    try:
        database.check_file()
    except StoreError as exc:
        for job in jobs:
            job.error = exc
        return
    for job in jobs:
        try:
            job.run(database)
        except BaseException as exc:  # noqa: BLE001 - raised where the verb is awaited
            job.error = _raised(database.path, exc)


def write_together(database: Database, jobs: Sequence[Job]) -> None:
    """Run verbs in one transaction; each is done whole or not at all.

    Where something goes wrong, each is tried once more by itself: one that is too large for a
    full disk, or a bug, takes nobody else along.
    """
    error = _transact(database, jobs)
    if error is None:
        return
    if len(jobs) > 1 and error.reason != "locked":  # each would wait for the lock by itself
        for job in jobs:
            job.error = _transact(database, [job]) or job.error
        return
    for job in jobs:
        job.error = error


def _transact(database: Database, jobs: Sequence[Job]) -> StoreError | None:
    """Run verbs in a transaction; return what went wrong, and nothing was written."""
    try:
        database.check_file()
        database.execute("BEGIN IMMEDIATE")
        for job in jobs:
            job.run(database)
        database.execute("COMMIT")
    except BaseException as exc:  # noqa: BLE001 - raised where each verb is awaited
        _roll_back(database)
        return _raised(database.path, exc)
    return None


def _roll_back(database: Database) -> None:
    if database.connection.in_transaction:  # a full disk has rolled it back already
        try:
            database.execute("ROLLBACK")
        except sqlite3.Error:  # it counts as rolled back
            return


def _raised(path: Path, error: BaseException) -> StoreError:
    return error if isinstance(error, StoreError) else store_error(path, error)


def _answer(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.done.set()


def _is_scopes() -> bool:
    """Whether a scope has cancelled the caller: it is cancelled again at its next await."""
    return anyio.current_effective_deadline() == -float("inf")
