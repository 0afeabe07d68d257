"""The environment through gymhost's own test client: the real HTTP application."""

from typing import Any

import pytest
from gym_env_external_verifier import ExternalVerifier

from gymhost import Task, testing
from gymhost.checking import play_tasks
from gymhost.client import ApiError

pytestmark = pytest.mark.anyio  # on asyncio and on trio

TIME = next(ExternalVerifier().tasks())
assert TIME.reference is not None
SOLUTION = TIME.reference.trajectory
WRONG = {"calls": [{"name": "convert_time", "arguments": {"time": {"$contans": "16"}}}]}
TOLD = "verifier_metadata.calls.0.arguments.time.$contans: not a matcher: "


async def test_every_reference_scores_one_and_doing_nothing_scores_zero() -> None:
    tasks = list(ExternalVerifier().tasks())
    async with testing.client({"external": ExternalVerifier}) as client:
        played = [each async for each in play_tasks(client, "external", tasks)]
    assert len(played) == 4
    assert {(each.reference, each.nothing, each.problem) for each in played} == {(1.0, 0.0, None)}


async def test_no_reference_could_do_without_one_of_its_calls_that_are_required() -> None:
    tasks = list(ExternalVerifier().tasks())
    async with testing.client({"external": ExternalVerifier}) as client:
        for task in tasks:
            assert task.reference is not None
            items = task.reference.trajectory or []
            answer = [item for item in items if item["type"] == "message"]
            async with client.episode("external", task) as episode:
                assert (await episode.verify(output=answer))["reward"] < 1.0


async def test_there_are_no_tools_to_connect_to() -> None:
    async with testing.client({"external": ExternalVerifier}) as client:
        assert (await client.seed("external", TIME)).mcp is None
        shown = await client.environment("external")
    assert shown["tools"] == []
    assert shown["stateless"] is True


async def test_a_session_is_scored_by_its_own_task_and_once() -> None:
    async with testing.client({"external": ExternalVerifier}) as client:
        async with client.episode("external", TIME) as episode:
            first = await episode.verify(output=SOLUTION)
            assert first["reward"] == 1.0
            assert first["reward_components"] == {"calls.0": 1.0, "answer": 1.0}
            assert await episode.verify(output=SOLUTION) == first
            with pytest.raises(ApiError, match="409 already_verified"):
                await episode.verify(output=[])


async def test_a_stored_rollout_is_scored_without_a_session_and_as_often_as_wanted() -> None:
    body = {"verifier_metadata": TIME.verifier_metadata, "response": {"output": SOLUTION}}
    async with testing.client({"external": ExternalVerifier}) as client:
        answers = [
            await client.request("POST", "/envs/external/verify", sent)
            for sent in (body, body, {**body, "response": {"output": []}})
        ]
        assert (await client.environment("external"))["use"]["open_sessions"] == 0
    assert [answer["reward"] for answer in answers] == [1.0, 1.0, 0.0]
    assert answers[0] == answers[1] == {**body, **answers[0]}


@pytest.mark.parametrize("metadata", [WRONG, {}, None, {"call": []}])
async def test_a_task_that_is_none_is_the_trainers_mistake_at_seed_and_at_verify(
    metadata: dict[str, Any] | None,
) -> None:
    async with testing.client({"external": ExternalVerifier}) as client:
        for path in ("seed_session", "verify"):
            with pytest.raises(ApiError) as caught:
                await client.request(
                    "POST", f"/envs/external/{path}", {"verifier_metadata": metadata}
                )
            assert caught.value.status == 422
            assert str(caught.value.problem["detail"]).startswith("verifier_metadata")
            assert caught.value.problem["mask_sample"] is True
        counts = (await client.environment("external"))["counts"]
    assert "environment_error" not in counts
    assert "seeded" not in counts


async def test_the_field_that_is_wrong_is_named() -> None:
    async with testing.client({"external": ExternalVerifier}) as client:
        with pytest.raises(ApiError) as caught:
            await client.seed("external", Task(verifier_metadata=WRONG))
    assert str(caught.value.problem["detail"]).startswith(TOLD)
