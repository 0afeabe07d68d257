"""Read what `claude -p --output-format stream-json` prints into an AgentRun, line by line."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pydantic_core

from gymhost.agents.base import AgentFailure, AgentRun
from gymhost.agents.claude_items import Items, blocks_of
from gymhost.models import JSONObject

__all__ = ["OUTPUT_LIMIT", "StreamJson"]

OUTPUT_LIMIT = 64 * 2**20
"""The lines of a trajectory, in bytes together: verify takes no longer one."""
NOISE_LIMIT = 2000  # characters

# They would fail again the same way: a key, a bill, a name that is wrong.
TERMINAL_ERRORS = ("authentication_failed", "billing_error", "model_not_found")
TERMINAL_STATUSES = (401, 402, 403, 404)

NO_LOGIN = "It sees no login of yours: give the agent the option api_key or auth_token"


class StreamJson:
    """What one run of the CLI prints. What is not known here is passed over."""

    def __init__(self, run: AgentRun, servers: Collection[str] = ()) -> None:
        self.failure: AgentFailure | None = None
        """Why there is nothing to score. What comes after it does not matter."""
        self.finished = False
        """Whether the CLI has said that it is done, and there is something to score."""
        self.stopped_early = False
        """Whether that is because of a limit: the CLI's exit code is then not 0."""
        self.noise = ""
        """The last line that was no event: often the reason that it ended."""
        self._run = run
        self._servers = servers
        self._items = Items(run.output)
        self._usages: dict[str, JSONObject] = {}
        self._error: JSONObject = {}
        self._size = 0

    def feed(self, line: bytes) -> bool:
        """Take a line; return whether another one is wanted."""
        try:
            # by way of JSON's own rules: no NaN, which no row could have
            event = pydantic_core.from_json(line, allow_inf_nan=False)
        except ValueError:
            event = None
        if isinstance(event, dict):
            self._take(event, len(line))
        elif line.strip():
            self.noise = line[:NOISE_LIMIT].decode("utf-8", "replace").strip()
        return self.failure is None

    def _take(self, event: JSONObject, size: int) -> None:
        match event.get("type"):
            case "system" if event.get("subtype") == "init":
                self._begin(event)
            case "assistant" | "user" as role:
                self._size += size
                if self._size > OUTPUT_LIMIT:
                    message = f"the trajectory is longer than {OUTPUT_LIMIT >> 20} MiB"
                    self.failure = AgentFailure(message, "agent_protocol")
                elif role == "user":
                    self._items.add_results(event)
                else:
                    self._answer(event)
            case "result":
                self._end(event)
            case _:
                pass

    def _begin(self, event: JSONObject) -> None:
        self._run.model = _text(event.get("model")) or self._run.model
        version = _text(event.get("claude_code_version"))
        if version:
            self._run.versions["claude-code"] = version
        listed = event.get("mcp_servers")
        if not isinstance(listed, list):  # before there was such a list
            return
        states = {each.get("name"): each.get("status") for each in listed if isinstance(each, dict)}
        lost = [f"{name} is {states.get(name, 'unknown')}" for name in self._servers
                if states.get(name) != "connected"]  # fmt: skip
        if lost:
            # The agent would go on without these tools, and be scored for it.
            message = f"Claude Code could not connect to its MCP servers: {', '.join(lost)}"
            self.failure = AgentFailure(message, "mcp_error")

    def _answer(self, event: JSONObject) -> None:
        message = event.get("message")
        if not isinstance(message, dict):
            return
        if message.get("model") == "<synthetic>" or event.get("error"):
            self._error = event  # the CLI's own words, not the model's
            return
        self._items.add_answer(event)
        message_id = _text(message.get("id"))
        if message_id:  # each of its blocks is an event of its own, and has the message's usage
            self._usages[message_id] = _object(message.get("usage"))
            self._run.turns = len(self._usages)
            self._count(list(self._usages.values()))

    def _count(self, usages: list[JSONObject]) -> None:
        """Count tokens. Never fewer than before.

        A message's own usage is what was known when it began, with next to no output tokens. The
        whole is in the result alone; it replaces the sum, and isn't added to it.
        """
        usage = self._run.usage
        cached = sum(_number(each, "cache_read_input_tokens") for each in usages)
        written = sum(_number(each, "cache_creation_input_tokens") for each in usages)
        fresh = sum(_number(each, "input_tokens") for each in usages)
        output = sum(_number(each, "output_tokens") for each in usages)
        usage.input_tokens = max(usage.input_tokens, fresh + cached + written)
        usage.cached_input_tokens = max(usage.cached_input_tokens, cached)
        usage.output_tokens = max(usage.output_tokens, output)

    def _end(self, event: JSONObject) -> None:
        run = self._run
        self._count(_usages_of(event))
        cost = event.get("total_cost_usd")
        run.cost_usd = float(cost) if isinstance(cost, int | float) else run.cost_usd
        subtype = _text(event.get("subtype")) or ""
        if subtype.startswith("error_max_"):  # what was done by then is scored as it is
            run.stop_reason = subtype.removeprefix("error_")
            self.stopped_early = True
        else:
            run.stop_reason = _text(event.get("stop_reason"))
            if event.get("is_error") or subtype != "success":
                self.failure = self._failure_of(event, subtype)
                return
        if not self._usages:
            # as after `/clear`: nobody has attempted the task
            message = f"Claude Code did not ask the model: {_words(event, self._error)}"
            self.failure = AgentFailure(message, "agent_protocol")
        self.finished = self.failure is None

    def _failure_of(self, event: JSONObject, subtype: str) -> AgentFailure:
        status = event.get("api_error_status") or self._error.get("api_error_status")
        kind = self._error.get("error")
        words = _words(event, self._error)
        if subtype != "success" and not kind:
            return AgentFailure(f"Claude Code failed: {subtype}: {words}", "agent_error")
        if status == 429 or kind == "rate_limit":
            return AgentFailure(words, "model_rate_limited")
        if "timed out" in words:
            return AgentFailure(words, "model_timeout")
        terminal = status in TERMINAL_STATUSES or kind in TERMINAL_ERRORS
        if "/login" in words:  # what it advises is of no use here
            words += f". {NO_LOGIN}"
        return AgentFailure(words, "model_error", terminal=terminal)


def _usages_of(result: JSONObject) -> list[JSONObject]:
    """Return the usage of each model: of all calls, those of sub-agents too."""
    names = {
        "input_tokens": "inputTokens",
        "output_tokens": "outputTokens",
        "cache_read_input_tokens": "cacheReadInputTokens",
        "cache_creation_input_tokens": "cacheCreationInputTokens",
    }
    models = [_object(each) for each in _object(result.get("modelUsage")).values()]
    if models:
        return [{name: each.get(theirs) for name, theirs in names.items()} for each in models]
    return [_object(result.get("usage"))]


def _words(result: JSONObject, error: JSONObject) -> str:
    """Return what the CLI says about a failure."""
    said = _text(result.get("result")) or "".join(
        _text(block.get("text")) or "" for block in blocks_of(error)
    )
    errors = result.get("errors")
    more = [str(each) for each in errors] if isinstance(errors, list) else []
    return "; ".join(filter(None, [said, *more]))[:NOISE_LIMIT] or "it does not say why"


def _object(value: Any) -> JSONObject:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(usage: JSONObject, name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
