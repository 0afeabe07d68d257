"""Agents of a gymhost.yaml whose model is a script, and what a run with them has left behind."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.e2e import anthropic_endpoint, openai_endpoint
from tests.e2e.anthropic_endpoint import Hang, Say, Turn, Use, instruction, last_result
from tests.e2e.openai_endpoint import Drips, Heard, Says
from tests.e2e.rollouts import KEY, Rollouts
from tests.e2e.servers import Server

CLAUDE = os.environ.get("GYMHOST_CLAUDE") or shutil.which("claude")
MODEL_KEY = "sk-of-the-model"
TIME_TOKEN = "token-of-the-clock"

needs_claude = pytest.mark.skipif(
    CLAUDE is None,
    reason="there is no Claude Code here. Try: npm install --global @anthropic-ai/claude-code, "
    "or GYMHOST_CLAUDE=/path/to/claude",
)
with_claude = pytest.param("coder", marks=needs_claude)
each_agent = pytest.mark.parametrize("agent", [with_claude, "talker", "chatter"])
a_claude_and_a_model = pytest.mark.parametrize("agent", [with_claude, "talker"])

SENTENCE = "The weather in Paris is sunny and 72 F."
ASK = "mcp__weather__get_weather"
PARIS = {"city": "Paris"}


def task(asked: str) -> dict[str, Any]:
    return {
        "responses_create_params": {
            "input": [
                {"role": "system", "content": "Answer with the report."},
                {"role": "user", "content": asked},
            ]
        },
        "verifier_metadata": {"expected_city": "Paris"},
        "source": "of the test",
    }


ASKED, GUESSED = task("What is the weather in Paris?"), task("Guess the weather in Paris.")


# The model that both endpoints play: it asks where it is asked, and makes up where it is to guess.


def claudes_turn(body: dict[str, Any]) -> Turn:
    if "Guess" in instruction(body):
        return Say(SENTENCE)
    turns = sum(message["role"] == "assistant" for message in body["messages"])
    # its tools are deferred: the model has to ask for one by name before it can call it
    steps = (Use("ToolSearch", {"query": f"select:{ASK}"}), Use(ASK, PARIS), Say(last_result))
    return steps[turns]


def models_turn(heard: Heard) -> Says:
    if "Guess" in str(heard.body):
        return Says(SENTENCE)
    return Says(heard.outputs[-1]) if heard.outputs else Says(calls=[(ASK, PARIS)])


@dataclass
class Model:
    """A model behind one endpoint of each kind. It hangs up to a test where `hanging` says so."""

    urls: dict[str, str] = field(default_factory=dict)
    hanging: Callable[[str], bool] = lambda _: False
    hung: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released for each request that hangs."""
    claude: Any = None
    openai: Any = None

    def claudes_turn(self, body: dict[str, Any]) -> Turn:
        if self.hanging(instruction(body)):
            self.hung.release()
            return Hang()
        return claudes_turn(body)

    def models_turn(self, heard: Heard) -> Says | Drips:
        if self.hanging(str(heard.body)):
            self.hung.release()
            return Drips()
        return models_turn(heard)


@contextmanager
def model(claude: anthropic_endpoint.Step | None = None, *openai: Any) -> Iterator[Model]:
    """Serve a model; what it does can be given, for Claude Code and for others."""
    played = Model()
    with (
        anthropic_endpoint.open_endpoint(claude or played.claudes_turn) as played.claude,
        openai_endpoint.scripted(*(openai or [played.models_turn] * 100)) as played.openai,
    ):
        yield played


def configured(folder: Path, played: Model, **more: Any) -> None:
    """Write the file: three agents, whose secrets are `${...}`; `more` is for their options."""
    openai = {
        "model": "scripted",
        "base_url": played.openai.url,
        "api_key": "${MODEL_KEY}",
        "attempts": 1,
        **more.get("openai", {}),
    }
    claude = {
        "model": "claude-sonnet-4-5",
        "executable": CLAUDE,
        "base_url": played.claude.url,
        "api_key": "${MODEL_KEY}",
        "env": {"CLAUDE_CODE_MAX_RETRIES": "1"},
        **more.get("claude", {}),
    }
    chat = {**openai, "dialect": "chat"}
    time = {
        "command": sys.executable,
        "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"],
        "env": {"TIME_TOKEN": "${TIME_TOKEN}"},
    }
    document = {
        "agents": {
            "coder": {"type": "claude-code", "options": claude},
            "talker": {"type": "responses", "options": openai},
            "chatter": {"type": "responses", "options": chat},
            "timekeeper": {"type": "responses", "options": openai, "mcp_config": {"time": time}},
        },
        **more.get("settings", {}),
    }
    (folder / "gymhost.yaml").write_text(yaml.safe_dump(document))


def rollouts(folder: Path, *arguments: str, tasks: Any = (ASKED, GUESSED), **more: str) -> Rollouts:
    # where the agents have their folders; short: a socket's path in it has at most 107 bytes
    temporary = folder / "t"
    temporary.mkdir(exist_ok=True)
    secrets = {"MODEL_KEY": MODEL_KEY, "TIME_TOKEN": TIME_TOKEN}
    given = {"environment": "weather", "TMPDIR": str(temporary), **secrets, **more}
    return Rollouts(folder, tasks, *arguments, **given)


def written(folder: Path) -> str:
    """What all files of a run hold."""
    return "".join(path.read_text("utf-8") for path in sorted(folder.glob("rollouts*.jsonl")))


def left_behind(folder: Path) -> list[str]:
    """Return the processes that work below the agents' folder, and what is in that."""
    found = [path.name for path in (folder / "t").iterdir()]
    for process in psutil.process_iter():
        try:
            if folder / "t" in Path(process.cwd()).parents:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def asked_of(host: Server, path: str) -> Any:
    with host.client() as http:
        answer = http.get(path, headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200, answer.text
        return answer.json()
