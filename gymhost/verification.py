"""How an attempt is scored: once, joined by whoever sends the same body, and recorded."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import pydantic_core
from anyio.abc import TaskGroup

from gymhost.body_hash import hash_body
from gymhost.clock import Clock
from gymhost.deadlines import Interrupted
from gymhost.ending import Ending, hook_failure, hook_failures_answered
from gymhost.errors import (
    AlreadyVerified,
    InternalError,
    LeaseLost,
    OverCapacity,
    RequestError,
    SampleMasked,
    SessionEnded,
    StoreError,
    TaskMismatch,
)
from gymhost.lean_body import AnyBody, trajectory_of, whole
from gymhost.models import JSONObject, Task
from gymhost.mount import Mount
from gymhost.registry import Registry
from gymhost.session import Session
from gymhost.shields import shield
from gymhost.slots import Slot, VerifyRun
from gymhost.stores import SessionRow, SessionStore, Status, Verdict

__all__ = ["Verification", "VerifyAnswer"]

logger = logging.getLogger("gymhost.verify")

OPEN: tuple[Status, ...] = ("open",)
VERIFYING: tuple[Status, ...] = ("verifying",)


@dataclass(slots=True)
class VerifyAnswer:
    """What verify adds to the body that it echoes."""

    session_id: str | None
    fields: JSONObject


class Verification:
    """Scores attempts."""

    def __init__(
        self,
        store: SessionStore,
        registry: Registry,
        clock: Clock,
        ending: Ending,
        keep_trajectories: bool = False,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._ending = ending
        self._keep_trajectories = keep_trajectories
        self._runs: set[VerifyRun] = set()
        self._unmarked: set[Slot] = set()
        """Submitted, where the store could not be told: used, until it is."""
        self._stopped = False

    async def stop(self) -> None:
        """Begin no more runs, and cancel those in flight: they leave sessions to verify again."""
        self._stopped = True
        for run in self._runs:
            if run.scope is not None:  # else it is cancelled with its request
                run.scope.cancel()
        for run in list(self._runs):
            await run.wait()
        await self.mark_submitted()

    async def mark_submitted(self) -> None:
        """Write down which attempts were submitted, so that their tools stay shut."""
        for slot in list(self._unmarked):
            marked = slot.verify_run is not None or slot.row.status != "open"
            if (marked or await self._mark(slot)) and slot in self._unmarked:
                self._unmarked.remove(slot)
                slot.users -= 1

    async def _mark(self, slot: Slot) -> bool:
        """Mark a session as one whose verify has failed; say whether that is settled."""
        try:
            now = self._clock.time()
            if await self._store.transition(slot.lease, OPEN, "verify_failed", now):
                slot.row.status = "verify_failed"
        except LeaseLost:
            pass  # another process goes on with it
        except StoreError:
            logger.exception("session %s is yet to be marked as submitted", slot.id)
            return False
        return True

    async def verify(
        self,
        mount: Mount,
        session_id: str | None,
        body: AnyBody,
        raw: bytes,
        tasks: TaskGroup | None,
    ) -> VerifyAnswer:
        """Score a session's attempt, once; `raw` is the body as it came.

        The run is a task of `tasks`, and goes on when the caller is cancelled; without `tasks` it
        is the caller's own. The same body joins it or gets the recorded answer. Without a session,
        a stateless environment scores the body's own task.

        Raises: SessionLost, SessionEnded, TaskMismatch, AlreadyVerified, SampleMasked,
        EnvironmentFailed, EnvironmentTimeout, StoreError.
        """
        if session_id is None or self._keep_trajectories:
            body = whole(body)
        body_hash = hash_body(raw)
        if session_id is None:
            return await self._verify_detached(mount, body, body_hash)
        answer: VerifyAnswer | None = None
        while answer is None:
            slot = await self._registry.by_id(mount.name, session_id)
            slot.users += 1
            try:
                answer = await self._verify_slot(mount, slot, body, body_hash, tasks)
            finally:
                slot.users -= 1
        return answer

    async def _verify_slot(
        self,
        mount: Mount,
        slot: Slot,
        body: AnyBody,
        body_hash: bytes,
        tasks: TaskGroup | None,
    ) -> VerifyAnswer | None:
        """Return the answer; None where the session was let go of meanwhile."""
        while (verdict := slot.row.verdict) is None:
            _refuse_unverifiable(slot.row)
            task = None
            if body.get("verifier_metadata") is not None:
                task = slot.session(mount.instance.state_type).task
                _check_task(task, body)
            run = slot.verify_run
            if run is None:
                run = self._begin(slot, body_hash)
                if tasks is None:
                    await self._run_verify(mount, slot, run, body, task)
                else:
                    run.scope = anyio.CancelScope()
                    tasks.start_soon(self._run_in_scope, run.scope, mount, slot, run, body, task)
            await run.wait()
            if run.let_go:
                return None
            if run.body_hash == body_hash and run.error is not None:
                raise run.error.with_traceback(None)
        return _answer_from(verdict, body_hash, slot.id, mount.on_failure)

    def _begin(self, slot: Slot, body_hash: bytes) -> VerifyRun:
        if self._stopped:
            raise OverCapacity("The server is stopping.")
        run = slot.verify_run = VerifyRun(body_hash)
        self._runs.add(run)
        return run

    async def _run_in_scope(
        self,
        scope: anyio.CancelScope,
        mount: Mount,
        slot: Slot,
        run: VerifyRun,
        body: AnyBody,
        task: Task | None,
    ) -> None:
        with scope, suppress(Interrupted):  # whoever waits is told by the run
            await self._run_verify(mount, slot, run, body, task)

    async def _run_verify(
        self, mount: Mount, slot: Slot, run: VerifyRun, body: AnyBody, task: Task | None
    ) -> None:
        slot.users += 1
        slot.submitted = True
        try:
            await slot.turns.take_all()
            try:
                # without its lease, another verify could run beside this one
                run.let_go = not self._registry.holds(slot)
                if not run.let_go:
                    await self._score(mount, slot, run, body, task)
            finally:
                slot.turns.give_back()
        except RequestError as exc:
            run.error = exc
        except Exception:
            # not the environment's: but one session's trouble is not the end of all others
            logger.exception("verify of session %s failed in gymhost", slot.id)
            run.error = InternalError("gymhost failed. The log has the cause.")
        finally:
            if slot.row.verdict is not None:
                run.error = None  # what came after the score does not undo it
            elif run.error is None:
                run.error = OverCapacity("The server is stopping: verify again.")
            slot.verify_run = None
            if slot.row.status == "open" and not run.let_go and slot not in self._unmarked:
                self._unmarked.add(slot)
            else:
                slot.users -= 1
            self._runs.remove(run)
            run.end()

    async def _score(
        self, mount: Mount, slot: Slot, run: VerifyRun, body: AnyBody, task: Task | None
    ) -> None:
        # An expired session stays expired, so that it is let go of once. One that a crash has left
        # verifying may be tried again by whoever has the lease.
        living = await self._ending.transition(mount, slot, "verifying")
        if slot.row.verdict is not None:
            return  # another process was first
        _refuse_unverifiable(slot.row)  # closed while this run waited for its turn
        session = slot.session(mount.instance.state_type, task=task)
        session.failure_kind = slot.failure_kind
        # before verify, which may change it
        trajectory = _dump_trajectory(body) if self._keep_trajectories else None
        try:
            dumped = await mount.verify(session, trajectory_of(body))
        except BaseException as exc:
            failure = hook_failure(mount, "verify", exc)
            with anyio.CancelScope(shield=True):
                await self._note_failure(mount, slot)
            if failure is exc:
                raise
            raise failure from exc
        verdict = Verdict(run.body_hash, dumped, slot.failure_kind, self._clock.time())
        closing = living and not mount.keeps_nothing
        # a session that is scored is also counted and closed; without a scope nothing cancels a run
        with shield(closing or (self._store.waits and run.scope is not None)):
            slot.giving_back = living and not closing
            try:
                verdict = await self._store.record_verdict(
                    slot.lease,
                    verdict,
                    trajectory=trajectory,
                    closing=closing,
                    release=slot.giving_back,
                )
            except BaseException:
                slot.giving_back = False
                raise
            slot.row.verdict, slot.row.status = verdict, "verified"
            mount.counts["verified"] += 1
            if verdict.failure_kind is not None:
                mount.counts["masked"] += 1
            if closing:
                await self._ending.let_go(mount, slot, "verified")
            elif living:
                self._ending.forget_scored(mount, slot)

    async def _note_failure(self, mount: Mount, slot: Slot) -> None:
        try:
            await self._ending.transition(mount, slot, "verify_failed", VERIFYING)
        except StoreError:
            logger.exception("session %s is left verifying, which is as good", slot.id)

    async def _verify_detached(self, mount: Mount, body: AnyBody, body_hash: bytes) -> VerifyAnswer:
        """Score the body's own task, without a session."""
        task = Task.from_row(
            {key: value for key, value in body.items() if key not in ("response", "session_id")}
        )
        model = mount.instance.state_type
        session: Session[Any] = Session("", mount.name, task, model=model)
        with hook_failures_answered(mount, "verify"):
            dumped = await mount.verify(session, trajectory_of(body))
            verdict = Verdict(body_hash, dumped, None, self._clock.time())
        mount.counts["verified"] += 1
        return _answer_from(verdict, body_hash, None, mount.on_failure)


