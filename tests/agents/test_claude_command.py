from __future__ import annotations

from pathlib import Path

import pytest

from gymhost.agents.claude_command import ARGUMENT_LIMIT, ClaudeCommand
from gymhost.agents.instructions import Instruction

CONFIG = Path("/folder/mcp.json")


def arguments(text: str = "Go.", **options: object) -> list[str]:
    command = ClaudeCommand(**options)  # type: ignore[arg-type]
    return command.arguments(CONFIG, ["weather"], Instruction(None, text))[0]


def test_the_whole_command_line() -> None:
    tools = ("Read", "Bash(git *)")
    command = ClaudeCommand("opus", "Be brief.", 7, "dontAsk", tools, ("WebFetch",))
    asked = Instruction("Be kind.", "--help")
    assert command.arguments(CONFIG, ["weather", "my.time server"], asked) == (
        [
            "-p", "--output-format", "stream-json", "--verbose",
            "--strict-mcp-config", "--mcp-config", "/folder/mcp.json", "--model", "opus",
            "--allowedTools", "mcp__weather", "mcp__my_time_server", "Read", "Bash(git *)",
            "--disallowedTools", "WebFetch",
            "--append-system-prompt", "Be brief.\n\nBe kind.",
            "--max-turns", "7", "--permission-mode", "dontAsk", "--", "--help",
        ],
        None,
    )  # fmt: skip


def test_what_is_not_said_is_left_to_claude_code() -> None:
    assert arguments()[7:] == ["--allowedTools", "mcp__weather", "--", "Go."]


@pytest.mark.parametrize("text", ["/clear", " /clear the table", "/no-such-command"])
def test_an_instruction_is_no_slash_command(text: str) -> None:
    assert arguments(text)[-1] == f"\n{text}"


@pytest.mark.parametrize("text", ["é" * (ARGUMENT_LIMIT // 2 + 1), "a\0b"])
def test_what_can_be_no_argument_is_typed(text: str) -> None:
    line, typed = ClaudeCommand().arguments(CONFIG, [], Instruction(None, text))
    assert typed == text.encode()
    assert line[-1] == str(CONFIG)
    assert "--" not in line


def test_a_long_system_prompt_is_in_a_file(tmp_path: Path) -> None:
    text = "s" * (ARGUMENT_LIMIT + 1)
    line, _ = ClaudeCommand().arguments(tmp_path / "mcp.json", [], Instruction(text, "Go."))
    file = Path(line[line.index("--append-system-prompt-file") + 1])
    assert file.read_text() == text


def test_half_a_character_becomes_a_whole_one() -> None:
    assert arguments("a\ud800b")[-1] == "a?b"
