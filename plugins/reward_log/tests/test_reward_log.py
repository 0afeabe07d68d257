"""Each verdict has its row, through gymhost's own test client: real HTTP application, real MCP."""

import fcntl
import json
import logging
import math
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import gym_ext_reward_log
import pytest
from gym_ext_reward_log import RewardLog

from gymhost import (
    Environment,
    EnvironmentConfig,
    InvalidTask,
    Limits,
    Session,
    Trajectory,
    VerifyResult,
    Wrapper,
    hookimpl,
    testing,
    tool,
)
from gymhost.client import ApiError, Client

pytestmark = pytest.mark.anyio  # on asyncio and on trio

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Scores(Environment):
    """Its verify returns, or raises, what the test says."""

    stateless = True

    def __init__(self, score: Any = 0.5) -> None:
        self.score = score
        self.hanging = anyio.Event()

    @tool
    async def look(self) -> str:
        """Look."""
        return "seen"

    @tool
    async def crash(self) -> str:
        """Fail."""
        raise RuntimeError("a bug")

    async def verify(self, session: Session, trajectory: Trajectory) -> Any:
        if isinstance(self.score, BaseException):
            raise self.score
        if self.score == "hang":
            self.hanging.set()
            await anyio.sleep_forever()
        return self.score


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rewards.jsonl"


def read(path: Path) -> str:
    return path.read_text("utf-8")


def rows(path: Path) -> list[dict[str, Any]]:
    *lines, last = read(path).split("\n")
    assert last == ""
    return [json.loads(line) for line in lines]


async def verdict(client: Client, environment: str = "scores") -> Any:
    """Play an episode; return the reward, or what is answered in its place."""
    async with client.episode(environment) as episode:
        try:
            return (await episode.verify())["reward"]
        except ApiError as exc:
            return exc.status, exc.failure_kind


async def test_a_score_has_its_row_when_it_is_answered(path: Path) -> None:
    score = VerifyResult(reward=1, reward_components={"found": True}, city="Zürich 東京")
    async with testing.client({"scores": Scores(score)}, extensions=[RewardLog(path)]) as client:
        assert rows(path) == []
        async with client.episode("scores") as episode:
            await episode.call_tool("look")
            await episode.call_tool("look", {"unknown": 1})
            await episode.verify()
            (row,) = rows(path)
            await episode.verify()  # the recorded answer again
            assert rows(path) == [row]
    assert re.fullmatch(TIME, row.pop("time"))
    assert 0 <= row.pop("verify_seconds") < 60
    assert row == {
        "environment": "scores",
        "session_id": episode.session_id,
        "reward": 1.0,
        "reward_components": {"found": 1.0},
        "extras": {"city": "Zürich 東京"},
        "mask_sample": False,
        "failure_kind": None,
        "tool_calls": 2,
    }
    assert "Zürich 東京" in read(path)


@pytest.mark.parametrize(
    ("score", "status", "failure_kind"),
    [
        (LookupError("no judge"), 502, "environment_error"),
        (SystemExit(1), 502, "environment_error"),
        (TimeoutError("the judge's"), 502, "environment_error"),
        (None, 502, "environment_error"),
        (math.nan, 502, "environment_error"),
        (VerifyResult(reward=1, seen=math.inf), 502, "environment_error"),
        (VerifyResult(reward=1, seen=object()), 502, "environment_error"),
        (InvalidTask("no city"), 422, "invalid_request"),
        ("hang", 504, "environment_timeout"),
    ],
)
async def test_a_verify_that_failed_has_a_row_without_a_reward(
    path: Path, score: Any, status: int, failure_kind: str
) -> None:
    config = EnvironmentConfig(plugin=Scores(score), limits=Limits(verify_seconds=0.05))
    async with testing.client({"scores": config}, extensions=[RewardLog(path)]) as client:
        assert await verdict(client) == (status, failure_kind)
    (row,) = rows(path)
    assert row.keys() == {
        "time",
        "environment",
        "session_id",
        "mask_sample",
        "failure_kind",
        "tool_calls",
        "verify_seconds",
    }
    assert (row["mask_sample"], row["failure_kind"]) == (True, failure_kind)