def _check_task(seeded: Task, body: AnyBody) -> None:
    """Refuse a verify of another task: `verifier_metadata` may be left out, and may not differ.

    Raises: TaskMismatch.
    """
    sent = body.get("verifier_metadata")
    if sent is not None and sent != seeded.verifier_metadata:
        raise TaskMismatch(
            "verifier_metadata differs from what the session was seeded with; leave it out, "
            "or verify the session of this task."
        )


def _dump_trajectory(body: AnyBody) -> bytes | None:
    if "response" not in body:
        return None
    # null: a number like 1e400 can't be written again
    return pydantic_core.to_json(body["response"], inf_nan_mode="null")


def _refuse_unverifiable(row: SessionRow) -> None:
    """Refuse a session that can't be scored any more.

    Raises: SessionEnded.
    """
    if row.status == "closed":
        raise SessionEnded(f"Session {row.session_id!r} was closed unscored.", "session_closed")
    if row.status == "expired" and row.pinned:
        raise SessionEnded(
            f"Session {row.session_id!r} has expired, and what it held is gone.", "session_expired"
        )
    if row.status == "lost":
        raise SessionEnded(f"Session {row.session_id!r} was lost in a crash.", "session_lost")


def _answer_from(
    verdict: Verdict,
    body_hash: bytes,
    session_id: str | None,
    on_failure: Literal["error", "report"],
) -> VerifyAnswer:
    """Return a recorded verdict as an answer to a body.

    Raises: AlreadyVerified: it was recorded for another body; SampleMasked: something failed in
    the session, so the score is no reward.
    """
    if verdict.body_hash != body_hash:
        raise AlreadyVerified("The session has its score, for another body.", session_id=session_id)
    fields: JSONObject = pydantic_core.from_json(verdict.result)
    if verdict.failure_kind is None:
        return VerifyAnswer(session_id, fields)
    if on_failure == "report":
        masked = {"mask_sample": True, "failure_kind": verdict.failure_kind}
        return VerifyAnswer(session_id, {**fields, **masked})
    raise SampleMasked(
        "Something failed in this session before it was scored: leave it out of training.",
        verdict.failure_kind,
        unmasked_reward=fields["reward"],
        session_id=session_id,
    )
