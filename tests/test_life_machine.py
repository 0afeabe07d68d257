"""Any life of any sessions, over processes that stop and crash, beside what is right."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any

import anyio
import pydantic_core
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gymhost.stores import ENDED
from tests.life_judge import TOOLS, LifeJudge
from tests.life_model import UNUSED, Known
from tests.lives import Process

BODIES: tuple[dict[str, Any], ...] = (
    {"response": {"output": []}},
    {"response": {"output": []}, "attempt": 2},
)
PROCESS = st.integers(0, 1)
ENVIRONMENT = st.sampled_from(["loose", "pinned"])
EXAMPLES = 100
# a find is for whoever looks for one (False, and more examples), not for whoever changes a page
DERANDOMIZE = True


def fault(*verbs: str) -> st.SearchStrategy[str | None]:
    """Return the verb that fails; two times of three, none does."""
    return st.integers(0, 2).flatmap(lambda n: st.sampled_from(verbs) if n == 0 else st.none())


class LifeMachine(LifeJudge):
    """Up to two processes at a time, and clients that know some sessions."""

    sessions = Bundle("sessions")

    def choose(self, session: Known, newest: int) -> Known:
        """Choose a living session, most of the time."""
        living = self.living()
        return living[-1] if newest and living else session

    @initialize()
    def first(self) -> None:
        self.start()

    @precondition(lambda self: len(self.alive) < 2)
    @rule()
    def start(self) -> None:
        process = Process(self.store, self.clock, len(self.all))
        self.stack.enter_context(self.portal.wrap_async_context_manager(process.host))
        self.all.append(process)
        self.alive.append(process)
        assert process.open_sessions() == self.living_by_environment()

    @precondition(lambda self: self.alive)
    @rule(number=PROCESS, seldom=st.integers(0, 4))
    def stop(self, number: int, seldom: int = 0) -> None:
        if seldom:
            return
        process = self.pick(number)
        mine = [each for each in self.living() if process.has(each.id)]
        submitted = self.unmarked(process)
        self.portal.call(process.host.stop)
        self.marked(process, submitted)
        for session in mine:
            if session.pinned:
                session.status = "closed"
                assert (process.number, "shutdown") in self.told(session)
            assert self.is_free(session)
        self.gone(process)

    @precondition(lambda self: self.alive)
    @rule(number=PROCESS, seldom=st.integers(0, 4))
    def crash(self, number: int, seldom: int = 0) -> None:
        if seldom:
            return
        process = self.pick(number)
        told = [list(ledger.closed) for ledger in process.ledgers.values()]
        process.line.cut = True
        self.portal.call(process.host.stop)
        for ledger, before in zip(process.ledgers.values(), told, strict=True):
            ledger.closed = before
        self.gone(process)

    def gone(self, process: Process) -> None:
        self.alive = [each for each in self.alive if each is not process]
        for session in self.known.values():
            session.unwritten.discard(process.number)
            session.submitted.discard(process.number)

    @precondition(lambda self: self.alive)
    @rule(
        target=sessions,
        number=PROCESS,
        environment=ENVIRONMENT,
        key=st.sampled_from([None, "key"]),
        body=st.sampled_from([{}, {"task": 2}, {"fails": True}]),
        fault=fault("find_key", "create", "claim_expired", "add_token"),
    )
    def seed(
        self, number: int, environment: str, key: str | None, body: dict[str, Any], fault: Any
    ) -> Any:
        process = self.pick(number)
        first = self.with_key(environment, key)
        sweeps = first is not None and self.must_sweep(process, first)
        free, own = self.sweepable(process, lets_go=False)
        raw = pydantic_core.to_json(body)
        with process.line.failing_once(fault):
            answer = self.ask(process, process.host.seed(environment, body, raw, key))
        if process.line.fired:
            self.loosen()
            for session in self.known.values():
                self.adopt(session)
            if answer.kind == "store_error":
                return multiple()
        elif sweeps:
            self.swept(environment, free, own)
        first = self.with_key(environment, key)
        if first is not None:
            if first.body != body:
                assert answer.kind == "idempotency_conflict", answer
                return multiple()
            assert answer.value.session_id == first.id
            assert answer.value.expires_at == first.expires_at
            assert answer.value.token not in first.tokens
            first.tokens.append(answer.value.token)
            return multiple()
        if body.get("fails"):
            assert answer.kind == "environment_error", answer
            return multiple()
        assert answer.kind == "ok", answer
        seeded = answer.value
        assert seeded.expires_at == self.clock.now + UNUSED
        assert seeded.session_id not in self.known
        session = Known(seeded.session_id, environment, [seeded.token], self.clock.now, key, body)
        self.known[session.id] = session
        return session

    @precondition(lambda self: self.alive)
    @rule(
        session=sessions,
        newest=st.integers(0, 3),
        number=PROCESS,
        tool=st.sampled_from([*TOOLS, "none"]),
        which=st.integers(0, 3),
        fault=fault("find", "acquire", "get", "calls", "commit", "transition"),
    )
    def call(
        self, session: Known, newest: int, number: int, tool: str, which: int, fault: Any
    ) -> None:
        session = self.choose(session, newest)
        process, token = self.pick(number), session.tokens[which % len(session.tokens)]
        expected = self.expected_call(process, session)
        with process.line.failing_once(fault):
            answer = self.ask(process, self.request(process, session, token, tool))
        if process.line.fired:
            self.loosen()
            if answer.kind == "store_error":
                session.unwritten.add(process.number)
                return
        self.judge_call(process, session, tool, expected, answer)

    @precondition(lambda self: self.alive)
    @rule(session=sessions, number=PROCESS, how=st.sampled_from(["foreign", "unknown", "none"]))
    def call_with_a_token_that_opens_nothing_here(
        self, session: Known, number: int, how: str
    ) -> None:
        process, token = self.pick(number), session.tokens[0]
        other = {"loose": "pinned", "pinned": "loose"}[session.environment]
        name = other if how == "foreign" else session.environment
        sent = {"foreign": token, "unknown": token[:-1] + "-", "none": None}[how]
        request = process.host.call_tool(name, sent, "write", {"note": "canary"})
        answer = self.ask(process, request)
        assert answer.kind == "no_session", answer

    def request(
        self, process: Process, session: Known, token: str, tool: str
    ) -> Coroutine[Any, Any, Any]:
        self.made += 1
        note = {"note": str(self.made)}
        return process.host.call_tool(session.environment, token, tool, note)

    @precondition(lambda self: self.alive)
    @rule(
        session=sessions,
        newest=st.integers(0, 3),
        number=PROCESS,
        other=PROCESS,
        second=st.sampled_from(["write", "look", "verify", "close", "maintain"]),
        later=st.sampled_from([0.0, 31.0, 4_000.0]),
    )
    def overlap(
        self, session: Known, newest: int, number: int, other: int, second: str, later: float
    ) -> None:
        """A call runs, time goes by, and something else comes."""
        session = self.choose(session, newest)
        process, another = self.pick(number), self.pick(other)
        if self.expected_call(process, session) is not None:
            return
        gate = process.hold_calls()
        request = self.request(process, session, session.tokens[0], "wait")
        note = str(self.made)
        waiting = self.portal.start_task_soon(process.answer, request)
        self.portal.call(gate.reached.wait)
        self.clock.now += later
        self.busy.add(session.id)
        answer, judge = self.come(another, session, second)
        self.portal.call(anyio.wait_all_tasks_blocked)
        self.portal.call(gate.open)
        first = waiting.result(10)
        answer = answer.result(10)
        self.busy.clear()
        overtaken = process.is_stale(session.id)
        assert first.kind == ("store_error" if overtaken else "ok"), first
        if second == "look":
            judge(answer)
        if overtaken:
            session.unwritten.add(process.number)
        else:
            self.recorded(session, "wait", "ok", note)
        if second != "look":
            judge(answer)

    def come(self, process: Process, session: Known, second: str) -> Any:
        """Begin something; return its answer to come, and what judges it."""
        ledger = process.ledgers[session.environment]
        ledger.fails = False
        begin = partial(self.portal.start_task_soon, process.answer)
        if second == "verify":
            expected = self.expected_verify(process, session, BODIES[0], False)
            judge: Any = partial(self.judge_verify, process, session, BODIES[0], expected)
            return begin(self.verify_request(process, session, BODIES[0])), judge
        if second == "close":
            expected = self.expected_close(process, session)
            judge = partial(self.judge_close, process, session, expected)
            return begin(process.host.close(session.environment, session.id)), judge
        if second == "maintain":
            free, own = self.sweepable(process, lets_go=True)
            submitted = self.unmarked(process)
            judge = partial(self.judge_maintain, process, free, own, submitted)
            return begin(process.host.maintain()), judge
        expected = self.expected_call(process, session)
        if expected == "expires" and process.has(session.id):
            expected = None  # not while a call runs
        judge = partial(self.judge_call, process, session, second, expected)
        return begin(self.request(process, session, session.tokens[0], second)), judge

    @precondition(lambda self: self.alive)
    @rule(
        session=sessions,
        newest=st.integers(0, 3),
        number=PROCESS,
        body=st.sampled_from(BODIES),
        fails=st.integers(0, 3),
        mismatch=st.integers(0, 9),
        fault=fault("acquire", "calls", "transition", "transition", "record_verdict", "release"),
    )
    def verify(
        self,
        session: Known,
        newest: int,
        number: int,
        body: dict[str, Any],
        fails: int,
        mismatch: int,
        fault: Any,
    ) -> None:
        session = self.choose(session, newest)
        process = self.pick(number)
        ledger = process.ledgers[session.environment]
        ledger.fails = fails == 0
        if mismatch == 0:
            body = {**body, "verifier_metadata": {"answer": "another"}}
        expected = self.expected_verify(process, session, body, ledger.fails)
        runs = sum(each.ledgers[session.environment].verifies[session.id] for each in self.all)
        with process.line.failing_once(fault):
            answer = self.ask(process, self.verify_request(process, session, body))
        if process.line.fired:
            self.loosen()
            if answer.kind == "store_error":
                if expected in (None, "environment_error") and session.status not in ENDED:
                    self.adopt(session)
                    if session.status == "open" and self.began(process, session):
                        session.submitted.add(process.number)
                return
        self.judge_verify(process, session, body, expected, answer)
        ran = sum(each.ledgers[session.environment].verifies[session.id] for each in self.all)
        assert ran - runs == (expected in (None, "environment_error"))

    def verify_request(
        self, process: Process, session: Known, body: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        raw = pydantic_core.to_json(body)
        return process.host.verify(session.environment, session.id, body, raw)

    def began(self, process: Process, session: Known) -> bool:
        slot = process.slot(session.id)
        return slot is not None and slot.shut

    @precondition(lambda self: self.alive)
    @rule(
        session=sessions,
        newest=st.integers(0, 3),
        number=PROCESS,
        fault=fault("get", "acquire", "transition", "release"),
    )
    def close(self, session: Known, newest: int, number: int, fault: Any) -> None:
        if newest:  # seldom: most should live on
            return
        process = self.pick(number)
        expected = self.expected_close(process, session)
        with process.line.failing_once(fault):
            answer = self.ask(process, process.host.close(session.environment, session.id))
        if process.line.fired:
            self.loosen()
            if answer.kind == "store_error":
                return
        self.judge_close(process, session, expected, answer)

    @rule(seconds=st.sampled_from([1.0] * 4 + [31.0] * 4 + [599.0, 601.0, 3_601.0, 86_401.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.alive)
    @rule(
        number=PROCESS,
        fault=fault("renew", "claim_expired", "claim_closing", "get", "release", "prune", "counts"),
    )
    def maintain(self, number: int, fault: Any) -> None:
        process = self.pick(number)
        with process.line.failing_once(fault):
            free, own = self.sweepable(process, lets_go=True)
            submitted = self.unmarked(process)
            answer = self.ask(process, process.host.maintain())
            self.portal.call(anyio.wait_all_tasks_blocked)
        if process.line.fired:
            self.loosen()
            return
        self.judge_maintain(process, free, own, submitted, answer)

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        for session in self.known.values():
            self.check(session)
        self.loose.clear()
        for process in self.all:
            assert process.line.wrong == []
            assert len({each[0] for each in process.closed}) == len(process.closed)

    def teardown(self) -> None:
        try:
            while len(self.alive) > 1:
                self.stop(0)
                self.everything_is_as_it_should_be()
            if not self.alive:
                self.start()
            for _ in range(2):
                self.clock.now += 100
                self.maintain(0, None)
                self.everything_is_as_it_should_be()
            for session in self.known.values():
                row = self.row(session)
                assert row is None or not row.closing
                assert row is None or row.status not in ENDED or self.told(session)
        finally:
            self.stack.close()


@pytest.mark.timeout(300)  # 20 seconds on a core of its own, measured
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_sessions_live_as_promised(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # only the rules maintain
    monkeypatch.setattr("gymhost.host.MAINTENANCE_SECONDS", 1e6)
    logging.disable(logging.CRITICAL)
    try:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            partial(LifeMachine, backend),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=50,
                deadline=None,
                print_blob=True,
                derandomize=DERANDOMIZE,
                # explaining costs more than the test
                phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        logging.disable(logging.NOTSET)
