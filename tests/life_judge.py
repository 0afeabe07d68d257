"""What each request to a process should be answered, and what has then become of the session."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pydantic_core

from gymhost.stores import ENDED, Status
from tests.life_model import Known, LifeModel
from tests.lives import Answer, Process

FINAL: tuple[Status, ...] = ("verified", "closed", "lost")
TOOLS = {
    "write": "ok",
    "look": "ok",
    "refuse": "tool_error",
    "crash": "environment_error",
    "hang": "timeout",
}
KEPT = ("write", "refuse", "wait")


class LifeJudge(LifeModel):
    """Expects an answer before the request, and judges it after."""

    def trouble(self, process: Process, session: Known) -> str | None:
        """Return what keeps a process from a session that is known."""
        if process.is_stale(session.id):
            return "store_error"
        if process.has(session.id):
            return None
        if not self.is_free(session):
            return "over_capacity"
        return "session_lost" if session.pinned and session.status not in ENDED else None

    def must_sweep(self, process: Process, session: Known) -> bool:
        return self.is_over(session) or (session.pinned and not process.slot(session.id))

    # calls

    def expected_call(self, process: Process, session: Known) -> str | None:
        """Return the refusal that a call should meet."""
        if session.forgotten:
            return "no_session"
        if session.status in ENDED and not process.slot(session.id):
            return "session_ended"
        trouble = self.trouble(process, session)
        if trouble == "session_lost":
            return "session_ended"
        if trouble == "store_error" and self.stale_refusal(process, session):
            return "session_ended"
        if trouble is not None:
            return trouble
        if session.status != "open" or process.number in session.submitted:
            return "session_ended"
        return "expires" if self.is_over(session) else None

    def stale_refusal(self, process: Process, session: Known) -> bool:
        slot = process.slot(session.id)
        assert slot is not None
        return slot.row.status != "open" or process.number in session.submitted

    def judge_call(
        self, process: Process, session: Known, tool: str, expected: str | None, answer: Answer
    ) -> None:
        if expected == "expires":
            session.status = "expired"
            assert (process.number, "expired") in self.told(session) or process.line.fired
            expected = "session_ended"
        if expected is not None:
            if expected == "store_error" and answer.kind == "session_ended":
                assert session.status in ENDED  # it was looked up anew
                return
            assert answer.kind == expected, (answer, expected)
            if expected == "store_error":
                session.unwritten.add(process.number)
            return
        assert answer.kind == TOOLS.get(tool, "unknown_tool"), answer
        self.recorded(session, tool, answer.kind)

    def recorded(self, session: Known, tool: str, kind: str, note: str | None = None) -> None:
        if tool in KEPT:
            session.notes.append(note or str(self.made))
        session.calls.append((tool, kind))
        session.used = self.clock.now
        session.spoiled |= kind == "environment_error"

    # verify

    def expected_verify(
        self, process: Process, session: Known, body: dict[str, Any], fails: bool
    ) -> str | None:
        if session.forgotten:
            return "session_lost"
        if process.is_stale(session.id):
            return "stale"
        row = self.row(session)
        assert row is not None
        if row.verdict is None and session.status not in FINAL:
            trouble = self.trouble(process, session)
            if trouble is not None:
                return trouble
        if row.verdict is not None:
            same = row.verdict.body_hash == sha256(pydantic_core.to_json(body)).digest()
            return "recorded" if same else "already_verified"
        if session.status == "closed":
            return "session_closed"
        if session.status == "lost":
            return "session_lost"
        if session.status == "expired" and session.pinned:
            return "session_expired"
        if "verifier_metadata" in body:
            return "task_mismatch"
        return "environment_error" if fails else None

    def judge_verify(
        self,
        process: Process,
        session: Known,
        body: dict[str, Any],
        expected: str | None,
        answer: Answer,
    ) -> None:
        if expected == "stale":
            # what this process has of it is old, until it is let go of
            refused = answer.kind in ("store_error", "task_mismatch") or answer.status == 410
            assert refused or session.scored is not None
            return
        if expected == "environment_error" and session.status not in ENDED:
            session.status = "verify_failed"
        if expected not in (None, "recorded"):
            assert answer.kind == expected, (answer, expected)
            return
        reward = float(len(session.notes))
        spoiled = session.spoiled or process.number in session.unwritten
        row = self.row(session)
        assert row is not None
        assert row.verdict is not None
        if row.verdict.failure_kind is None:
            assert not spoiled
            assert answer.kind == "ok", answer
            assert answer.value.fields["reward"] == reward
            dumped = pydantic_core.to_json(answer.value.fields)
        else:
            # never a bare reward
            assert answer.kind == row.verdict.failure_kind
            assert answer.status == 502
            assert answer.value["unmasked_reward"] == reward
            dumped = pydantic_core.to_json(answer.value)
        assert session.scored in (None, dumped)
        session.scored = dumped
        if expected is None:
            living = session.status not in ENDED
            session.status = "verified"
            if living:
                assert (process.number, "verified") in self.told(session) or process.line.fired

    # close and the sweep

    def expected_close(self, process: Process, session: Known) -> str | None:
        if session.forgotten:
            return "session_lost"
        if session.status in FINAL and not process.slot(session.id):
            return None
        return self.trouble(process, session)

    def judge_close(
        self, process: Process, session: Known, expected: str | None, answer: Answer
    ) -> None:
        if expected is not None:
            assert answer.kind == expected, (answer, expected)
            return
        if session.status not in ENDED:
            session.status = "closed"
            assert (process.number, "closed") in self.told(session)
        assert answer.value == session.status

    def judge_maintain(
        self,
        process: Process,
        free: set[str],
        own: set[str],
        submitted: list[Known],
        answer: Answer,
    ) -> None:
        assert answer.kind == "ok", answer
        self.marked(process, submitted)
        for environment in ("loose", "pinned"):
            self.swept(environment, free, own)
        assert process.open_sessions() == self.living_by_environment()
