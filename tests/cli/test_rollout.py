"""`gymhost rollout`: what it prints, what it refuses before anything starts, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.distributions import install
from tests.e2e.servers import Server

OWN = {"verifier_metadata": {"expected_city": "Rome"}}
SAID = "The weather in Rome is sunny and 72 F."
REFERENCE = {"calls": [{"name": "get_weather", "arguments": {"city": "Rome"}}], "answer": SAID}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GYMHOST_URL", raising=False)
    return folder


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_environments_own_tasks_are_played_on_a_host_of_its_own(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("GYMHOST_BACKEND", backend)
    ran = run("rollout", "weather", "--attempts", "2")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "10 of 10 scored, mean reward 1.000",
        "rollouts  rollouts.jsonl",
        "inputs    rollouts_materialized_inputs.jsonl",
    ]
    rows = read(folder / "rollouts.jsonl")
    assert [row["reward"] for row in rows] == [1.0] * 10
    assert rows[0]["versions"].keys() == {"gymhost", "weather"}


def test_rows_of_a_file_are_played_as_many_as_the_limit_says(run: Run, folder: Path) -> None:
    tasks = write(folder / "t.jsonl", {**OWN, "reference": REFERENCE}, {**OWN, "reference": {}}, {})
    ran = run("rollout", "weather", "-i", "t.jsonl", "-o", "out.jsonl", "--limit", "2")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "2 of 2 scored, mean reward 0.500")
    assert {path.name for path in folder.iterdir()} == {
        tasks.name,
        "out.jsonl",
        "out_failures.jsonl",
        "out_journal.jsonl",
        "out_materialized_inputs.jsonl",
    }


def test_what_failed_is_exit_code_one_and_says_how_to_go_on(run: Run, folder: Path) -> None:
    write(folder / "t.jsonl", {**OWN, "reference": REFERENCE}, OWN, OWN)
    command = ["rollout", "weather", "-i", "t.jsonl"]
    ran = run(*command)
    assert ran.code == 1
    told = "mean reward 1.000, 2 failed (2 no_reference)"
    assert ran.out.splitlines()[:3] == [
        f"1 of 3 scored, {told}",
        "rollouts  rollouts.jsonl",
        "failures  rollouts_failures.jsonl",
    ]
    resume = "resume with: gymhost rollout weather -i t.jsonl --resume"
    why = "no_reference: the task has no reference to play: give the scripted agent a file of steps"
    assert ran.err.splitlines() == [why, resume]
    refused = run(*command)
    assert (refused.code, refused.out) == (2, "")
    assert "rollouts.jsonl is not empty: go on with its run with --resume" in refused.err
    again = run(*command, "--resume")
    assert (again.code, again.out.splitlines()[0]) == (1, f"1 of 3 scored, {told}")
    assert len(read(folder / "rollouts_failures.jsonl")) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["weather", "--agent", "codex"],
            "no agent is named 'codex'. Known: claude-code, responses",
        ),
        (["wheather"], "no environment is named 'wheather': installed here: "),
        (["wheather", "-i", "good.jsonl"], "No environment is named 'wheather'. Served here: "),
        (["weather", "-i", "bad.jsonl"], "bad.jsonl:2: not JSON: "),
        (["weather", "-i", "nowhere.jsonl"], "nowhere.jsonl can't be read: No such file"),
        (["weather", "-i", "empty.jsonl"], "the input has no task"),
        (["weather", "--dataset", "train"], "weather has no dataset 'train' in the configuration"),
        (["external_verifier", "--agent", "mine"], "unexpected keyword argument 'colour'"),
        (["weather", "--agent", "badly"], "mcp_config.time must have a `url` or a `command`"),
        (["taskless"], "taskless has no tasks of its own: name some with --input"),
        (["broken"], "the tasks of broken can't be read: LookupError: no file"),
    ],
)
def test_wrong_use_is_one_line_before_anything_starts(
    run: Run, site: Path, folder: Path, arguments: list[str], said: str
) -> None:
    source = (
        "from gymhost import Environment\n"
        "class Taskless(Environment):\n"
        "    async def verify(self, session, trajectory): return 0.0\n"
        "class Broken(Taskless):\n"
        "    def tasks(self): raise LookupError('no file')\n"
    )
    install(site, "taskless", source, {"taskless": "Taskless", "broken": "Broken"})
    write(folder / "good.jsonl", {**OWN, "reference": REFERENCE})
    (folder / "bad.jsonl").write_text("{}\n{\n")
    (folder / "empty.jsonl").write_text("\n")
    (folder / "gymhost.yaml").write_text(
        "agents:\n"
        "  mine: {type: scripted, options: {colour: red}}\n"
        "  badly: {type: scripted, mcp_config: {time: {}}}\n"
    )
    ran = run("rollout", *arguments)
    assert ran.code == 2
    (line,) = [each for each in ran.err.splitlines() if not each.startswith("resume")]
    assert line.startswith("gymhost: ")
    assert said in line
    if "Served here" not in said:  # that is known when the host is asked
        assert list(folder.glob("rollouts*")) == []


def test_input_and_dataset_are_one_or_the_other(run: Run) -> None:
    ran = run("rollout", "weather", "-i", "a", "--dataset", "b")
    assert ran.code == 2
    assert "give --input or --dataset, not both" in ran.err


def test_one_file_describes_environment_agent_and_data(run: Run, folder: Path) -> None:
    """The static server is somebody else's, started by its command; the data is beside the file."""
    import sys

    (folder / "conf").mkdir()
    (folder / "conf" / "steps.json").write_text(
        json.dumps(
            {
                "calls": [
                    {
                        "name": "mcp__time__convert_time",
                        "arguments": {
                            "source_timezone": "Asia/Tokyo",
                            "time": "16:30",
                            "target_timezone": "Asia/Kolkata",
                        },
                    }
                ],
                "answer": "It is 13:00 in Kolkata.",
            }
        )
    )
    own = {
        "responses_create_params": {"input": "It is 16:30 in Tokyo. And in Kolkata?"},
        "verifier_metadata": {
            "calls": [{"name": "convert_time", "arguments": {"time": "16:30"}, "output": "13:00"}],
            "answer": "13:00",
        },
    }
    write(folder / "conf" / "time.jsonl", own)
    (folder / "conf" / "gymhost.yaml").write_text(
        "environments:\n"
        "  external_verifier:\n"
        "    datasets: {time: time.jsonl}\n"
        "agents:\n"
        "  clockmaker:\n"
        "    type: scripted\n"
        f"    options: {{steps: {folder / 'conf' / 'steps.json'}}}\n"
        "    mcp_config:\n"
        "      mcpServers:\n"
        f"        time: {{command: {sys.executable}, args: [-m, mcp_server_time]}}\n"
    )
    command = ["rollout", "external_verifier", "--agent", "clockmaker", "--dataset", "time"]
    ran = run(*command, "--config", "conf/gymhost.yaml")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "1 of 1 scored, mean reward 1.000"), ran.err
    (row,) = read(folder / "rollouts.jsonl")
    assert row["agent_ref"] == {"name": "clockmaker"}
    assert row["response"]["output"][0]["name"] == "mcp__time__convert_time"
    assert "13:00:00+05:30" in row["response"]["output"][1]["output"]


