from __future__ import annotations

from pathlib import Path

import pytest

from gymhost.agents.claude_variables import check_names, redaction, variables

FOLDER = Path("/folder")
KEY = "the-control-key"


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GYMHOST_API_KEY": KEY,
        "ANTHROPIC_API_KEY": "the-developer's-own",
        "AWS_SECRET_ACCESS_KEY": "of-something-else",
        "HOME": "/home/somebody",
        "XDG_CONFIG_HOME": "/home/somebody/.config",
        "LC_TIME": "de_DE.UTF-8",
        "https_proxy": "http://proxy:3128",
        "EDITOR": "vi",
        "PATH": "/bin",
    }.items():
        monkeypatch.setenv(name, value)


def test_only_a_named_list_is_passed_on() -> None:
    found = variables(FOLDER, (), {})
    assert {found[name] for name in ("LC_TIME", "https_proxy", "PATH")} == {
        "de_DE.UTF-8",
        "http://proxy:3128",
        "/bin",
    }
    gone = {"GYMHOST_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "EDITOR"}
    assert not (gone | {"XDG_CONFIG_HOME"}) & found.keys()


def test_everything_personal_is_in_the_folder_of_the_attempt() -> None:
    found = variables(FOLDER, ("HOME",), {})
    places = ("HOME", "TMPDIR", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_TMPDIR")
    assert {Path(found[name]).parent for name in places} == {FOLDER}


def test_telemetry_and_updates_are_off() -> None:
    found = variables(FOLDER, (), {})
    for name in ("DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER", "DISABLE_ERROR_REPORTING"):
        assert found[name] == "1"


def test_the_configuration_adds_variables_and_passes_more_on() -> None:
    found = variables(FOLDER, ("EDITOR",), {"MCP_TIMEOUT": "1000"})
    assert (found["EDITOR"], found["MCP_TIMEOUT"]) == ("vi", "1000")


@pytest.mark.parametrize("name", ["GYMHOST_API_KEY", "gymhost_api_key", "GYMHOST_CONFIG"])
def test_a_variable_of_gymhost_is_never_passed_on(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is never"):
        check_names(["EDITOR", name])


def test_what_is_named_like_a_secret_is_hidden() -> None:
    env = {"ANTHROPIC_API_KEY": "sk-12345678", "MCP_TIMEOUT": "1000000000"}
    mcp = {
        "a": {"headers": {"Authorization": "Bearer abcdefgh", "Accept": "application/json"}},
        "b": {"command": "b", "env": {"PASSWORD": "sk-12345678-and-more", "N_TOKENS": 5}},
        "c": {"command": "c", "env": None},
    }
    text = b"sk-12345678-and-more sk-12345678 abcdefgh application/json 1000000000"
    assert redaction(env, mcp)(text) == b"*** *** *** application/json 1000000000"
