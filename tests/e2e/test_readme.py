"""What the README tells a newcomer to type, typed: against a real server, on a port of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.include_examples import included

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BIN = Path(sys.executable).parent


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A running `gymhost serve`: its URL, and the variables to find its key with."""
    variables = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    variables.pop("GYMHOST_API_KEY", None)
    command = [str(BIN / "gymhost"), "serve", "--port", "0"]
    with subprocess.Popen(
        command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None
        while "Ctrl-C" not in process.stdout.readline():
            pass
        yield url[0], variables
        process.terminate()
        assert process.wait(20) == 0


def code(section: str) -> str:
    """The code of the README's first block under a heading."""
    match = re.search(rf"\n## {section}\n.*?```\w+\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match[1]


def test_the_curl_commands_score_one(server: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    url, variables = server
    script = code("An episode with curl").replace("http://127.0.0.1:8000", url)
    script = script.replace(".venv/bin/gymhost", str(BIN / "gymhost"))
    ran = subprocess.run(
        ["bash", "-eu", "-c", script],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    seeded, called, *verified = ran.stdout.splitlines()  # verify echoes the body as it came
    assert '"session_id"' in seeded
    assert '"text":"The weather in Paris is sunny and 72 F."' in called
    assert verified[-1].endswith('"reward":1.0}')


def test_without_the_tool_call_the_curl_commands_score_zero(
    server: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    url, variables = server
    script = code("An episode with curl").replace("http://127.0.0.1:8000", url)
    script = script.replace(".venv/bin/gymhost", str(BIN / "gymhost"))
    without = re.sub(r"# The agent calls.*?(?=# Verify)", "", script, flags=re.DOTALL)
    assert "tools/call" not in without
    ran = subprocess.run(
        ["bash", "-eu", "-c", without],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ran.stdout.splitlines()[-1].endswith('"reward":0.0}')


def test_the_python_episode_prints_the_reward(
    server: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    url, variables = server
    script = tmp_path / "episode.py"
    script.write_text(code("The same from Python").replace("http://127.0.0.1:8000", url))
    ran = subprocess.run(
        [sys.executable, str(script)],
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ran.stdout == "1.0\n"


@pytest.mark.parametrize("path", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_the_examples_in_a_document_are_the_tested_ones(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert included(text) == text


@pytest.mark.parametrize("target", ["serve", "test"])
def test_the_two_commands_are_targets_of_make(target: str) -> None:
    assert f"make {target} " in code("Run it")
    ran = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout


def test_every_link_to_a_file_of_the_project_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
