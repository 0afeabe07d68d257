"""One attempt: seed a session, let the agent work, verify, and write what it came to."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import pydantic_core

from gymhost.agents.base import Agent, AgentFailure, AgentRun
from gymhost.client import ApiError, Client
from gymhost.clock import Clock, SystemClock
from gymhost.models import JSONObject, SeedAnswer, Task
from gymhost.redaction import Redaction
from gymhost.rollouts.done import Key, Pending
from gymhost.rollouts.inputs import task_of
from gymhost.rollouts.mcp_config import StaticServers
from gymhost.rollouts.patience import HostSilent, Patience
from gymhost.rollouts.records import Records

__all__ = ["Attempts", "Failure"]

logger = logging.getLogger("gymhost.rollouts")

TERMINAL = frozenset({"invalid_request", "task_mismatch", "body_too_large"})
"""Failures of a task that would be the same the next time."""
LOST = frozenset({"session_lost", "session_expired", "session_closed"})
CLOSING_SECONDS = 10.0


class Failure(Exception):
    """An attempt came to no score."""

    def __init__(
        self,
        failure_class: str,
        message: str,
        terminal: bool = False,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        """`problem` is what the host said."""
        super().__init__(message)
        self.failure_class = failure_class
        self.message = message
        self.terminal = terminal
        self.problem = problem

    @classmethod
    def of_host(cls, error: ApiError) -> Failure:
        """Return what a refusal of the host is."""
        kind = error.failure_kind or f"http_{error.status}"
        return cls(kind, str(error), kind in TERMINAL, error.problem)


@dataclass(slots=True)
class _Try:
    """One try of an attempt, as it goes."""

    key: Key
    number: int
    """How many there were before."""
    task: Task
    started: float
    run: AgentRun = field(default_factory=AgentRun)
    session_id: str | None = None
    secrets: list[str] = field(default_factory=list[str])
    handed_in: bool = False
    seconds: dict[str, float] = field(default_factory=dict[str, float])


class Attempts:
    """Plays attempts of one environment's tasks with one agent."""

    def __init__(
        self,
        client: Client,
        environment: str,
        agent: Agent,
        agent_name: str,
        records: Records,
        *,
        patience: Patience,
        timeout: float | None = None,
        servers: StaticServers | None = None,
        versions: Mapping[str, str] | None = None,
        secrets: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        """`timeout` is what the agent gets, in seconds. `secrets` are in no file."""
        self._client = client
        self._environment = environment
        self._agent = agent
        self._agent_name = agent_name
        self._records = records
        self._patience = patience
        self._timeout = timeout
        self._servers = servers or StaticServers({})
        self._versions = dict(versions or {})
        self._hide = Redaction(secrets)
        self._clock = clock or SystemClock()
        self.told: dict[str, str] = {}
        """What the last failure of each class in this run was, without the secrets."""
        # a session that another runner has used is not to be gone on with: its key is not ours
        self._launch = uuid4().hex[:12]

    async def play(self, key: Key) -> bool:
        """Try once, and write what it came to. Says whether it failed and may be tried again.

        Raises: RecordError; HostGone.
        """
        number = self._records.done.tries[self._records.place(key)]
        # the line is not kept: some have many megabytes
        task = task_of(self._records.line(key.task))
        trying = _Try(key, number, task, self._clock.time())
        try:
            try:
                await self._attempt(trying)
            finally:
                # what verify has got is scored there, whether or not anybody waits for it
                if trying.session_id is not None and not trying.handed_in:
                    await self._client.close(self._environment, trying.session_id)
        except Failure as failure:
            await self._write_failure(trying, failure)
            return not failure.terminal
        return False

    async def finish(self, key: Key, pending: Pending) -> bool:
        """Get the verdict that an earlier runner asked for. Says whether the attempt is to be done
        anew: its session is no more.

        Raises: RecordError; HostGone.
        """
        trying = _Try(key, pending.number, Task(), self._clock.time())
        trying.session_id = pending.session_id
        try:
            await self._verify(trying, pending.row)
        except Failure as failure:
            if failure.failure_class in LOST:
                return True
            trying.run.output = pending.row.get("response", {}).get("output", [])
            if not trying.handed_in:
                await self._client.close(self._environment, pending.session_id)
            await self._write_failure(trying, failure)
            return not failure.terminal
        return False

    async def close_orphan(self, session_id: str) -> None:
        """Close a session that an earlier runner has left."""
        await self._client.close(self._environment, session_id)

    async def _attempt(self, trying: _Try) -> None:
        seeded = await self._seed(trying)
        await self._records.seeded(trying.key, trying.number, seeded.session_id)
        await self._run_agent(trying, seeded)
        row = self._row(trying)
        await self._records.handed_in(trying.key, trying.number, seeded.session_id, row)
        await self._verify(trying, row)

    async def _seed(self, trying: _Try) -> SeedAnswer:
        key = (
            f"{self._records.run_id}-{trying.key.task}-{trying.key.attempt}-{trying.number}"
            f"-{self._launch}"
        )
        began = self._clock.monotonic()

        async def seed() -> SeedAnswer:
            return await self._client.seed(self._environment, trying.task, idempotency_key=key)

        try:
            seeded = await self._patience.ask(seed)
        except anyio.get_cancelled_exc_class():
            # the host may have begun a session by now: the same key tells which, to close it
            limit = anyio.move_on_after(CLOSING_SECONDS, shield=True)
            with limit, suppress(ApiError, httpx2.HTTPError):
                trying.session_id = (await seed()).session_id
            raise
        except ApiError as exc:
            raise Failure.of_host(exc) from exc
        except HostSilent as exc:
            raise Failure("host_timeout", str(exc)) from exc
        trying.session_id = seeded.session_id
        if seeded.mcp is not None:
            trying.secrets += seeded.mcp.headers.values()
        trying.seconds["seed"] = self._clock.monotonic() - began
        return seeded

    async def _run_agent(self, trying: _Try, seeded: SeedAnswer) -> None:
        servers = self._servers.with_session(seeded)
        began = self._clock.monotonic()
        limit = anyio.move_on_after(self._timeout)
        try:
            with limit:
                await self._agent.run(trying.task, servers, trying.run)
        except AgentFailure as exc:
            raise Failure(exc.failure_class, str(exc), exc.terminal) from exc
        except Exception as exc:
            raise self._crash(exc) from exc
        finally:
            trying.seconds["agent"] = self._clock.monotonic() - began
        if limit.cancelled_caught:
            raise Failure("agent_timeout", f"the agent did not end in {self._timeout:g} s")

    def _crash(self, error: Exception) -> Failure:
        bare: BaseException = error
        while isinstance(bare, BaseExceptionGroup) and len(bare.exceptions) == 1:
            bare = bare.exceptions[0]
        if isinstance(bare, AgentFailure):  # an agent's own task group has wrapped it
            return Failure(bare.failure_class, str(bare), bare.terminal)
        logger.error("the agent %s failed", self._agent_name, exc_info=error)
        text = " ".join(str(bare).split())
        return Failure("agent_error", f"{type(bare).__name__}: {text}" if text else repr(bare))

    def _row(self, trying: _Try) -> JSONObject:
        """Return the row as it will be, without the verdict.

        Raises: Failure: what the agent did can't be written.
        """
        asked = {key: each for key, each in trying.task.to_row().items() if key != "reference"}
        row = {**asked, **self._facts(trying)}
        try:
            text = pydantic_core.to_json(row, inf_nan_mode="null")
        except (ValueError, RecursionError) as exc:  # half a character; what is no JSON
            trying.run.output = []
            told = f"the agent's trajectory can't be written as JSON: {exc}"
            raise Failure("agent_protocol", told) from exc
        clean: JSONObject = pydantic_core.from_json(self._without_secrets(trying, text))
        return clean

    def _facts(self, trying: _Try) -> JSONObject:
        run = trying.run
        usage = {
            "input_tokens": run.usage.input_tokens,
            "input_tokens_details": {"cached_tokens": run.usage.cached_input_tokens},
            "output_tokens": run.usage.output_tokens,
            "total_tokens": run.usage.total_tokens,
        }
        response: JSONObject = {"object": "response", "output": run.output, "usage": usage}
        if run.model is not None:
            response["model"] = run.model
        return {
            "response": response,
            "session_id": trying.session_id,
            "usage": usage,
            "agent": {
                "turns": run.turns,
                "stop_reason": run.stop_reason,
                "cost_usd": run.cost_usd,
                **run.extra,
            },
            "times": {
                "started_at": datetime.fromtimestamp(trying.started, UTC).isoformat(),
                "seconds": {name: round(each, 6) for name, each in trying.seconds.items()},
            },
            "versions": {**self._versions, **run.versions},
        }

    async def _verify(self, trying: _Try, row: JSONObject) -> None:
        """Score, and write the score. What is sent depends on `row` alone."""
        body = pydantic_core.to_json(
            {"session_id": trying.session_id, "response": row.get("response")}
        )
        trying.handed_in = True
        began = self._clock.monotonic()
        try:
            answer = await self._patience.ask(
                lambda: self._client.verify_body(self._environment, body)
            )
        except ApiError as exc:
            trying.handed_in = False
            raise Failure.of_host(exc) from exc
        except HostSilent as exc:
            raise Failure("host_timeout", str(exc)) from exc
        if answer.get("mask_sample"):
            kind = str(answer.get("failure_kind") or "masked")
            raise Failure(kind, "something failed in the session: it is no sample", False, answer)
        reward = answer.get("reward")
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise Failure("host_protocol", f"verify answered without a reward: {str(answer)[:200]}")
        if isinstance(times := row.get("times"), dict):
            times["seconds"]["verify"] = round(self._clock.monotonic() - began, 6)
        scored = {**row, **answer, **self._indices(trying)}
        await self._records.score(trying.key, pydantic_core.to_json(scored) + b"\n", float(reward))

    def _indices(self, trying: _Try) -> JSONObject:
        return {
            "_ng_task_index": trying.key.task,
            "_ng_rollout_index": trying.key.attempt,
            "_ng_attempt_index": trying.number,
            "agent_ref": {"name": self._agent_name},
        }

    async def _write_failure(self, trying: _Try, failure: Failure) -> None:
        row = {
            **self._indices(trying),
            "_ng_failure_class": failure.failure_class,
            "_ng_failure_terminal": failure.terminal,
            "_ng_failure_message": failure.message,
            **({"problem": failure.problem} if failure.problem is not None else {}),
            **self._facts(trying),
        }
        message = failure.message.encode("utf-8", "replace")
        try:
            line = pydantic_core.to_json(row, inf_nan_mode="null")
        except (ValueError, RecursionError):  # what it has done so far can't be written
            trying.run = AgentRun()
            row = {**row, **self._facts(trying), "_ng_failure_message": message.decode()}
            line = pydantic_core.to_json(row, inf_nan_mode="null")
        line = self._without_secrets(trying, line) + b"\n"
        self.told[failure.failure_class] = self._without_secrets(trying, message).decode()
        await self._records.fail(
            trying.key, line, failure.failure_class, trying.number, terminal=failure.terminal
        )

    def _without_secrets(self, trying: _Try, text: bytes) -> bytes:
        return self._hide(Redaction(trying.secrets)(text))
