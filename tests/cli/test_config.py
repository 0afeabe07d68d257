"""`gymhost config show`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run

FILE = """\
# a comment
port: ${PORT}
public_url: https://${HOST_NAME}
keys: [hunter22, '${KEY}']
environments:
  weather:
    config:
      unit: C
      api_key: hunter22
      pins: {password: 1234, plain: 1234}
      headers: {Authorization: Bearer hunter22, author: Ann}
      through: a ${KEY} b
      database: postgres://user:hunter22@host/name
      mirror: postgres://user:hun@ter?22/hunter22@host/name
      cities: [Paris, Rome]
      nothing:
    limits:
      threads: ${THREADS}
      tool_seconds: 5
    on_failure: ${ON_FAILURE}
  token-world:
extensions:
  log:
    path: rewards.jsonl
    secret_token: hunter22
    through: ['${KEY}']
blocked: [broken, '${BLOCKED}']
agents:
  coder:
    type: claude-code
    options: {model: '${KEY}', api_key: hunter22, turns: 3}
    mcp_config:
      mine: {url: 'https://mine.example', headers: {X-Mine: hunter22}}
      local: {command: server, env: {MODE: hunter22}}
  plain: {mcp_config: mcp.json}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gymhost.yaml"
    path.write_text(FILE)
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("HOST_NAME", "gym.example")
    monkeypatch.setenv("THREADS", "3")
    monkeypatch.setenv("ON_FAILURE", "report")
    monkeypatch.setenv("BLOCKED", "other")
    monkeypatch.setenv("KEY", "hunter22")
    return path


def test_it_shows_what_is_in_force_and_where_from(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYMHOST_GRACE", "3")
    ran = run("config", "show", "--backend", "trio", "--strict")
    assert (ran.code, ran.err) == (0, "")
    assert ran.rows == [
        ["SETTING", "VALUE", "FROM"],
        ["config", "gymhost.yaml", "the working folder"],
        ["host", "127.0.0.1", "default"],
        ["port", "9000", "gymhost.yaml:2 (${PORT})"],
        ["backend", "trio", "--backend"],
        ["server", "hypercorn", "default"],
        ["public_url", "https://gym.example", "gymhost.yaml:3 (${HOST_NAME})"],
        ["keys.0", "***", "gymhost.yaml:4"],
        ["keys.1", "***", "gymhost.yaml:4 (${KEY})"],
        ["store", "memory://", "default"],
        ["keep_trajectories", "false", "default"],
        ["log_format", "text", "default"],
        ["grace", "3.0", "GYMHOST_GRACE"],
        ["strict", "true", "--strict"],
        ["mcp_allowed_hosts", "-", "default"],
        ["environments.weather.config.unit", "C", "gymhost.yaml:8"],
        ["environments.weather.config.api_key", "***", "gymhost.yaml:9"],
        ["environments.weather.config.pins.password", "***", "gymhost.yaml:10"],
        ["environments.weather.config.pins.plain", "1234", "gymhost.yaml:10"],
        ["environments.weather.config.headers.Authorization", "***", "gymhost.yaml:11"],
        ["environments.weather.config.headers.author", "Ann", "gymhost.yaml:11"],
        ["environments.weather.config.through", "***", "gymhost.yaml:12 (${KEY})"],
        ["environments.weather.config.database", "postgres://***@host/name", "gymhost.yaml:13"],
        ["environments.weather.config.mirror", "postgres://***@host/name", "gymhost.yaml:14"],
        ["environments.weather.config.cities.0", "Paris", "gymhost.yaml:15"],
        ["environments.weather.config.cities.1", "Rome", "gymhost.yaml:15"],
        ["environments.weather.config.nothing", "-", "gymhost.yaml:16"],
        ["environments.weather.limits.threads", "3", "gymhost.yaml:18 (${THREADS})"],
        ["environments.weather.limits.tool_seconds", "5.0", "gymhost.yaml:19"],
        ["environments.weather.on_failure", "report", "gymhost.yaml:20 (${ON_FAILURE})"],
        ["environments.token-world", "-", "gymhost.yaml:21"],
        ["agents.coder.type", "claude-code", "gymhost.yaml:30"],
        ["agents.coder.options.model", "***", "gymhost.yaml:31 (${KEY})"],
        ["agents.coder.options.api_key", "***", "gymhost.yaml:31"],
        ["agents.coder.options.turns", "3", "gymhost.yaml:31"],
        ["agents.coder.mcp_config.mine.url", "https://mine.example", "gymhost.yaml:33"],
        ["agents.coder.mcp_config.mine.headers.X-Mine", "***", "gymhost.yaml:33"],
        ["agents.coder.mcp_config.local.command", "server", "gymhost.yaml:34"],
        ["agents.coder.mcp_config.local.env.MODE", "***", "gymhost.yaml:34"],
        ["agents.plain.mcp_config", "mcp.json", "gymhost.yaml:35"],
        ["only", "false", "default"],
        ["extensions.log.path", "rewards.jsonl", "gymhost.yaml:24"],
        ["extensions.log.secret_token", "***", "gymhost.yaml:25"],
        ["extensions.log.through.0", "***", "gymhost.yaml:26 (${KEY})"],
        ["blocked.0", "broken", "gymhost.yaml:27"],
        ["blocked.1", "other", "gymhost.yaml:27 (${BLOCKED})"],
    ]
    assert "hunter22" not in ran.out


def test_without_a_file_it_shows_the_defaults(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GYMHOST_API_KEY", "hunter22")
    ran = run("config", "show", "--no-strict", "--port", "0")
    assert ran.code == 0
    assert ["config", "-", "default"] in ran.rows
    assert ["keys.0", "***", "GYMHOST_API_KEY"] in ran.rows
    assert ["strict", "false", "--strict"] in ran.rows
    assert ["port", "0", "--port"] in ran.rows
    assert ["environments", "-", "default"] in ran.rows


def test_a_public_url_of_a_variable_is_shown(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYMHOST_PUBLIC_URL", "https://other.example/")
    ran = run("config", "show", "--config", str(config))
    assert ["public_url", "https://other.example", "GYMHOST_PUBLIC_URL"] in ran.rows
    assert ["config", str(config), "--config"] in ran.rows


def test_a_store_that_came_through_a_reference_is_masked(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("store: ${STORE}\n")
    monkeypatch.setenv("STORE", "memory://")
    assert ["store", "***", "gymhost.yaml:1 (${STORE})"] in run("config", "show").rows
    monkeypatch.setenv("GYMHOST_STORE", "memory://")
    assert ["store", "memory://", "GYMHOST_STORE"] in run("config", "show").rows


def test_a_bad_name_of_an_environment_is_a_line(run: Run, config: Path) -> None:
    config.write_text("environments:\n  Bad Name: {}\n")
    ran = run("config", "show")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "gymhost: gymhost.yaml:2: environments.Bad Name: 'Bad Name' can't be mounted: use "
        "lower-case ASCII letters, digits, '_' and '-'\n"
    )


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    ran = run("config")
    assert ran.code == 2
    assert "show" in ran.out + ran.err
