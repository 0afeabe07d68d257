"""`gymhost check`: references and doing nothing, played on a real server on a free port."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran, Run
from tests.distributions import install, variables
from tests.e2e.servers import GYMHOST

HEAD = ["ENVIRONMENT", "TASK", "EXPECTED", "REFERENCE", "NO ACTION", "RESULT"]

# An environment that scores what its task says, once its tool was called, and 0 before.
SCORER = """
import threading
from gymhost import Environment, Task, tool

class Scorer(Environment):
    @tool
    def act(self) -> str:
        return "done"

    def verify(self, session, trajectory):
        wanted = session.task.verifier_metadata
        if wanted.get("raises"):
            raise RuntimeError("the verifier's secret")
        return wanted["score"] if session.calls else wanted.get("nothing", 0.0)

    def tasks(self):
        {tasks}
"""


def install_scorer(site: Path, name: str, tasks: str) -> None:
    install(site, name, SCORER.format(tasks=tasks), {name: "Scorer"})


def task(reference: dict[str, Any] | None = None, **metadata: Any) -> str:
    """The source of a task that calls the tool."""
    played = {"calls": [{"name": "act"}], **(reference or {})}
    return f"Task(verifier_metadata={metadata!r}, extra={{'reference': {played!r}}})"


def row(ran: Ran, environment: str, number: int = 0) -> list[str]:
    (found,) = [row for row in ran.rows if row[:2] == [environment, str(number)]]
    return found[2:]


def test_the_weather_plugin_is_right(run: Run) -> None:
    ran = run("check", "weather")
    assert (ran.code, ran.err) == (0, "")
    assert ran.rows[0] == HEAD
    assert [each[2:] for each in ran.rows[1:]] == [["1", "1", "0", "ok"]] * 5
    assert ran.out.splitlines()[-1] == "5 right, 0 wrong"


@pytest.mark.parametrize(
    ("played", "cells"),
    [
        (task(score=1.0), ["1", "1", "0", "ok"]),
        (task({"reward": 0.3}, score=0.1 + 0.2), ["0.3", "0.3", "0", "ok"]),
        (task({"reward": 0}, score=0.0), ["0", "0", "0", "ok"]),
        (task({"reward": -1}, score=-1), ["-1", "-1", "0", "ok"]),
    ],
)
def test_a_right_reference(run: Run, site: Path, played: str, cells: list[str]) -> None:
    install_scorer(site, "scorer", f"return [{played}]")
    ran = run("check", "scorer")
    assert (ran.code, ran.err) == (0, "")
    assert row(ran, "scorer") == cells


@pytest.mark.parametrize(
    ("played", "cells"),
    [
        (task(score=0.25), ["1", "0.25", "0", "the reference scored 0.25, not 1"]),
        (task(score=1.0, nothing=1.0), ["1", "1", "1", "doing nothing scored 1"]),
        (task({"calls": []}, score=1.0), ["1", "0", "0", "the reference scored 0, not 1"]),
        (task(raises=True), ["1", "-", "-"]),
        ("Task(extra={'reference': {'answers': 1}})", ["-", "-", "-"]),
    ],
)
def test_a_wrong_task_is_exit_code_one_and_the_others_are_played(
    run: Run, site: Path, played: str, cells: list[str]
) -> None:
    install_scorer(site, "scorer", f"return [{played}, {task(score=1.0)}]")
    ran = run("check", "scorer")
    assert (ran.code, ran.err) == (1, "")
    assert row(ran, "scorer")[: len(cells)] == cells
    assert row(ran, "scorer", 1) == ["1", "1", "0", "ok"]
    assert ran.out.splitlines()[-1] == "1 right, 1 wrong"
    assert "Traceback" not in ran.out
    assert "secret" not in ran.out


def test_why_a_task_could_not_be_played_is_said(run: Run, site: Path) -> None:
    unreadable = "Task(extra={'reference': {'answers': 1}})"
    install_scorer(site, "scorer", f"return [{task(raises=True)}, {unreadable}]")
    ran = run("check", "scorer")
    assert row(ran, "scorer")[3].startswith("502 environment_error: verify of 'scorer' failed.")
    assert row(ran, "scorer", 1)[3].startswith("the reference can't be read: ")
    assert "answers" in row(ran, "scorer", 1)[3]


def test_a_task_without_a_reference_is_named_and_left_alone(run: Run, site: Path) -> None:
    install_scorer(site, "scorer", f"return [Task(), {task(score=1.0)}]")
    ran = run("check", "scorer")
    assert (ran.code, ran.err) == (0, "")
    assert row(ran, "scorer") == ["-", "-", "-", "no reference"]
    assert ran.out.splitlines()[-1] == "1 right, 0 wrong, 1 without a reference"


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("return []", "scorer has no example tasks"),
        ("return [Task(), Task()]", "scorer: no example task has a reference"),
        ("raise ValueError('no file')", "scorer: its tasks can't be read: ValueError: no file"),
        ("raise SystemExit('bye')", "scorer: its tasks can't be read: SystemExit: bye"),
    ],
)
def test_nothing_to_play_is_exit_code_one(run: Run, site: Path, tasks: str, said: str) -> None:
    install_scorer(site, "scorer", tasks)
    ran = run("check", "scorer")
    assert ran.code == 1
    assert ran.err == f"gymhost: {said}\n"
    assert ran.out.splitlines()[-1].startswith("0 right, 0 wrong")


FAILING = """
from gymhost import Environment

