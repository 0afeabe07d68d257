"""The hooks are in the docs, with wrappers that do what the docs say."""

import inspect
import logging
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from gpu_queue import GpuQueue
from many_worlds import ManyWorlds
from parrot import Parrots
from polite import Polite
from slow_verify import SlowVerify
from time_limit import TimeLimit

from gymhost import Environment, Session, Task, Trajectory
from gymhost.agents import AgentFailure, AgentRun
from gymhost.agents.find import find_agent
from gymhost.client import ApiError
from gymhost.hookspecs import EXTENSION_HOOKS, LIFECYCLE_HOOKS, HookSpecs, hookimpl
from gymhost.host import Host
from gymhost.testing import client
from scripts.include_examples import included

HOOKS = Path(__file__).parents[1] / "docs" / "hooks.md"


def specs() -> dict[str, Any]:
    return {name: spec for name, spec in vars(HookSpecs).items() if inspect.isfunction(spec)}


def test_every_hook_is_in_the_docs_with_its_signature_and_sentence() -> None:
    text = " ".join(HOOKS.read_text("utf-8").split())
    for name, spec in specs().items():
        signature = str(inspect.signature(spec)).replace("'", "")
        sentence = " ".join((inspect.getdoc(spec) or "").removesuffix(".").split())
        assert f"### {name} `{name}{signature}` {sentence}" in text, name


def test_the_docs_tell_of_no_other_hook() -> None:
    assert set(re.findall(r"^### (\w+)$", HOOKS.read_text("utf-8"), re.MULTILINE)) == set(specs())


def test_the_docs_examples_are_the_tested_files() -> None:
    text = HOOKS.read_text("utf-8")
    assert included(text) == text
    shown = re.findall(r"<!-- docs/examples/(\w+)\.py -->", text)
    assert sorted(shown) == [
        "gpu_queue",
        "many_worlds",
        "parrot",
        "pass_at_k",
        "polite",
        "slow_verify",
        "time_limit",
        "workshop",
    ]


def test_every_hook_is_an_environments_or_an_extensions() -> None:
    assert specs().keys() == LIFECYCLE_HOOKS | EXTENSION_HOOKS
    assert not LIFECYCLE_HOOKS & EXTENSION_HOOKS
    for name in LIFECYCLE_HOOKS:
        method, spec = getattr(Environment, name), specs()[name]
        taken = list(inspect.signature(method).parameters)
        assert [*taken, "environment"] == sorted_like(inspect.signature(spec).parameters, taken)


def sorted_like(names: Any, order: list[str]) -> list[str]:
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def test_hookimpl_marks_and_does_not_wrap() -> None:
    def verify(self: object) -> float:
        return 1.0

    assert hookimpl(verify) is verify
    assert hookimpl(trylast=True)(verify) is verify


class Scores(Environment):
    """Its verify waits until the test opens its gate."""

    def __init__(self, *, opened: bool = True) -> None:
        self.running = 0
        self.gate = anyio.Event()
        if opened:
            self.gate.set()

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        self.running += 1
        await self.gate.wait()
        self.running -= 1
        return 0.5


async def test_the_time_limit_ends_what_takes_too_long_in_its_environment() -> None:
    environments = {"slow": Scores(opened=False), "free": Scores()}
    with anyio.fail_after(5):
        async with client(environments, extensions=[TimeLimit({"slow": 0.01})]) as served:
            async with served.episode("slow") as episode:
                with pytest.raises(ApiError) as caught:
                    await episode.verify()
                assert caught.value.failure_kind == "environment_error"
            async with served.episode("free") as episode:
                assert (await episode.verify())["reward"] == 0.5


class Fails(Scores):
    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        raise LookupError("no judge")


async def test_slow_verifies_are_logged_with_how_they_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environments = {"scores": Scores(), "fails": Fails()}
    with caplog.at_level(logging.WARNING, "slow_verify"):
        async with client(environments, extensions=[SlowVerify(0.0)]) as served:
            async with served.episode("scores") as first:
                await first.verify()
            async with served.episode("fails") as second:
                with pytest.raises(ApiError):
                    await second.verify()
    lines = [record.message for record in caplog.records if record.name == "slow_verify"]
    assert [line.rpartition(" in ")[0] for line in lines] == [
        f"scores {first.session_id}: a score",
        f"fails {second.session_id}: an error",
    ]


async def test_a_quick_verify_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with client({"scores": Scores()}, extensions=[SlowVerify()]) as served:
        async with served.episode("scores") as episode:
            await episode.verify()
    assert [record for record in caplog.records if record.name == "slow_verify"] == []


async def test_verifies_wait_for_a_gpu() -> None:
    environment, queue = Scores(opened=False), GpuQueue(gpus=2)

    async def play() -> None:
        async with served.episode("scores") as episode:
            await episode.verify()

    with anyio.fail_after(10):
        async with client({"scores": environment}, extensions=[queue]) as served:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(play)
                while (environment.running, queue.gpus.statistics().tasks_waiting) != (2, 1):
                    await anyio.lowlevel.checkpoint()
                environment.gate.set()
    assert environment.running == queue.gpus.borrowed_tokens == 0


async def test_a_polite_environment_thanks_for_its_own_calls_alone() -> None:
    class Plain(Polite):
        say_please = None

    async with client({"polite": Polite, "plain": Plain}) as served:
        async with served.episode("polite") as episode:
            answer = await episode.call_tool("greet", {"name": "Ada"})
            assert answer.text == "Hello Ada\nThank you."
            assert (await episode.verify(answer.text))["reward"] == 1.0
        async with served.episode("plain") as episode:
            answer = await episode.call_tool("greet", {"name": "Ada"})
            assert answer.text == "Hello Ada"


async def test_many_worlds_are_mounted_by_their_extension() -> None:
    async with client({}, extensions=[ManyWorlds]) as served:
        assert set(served.host.mounts) == {"grid-3", "grid-5", "grid-8"}
        async with served.episode("grid-5") as episode:
            assert (await episode.verify("25 fields"))["reward"] == 1.0


async def test_a_parrot_is_found_by_its_name_and_repeats_what_it_is_asked() -> None:
    host = Host(extensions=[Parrots], discover=False)
    parrot, run = find_agent("parrot", host.agents)(times=2), AgentRun()
    await parrot.run(Task({"input": "Hello."}), {}, run)
    assert Trajectory({"output": run.output}).final_text == "Hello. Hello."
    with pytest.raises(AgentFailure, match="repeats one text"):
        await parrot.run(Task({"input": []}), {}, run)
