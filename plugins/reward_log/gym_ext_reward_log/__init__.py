"""Append every verdict to a JSONL file."""

from __future__ import annotations

import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pydantic_core
from anyio import to_thread

from gym_ext_reward_log.jsonl import LineFile
from gymhost import CallTimeout, InvalidTask, Session, VerifyResult, Wrapper, hookimpl

__all__ = ["RewardLog"]

logger = logging.getLogger("gym_ext_reward_log")

WRITE_SECONDS = 10.0
"""How long a verdict waits for its row at the most: a disk that hangs must not hold it up."""


class RewardLog:
    """Writes a row for each verdict, before it is answered. A row that can't be written is logged,
    and changes no verdict.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Append to the file `path`; without one, do nothing."""
        # absolute: the process may change its working folder
        self._file = None if path is None else LineFile(Path(path).expanduser().absolute())
        self._turn = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(1)
        self._writing = threading.Lock()
        """Held by the thread that writes, which may outlast the verdict that gave it up."""
        self._lost = 0

    @hookimpl
    def startup(self) -> None:
        if self._file is None:
            logger.info("reward_log writes nothing: it is installed, and has no `path`")
        else:
            self._file.check()

    @hookimpl(wrapper=True, tryfirst=True)  # outermost: sees what the other wrappers leave
    def verify(self, environment: str, session: Session[Any]) -> Wrapper[VerifyResult]:
        if self._file is None:
            return (yield)
        started = time.monotonic()
        outcome: VerifyResult | BaseException
        try:
            outcome = yield
        except (Exception, SystemExit) as exc:  # a cancelled verify has come to nothing yet
            yield self._append(self._file, environment, session, exc, started)
            raise
        yield self._append(self._file, environment, session, outcome, started)
        return outcome

    async def _append(
        self,
        file: LineFile,
        environment: str,
        session: Session[Any],
        outcome: VerifyResult | BaseException,
        started: float,
    ) -> None:
        """Append a row. It raises nothing: a verdict is not changed or lost for its row."""
        try:
            row = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
                "environment": environment,
                "session_id": session.id or None,
                **_outcome_fields(outcome, session.failure_kind),
                "tool_calls": session.call_count,
                "verify_seconds": round(time.monotonic() - started, 6),
            }
            await self._append_in_turn(file, pydantic_core.to_json(row) + b"\n")
        except Exception as exc:  # noqa: BLE001 - it is logged there
            self._note_lost(file, exc)
        else:
            self._note_written(file)

    async def _append_in_turn(self, file: LineFile, line: bytes) -> None:
        with anyio.move_on_after(WRITE_SECONDS):
            async with self._turn:
                if self._writing.locked():  # one thread that hangs is enough
                    raise TimeoutError("an earlier row is still being written")
                await to_thread.run_sync(
                    self._append_in_thread,
                    file,
                    line,
                    limiter=self._limiter,
                    abandon_on_cancel=True,
                )
                return
        raise TimeoutError(f"it took longer than {WRITE_SECONDS:g} s")

    def _append_in_thread(self, file: LineFile, line: bytes) -> None:
        with self._writing:
            file.append(line)

    def _note_lost(self, file: LineFile, error: Exception) -> None:
        self._lost += 1
        if self._lost == 1:  # not for every verdict while the disk is full
            cause = None if isinstance(error, OSError) else error
            logger.error("no row in %s: %s", file.path, error, exc_info=cause)

    def _note_written(self, file: LineFile) -> None:
        if self._lost:
            logger.warning("%s is written again: %d rows are lost, or late", file.path, self._lost)
            self._lost = 0


def _outcome_fields(
    outcome: VerifyResult | BaseException, failure_kind: str | None
) -> dict[str, Any]:
    """Return what verify came to. Only what is a reward is called one."""
    if isinstance(outcome, CallTimeout):
        return {"mask_sample": True, "failure_kind": "environment_timeout"}
    if isinstance(outcome, InvalidTask):
        return {"mask_sample": True, "failure_kind": InvalidTask.failure_kind}
    if isinstance(outcome, BaseException):
        return {"mask_sample": True, "failure_kind": "environment_error"}
    extras = outcome.model_dump(warnings=False)
    reward = "reward" if failure_kind is None else "unmasked_reward"
    return {
        reward: extras.pop("reward"),
        "reward_components": extras.pop("reward_components"),
        "extras": extras,
        "mask_sample": failure_kind is not None,
        "failure_kind": failure_kind,
    }