AGENT = """
from gymhost import hookimpl
from gymhost.episode import answer_item

class Parrot:
    def __init__(self, word="hello"):
        self.word = word
    async def run(self, task, mcp, run):
        run.output.append(answer_item(self.word))
        run.versions["parrot"] = "3"

class Agents:
    @hookimpl
    def register_agents(self, register):
        register("parrot", "parrots:Parrot")
"""


def test_an_agent_of_a_plugin_is_found_by_its_name(run: Run, site: Path, folder: Path) -> None:
    install(site, "parrots", AGENT, {"parrots": "Agents"})
    ran = run("rollout", "weather", "--agent", "parrot", "--limit", "1")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "1 of 1 scored, mean reward 0.000"), ran.err
    assert read(folder / "rollouts.jsonl")[0]["versions"]["parrot"] == "3"


def test_a_running_gymhost_is_played_against(run: Run, served: Server, folder: Path) -> None:
    reference = {"calls": [{"name": "say", "arguments": {"text": "hi"}}], "answer": "hi"}
    write(folder / "t.jsonl", *[{"reference": reference}] * 3)
    ran = run("rollout", "toolbox", "-i", "t.jsonl")  # by GYMHOST_URL
    assert ran.out.splitlines()[0].startswith("3 of 3 scored"), ran.err
    with served.client() as http:
        row = read(folder / "rollouts.jsonl")[0]
        record = http.get(f"/sessions/{row['session_id']}").json()
    assert (record["status"], record["verdict"]["reward"]) == ("verified", row["reward"])


def test_own_tasks_of_what_is_only_elsewhere_are_not_known(run: Run, served: Server) -> None:
    ran = run("rollout", "toolbox")
    assert ran.code == 2
    assert "To play tasks at --url, name them with --input" in ran.err


def test_a_host_that_is_not_there_is_said_before_anything_starts(run: Run, folder: Path) -> None:
    write(folder / "t.jsonl", {**OWN, "reference": REFERENCE})
    ran = run("rollout", "weather", "-i", "t.jsonl", "--url", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "no gymhost answers at http://127.0.0.1:9" in ran.err


LEAKING = """
from gymhost import hookimpl
from gymhost.episode import answer_item

class Leaking:
    def __init__(self, api_key, model):
        self.known = f"{api_key} {model}"
    async def run(self, task, mcp, run):
        run.output.append(answer_item(f"{self.known} {mcp}"))

class Agents:
    @hookimpl
    def register_agents(self, register):
        register("leaking", Leaking)
"""


def test_secrets_of_the_configuration_are_in_no_file(
    run: Run, site: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "leaking", LEAKING, {"leaking": "Agents"})
    monkeypatch.setenv("OF_THE_SHELL", "hidden-shell")
    (folder / "gymhost.yaml").write_text(
        "agents:\n"
        "  leaking:\n"
        "    options: {api_key: hidden-option, model: plain-model}\n"
        "    mcp_config:\n"
        "      mine:\n"
        "        url: http://127.0.0.1:9/\n"
        "        headers: {Authorization: Bearer hidden-header, X-Mine: '${OF_THE_SHELL}'}\n"
        "      other: {command: other, env: {A_TOKEN: hidden-token, MODE: plain-mode}}\n"
    )
    ran = run("rollout", "weather", "--agent", "leaking", "--limit", "1")
    assert ran.code == 0, ran.err
    written = "".join(path.read_text() for path in folder.glob("rollouts*"))
    assert "hidden" not in written
    assert "plain-model" in written  # and what is none is as it was
    assert "plain-mode" in written
