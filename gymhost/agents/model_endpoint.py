"""A model behind an OpenAI-compatible API: a request is sent again where that may help."""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx2
import pydantic_core

from gymhost.agents.base import AgentFailure
from gymhost.agents.tls import tls
from gymhost.models import JSONObject

__all__ = ["ContextOverflow", "ModelEndpoint"]

logger = logging.getLogger("gymhost.agents")

BODY_BYTES = 64 * 1024 * 1024
LONGEST_PAUSE = 60.0
"""Seconds. A server that asks for more is not waited for: the rollout is tried again later."""
SENT_AGAIN = frozenset({408, 409, 429})
"""And every 5xx. A model call has no effect that a second one could double."""
TOO_LONG = (
    "maximum context length",  # OpenAI's and vLLM's words for it
    "maximum model length",  # vLLM's
    "model's context length",  # SGLang's
    "available context size",  # llama.cpp's, with 400 or 500
)
TOLD = 500  # characters of what a server says


class ContextOverflow(AgentFailure):
    """The conversation has become longer than the model reads."""


class _Trouble(Exception):
    """What may be over in a moment."""

    def __init__(self, failure: AgentFailure, retry_after: float | None = None) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.retry_after = retry_after


class ModelEndpoint:
    """Where a model is asked, and how patiently."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 600.0,
        attempts: int = 6,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Take the URL as far as `/v1`; `timeout` is seconds, of one attempt.

        Raises: ValueError: an option that can't be used.
        """
        try:
            url = httpx2.URL(base_url)
        except httpx2.InvalidURL as exc:
            raise ValueError(f"base_url {base_url!r} is no URL: {exc}") from exc
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"base_url must be as 'http://127.0.0.1:8000/v1', not {base_url!r}")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key):
            raise ValueError("api_key is empty, or has characters that no header can carry")
        if not timeout > 0 or attempts < 1:
            raise ValueError("timeout must be above 0 seconds, and attempts at least 1")
        self._url = base_url.rstrip("/")
        self._key = api_key
        self._timeout = timeout
        self._attempts = attempts
        self._sleep = sleep

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[httpx2.AsyncClient]:
        """Keep connections for a conversation."""
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        # no timeout: `post` has one for the whole answer, which a slow drip can't stretch
        async with httpx2.AsyncClient(headers=headers, timeout=None, verify=tls()) as http:
            yield http

    async def post(self, http: httpx2.AsyncClient, path: str, body: JSONObject) -> JSONObject:
        """Send a request and return the answer.

        Raises: AgentFailure: `model_timeout`, `model_rate_limited`, or `model_error`.
        """
        content = json.dumps(body).encode()
        attempt = 1
        while True:
            try:
                return await self._post_once(http, path, content)
            except _Trouble as exc:
                pause = _pause(attempt, exc.retry_after)
                if attempt >= self._attempts or pause > LONGEST_PAUSE:
                    raise exc.failure from exc
                logger.info("asking the model again in %.1f s: %s", pause, exc)
            await self._sleep(pause)
            attempt += 1

    async def _post_once(self, http: httpx2.AsyncClient, path: str, content: bytes) -> JSONObject:
        headers = {"content-type": "application/json", "accept": "application/json"}
        url = f"{self._url}/{path}"
        try:
            with anyio.fail_after(self._timeout):
                async with http.stream("POST", url, content=content, headers=headers) as response:
                    data = await _read(response)
        except TimeoutError as exc:
            message = f"the model did not answer in {self._timeout:g} s"
            raise AgentFailure(message, "model_timeout") from exc
        except httpx2.HTTPError as exc:
            what = str(exc) or type(exc).__name__
            raise _Trouble(self._failure(f"{self._url} can't be asked: {what}")) from exc
        answer = _object(data)
        if not response.is_success:
            raise self._refusal(response, answer, data)
        if answer is None:
            raise self._failure(f"{self._url} answered with what is no JSON object: {_text(data)}")
        if answer.get("error"):
            raise self._refusal(response, answer, data)
        return answer

    def _refusal(
        self, response: httpx2.Response, answer: JSONObject | None, data: bytes
    ) -> AgentFailure | _Trouble:
        """Return what an answer with an error comes to, also where its status is 200."""
        error: Any = (answer or {}).get("error") or answer
        code = error.get("code") if isinstance(error, dict) else None
        status = response.status_code
        if response.is_success:  # the error has a status: a number, or OpenAI's word for one
            named = {"rate_limit_exceeded": 429, "server_error": 500}
            status = code if isinstance(code, int) else named.get(str(code), 200)
        message = f"{self._url} answered {status}: {_message(error) or _text(data)}"
        if code == "context_length_exceeded" or any(words in message for words in TOO_LONG):
            return ContextOverflow(self._told(message), "model_error", terminal=True)
        if code == "insufficient_quota":  # OpenAI's 429 for an empty account: waiting won't do
            return self._failure(message, terminal=True)
        if status == 429:
            failure = AgentFailure(self._told(message), "model_rate_limited")
        else:
            failure = self._failure(message, terminal=300 <= status < 500)
        if status in SENT_AGAIN or status >= 500:
            return _Trouble(failure, _retry_after(response.headers))
        return failure

    def _failure(self, message: str, *, terminal: bool = False) -> AgentFailure:
        return AgentFailure(self._told(message), "model_error", terminal=terminal)

    def _told(self, message: str) -> str:
        # some servers repeat the key that they refuse
        hidden = message.replace(self._key, "***") if self._key else message
        return hidden[:TOLD]


async def _read(response: httpx2.Response) -> bytes:
    """Return a body.

    Raises: AgentFailure: it is too large.
    """
    data = bytearray()
    # by cancellation: a loop that is left would leave the response's generators to the collector
    with anyio.CancelScope() as scope:
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > BODY_BYTES:
                scope.cancel()
    if len(data) > BODY_BYTES:
        message = f"the model's answer has more than {BODY_BYTES // 1024**2} MiB"
        raise AgentFailure(message, "model_error")
    return bytes(data)


def _object(data: bytes) -> JSONObject | None:
    try:
        value = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _message(error: Any) -> str:
    """Return what an error object says; servers differ in where."""
    if isinstance(error, str):
        return error
    if isinstance(error, dict):
        for key in ("message", "detail", "msg"):
            if error.get(key):
                return str(error[key])
    return ""


def _text(data: bytes) -> str:
    return repr(data[:TOLD].decode(errors="replace")) if data else "nothing"


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Return how many seconds a server wants to be left alone; None where it does not say."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except ValueError:
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _pause(attempt: int, retry_after: float | None) -> float:
    """Return seconds to wait, with jitter: many rollouts meet the same limit at once."""
    if retry_after is not None:
        return retry_after * random.uniform(1.0, 1.25)
    return min(2.0 ** (attempt - 1), 30.0) * random.uniform(0.5, 1.0)
