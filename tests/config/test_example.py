"""The configuration in the documents, loaded; and its table, held to the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gymhost.config import ConfigError, load_settings
from gymhost.config.environment import EnvironmentConfig
from gymhost.config.settings import TABLE, AgentSettings, EnvironmentSettings, Settings
from gymhost.config.text import plain
from gymhost.limits import Limits
from gymhost.rollouts.mcp_config import read_servers

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "gymhost.yaml"
DOCUMENT = (ROOT / "docs" / "config.md").read_text("utf-8")


def test_the_example_is_what_it_says() -> None:
    variables = {"TRAINER_KEY": "of-a-trainer", "ANTHROPIC_API_KEY": "of-a-model"}
    settings = load_settings(EXAMPLE, {}, variables)
    assert (settings.host, settings.public_url) == ("0.0.0.0", "https://gym.example")
    assert [key.get_secret_value() for key in settings.keys] == ["of-a-trainer"]
    assert settings.environment_configs() == {
        "weather": EnvironmentConfig(options={"unit": "C"}),
        "weather-in-fahrenheit": EnvironmentConfig(
            "weather", {}, Limits(open_sessions=100, tool_seconds=5), "report"
        ),
    }
    assert settings.environments["weather"].datasets == {"train": "data/train.jsonl"}
    coder = settings.agents["coder"]
    assert (coder.type, plain(coder.options)["api_key"]) == ("claude-code", "of-a-model")
    assert read_servers(coder.mcp_config).keys() == {"time"}
    assert settings.extensions == {"reward_log": {"path": "rewards.jsonl"}}
    assert settings.blocked == ("broken-world",)


def test_the_document_has_the_example() -> None:
    assert f"<!-- docs/examples/gymhost.yaml -->\n```yaml\n{EXAMPLE.read_text()}```" in DOCUMENT


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_every_setting_is_in_the_document_with_its_variable_flag_and_default() -> None:
    found = {row[0]: row[1:4] for row in rows("Settings")}
    assert found.keys() == Settings.model_fields.keys()
    for name, (variable, flag, default) in found.items():
        row = TABLE.get(name)
        assert (variable, flag) == ((row.variable, row.flag or "") if row else ("", ""))
        if default:
            assert str(getattr(Settings(), name)).removesuffix(".0").lower() == default


def test_every_key_of_an_environment_is_in_the_document() -> None:
    assert [row[0] for row in rows("Environments")] == list(EnvironmentSettings.model_fields)


def test_every_key_of_an_agent_is_in_the_document() -> None:
    assert [row[0] for row in rows("Agents")] == list(AgentSettings.model_fields)


def test_the_mistakes_in_the_document_are_said_so(tmp_path: Path) -> None:
    text = "\n" * 11 + "environments: {weather: {limits: {tool_secs: 1}}}\n\n\n"
    text += "keys: ['${TRAINER_KEY}']\n\n\n\n\n\nbackend: on\n"
    (tmp_path / "gymhost.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {}, {"GYMHOST_PORT": "http"})  # of the working folder
    said = [f"gymhost: {each}" for each in caught.value.problems]
    (block,) = re.findall(r"```text\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block.splitlines() == said
