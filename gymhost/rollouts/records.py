"""The record of a run: what was asked, what was scored, what failed, and what is under way."""

from __future__ import annotations

import fcntl
import hashlib
import os
from array import array
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pydantic_core

from gymhost.models import JSONObject
from gymhost.rollouts.appending import AppendedFile, RecordError
from gymhost.rollouts.done import Done, Files, Key, Pending
from gymhost.rollouts.inputs import InputError

__all__ = ["RecordRefused", "Records", "open_records"]

BLOCK = 1 << 16


class RecordRefused(RecordError):
    """What was asked for does not go with what is there: nothing is started."""


@contextmanager
def open_records(
    output: Path,
    lines: Iterable[tuple[int, bytes]],
    *,
    attempts: int,
    header: JSONObject,
    resume: bool = False,
) -> Generator[Records]:
    """Begin a run, or go on with one: `lines` are its materialized inputs.

    `header` says what else must be the same in a run that goes on.

    Raises: RecordRefused: there is a run already, or another one, or another process has it;
    RecordError; InputError, from `lines`.
    """
    with closing(AppendedFile(output)) as rollouts:
        try:
            fcntl.flock(rollouts.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise RecordRefused(f"another `gymhost rollout` writes {output}") from exc
        with closing(Records(rollouts, attempts, header)) as records:
            try:
                records.begin(lines, resume=resume)
            except BaseException:
                records.leave_nothing()
                raise
            yield records


class Records:
    """The files of one run, of which one process may write at a time."""

    def __init__(self, output: AppendedFile, attempts: int, header: JSONObject) -> None:
        """Open the other files. `header` says what must be the same in a run that goes on."""
        self.files = Files(output.path)
        self.attempts = attempts
        self.run_id = uuid4().hex
        self.done = Done(0)
        self.pending: dict[Key, Pending] = {}
        self.orphans: list[str] = []
        """Sessions that an earlier runner left, and never handed to verify."""
        self._header = header
        self._offsets = array("Q")
        self._rollouts = output
        self._stack = ExitStack()
        self._failures = self._stack.enter_context(closing(AppendedFile(self.files.failures)))
        self._journal = self._stack.enter_context(closing(AppendedFile(self.files.journal)))
        self._inputs = -1

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def leave_nothing(self) -> None:
        """Take away the files that are here only because they were opened."""
        for part in (self._rollouts, self._failures, self._journal):
            if part.created and not part.size:
                part.path.unlink(missing_ok=True)

    def begin(self, lines: Iterable[tuple[int, bytes]], *, resume: bool) -> None:
        """Begin, or go on.

        Raises: RecordRefused: there is a run already, or another one; RecordError; InputError.
        """
        parts = (self._rollouts, self._failures, self._journal)
        begun = [part.path for part in parts[:2] if part.size]
        if begun and not resume:
            raise RecordRefused(
                f"{begun[0]} is not empty: go on with its run with --resume, or name another "
                "--output"
            )
        for part in parts:
            part.repair()
        if begun or (resume and self._journal.size and self.files.inputs.exists()):
            self._go_on(lines)
        else:
            self._start(lines)
        self._inputs = os.open(self.files.inputs, os.O_RDONLY)
        self._stack.callback(os.close, self._inputs)

    def _start(self, lines: Iterable[tuple[int, bytes]]) -> None:
        digest = self._write_inputs(lines)
        self._header |= {"run_id": self.run_id, "inputs_sha256": digest}
        self._journal.reset(pydantic_core.to_json(self._header) + b"\n")
        self.done = Done(len(self._offsets) * self.attempts)

    def _write_inputs(self, lines: Iterable[tuple[int, bytes]]) -> str:
        """Write all of them, or nothing."""
        path, digest = self.files.inputs, hashlib.sha256()
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            with draft.open("wb") as file:
                for line in self._noted(lines):
                    digest.update(line)
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as exc:
            raise RecordError(f"{path} can't be written: {exc.strerror}") from exc
        finally:
            draft.unlink(missing_ok=True)
        return digest.hexdigest()

    def _noted(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        """Note where each task's first line begins."""
        offset = 0
        for index, line in lines:
            if index == len(self._offsets):
                self._offsets.append(offset)
            offset += len(line)
            yield line
        if not self._offsets:
            raise InputError("there is nothing to do: the input has no task")

    def _go_on(self, lines: Iterable[tuple[int, bytes]]) -> None:
        rows = self._journal.rows()
        header = next(rows, None)
        if header is None or "run_id" not in header:
            raise RecordRefused(
                f"{self.files.journal} does not begin as a run's does: without it nobody knows "
                f"what {self.files.output} holds. Name another --output"
            )
        self._refuse_another_run(header)
        self._refuse_other_inputs(lines)
        self.run_id, self._header = header["run_id"], header
        self.done = Done(len(self._offsets) * self.attempts)
        for row in self._rollouts.rows():
            place = self._place_in(self.files.output, row)
            if self.done.scored[place]:
                raise RecordError(
                    f"{self.files.output} has two rows of task {row['_ng_task_index']}, attempt "
                    f"{row['_ng_rollout_index']}: take one of them out"
                )
            self.done.score(place, _reward(self.files.output, row))
        for row in self._failures.rows():
            self.done.fail(
                self._place_in(self.files.failures, row),
                str(row.get("_ng_failure_class")),
                int(row.get("_ng_attempt_index", 0)),
                terminal=bool(row.get("_ng_failure_terminal")),
            )
        self._find_pending(rows)

    def _refuse_another_run(self, header: JSONObject) -> None:
        for name, value in self._header.items():
            if header.get(name) != value:
                raise RecordRefused(
                    f"{self.files.output} is of a run with {name} {header.get(name)!r}, not "
                    f"{value!r}: resume it as it was begun, or name another --output"
                )

    def _refuse_other_inputs(self, lines: Iterable[tuple[int, bytes]]) -> None:
        path = self.files.inputs
        try:
            with path.open("rb") as file:
                for number, line in enumerate(self._noted(lines)):
                    there = file.readline()
                    if there != line:
                        raise RecordRefused(self._difference(number // self.attempts, there, line))
                if file.readline():
                    raise RecordRefused(
                        f"the input has {len(self._offsets)} tasks, fewer than the run that "
                        f"{path} is of: resume it with the same input, or name another --output"
                    )
        except OSError as exc:
            raise RecordError(f"{path} can't be read: {exc.strerror}") from exc

    def _difference(self, task: int, there: bytes, line: bytes) -> str:
        if not there:
            told = f"the input has more than the {task} tasks that it had"
        else:
            old, new = pydantic_core.from_json(there), pydantic_core.from_json(line)
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            told = f"task {task} is not what it was: {', '.join(keys) or 'its order'} differs"
        return (
            f"the input has changed since the run began: {told} ({self.files.inputs}). Resume it "
            "with the same input, or name another --output"
        )

    def _place_in(self, path: Path, row: JSONObject) -> int:
        key = Key(_whole(row.get("_ng_task_index")), _whole(row.get("_ng_rollout_index")))
        if not (0 <= key.task < len(self._offsets) and 0 <= key.attempt < self.attempts):
            raise RecordError(
                f"{path} has a row of task {row.get('_ng_task_index')}, attempt "
                f"{row.get('_ng_rollout_index')}, which this run does not have"
            )
        return self.place(key)

    def _find_pending(self, rows: Iterator[JSONObject]) -> None:
        sessions: dict[Key, list[str]] = {}
        for row in rows:
            place = self._place_in(self.files.journal, row)
            number = _whole(row.get("_ng_attempt_index"))
            key = self.key(place)
            if self.done.scored[place] or self.done.tries[place] > number:
                continue
            session_id = str(row["session_id"])
            if "row" in row:
                self.pending[key] = Pending(session_id, number, row["row"])
                sessions.pop(key, None)
            else:
                sessions.setdefault(key, []).append(session_id)
        self.orphans = [each for ids in sessions.values() for each in ids]

    @property
    def tasks(self) -> int:
        """How many there are."""
        return len(self._offsets)

    def place(self, key: Key) -> int:
        """Return an attempt's place in `done`."""
        return key.task * self.attempts + key.attempt

    def key(self, place: int) -> Key:
        """Return the attempt of a place."""
        return Key(*divmod(place, self.attempts))

    def line(self, task: int) -> bytes:
        """Return a task's first materialized line."""
        offset, found = self._offsets[task], bytearray()
        while b"\n" not in found[-BLOCK:]:
            block = os.pread(self._inputs, BLOCK, offset + len(found))
            if not block:
                break
            found += block
        return bytes(found[: found.find(b"\n")])

    async def seeded(self, key: Key, number: int, session_id: str) -> None:
        """Note a session that has begun."""
        await self._journal.append(_entry(key, number, session_id))

    async def handed_in(self, key: Key, number: int, session_id: str, row: JSONObject) -> None:
        """Note what goes to verify, before it goes."""
        await self._journal.append(_entry(key, number, session_id, row))

    async def score(self, key: Key, line: bytes, reward: float) -> None:
        """Write a score; then it counts."""
        await self._rollouts.append(line)
        self.done.score(self.place(key), reward)

    async def fail(
        self, key: Key, line: bytes, failure_class: str, number: int, *, terminal: bool
    ) -> None:
        """Write a failure; then it counts."""
        await self._failures.append(line)
        self.done.fail(self.place(key), failure_class, number, terminal=terminal)

    def forget_journal(self) -> None:
        """Nothing is under way any more."""
        self._journal.reset(pydantic_core.to_json(self._header) + b"\n")


def _entry(key: Key, number: int, session_id: str, row: JSONObject | None = None) -> bytes:
    entry: dict[str, Any] = {
        "_ng_task_index": key.task,
        "_ng_rollout_index": key.attempt,
        "_ng_attempt_index": number,
        "session_id": session_id,
    }
    if row is not None:
        entry["row"] = row
    return pydantic_core.to_json(entry) + b"\n"


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _reward(path: Path, row: JSONObject) -> float:
    reward = row.get("reward")
    if not isinstance(reward, int | float):
        raise RecordError(f"{path} has a row without a reward: {str(row)[:100]}")
    return float(reward)