async def test_a_verify_that_is_tried_again_has_another_row(path: Path) -> None:
    scores = Scores(LookupError("no judge"))
    async with testing.client({"scores": scores}, extensions=[RewardLog(path)]) as client:
        async with client.episode("scores") as episode:
            with pytest.raises(ApiError):
                await episode.verify()
            scores.score = 0.25
            await episode.verify()
    failed, scored = rows(path)
    assert failed["session_id"] == scored["session_id"] == episode.session_id
    assert (failed["failure_kind"], scored["reward"]) == ("environment_error", 0.25)


@pytest.mark.parametrize("on_failure", ["error", "report"])
async def test_a_masked_score_is_not_called_a_reward(path: Path, on_failure: Any) -> None:
    config = EnvironmentConfig(plugin=Scores(0.75), on_failure=on_failure)
    async with testing.client({"scores": config}, extensions=[RewardLog(path)]) as client:
        async with client.episode("scores") as episode:
            await episode.call_tool("crash")
            if on_failure == "report":
                assert (await episode.verify())["mask_sample"]
            else:
                with pytest.raises(ApiError, match="502 environment_error"):
                    await episode.verify()
    (row,) = rows(path)
    assert "reward" not in row
    assert (row["unmasked_reward"], row["mask_sample"]) == (0.75, True)
    assert (row["failure_kind"], row["tool_calls"]) == ("environment_error", 1)


async def test_a_stored_rollout_has_a_row_without_a_session(path: Path) -> None:
    async with testing.client({"scores": Scores()}, extensions=[RewardLog(path)]) as client:
        await client.request("POST", "/envs/scores/verify", {"response": {"output": []}})
    (row,) = rows(path)
    assert (row["session_id"], row["reward"], row["tool_calls"]) == (None, 0.5, 0)


async def test_the_row_is_of_what_other_extensions_have_made_of_the_score(path: Path) -> None:
    class Halves:
        @hookimpl(wrapper=True)
        def verify(self) -> Wrapper[VerifyResult]:
            result = yield
            return VerifyResult(reward=result.reward / 2)

    log = RewardLog(path)
    async with testing.client({"scores": Scores()}, extensions=[log, Halves]) as client:
        assert await verdict(client) == 0.25
    assert [row["reward"] for row in rows(path)] == [0.25]


async def test_a_verify_that_is_cancelled_has_no_row(path: Path) -> None:
    scores = Scores("hang")
    async with testing.client({"scores": scores}, extensions=[RewardLog(path)]) as client:
        seeded = await client.seed("scores")

        async def verify() -> None:
            body = {"session_id": seeded.session_id, "response": {"output": []}}
            with pytest.raises(ApiError, match="503 over_capacity"):
                await client.request("POST", "/envs/scores/verify", body)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(verify)
                await scores.hanging.wait()
                await client.host.stop()
    assert rows(path) == []


async def test_many_verdicts_at_once_are_as_many_whole_rows(path: Path) -> None:
    score = VerifyResult(reward=0.5, note="ü" * 5000)
    async with testing.client({"scores": Scores(score)}, extensions=[RewardLog(path)]) as client:
        seeded = [(await client.seed("scores")).session_id for _ in range(200)]

        async def verify(session_id: str) -> None:
            body = {"session_id": session_id, "response": {"output": []}}
            await client.request("POST", "/envs/scores/verify", body)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for session_id in seeded:
                    tasks.start_soon(verify, session_id)
    written = rows(path)
    assert sorted(row["session_id"] for row in written) == sorted(seeded)
    assert {(row["reward"], row["extras"]["note"]) for row in written} == {(0.5, "ü" * 5000)}


# -- where it can't write --------------------------------------------------------------------------


