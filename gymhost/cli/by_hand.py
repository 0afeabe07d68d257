"""A session that a person plays: seed it, call its tools, score it."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from shlex import join

import anyio
import typer

from gymhost.cli.arguments import tool_arguments
from gymhost.cli.kept_sessions import LAST, KeptSession, find, keep, sessions_path
from gymhost.cli.output import error, line, note
from gymhost.cli.remote import (
    Remote,
    RemoteError,
    chosen_remote,
    connected,
    environment,
    stranger,
)
from gymhost.cli.task_files import chosen_task, instruction, parse_object
from gymhost.client import Client, Episode, ToolAnswer
from gymhost.errors import PluginLoadError
from gymhost.models import JSONObject, McpConnection, SeedAnswer, Task
from gymhost.plugins import check_name

__all__ = [
    "call",
    "check_environment",
    "chosen_remote",
    "chosen_task",
    "score",
    "seed",
    "whole_arguments",
]

FILES = {"claude": ".mcp.json", "cursor": ".cursor/mcp.json", "vscode": ".vscode/mcp.json"}


def check_environment(name: str) -> None:
    """Refuse what no environment can be named, and what another URL would be made of.

    Raises: typer.BadParameter.
    """
    try:
        check_name(name)
    except PluginLoadError as exc:
        raise typer.BadParameter(
            f"{name!r} is the name of no environment: those have lower-case ASCII letters, "
            "digits, '_' and '-'",
            param_hint="NAME",
        ) from exc


async def seed(remote: Remote, name: str, task: Task | None, client: str) -> None:
    """Seed a session; print the config for an agent, and what comes next.

    Raises: RemoteError.
    """
    async with connected(remote) as http:
        if not (await environment(http, name)).tools:
            raise RemoteError(f"{name} has no tools to give to an agent")
        seeded = await http.seed(name, task)
    mcp = _tools_of(seeded, remote)
    entry = {"type": "http", "url": mcp.url, "headers": mcp.headers}
    line(json.dumps({"servers" if client == "vscode" else "mcpServers": {name: entry}}, indent=2))
    _say_what_comes_next(remote, name, task, client, seeded)


def _tools_of(seeded: SeedAnswer, remote: Remote) -> McpConnection:
    if seeded.mcp is None:  # and yet it has said that there are tools
        raise stranger(remote)
    return seeded.mcp


def _say_what_comes_next(
    remote: Remote, name: str, task: Task | None, client: str, seeded: SeedAnswer
) -> None:
    note(f"session  {seeded.session_id}, until {_time(seeded.expires_at)} if it is not used before")
    note(f"agent    paste this into {FILES[client]}, and start it")
    note(f"task     {instruction(task) or 'whatever you ask it: none was given that says it'}")
    words = ["gymhost", "mcp-config", name, "--verify", "ANSWER"]
    words += ["--url", remote.url] if remote.named else []
    try:
        keep(KeptSession(url=remote.url, environment=name, seeded=seeded))
    except OSError as exc:
        error(f"the session can't be kept in {sessions_path()}: {exc.strerror}")
        words += ["--session", seeded.session_id]
    note(f"score    {join(words)}")


def _time(when: datetime) -> str:
    try:
        return when.astimezone().strftime("%H:%M")
    except (OverflowError, ValueError):  # the end of the year 9999, which is over here
        return when.strftime("%H:%M %Z")


async def score(remote: Remote, name: str, answer: str, session: str | None) -> None:
    """Score a session by the agent's last message, and print what the verifier says.

    Raises: RemoteError; typer.Exit: it has a reward that is not to be used.
    """
    kept = find(remote.url, name, session or LAST)
    if session in (None, LAST):
        if kept is None:
            raise RemoteError(_no_session(remote, name))
        session = kept.seeded.session_id
    assert session is not None
    async with connected(remote) as http:
        verdict = await http.verify(name, session, answer)
    if "reward" not in verdict:
        raise stranger(remote)
    for key, value in verdict.items():
        line(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    if verdict.get("mask_sample"):
        error("something failed in this session: leave its reward out")
        raise typer.Exit(1)


def _no_session(remote: Remote, name: str) -> str:
    return (
        f"no session of {name!r} at {remote.url} is known here: seed one with "
        f"`gymhost mcp-config {name}`, or name one with --session"
    )


def whole_arguments(text: str) -> JSONObject:
    """Return the arguments of `--args-json`.

    Raises: typer.BadParameter: it is no JSON object.
    """
    return parse_object(sys.stdin.buffer.read() if text == "-" else text, "--args-json")


async def call(
    remote: Remote,
    name: str,
    tool: str,
    arguments: JSONObject | list[str],
    task: Task | None,
    session: str | None,
    as_json: bool,
) -> None:
    """Call a tool, in a session of its own or a kept one, and print its answer.

    Raises: RemoteError; typer.BadParameter: words that are no arguments of the tool; typer.Exit:
    the tool answered with an error.
    """
    # here: it takes most of a second, and `mcp-config` does without
    from mcp import MCPError
    from mcp_types import REQUEST_TIMEOUT

    async with connected(remote) as http:
        tools = {each.name: each.schema_ for each in (await environment(http, name)).tools}
        if tool not in tools:
            known = ", ".join(sorted(tools)) or "none"
            raise RemoteError(f"{name} has no tool {tool!r}. Its tools: {known}")
        if isinstance(arguments, list):
            # in a thread: a schema can be made to take for ever, and Ctrl-C still ends the command
            arguments = await anyio.to_thread.run_sync(
                tool_arguments, tool, tools[tool], arguments, abandon_on_cancel=True
            )
        try:
            async with _episode(http, remote, name, task, session) as episode:
                answer = await episode.call_tool(tool, arguments)
        except (MCPError, RuntimeError) as exc:  # RuntimeError: an answer that is not as announced
            if isinstance(exc, MCPError) and exc.code == REQUEST_TIMEOUT:
                raise RemoteError(
                    f"the MCP endpoint of {name} at {remote.url} did not answer in time"
                ) from exc
            text = " ".join(str(exc).split())[:150]
            raise RemoteError(
                f"the MCP endpoint that {remote.url} names for {name} does not answer as one: "
                f"{text}. Check the server's public_url"
            ) from exc
    _print(answer, as_json)
    if answer.is_error:
        raise typer.Exit(1)


@asynccontextmanager
async def _episode(
    http: Client, remote: Remote, name: str, task: Task | None, session: str | None
) -> AsyncGenerator[Episode]:
    if session is None:
        seeded = await http.seed(name, task)
        try:
            async with http.resume(name, _reachable(seeded, remote)) as episode:
                yield episode
        finally:
            await http.close(name, seeded.session_id)
        return
    kept = find(remote.url, name, session)
    if kept is None:
        if session == LAST:
            raise RemoteError(_no_session(remote, name))
        raise RemoteError(
            f"the token of session {session!r} is not known here: only what `gymhost mcp-config "
            f"{name}` seeded can go on"
        )
    async with http.resume(name, _reachable(kept.seeded, remote)) as episode:
        yield episode


def _reachable(seeded: SeedAnswer, remote: Remote) -> SeedAnswer:
    """Return where this machine finds the tools: not by the public_url of its own server."""
    mcp = _tools_of(seeded, remote)
    if remote.named:
        return seeded
    here = f"{remote.url}/envs/{mcp.server_name}{mcp.url_path}"
    return seeded.model_copy(update={"mcp": mcp.model_copy(update={"url": here})})


def _print(answer: ToolAnswer, as_json: bool) -> None:
    if as_json:
        result = {
            "content": list(answer.content),
            "structuredContent": answer.structured_content,
            "isError": answer.is_error,
        }
        line(json.dumps({key: value for key, value in result.items() if value is not None}))
    elif answer.is_error:
        note(answer.text)
    else:
        line(answer.text)
        others = [str(block["type"]) for block in answer.content if "text" not in block]
        if others:
            note(f"and what is not text: {', '.join(others)}. See it with --json")
