"""Where the output goes: odd locales, pipes that are closed, and shells that complete words."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.distributions import variables
from tests.e2e.servers import GYMHOST, Server

pytestmark = pytest.mark.measured

OLD_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run_shell(
    script: str, folder: Path, server: Server | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a line of bash that has `gymhost` on its path."""
    path = f"{Path(GYMHOST).parent}{os.pathsep}{os.environ['PATH']}"
    known = {"GYMHOST_URL": server.url, "GYMHOST_API_KEY": server.key or ""} if server else {}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        env=variables(folder, **known, PATH=path, **more),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(
    ("more", "printed"),
    [({"LC_ALL": "C"}, "日本\n"), ({"PYTHONIOENCODING": "ascii"}, "\\u65e5\\u672c\n")],
)
def test_letters_that_the_terminal_does_not_have_are_written_otherwise(
    toolbox_server: Server, tmp_path: Path, more: dict[str, str], printed: str
) -> None:
    ran = run_shell("gymhost call toolbox say --arg text=日本", tmp_path, toolbox_server, **more)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, printed, "")


@pytest.mark.parametrize(
    ("word", "more"), [("日本", OLD_LOCALE), ("$'\\xff'", {}), ("$'\\xff'", {"LC_ALL": "C"})]
)
def test_words_that_can_not_be_read_are_refused(
    tmp_path: Path, word: str, more: dict[str, str]
) -> None:
    ran = run_shell(f"gymhost call toolbox say --arg text={word}", tmp_path, **more)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("gymhost: 'text=\\u")
    assert line.endswith("' can't be read as UTF-8. Try: LC_ALL=C.UTF-8 gymhost ...")


@pytest.mark.parametrize("command", ["mcp-config toolbox", "list", "--help"])
def test_a_reader_that_has_gone_is_no_error(
    toolbox_server: Server, tmp_path: Path, command: str
) -> None:
    ran = run_shell(f"gymhost {command} | true", tmp_path, toolbox_server)
    assert "Traceback" not in ran.stderr
    assert "BrokenPipe" not in ran.stderr
    closed = run_shell(f"gymhost {command} >&-", tmp_path, toolbox_server)
    assert "Traceback" not in closed.stderr


def test_errors_that_nobody_reads_are_no_error(tmp_path: Path) -> None:
    ran = run_shell("gymhost key 2> >(true); echo $?", tmp_path)
    assert ran.stdout == "1\n"


def in_terminal(command: list[str], folder: Path, typed: str = "", **more: str) -> str:
    """Run a command in a terminal, and return what it shows."""
    path = f"{Path(GYMHOST).parent}{os.pathsep}{os.environ['PATH']}"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command,
        env=variables(folder, PATH=path, **more),
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how a terminal says that its other side has gone
            pass
        os.close(ours)
        process.wait(20)
    return shown.decode()


def test_no_color_leaves_no_escapes(tmp_path: Path) -> None:
    shown = in_terminal([GYMHOST, "list"], tmp_path, TERM="xterm", NO_COLOR="1")
    assert "weather" in shown
    assert "\x1b" not in shown


def test_a_tables_width_is_the_terminals(tmp_path: Path) -> None:
    shown = in_terminal([GYMHOST, "list"], tmp_path, TERM="xterm", COLUMNS="60")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.splitlines()]
    assert 50 < max(len(line) for line in lines) <= 60


# -- completion ------------------------------------------------------------------------------------


def test_bash_completes_what_is_typed_into_it(tmp_path: Path) -> None:
    # true: without it, bash would become the command that is to find it
    installed = run_shell("gymhost --install-completion; true", tmp_path, HOME=str(tmp_path))
    assert installed.stdout.startswith("bash completion installed in "), installed
    typed = [
        "gymhost k\t-h",
        "gymhost mcp-config wea\t--cl\tvsc\t--verify x --metadata x",
        "exit",
    ]
    shown = in_terminal(
        ["bash", "--noprofile", "-i"],
        tmp_path,
        "".join(f"{line}\n" for line in typed),
        HOME=str(tmp_path),
        TERM="dumb",
    )
    assert "Usage: gymhost key " in shown
    assert "gymhost mcp-config weather --client vscode --verify x" in shown
    assert "--verify: the session has its task already" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("gymhost conf", "config"),
        ("gymhost config s", "show"),
        ("gymhost call w", "weather"),
        ("gymhost mcp-config w", "weather"),
        ("gymhost mcp-config weather --client vs", "vscode"),
    ],
)
def test_each_shell_gets_commands_options_and_installed_environments(
    run: Run, monkeypatch: pytest.MonkeyPatch, shell: str, words: str, completed: str
) -> None:
    monkeypatch.setenv("_GYMHOST_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    ran = run()
    assert ran.code == 0
    first = ran.out.replace("_arguments '*: :((", "").replace('"', " ").replace("\t", " ").split()
    assert first[0] == completed


def test_completion_imports_neither_a_server_nor_a_plugin(tmp_path: Path) -> None:
    listing = (
        "import sys; print(*sorted({'mcp', 'hypercorn', 'starlette', 'httpx2'} & {*sys.modules}))"
    )
    (tmp_path / "sitecustomize.py").write_text(
        f"import atexit\natexit.register(lambda: exec({listing!r}))"
    )
    for words, more in [
        ("gymhost --help", {}),
        ("gymhost key", {"GYMHOST_API_KEY": "x"}),
        (
            "gymhost",
            {
                "_GYMHOST_COMPLETE": "complete_bash",
                "COMP_WORDS": "gymhost call w",
                "COMP_CWORD": "2",
            },
        ),
    ]:
        ran = run_shell(words, tmp_path, **more)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.splitlines()[-1] == ""


def test_a_log_stands_above_the_progress_of_rollouts(tmp_path: Path) -> None:
    (tmp_path / "gymhost.yaml").write_text(
        "agents: {mine: {type: scripted, mcp_config: {weather: {url: 'http://127.0.0.1:9/'}}}}\n"
    )
    command = [GYMHOST, "rollout", "weather", "--agent", "mine"]
    shown = in_terminal(command, tmp_path, TERM="xterm", NO_COLOR="1", COLUMNS="300")
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert any("/5" in line for line in lines)
    (warning,) = [line for line in lines if "has a server 'weather', too" in line]
    assert re.match(r"[0-9-]+ [0-9:,]+ WARNING gymhost.rollouts: ", warning)
    assert "\x1b[3" not in shown