class Failing(Environment):
    async def startup(self):
        raise RuntimeError("no database")

    async def verify(self, session, trajectory):
        return 0.0
"""


def test_an_environment_that_is_not_served_is_exit_code_one(run: Run, site: Path) -> None:
    install(site, "gym-failing", FAILING, {"failing": "Failing", "unfound": "Missing"})
    ran = run("check", "failing", "unfound", "weather")
    assert ran.code == 1
    first, second = sorted(ran.err.splitlines())
    assert first.startswith("gymhost: failing is not served: ")
    assert "no database" in first
    assert second.startswith("gymhost: unfound is not served: ")
    assert "Traceback" not in ran.err
    assert ran.out.splitlines()[-1] == "5 right, 0 wrong"
    assert run("check", "weather").code == 0  # what was not asked for does not matter
    assert run("check").code == 1


def test_unknown_names_are_refused(run: Run) -> None:
    ran = run("check", "wheather", "weather", "nothing")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "gymhost: no environment is named nothing, wheather: try `gymhost list`\n"


def test_what_is_configured_is_played(run: Run, site: Path, tmp_path: Path) -> None:
    source = SCORER.format(tasks=f"return [{task(score=1.0)}]").replace(
        "    @tool", "    def __init__(self, factor=1):\n        self.factor = factor\n\n    @tool"
    )
    source = source.replace('wanted["score"]', 'wanted["score"] * self.factor')
    install(site, "scorer", source, {"scorer": "Scorer"})
    config = tmp_path / "gym.yaml"
    config.write_text(
        "only: true\nport: 1\nkeys: [hunter22]\n"
        "environments: {right: {plugin: scorer}, half: {plugin: scorer, config: {factor: 0.5}}}\n"
    )
    ran = run("check", "--config", str(config))
    assert (ran.code, ran.err) == (1, "")
    assert row(ran, "right") == ["1", "1", "0", "ok"]
    assert row(ran, "half")[1] == "0.5"
    assert ran.out.splitlines()[-1] == "1 right, 1 wrong"


def test_extensions_that_wrap_are_left_out(run: Run, site: Path, tmp_path: Path) -> None:
    config = tmp_path / "gymhost.yaml"
    config.write_text(
        "extensions:\n"
        f"  reward_log: {{path: {tmp_path / 'rewards.jsonl'}}}\n"
        "  tool_latency: {error_rate: 1}\n"
    )
    ran = run("check", "weather", "--config", str(config))
    assert ran.code == 0, ran.out
    assert not (tmp_path / "rewards.jsonl").exists()


def test_an_empty_installation_has_nothing_to_play(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [])  # where distributions are looked for
    ran = run("check")
    assert ran.code == 1
    assert ran.err == "gymhost: there is nothing to play: no environment is installed\n"


def test_a_thread_that_never_ends_does_not_keep_the_command(tmp_path: Path) -> None:
    source = SCORER.format(tasks=f"return [{task(score=1.0)}]").replace(
        'return "done"', "threading.Thread(target=threading.Event().wait).start()"
    )
    install(tmp_path, "scorer", source, {"scorer": "Scorer"})
    ran = subprocess.run(
        [GYMHOST, "check", "scorer"],
        env=variables(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1] == "1 right, 0 wrong"
