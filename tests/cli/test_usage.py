"""How the command line is used: help, versions, mistakes and exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gymhost
from gymhost.cli import COMMANDS, load
from tests.cli.conftest import Run
from tests.distributions import install
from tests.e2e.servers import Server

ROOT = Path(__file__).parents[2]
SESSIONS = [["sessions", name] for name in ("list", "show", "prune")]
PAGES = [*([name] for name in COMMANDS), ["config", "show"], *SESSIONS]
GROUPS = [["config"], ["sessions"]]
ARGUMENTS = {
    "call": ["weather", "get_weather"],
    "mcp-config": ["weather"],
    "rollout": ["weather"],
    "sessions show": ["x"],
    "sessions prune": ["--yes"],
}
"""What a command does not go without."""


def test_help_names_every_command_and_the_exit_codes(run: Run) -> None:
    for option in ("--help", "-h"):
        ran = run(option)
        assert (ran.code, ran.err) == (0, "")
        for command, (_, sentence) in COMMANDS.items():
            assert re.search(rf"^  {command} +{re.escape(sentence)}$", ran.out, re.MULTILINE)
        for code in (0, 1, 2, 130):
            assert re.search(rf"^    {code} +\w", ran.out, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_every_command_has_help(run: Run, page: list[str]) -> None:
    ran = run(*page, "-h")
    assert (ran.code, ran.err) == (0, "")
    usage, _, sentence, *_ = ran.out.splitlines()
    assert usage.startswith(f"Usage: gymhost {' '.join(page)} [OPTIONS]")
    assert sentence.startswith("  ")
    assert not re.search("[^\x00-\x7f]|\x1b", ran.out)  # no boxes, no colours
    if page not in GROUPS:
        assert f"    gymhost {' '.join(page)}" in ran.out or f"$(gymhost {page[0]})" in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_sentence_in_the_list_is_the_commands_own(name: str) -> None:
    _, sentence = COMMANDS[name]
    assert load(name).help.startswith(sentence.rstrip("."))


@pytest.mark.parametrize("columns", ["55", "70"])
def test_help_is_as_wide_as_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = [line for line in run("key", "-h").out.splitlines() if "curl" not in line]
    assert int(columns) - 15 < max(len(line) for line in lines) <= int(columns)


def test_without_arguments_the_help_is_shown_and_it_is_a_wrong_use(run: Run) -> None:
    ran = run()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.rstrip() == run("-h").out.rstrip()


def test_the_version_is_shown(run: Run) -> None:
    ran = run("--version")
    assert (ran.code, ran.out) == (0, f"gymhost {gymhost.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "65536"],
        ["serve", "--port", "-1"],
        ["serve", "--port", "http"],
        ["serve", "--backend", "curio"],
        ["serve", "--grace", "-1"],
        ["serve", "--no-such-option"],
        ["serve", "weather"],
        ["list", "weather"],
        ["check", "--all"],
        ["config"],
        ["config", "hide"],
        ["config", "show", "weather"],
        ["call"],
        ["call", "weather"],
        ["call", "weather", "get_weather", "city=Paris"],
        ["call", "weather", "get_weather", "--arg", "a=b", "--args-json", "{}"],
        ["call", "weather", "get_weather", "--session", "last", "--metadata", "{}"],
        ["mcp-config"],
        ["mcp-config", "weather", "--client", "emacs"],
        ["mcp-config", "weather", "--url", "nowhere"],
        ["rollout"],
        ["rollout", "weather", "--attempts", "0"],
        ["rollout", "weather", "--concurrency", "0"],
        ["rollout", "Weather"],
        ["rollout", "weather", "--url", "nowhere"],
        ["sessions"],
        ["sessions", "show"],
        ["sessions", "list", "weather"],
        ["sessions", "list", "--status", "dead"],
        ["sessions", "list", "--limit", "0"],
        ["sessions", "list", "--since", "yesterday"],
        ["sessions", "list", "--until", "2h ago"],
        ["sessions", "list", "--since", "999999999w"],
        ["sessions", "prune", "--ended-before", "24"],
        ["sessions", "prune"],
        ["sessions", "prune", "--yes", "--store", "memory://"],
        ["sessions", "prune", "--yes", "--store", "sessions.db"],
        ["key", "--new"],
        ["help"],
        ["sevre"],
    ],
)
def test_a_wrong_use_is_exit_code_two(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert "Usage: gymhost" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("typo", "meant"), [("sreve", "'serve'"), ("chekc", "'check'"), ("keys", "'key'")]
)
def test_a_typo_is_told_what_was_meant(run: Run, typo: str, meant: str) -> None:
    assert run(typo).err.splitlines()[-1] == (
        f"Error: No such command {typo!r}. Did you mean {meant}?"
    )


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GROUPS], ids=" ".join)
def test_a_wrong_configuration_is_exit_code_two_in_every_command(
    run: Run, tmp_path: Path, page: list[str]
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("port: 8000\nprot: 9000\n")
    ran = run(*page, *ARGUMENTS.get(" ".join(page), []), "--config", str(file))
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith(f"gymhost: {file}:2: prot: ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["serve", "--host", "192.0.2.1", "--port", "0"], 1),
        (["list"], 0),
        (["check", "weather"], 0),
        (["check", "no_such"], 1),
        (["config", "show"], 0),
        (["call", "toolbox", "say", "--arg", "text=x"], 0),
        (["call", "toolbox", "refuse"], 1),
        (["call", "toolbox", "no_such"], 1),
        (["mcp-config", "toolbox"], 0),
        (["mcp-config", "no_such"], 1),
        (["mcp-config", "toolbox", "--verify", "x"], 1),
        (["sessions", "list"], 0),
        (["sessions", "show", "no-such"], 1),
        (["sessions", "prune", "--yes"], 0),
        (["sessions", "prune", "--dry-run"], 0),
        (["key"], 0),
    ],
)
def test_good_is_exit_code_zero_and_a_failure_one(
    run: Run, served: Server, arguments: list[str], code: int
) -> None:
    ran = run(*arguments)
    assert ran.code == code, ran
    assert "Traceback" not in ran.err
    assert (ran.err == "") == (code == 0) or arguments[0] == "mcp-config"


def test_a_failing_plugin_is_exit_code_one(run: Run, site: Path) -> None:
    install(site, "gym-broken", "import no_such_module", {"broken": "Broken"})
    assert run("list").code == 1
    assert run("check", "broken").code == 1


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_page_of_the_command_line_is_what_the_commands_say(columns: str) -> None:
    ran = subprocess.run(
        [sys.executable, "scripts/cli_reference.py", "--check"],
        cwd=ROOT,
        env={"COLUMNS": columns, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
