"""An async client of gymhost's own API: seed an episode, call its tools over MCP, verify."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

import anyio
import httpx2
from pydantic import ValidationError

from gymhost.control_key import find_key
from gymhost.errors import GymhostError
from gymhost.models import JSONObject, McpConnection, SeedAnswer, Task

if TYPE_CHECKING:
    import mcp

__all__ = [
    "UNLIMITED",
    "ApiError",
    "Client",
    "Episode",
    "McpMode",
    "ToolAnswer",
    "answer_item",
    "call_items",
]

McpMode = Literal["auto", "legacy"]
"""`auto` speaks 2026-07-28 where the server does; `legacy` begins with `initialize`."""

logger = logging.getLogger("gymhost.client")

READ_SECONDS = 600  # how long an answer may take
TIMEOUT = httpx2.Timeout(30, read=READ_SECONDS)
# hundreds of attempts at once wait for as many answers; httpx's own limit is 100 connections
UNLIMITED = httpx2.Limits(max_connections=None, max_keepalive_connections=None)


class ApiError(GymhostError):
    """The control plane answered with an error: this is no reward."""

    def __init__(
        self, status: int, problem: Mapping[str, Any], retry_after: float | None = None
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        """Seconds, where the server says when to try again."""
        self.failure_kind: str | None = problem.get("failure_kind")
        self.problem = problem
        kind = f" {self.failure_kind}" if self.failure_kind else ""
        super().__init__(f"{status}{kind}: {problem.get('detail')}")


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What an agent gets back from a tool."""

    text: str
    is_error: bool
    structured_content: JSONObject | None = None
    content: Sequence[JSONObject] = ()
    """MCP's content blocks, of which `text` has the texts."""


class Client:
    """The control plane of one server. Use it as `async with Client(...) as client:`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Without a `key`, take the one of `GYMHOST_API_KEY`.

        For a server on this machine, the one minted for this user will do, too.
        """
        self._key = key if key is not None else find_key(host=httpx2.URL(url).host)
        self._transport = transport
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        self._http = httpx2.AsyncClient(
            base_url=url.rstrip("/"),
            headers=headers,
            timeout=TIMEOUT,
            limits=UNLIMITED,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def environments(self) -> JSONObject:
        """Return what is served, and what failed and why.

        Raises: ApiError.
        """
        return await self.request("GET", "/envs")

    async def environment(self, name: str) -> JSONObject:
        """Return one environment: its tools, limits and counts.

        Raises: ApiError.
        """
        return await self.request("GET", _path(name))

    async def session(self, session_id: str) -> JSONObject:
        """Return a session's record.

        Raises: ApiError.
        """
        return await self.request("GET", f"/sessions/{quote(session_id, safe='')}")

    @asynccontextmanager
    async def episode(
        self, name: str, task: Task | None = None, *, mcp_mode: McpMode = "auto"
    ) -> AsyncGenerator[Episode]:
        """Seed a session and connect to its tools. One that is not verified is closed at the end.

        Raises: ApiError; httpx2.HTTPError: the server could not be reached.
        """
        seeded = await self.seed(name, task)
        verified = False
        try:
            async with self.resume(name, seeded, task, mcp_mode=mcp_mode) as episode:
                try:
                    yield episode
                finally:
                    verified = episode.verified
        finally:
            if not verified:
                await self.close(name, seeded.session_id)

    @asynccontextmanager
    async def resume(
        self,
        name: str,
        seeded: SeedAnswer,
        task: Task | None = None,
        *,
        mcp_mode: McpMode = "auto",
    ) -> AsyncGenerator[Episode]:
        """Connect to the tools of a session that was seeded before. It stays open at the end.

        Raises: httpx2.HTTPError: the server could not be reached; mcp.MCPError: what it names does
        not speak MCP, or did not answer in ten minutes.
        """
        episode = Episode(self, name, task or Task(), seeded)
        error: BaseException | None = None
        try:
            async with AsyncExitStack() as stack:
                if seeded.mcp is not None:
                    episode.mcp = await stack.enter_async_context(
                        self._connect(seeded.mcp, mcp_mode)
                    )
                try:
                    yield episode
                except BaseException as exc:
                    error = exc
                    raise
        except BaseExceptionGroup as group:
            bare = _bare(group, error)
            raise bare from bare.__cause__

    async def close(self, name: str, session_id: str) -> None:
        """Close a session. Where that fails, the log says so, and the session expires by itself."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(10):
            try:
                await self.request(
                    "POST", f"{_path(name)}/close_session", {"session_id": session_id}
                )
            except (ApiError, httpx2.HTTPError) as exc:
                logger.warning("session %s could not be closed: %s", session_id, exc)

    async def seed(
        self, name: str, task: Task | None = None, *, idempotency_key: str | None = None
    ) -> SeedAnswer:
        """Start a session.

        Raises: ApiError.
        """
        # A reference solves the task: it stays here.
        row = {key: value for key, value in (task or Task()).to_row().items() if key != "reference"}
        headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
        answer = await self.request("POST", f"{_path(name)}/seed_session", row, headers=headers)
        try:
            # by way of JSON, which refuses half a character that no later request could send
            return SeedAnswer.model_validate_json(json.dumps(answer))
        except ValidationError as exc:  # some other server's
            raise ApiError(200, {"detail": str(answer)[:500]}) from exc

    async def verify(
        self,
        name: str,
        session_id: str,
        answer: str | None = None,
        *,
        output: Sequence[JSONObject] = (),
    ) -> JSONObject:
        """Score a session: an `output` of Responses API items, and a final `answer`.

        Raises: ApiError: no score; the error says whether to leave the sample out.
        """
        items = list(output)
        if answer is not None:
            items.append(answer_item(answer))
        return await self.request(
            "POST",
            f"{_path(name)}/verify",
            {"session_id": session_id, "response": {"output": items}},
            headers={"prefer": "return=minimal"},
        )

    async def verify_body(self, name: str, body: bytes) -> JSONObject:
        """Score by a verify body: the same bytes get the same answer, however often they are sent.

        Raises: ApiError: no score; the error says whether to leave the sample out.
        """
        headers = {"prefer": "return=minimal", "content-type": "application/json"}
        return await self.request("POST", f"{_path(name)}/verify", body, headers=headers)

    @asynccontextmanager
    async def _connect(
        self, connection: McpConnection, mode: McpMode
    ) -> AsyncGenerator[mcp.Client]:
        # here: it takes most of a second to import, and the control plane does without
        import mcp
        from mcp.client.streamable_http import streamable_http_client

        async with httpx2.AsyncClient(
            headers=connection.headers, timeout=TIMEOUT, transport=self._transport
        ) as http:
            transport = streamable_http_client(connection.url, http_client=http)
            # of its own: HTTP's does not see an answer that never comes while others do
            async with mcp.Client(
                transport, mode=mode, read_timeout_seconds=READ_SECONDS
            ) as client:
                yield client

    async def request(
        self,
        method: str,
        path: str,
        body: JSONObject | bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> JSONObject:
        """Send a control-plane request and return its JSON answer. Bytes are sent as they are.

        Raises: ApiError; httpx2.HTTPError: the server could not be reached.
        """
        # no cookies: a session is named by its id, and one client has many
        self._http.cookies.clear()
        sent: dict[str, Any] = {"content" if isinstance(body, bytes) else "json": body}
        response = await self._http.request(method, path, headers=dict(headers or {}), **sent)
        try:
            answer = response.json()
        except (ValueError, RecursionError):  # 100,000 times `[`
            answer = None
        if not isinstance(answer, dict):  # some other server's
            detail = response.text[:500] or response.reason_phrase
            raise ApiError(response.status_code, {"detail": detail})
        if not response.is_success:
            after = response.headers.get("retry-after", "")
            raise ApiError(
                response.status_code, answer, float(after) if after.isdecimal() else None
            )
        return answer


def answer_item(text: str) -> JSONObject:
    """Return what an agent says, as a Responses API item."""
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content}


def call_items(call_id: str, name: str, arguments: JSONObject, output: str) -> list[JSONObject]:
    """Return a tool call and its output, as Responses API items."""
    return [
        {
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": json.dumps(arguments),
        },
        {"type": "function_call_output", "call_id": call_id, "output": output},
    ]


def _path(environment: str) -> str:
    return f"/envs/{quote(environment, safe='')}"


def _bare(group: BaseExceptionGroup[BaseException], error: BaseException | None) -> BaseException:
    """Return what the MCP client's task groups have wrapped: `error`, or the only one there is."""
    leaves = _leaves(group)
    # not by identity: on trio, a group that passes a nursery becomes another one
    if error is not None and leaves == _leaves(error):
        return error
    return leaves[0] if len(leaves) == 1 else group


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in _leaves(part)]


