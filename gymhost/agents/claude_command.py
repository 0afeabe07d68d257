"""The command line of Claude Code for one attempt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gymhost.agents.instructions import Instruction

__all__ = ["ClaudeCommand", "allowed_servers"]

# Linux takes 128 KiB for one argument, its end included.
ARGUMENT_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class ClaudeCommand:
    """What of the command line is the same for each attempt."""

    model: str | None = None
    system_prompt: str | None = None
    max_turns: int | None = None
    permission_mode: str | None = None
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()

    def arguments(
        self, config: Path, servers: Iterable[str], asked: Instruction
    ) -> tuple[list[str], bytes | None]:
        """Return the arguments, and what to type where the instruction can't be one of them.

        The MCP configuration is in `config`; what else needs a file gets it beside that.
        """
        arguments = ["-p", "--output-format", "stream-json", "--verbose"]
        arguments += ["--strict-mcp-config", "--mcp-config", str(config)]
        if self.model:
            arguments += ["--model", self.model]
        # each list ends at the next option, or at the `--`
        if allowed := [*allowed_servers(servers), *self.allowed_tools]:
            arguments += ["--allowedTools", *allowed]
        if self.disallowed_tools:
            arguments += ["--disallowedTools", *self.disallowed_tools]
        if system := "\n\n".join(filter(None, [self.system_prompt, asked.system])):
            arguments += _system_prompt(system, config.with_name("system-prompt"))
        if self.max_turns is not None:
            arguments += ["--max-turns", str(self.max_turns)]
        if self.permission_mode:
            arguments += ["--permission-mode", self.permission_mode]
        text = asked.text
        if text.lstrip().startswith("/"):
            text = f"\n{text}"  # `/clear` at the very start would be a command, and no instruction
        if _fits(text):
            return [*arguments, "--", _clean(text)], None
        return arguments, _clean(text).encode()


def allowed_servers(servers: Iterable[str]) -> list[str]:
    """Return the rules that allow all tools of these MCP servers without asking."""
    return ["mcp__" + re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in servers]


def _system_prompt(text: str, path: Path) -> list[str]:
    if _fits(text):
        return ["--append-system-prompt", _clean(text)]
    path.write_bytes(_clean(text).encode())
    return ["--append-system-prompt-file", str(path)]


def _fits(text: str) -> bool:
    """Whether a text can be one argument of a command line."""
    return "\0" not in text and len(text.encode("utf-8", "replace")) <= ARGUMENT_LIMIT


def _clean(text: str) -> str:
    """Replace half characters, which can't be sent to anybody."""
    return text.encode("utf-8", "replace").decode()
