"""What a runner that dies leaves, and how the next one goes on: nothing is scored twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from gymhost.client import Client
from gymhost.rollouts.appending import AppendedFile, RecordError
from gymhost.rollouts.inputs import InputError
from gymhost.rollouts.records import RecordRefused
from tests.rollouts.exams import Exam, Run, exam, served


def break_appends(monkeypatch: pytest.MonkeyPatch, name: str, *, after: int) -> Callable[[], None]:
    """Let appends to a file fail after some, as on a full disk. Returns what mends it."""
    real, left = AppendedFile.append, after

    async def append(self: AppendedFile, line: bytes) -> None:
        nonlocal left
        if self.path.name == name:
            if left == 0:
                raise RecordError(f"{name} can't be written: No space left on device")
            left -= 1
        await real(self, line)

    monkeypatch.setattr(AppendedFile, "append", append)
    return lambda: monkeypatch.setattr(AppendedFile, "append", real)


async def test_a_verdict_whose_row_was_not_written_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Exam()
    run = Run(tmp_path, [exam(str(number), reward=number / 4) for number in range(4)])
    async with served({"exam": world}) as remote:
        mend = break_appends(monkeypatch, "rollouts.jsonl", after=1)
        with pytest.raises(RecordError, match="No space left"):
            await run.play(remote, concurrency=1)
        assert (len(run.read()), world.verdicts) == (1, ["0", "1"])
        mend()
        assert (await run.play(remote, resume=True)).scored == 4
    assert sorted(world.verdicts) == ["0", "1", "2", "3"]  # the second was not scored again
    assert run.scores == {(0, 0): 0.0, (1, 0): 0.25, (2, 0): 0.5, (3, 0): 0.75}
    assert run.failures == []
    assert all(row["times"]["seconds"]["agent"] > 0 for row in run.read())


async def test_a_verdict_that_was_lost_with_its_host_is_done_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        mend = break_appends(monkeypatch, "rollouts.jsonl", after=0)
        with pytest.raises(RecordError):
            await run.play(remote)
        mend()
    async with served({"exam": Exam}) as remote:
        assert (await run.play(remote, resume=True)).scored == 1
    assert (run.scores, run.failures) == ({(0, 0): 1.0}, [])


async def test_a_session_that_was_never_handed_in_is_closed_and_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Exam()
    run = Run(tmp_path, [exam("a")])
    async with served({"exam": world}) as remote:
        with monkeypatch.context() as patched:
            # as a killed runner leaves it: nothing is closed
            patched.setattr(Client, "close", lambda *_: anyio.lowlevel.checkpoint())
            mend = break_appends(patched, "rollouts_journal.jsonl", after=1)
            with pytest.raises(RecordError):
                await run.play(remote)
            mend()
        assert (world.closed, world.verdicts) == ([], [])
        assert (await run.play(remote, resume=True)).scored == 1
        assert sorted(world.closed) == ["closed", "verified"]
    assert world.verdicts == ["a"]


async def test_a_verify_that_failed_at_last_is_a_failure_of_the_same_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gymhost.rollouts.runner.FIRST_WAIT", 0.001)
    world = Exam()
    run = Run(tmp_path, [exam("a", fails=2)])
    async with served({"exam": world}) as remote:
        mend = break_appends(monkeypatch, "rollouts_failures.jsonl", after=0)
        with pytest.raises(RecordError):
            await run.play(remote)
        mend()
        tally = await run.play(remote, resume=True, retries=3)
    assert tally.scored == 1
    # the first one's session was closed: it is done anew, under its number
    assert [row["_ng_attempt_index"] for row in run.read("_failures")] == [0]
    assert run.read()[0]["_ng_attempt_index"] == 1


async def test_torn_last_lines_are_repaired(tmp_path: Path) -> None:
    world = Exam()
    run = Run(tmp_path, [exam(str(number), fails=number % 2) for number in range(6)])
    async with served({"exam": world}) as remote:
        assert (await run.play(remote, retries=1)).scored == 6
        for name in ("", "_failures", "_journal"):
            path = tmp_path / f"rollouts{name}.jsonl"
            whole = path.read_bytes()
            path.write_bytes(whole + b'{"_ng_task_index": 1, "_ng_roll')
        output = run.output.read_bytes()
        lost = output.splitlines(keepends=True)[2]
        # a row in the middle that somebody took out, and the last one torn
        run.output.write_bytes(output.replace(lost, b""))
        assert (await run.play(remote, resume=True)).scored == 6
    assert len(run.scores) == 6


async def test_a_whole_last_line_without_its_end_counts(tmp_path: Path) -> None:
    world = Exam()
    run = Run(tmp_path, [exam("a"), exam("b")])
    async with served({"exam": world}) as remote:
        await run.play(remote)
        run.output.write_bytes(run.output.read_bytes().rstrip(b"\n"))
        assert (await run.play(remote, resume=True)).scored == 2
    assert (len(run.scores), len(world.verdicts)) == (2, 2)
    assert run.output.read_bytes().endswith(b"\n")


async def test_a_full_disk_ends_the_run_in_one_line_and_resuming_works(tmp_path: Path) -> None:
    """A device that is always full stands in for the output."""
    world = Exam()
    run = Run(tmp_path, [exam("a"), exam("b")])
    run.output.symlink_to("/dev/full")
    async with served({"exam": world}) as remote:
        with pytest.raises(RecordError, match=r"rollouts.jsonl can't be written: No space left"):
            await run.play(remote, concurrency=2)
        run.output.unlink()
        assert (await run.play(remote, resume=True)).scored == 2
        async with Client(remote.url, remote.key) as client:
            assert (await client.environment("exam"))["use"]["open_sessions"] == 0
    assert sorted(world.verdicts) == ["a", "b"]


async def test_a_session_of_another_body_is_no_score(tmp_path: Path) -> None:
    """Somebody else has verified it: its score is of something that is not in the row."""

    class Meddled(Client):
        async def verify_body(self, name: str, body: bytes) -> dict[str, Any]:
            await self.verify(name, body.split(b'"session_id":"')[1][:32].decode(), "not me")
            return await super().verify_body(name, body)

    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        async with run.runner(remote, retries=0) as runner:
            runner._attempts._client.__class__ = Meddled
            await runner.run()
    assert run.failures == [(0, "already_verified")]


def test_one_runner_at_a_time_writes_an_output(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a")])
    with run.records():
        with pytest.raises(RecordError, match="another `gymhost rollout` writes"):
            with run.records():
                pass
    with run.records():
        pass


async def test_an_output_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a", fails=9)])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, retries=0)
        before = run.files
        with pytest.raises(RecordError, match=r"_failures.jsonl is not empty: .* --resume"):
            await run.play(remote)
    assert run.files == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": [exam("a"), exam("c")]}, r"task 1 is not what it was: .*verifier_metadata"),
        ({"rows": [exam("a")]}, "the input has 1 tasks, fewer than the run"),
        ({"rows": [exam("a"), exam("b"), exam("c")]}, "more than the 2 tasks that it had"),
        ({"rows": []}, "the input has no task"),
        ({"attempts": 2}, "a run with attempts 1, not 2"),
        ({"agent_name": "other"}, "a run with agent 'scripted', not 'other'"),
    ],
)
async def test_a_run_that_is_another_one_is_not_resumed(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    run = Run(tmp_path, [exam("a"), exam("b")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote)
    before = run.files
    other = Run(tmp_path, **{"rows": run.rows, **change})
    with pytest.raises((RecordRefused, InputError), match=said):
        with other.records(resume=True):
            pass
    assert run.files == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"_ng_task_index": 7, "_ng_rollout_index": 0, "reward": 1}', "a row of task 7"),
        ('{"reward": 1}', "a row of task None, attempt None"),
        ('{"_ng_task_index": 0, "_ng_rollout_index": 0}', "a row without a reward"),
        ("[]", "rollouts.jsonl:1: no JSON object"),
        ("x", "rollouts.jsonl:1: not JSON"),
    ],
)
async def test_a_record_that_was_changed_by_hand_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote)
    run.output.write_text(f"{text}\n{text}\n")
    with pytest.raises(RecordError, match=said):
        with run.records(resume=True):
            pass


async def test_two_rows_of_one_attempt_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote)
    run.output.write_text(run.output.read_text() * 2)
    with pytest.raises(RecordError, match="two rows of task 0, attempt 0"):
        with run.records(resume=True):
            pass


async def test_a_resume_of_nothing_begins(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        assert (await run.play(remote, resume=True)).scored == 1
        assert (await run.play(remote, resume=True)).scored == 1
    assert len(run.read()) == 1


async def test_an_output_without_its_journal_is_not_resumed(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote)
    os.truncate(tmp_path / "rollouts_journal.jsonl", 0)
    with pytest.raises(RecordError, match="does not begin as a run's does"):
        with run.records(resume=True):
            pass


async def test_a_verify_that_fails_only_now_is_a_failure_with_what_the_agent_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner was killed after it had noted what it was about to hand in."""
    monkeypatch.setattr("gymhost.rollouts.runner.FIRST_WAIT", 0.001)

    async def killed(*_: object) -> dict[str, Any]:
        raise RecordError("killed")

    world = Exam()
    run = Run(tmp_path, [exam("a", fails=1)])
    async with served({"exam": world}) as remote:
        with monkeypatch.context() as patched:
            patched.setattr(Client, "verify_body", killed)
            with pytest.raises(RecordError, match="killed"):
                await run.play(remote)
        assert (world.verdicts, world.closed) == ([], [])
        assert (await run.play(remote, resume=True)).scored == 1
        async with Client(remote.url, remote.key) as client:
            assert (await client.environment("exam"))["use"]["open_sessions"] == 0
    (row,) = run.read("_failures")
    assert (row["_ng_failure_class"], row["_ng_attempt_index"]) == ("environment_error", 0)
    assert [item["type"] for item in row["response"]["output"]][-1] == "message"
    assert run.read()[0]["_ng_attempt_index"] == 1
