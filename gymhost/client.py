"""An async client of gymhost's own API: seed an episode, call its tools over MCP, verify."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import anyio
import httpx2
from pydantic import BaseModel, ValidationError

from gymhost.control_key import find_key
from gymhost.episode import TIMEOUT, Episode, McpMode, ToolAnswer, answer_item, connected
from gymhost.errors import GymhostError
from gymhost.models import JSONObject, SeedAnswer, Task

__all__ = [
    "UNLIMITED",
    "ApiError",
    "Client",
    "Episode",
    "McpMode",
    "ToolAnswer",
]

logger = logging.getLogger("gymhost.client")

PAGE = 1000  # the most that a server gives
MOST_URLS = 100
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
        self._urls: dict[str, httpx2.URL] = {}
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
        return await self.request("GET", _record(session_id))

    async def sessions(
        self,
        *,
        environment: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[JSONObject]:
        """Yield what the list says of each session, newest first: at most `limit`.

        Those created from `since` on and before `until`; a time without an offset is local.

        Raises: ApiError.
        """
        query = {
            "environment": environment,
            "status": status,
            "since": _time(since),
            "until": _time(until),
        }
        cursor: str | None = None
        yielded = 0
        while limit is None or yielded < limit:
            size = PAGE if limit is None else min(limit - yielded, PAGE)
            params = {**query, "cursor": cursor, "limit": str(size)}
            page = _page(await self.request("GET", "/sessions", params=params))
            for each in page.sessions[:size]:
                yield each
            yielded += size
            cursor = page.cursor
            if cursor is None:
                return

    async def delete(self, session_id: str) -> None:
        """Close a session if it lives, and forget it.

        Raises: ApiError.
        """
        await self.request("DELETE", _record(session_id))

    async def prune(self, ended_before: datetime, *, environment: str | None = None) -> int:
        """Forget the sessions that ended before a time, and return how many those were.

        Raises: ApiError.
        """
        params = {"ended_before": _time(ended_before), "environment": environment}
        answer = await self.request("DELETE", "/sessions", params=params)
        pruned = answer.get("pruned")
        if not isinstance(pruned, int):  # some other server's
            raise ApiError(200, {"detail": str(answer)[:500]})
        return pruned

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
        async with connected(episode, mcp_mode, self._transport):
            yield episode

    async def close(self, name: str, session_id: str) -> None:
        """Close a session. Where that fails, the log says so, and the session expires by itself."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(10):
            try:
                await self.request(
                    "POST", f"{_path(name)}/close_session", {"session_id": session_id}
                )
            except (ApiError, httpx2.HTTPError) as exc:
                if isinstance(exc, ApiError) and exc.failure_kind == "session_lost":
                    return  # it went with a store in memory: there is nothing to close
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

    async def request(
        self,
        method: str,
        path: str,
        body: JSONObject | bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | None] | None = None,
    ) -> JSONObject:
        """Send a control-plane request and return its JSON answer: an empty one of no content.

        Bytes are sent as they are.

        Raises: ApiError; httpx2.HTTPError: the server could not be reached.
        """
        # no cookies: a session is named by its id, and one client has many
        self._http.cookies.clear()
        given = {name: value for name, value in (params or {}).items() if value is not None}
        sent: dict[str, Any] = {"content" if isinstance(body, bytes) else "json": body}
        if given:
            sent["params"] = given
        url = self._urls.get(path)
        if url is None:  # to parse one takes as long as to send it; there are a few
            url = self._http.base_url.join(self._http.base_url.path.rstrip("/") + path)
            if len(self._urls) < MOST_URLS:
                self._urls[path] = url
        response = await self._http.request(method, url, headers=headers, **sent)
        if response.status_code == 204:
            return {}
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


class SessionPage(BaseModel):
    """One page of the list."""

    sessions: list[JSONObject]
    cursor: str | None


def _page(answer: JSONObject) -> SessionPage:
    try:
        return SessionPage.model_validate(answer)
    except ValidationError as exc:  # some other server's
        raise ApiError(200, {"detail": str(answer)[:500]}) from exc


def _record(session_id: str) -> str:
    return f"/sessions/{quote(session_id, safe='')}"


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat()


def _path(environment: str) -> str:
    return f"/envs/{quote(environment, safe='')}"