@dataclass
class Episode:
    """One attempt: its session, its tools, and what has been done in it."""

    client: Client
    environment: str
    task: Task
    seeded: SeedAnswer
    mcp: mcp.Client | None = None
    items: list[JSONObject] = field(default_factory=list)
    """The trajectory so far, as Responses API items."""
    verified: bool = False

    @property
    def session_id(self) -> str:
        """The session's id, for the control plane."""
        return self.seeded.session_id

    async def tools(self) -> list[str]:
        """Return the names of the tools this session may use."""
        if self.mcp is None:
            return []
        return [tool.name for tool in (await self.mcp.list_tools()).tools]

    async def call_tool(self, name: str, arguments: JSONObject | None = None) -> ToolAnswer:
        """Call a tool as an agent does.

        Raises: mcp.MCPError: what answers does not speak MCP, or did not answer in ten minutes.
        """
        if self.mcp is None:
            raise RuntimeError(f"{self.environment!r} has no tools")
        result = await self.mcp.call_tool(name, arguments or {})
        text = "\n".join(block.text for block in result.content if block.type == "text")
        call_id = f"call_{len(self.items) // 2}"
        self.items += call_items(call_id, name, arguments or {}, text)
        content = [
            block.model_dump(mode="json", by_alias=True, exclude_none=True)
            for block in result.content
        ]
        return ToolAnswer(text, bool(result.is_error), result.structured_content, content)

    async def verify(
        self, answer: str | None = None, *, output: Sequence[JSONObject] | None = None
    ) -> JSONObject:
        """Score the attempt: the calls made here and a final `answer`, or an `output` of its own.

        Raises: ApiError: no score; the error says whether to leave the sample out.
        """
        items = self.items if output is None else output
        verdict = await self.client.verify(self.environment, self.session_id, answer, output=items)
        self.verified = True
        return verdict

    async def record(self) -> JSONObject:
        """Return what the server has recorded of the session.

        Raises: ApiError.
        """
        return await self.client.session(self.session_id)
