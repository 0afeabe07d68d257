"""How the command line is used: help, versions, mistakes and exit codes."""

import pytest

import gymhost
from tests.cli.conftest import Run


def test_help_names_every_command(run: Run) -> None:
    for option in ("--help", "-h"):
        ran = run(option)
        assert ran.code == 0
        for command in ("serve", "list", "check", "key"):
            assert f" {command} " in ran.out


@pytest.mark.parametrize("command", ["serve", "list", "check", "key"])
def test_every_command_has_help(run: Run, command: str) -> None:
    ran = run(command, "-h")
    assert ran.code == 0
    assert f"Usage: gymhost {command}" in ran.out


def test_without_arguments_the_help_is_shown_and_it_is_a_wrong_use(run: Run) -> None:
    ran = run()
    assert ran.code == 2
    assert "Usage: gymhost" in ran.out + ran.err


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
        ["key", "--new"],
        ["sevre"],
    ],
)
def test_a_wrong_use_is_exit_code_two(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert "Usage: gymhost" in ran.err
    assert "Traceback" not in ran.err