async def test_without_a_path_it_writes_nothing_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, "gym_ext_reward_log"):
        async with testing.client({"scores": Scores()}, extensions=[RewardLog]) as client:
            assert [await verdict(client) for _ in range(2)] == [0.5, 0.5]
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - a test's own folder
    said = [each.message for each in caplog.records if each.name == "gym_ext_reward_log"]
    assert said == ["reward_log writes nothing: it is installed, and has no `path`"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "Is a directory"),
        ("missing/rewards.jsonl", "No such file or directory"),
        ("pipe", "Not a regular file"),
        ("nul\0", "embedded null"),
    ],
)
async def test_a_path_that_can_not_be_written_fails_the_extension_and_nothing_else(
    tmp_path: Path, name: str, reason: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    log = RewardLog(f"{tmp_path}/{name}")
    async with testing.client({"scores": Scores()}, strict=False, extensions=[log]) as client:
        failed = {each.name: each.reason for each in client.host.records if each.error}
        assert failed.keys() == {"RewardLog"}
        assert reason in (failed["RewardLog"] or "")
        assert await verdict(client) == 0.5


def test_the_home_folder_has_its_short_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    RewardLog("~/rewards.jsonl").startup()
    assert (tmp_path / "rewards.jsonl").read_text() == ""


async def test_rows_that_can_not_be_written_are_logged_once_and_change_no_verdict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "rewards.jsonl"
    async with testing.client({"scores": Scores()}, extensions=[RewardLog(path)]) as client:
        folder.rename(tmp_path / "elsewhere")
        assert [await verdict(client) for _ in range(3)] == [0.5, 0.5, 0.5]
        folder.mkdir()
        assert [await verdict(client) for _ in range(2)] == [0.5, 0.5]
    assert [each.message for each in caplog.records if each.name == "gym_ext_reward_log"] == [
        f"no row in {path}: [Errno 2] No such file or directory: '{path}'",
        f"{path} is written again: 3 rows are lost, or late",
    ]
    assert len(rows(path)) == 2


async def test_an_environment_that_spoils_the_row_keeps_its_score(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Spoils(Scores):
        async def verify(self, session: Session, trajectory: Trajectory) -> float:
            session.id = "\ud800"
            return 0.5

    async with testing.client({"scores": Spoils()}, extensions=[RewardLog(path)]) as client:
        assert await verdict(client) == 0.5
    assert rows(path) == []
    (said,) = [each for each in caplog.records if each.name == "gym_ext_reward_log"]
    assert "surrogates not allowed" in said.message
    assert said.exc_info  # it is no trouble of the disk's


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the file's lock, as a process does that is stopped while it writes."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def is_writing(log: RewardLog) -> None:
    """Wait until a thread has begun to write a row."""
    while not log._writing.locked():
        await anyio.lowlevel.checkpoint()


async def test_a_row_that_waits_for_the_disk_does_not_block_the_event_loop(path: Path) -> None:
    environments, log = {"scores": Scores(), "other": Scores()}, RewardLog(path)
    async with testing.client(environments, extensions=[log]) as client:
        async with client.episode("scores") as first, client.episode("other") as second:
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    with locked(path):
                        tasks.start_soon(first.verify)
                        await is_writing(log)
                        assert (await second.call_tool("look")).text == "seen"
                        assert rows(path) == []
                        assert not first.verified
            assert [row["session_id"] for row in rows(path)] == [first.session_id]


async def test_a_disk_that_hangs_holds_up_no_verdict_for_long(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = RewardLog(path)
    async with testing.client({"scores": Scores()}, extensions=[log]) as client:
        with anyio.fail_after(10):
            with locked(path):
                monkeypatch.setattr(gym_ext_reward_log, "WRITE_SECONDS", 0.2)
                assert await verdict(client) == 0.5
                await is_writing(log)
                monkeypatch.undo()  # the next ones have all the time, and do not wait
                assert [await verdict(client) for _ in range(3)] == [0.5, 0.5, 0.5]
            while not read(path):  # the first row is late
                await anyio.lowlevel.checkpoint()
            while len(rows(path)) < 2:
                assert await verdict(client) == 0.5
    said = [each.message for each in caplog.records if each.name == "gym_ext_reward_log"]
    assert said[0] == f"no row in {path}: it took longer than 0.2 s"
    assert [line.partition(":")[0] for line in said[1:]] == [f"{path} is written again"]
