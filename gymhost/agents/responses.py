"""The agent `responses`: a model at an OpenAI-compatible endpoint, with tools over MCP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import anyio
import httpx2

from gymhost import __version__
from gymhost.agents.base import AgentFailure, AgentRun, McpServers, Usage
from gymhost.agents.chat_dialect import ChatDialect
from gymhost.agents.dialects import Dialect, FunctionCall, Turn, no_answer
from gymhost.agents.model_endpoint import ContextOverflow, ModelEndpoint
from gymhost.agents.responses_dialect import ResponsesDialect
from gymhost.agents.toolbox import Toolbox, open_toolbox
from gymhost.client import ToolAnswer
from gymhost.models import JSONObject, Task, finite_json

__all__ = ["ResponsesAgent"]

DIALECTS: dict[str, Callable[..., Dialect]] = {"responses": ResponsesDialect, "chat": ChatDialect}
NOT_THE_TASKS = frozenset(
    {"background", "conversation", "input", "model", "previous_response_id"}
    | {"stream", "stream_options", "tools"}
)
"""Of a task's `responses_create_params`: what is the agent's own business, or read elsewhere."""
NOT_A_PARAM = frozenset({"input", "messages", "model", "n", "stream", "tools"})
QUOTED = 500  # characters of wrong arguments


class ResponsesAgent:
    """A model, asked turn by turn, whose tool calls are made over MCP."""

    def __init__(
        self,
        *,
        model: str,
        base_url: str,
        api_key: str | None = None,
        dialect: Literal["responses", "chat"] = "responses",
        max_turns: int = 50,
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        system_prompt: str | None = None,
        timeout: float = 600.0,
        attempts: int = 6,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the model's name and the endpoint's URL, as far as `/v1`.

        `timeout` is seconds, of one attempt at one model call; `attempts` of them are made where
        the endpoint is busy. What an option leaves open is as the task's
        `responses_create_params` say. `params` are further fields of the request, in the
        dialect's own words.

        Raises: ValueError: an option that can't be used.
        """
        if dialect not in DIALECTS:
            raise ValueError(f"dialect must be 'responses' or 'chat', not {dialect!r}")
        if max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, not {max_turns}")
        self._params = dict(params or {})
        if taken := sorted(NOT_A_PARAM & self._params.keys()):
            raise ValueError(f"params can't have {', '.join(taken)}")
        try:
            finite_json(self._params)
        except (TypeError, ValueError) as exc:
            raise ValueError(f"params must be JSON: {exc}") from exc
        self._endpoint = ModelEndpoint(base_url, api_key, timeout=timeout, attempts=attempts)
        self._dialect = DIALECTS[dialect]
        self._model = model
        self._max_turns = max_turns
        self._options: dict[str, Any] = {
            "model": model,
            "max_output_tokens": max_output_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "instructions": system_prompt,
        }

    async def run(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
        """Attempt a task, and note in `run` what is done, as it is done.

        Raises: AgentFailure: there is nothing to score.
        """
        run.model = self._model
        run.versions["gymhost"] = __version__
        items = _input(task)
        async with open_toolbox(mcp) as toolbox, self._endpoint.open() as http:
            tools = [*toolbox.definitions, *_own_tools(task, toolbox)]
            dialect = self._dialect(items, self._fields(task), tools, self._params)
            while run.stop_reason is None:
                await self._take_turn(dialect, toolbox, http, run)

    def _fields(self, task: Task) -> JSONObject:
        """Return the request's fields: the task's, and the options over them."""
        given = {**task.responses_create_params}
        given |= {key: value for key, value in self._options.items() if value is not None}
        return {
            key: value
            for key, value in given.items()
            if value is not None and (key not in NOT_THE_TASKS or key == "model")
        }

    async def _take_turn(
        self, dialect: Dialect, toolbox: Toolbox, http: httpx2.AsyncClient, run: AgentRun
    ) -> None:
        try:
            answer = await self._endpoint.post(http, dialect.path, dialect.request())
        except ContextOverflow:
            if not run.turns:
                raise
            run.stop_reason = "context_length"  # the agent's own doing
            return
        turn = dialect.read(answer)
        _note(turn, toolbox, run)
        if turn.calls and not turn.is_cut:
            await _call_tools(turn.calls, dialect, toolbox, run)
            if run.turns >= self._max_turns:
                run.stop_reason = "max_turns"
        else:
            run.stop_reason = turn.stop_reason


def _input(task: Task) -> list[JSONObject]:
    """Return the task's input items.

    Raises: AgentFailure: there are none.
    """
    given = task.responses_create_params.get("input")
    if isinstance(given, str) and given:
        return [{"role": "user", "content": given}]
    if isinstance(given, list) and given and all(isinstance(item, dict) for item in given):
        return given
    message = "the task asks nothing: its responses_create_params.input is no text and no messages"
    raise AgentFailure(message, "invalid_task", terminal=True)


def _own_tools(task: Task, toolbox: Toolbox) -> list[JSONObject]:
    """Return the tools that the task itself brings, as web search, but for those over MCP."""
    tools = task.responses_create_params.get("tools") or []
    return [
        tool
        for tool in tools
        if isinstance(tool, dict) and not toolbox.has(str(tool.get("name", "")))
    ]


def _note(turn: Turn, toolbox: Toolbox, run: AgentRun) -> None:
    """Add a turn to the record.

    Raises: AgentFailure: it has what a record can't.
    """
    try:
        finite_json(turn.items)
    except ValueError as exc:  # a number beyond all floats
        raise no_answer(f"can't be kept: {exc}") from exc
    for item in turn.items:
        if item.get("type") == "function_call":
            item["name"] = toolbox.full_name(item["name"])
            if turn.is_cut:
                item["status"] = "incomplete"
    run.output += turn.items
    run.turns += 1
    run.model = turn.model or run.model
    _add(run.usage, turn.usage)


def _add(usage: Usage, more: Usage) -> None:
    usage.input_tokens += more.input_tokens
    usage.output_tokens += more.output_tokens
    usage.cached_input_tokens += more.cached_input_tokens


async def _call_tools(
    calls: Sequence[FunctionCall], dialect: Dialect, toolbox: Toolbox, run: AgentRun
) -> None:
    """Make calls, all at once; what they came to is noted in their order, however this ends.

    Raises: AgentFailure.
    """
    answers: dict[str, ToolAnswer] = {}
    failures: list[AgentFailure] = []

    async def make(call: FunctionCall) -> None:
        try:
            answers[call.call_id] = await _answer(call, toolbox)
        except AgentFailure as exc:
            failures.append(exc)

    try:
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(make, call)
    finally:
        _note_outputs(calls, answers, run)
    if failures:
        raise failures[0]
    for call in calls:
        dialect.answer(call, answers[call.call_id].text)


async def _answer(call: FunctionCall, toolbox: Toolbox) -> ToolAnswer:
    if call.arguments is None:
        text = f"The arguments are not a JSON object: {call.raw_arguments[:QUOTED]}"
        return ToolAnswer(text, is_error=True)
    return await toolbox.call(call.name, call.arguments)


def _note_outputs(
    calls: Sequence[FunctionCall], answers: Mapping[str, ToolAnswer], run: AgentRun
) -> None:
    unanswered = {call.call_id for call in calls} - answers.keys()
    for item in run.output:
        if item.get("type") == "function_call" and item["call_id"] in unanswered:
            item["status"] = "incomplete"
    for call in calls:
        if call.call_id in answers:
            answer = answers[call.call_id]
            item = {"type": "function_call_output", "call_id": call.call_id, "output": answer.text}
            # the API has no field for it, and our verifiers know this one
            run.output.append({**item, "is_error": True} if answer.is_error else item)
