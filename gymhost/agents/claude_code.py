"""The `claude-code` agent: Claude Code attempts a task, as a process of its own."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pydantic_core
from anyio import to_thread

from gymhost.agents.base import AgentFailure, AgentRun, McpServers
from gymhost.agents.claude_command import ClaudeCommand
from gymhost.agents.claude_variables import check_names, redaction, variables
from gymhost.agents.instructions import Instruction, instruction
from gymhost.agents.processes import GRACE_SECONDS, Ended, run_program
from gymhost.agents.stream_json import StreamJson
from gymhost.models import Task

__all__ = ["ClaudeCode"]

NOT_A_PROGRAM = (errno.ENOENT, errno.EACCES, errno.ENOEXEC)


class ClaudeCode:
    """Claude Code with options. docs/agents.md says what each is, and what the process gets."""

    def __init__(
        self,
        *,
        model: str | None = None,
        executable: str = "claude",
        system_prompt: str | None = None,
        max_turns: int | None = None,
        permission_mode: str | None = None,
        allowed_tools: Sequence[str] = (),
        disallowed_tools: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        auth_token: str | None = None,
        pass_variables: Sequence[str] = (),
        grace: float = GRACE_SECONDS,
    ) -> None:
        """Take the options of gymhost.yaml, secrets as they are.

        Raises: ValueError: the agent would get a variable of gymhost's own.
        """
        check_names([*pass_variables, *(env or {})])
        self._executable = executable
        self._command = ClaudeCommand(
            model=model,
            system_prompt=system_prompt,
            max_turns=max_turns,
            permission_mode=permission_mode,
            allowed_tools=tuple(allowed_tools),
            disallowed_tools=tuple(disallowed_tools),
        )
        given = {
            "ANTHROPIC_API_KEY": api_key,
            "ANTHROPIC_BASE_URL": base_url,
            "ANTHROPIC_AUTH_TOKEN": auth_token,
        }
        self._env = {name: value for name, value in given.items() if value} | dict(env or {})
        self._passed = tuple(pass_variables)
        self._grace = grace

    async def run(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
        """Attempt a task. The CLI's home is a folder of this attempt, which is removed.

        Raises: AgentFailure.
        """
        asked = instruction(task)
        hide = redaction(self._env, mcp)
        reader = StreamJson(run, tuple(mcp))
        try:
            async with _folder() as folder:
                ended = await self._run_program(
                    folder, asked, mcp, lambda line: reader.feed(hide(line))
                )
        except OSError as exc:  # a full disk, too many processes
            message = f"Claude Code could not be started on this machine: {exc}"
            raise AgentFailure(message, "agent_error") from exc
        _judge(reader, ended, hide.text(ended.stderr))

    async def _run_program(
        self, folder: Path, asked: Instruction, mcp: McpServers, on_line: Callable[[bytes], bool]
    ) -> Ended:
        env = variables(folder, self._passed, self._env)
        program = self._find(env["PATH"])
        config = folder / "mcp.json"
        _write(config, pydantic_core.to_json({"mcpServers": dict(mcp)}))
        arguments, typed = self._command.arguments(config, mcp, asked)
        stdin = folder / "instruction"
        _write(stdin, typed or b"")
        with stdin.open("rb") as file:
            try:
                return await run_program(
                    [program, *arguments],
                    on_line,
                    env=env,
                    cwd=folder / "work",
                    stdin=file,
                    grace=self._grace,
                )
            except OSError as exc:
                if exc.errno not in NOT_A_PROGRAM:
                    raise
                message = f"{program} could not be started: {exc.strerror}"
                raise AgentFailure(message, "agent_not_found", terminal=True) from exc

    def _find(self, path: str) -> str:
        found = shutil.which(self._executable, path=path)
        if found is None:
            raise AgentFailure(
                f"there is no program {self._executable!r} on PATH. Try: npm install --global "
                "@anthropic-ai/claude-code, or the agent's option `executable`",
                "agent_not_found",
                terminal=True,
            )
        # its working folder is another one
        return str(Path(found).absolute())


def _judge(reader: StreamJson, ended: Ended, stderr: str) -> None:
    """Raise where there is nothing to score."""
    if reader.failure is not None:
        raise reader.failure
    if reader.finished and (ended.exit_code == 0 or reader.stopped_early):
        return
    why = stderr or reader.noise or "it printed nothing about it"
    if ended.exit_code != 0:
        raise AgentFailure(f"Claude Code ended with {ended.exit_code}: {why}", "agent_exit")
    raise AgentFailure(f"Claude Code ended without a result: {why}", "agent_protocol")


@asynccontextmanager
async def _folder() -> AsyncGenerator[Path]:
    """Make a folder that only this user can read (mkdtemp's are 0700); remove it at the end."""
    folder = TemporaryDirectory(prefix="gymhost-", ignore_cleanup_errors=True)
    try:
        path = Path(folder.name)
        for name in ("config", "home", "tmp", "work"):
            (path / name).mkdir()
        yield path
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(folder.cleanup)


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
