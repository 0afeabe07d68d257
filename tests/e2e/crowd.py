"""Many episodes at once, of clients that keep a journal, whatever happens to the server."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from collections.abc import Mapping
from typing import Any, Self

import anyio
import httpx2
from anyio import to_thread

from tests.e2e.journal import Journal
from tests.http.wire import MODERN, call

KEY = "the-crowds-key"


class Crowd:
    """Plays episodes of the environment `gated`: it says texts, and is scored by their number."""

    def __init__(self, url: str, journal: Journal, random_seed: int) -> None:
        self.http = httpx2.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {KEY}"},
            timeout=30,
            limits=httpx2.Limits(max_connections=None),
        )
        self.journal = journal
        self.random = random.Random(random_seed)
        self.in_flight = 0
        self.acknowledged_at = 0.0
        self.up = anyio.Event()
        self.up.set()
        self.resolved = {"there": 0, "not there": 0}
        """Calls whose answer was lost: whether they turned out to be in the record."""
        self.stopping = False

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.http.__aexit__(*error)

    async def play(self) -> None:
        """Play episode after episode, until `stopping`."""
        while not self.stopping:
            await self._episode()

    async def _episode(self) -> None:
        seeded = await self._until_answered(
            "/envs/gated/seed_session", {}, headers={"idempotency-key": uuid.uuid4().hex}
        )
        session = seeded["session_id"]
        (token,) = seeded["mcp"]["headers"].values()
        await self._note(did="seed", session=session, token=token)
        for number in range(self.random.randint(1, 6)):
            if self.stopping:
                return  # some are left open
            await self._say(session, token, f"{session[:8]}-{number}")
        if self.random.random() < 0.8:
            body = {"session_id": session, "response": {"output": []}}
            answer = await self._until_answered("/envs/gated/verify", body)
            await self._note(did="verify", session=session, verdict={"reward": answer["reward"]})

    async def _say(self, session: str, token: str, text: str) -> None:
        """Say a text; where the answer is lost, look whether it was said, and say it if not."""
        for _ in itertools.count():
            try:
                await self.say(token, text)
                break
            except httpx2.HTTPError:
                await self.up.wait()
            record = await self.record(session)
            assert record is not None, f"session {session} is lost"
            there = any(each["arguments"] == {"text": text} for each in record["calls"])
            self.resolved["there" if there else "not there"] += 1
            if there:
                return
        await self._note(did="call", session=session, text=text)

    async def say(self, token: str, text: str) -> None:
        """Call the tool as an agent does.

        Raises: httpx2.HTTPError: no answer.
        """
        sent = call(MODERN, "say", token, text=text)
        headers = {key: value for key, value in sent.headers.items() if value is not None}
        answer = await self._send("/envs/gated/mcp", content=sent.content, headers=headers)
        result = answer["result"]
        assert not result["isError"], result

    async def record(self, session: str) -> Mapping[str, Any] | None:
        """Return what the server knows of a session; None: nothing."""
        while True:
            try:
                response = await self.http.get(f"/sessions/{session}")
            except httpx2.HTTPError:
                await self._wait_until_up()
                continue
            if response.status_code == 404:
                return None
            assert response.status_code == 200, response.text
            record: Mapping[str, Any] = response.json()
            return record

    async def _until_answered(self, path: str, body: Any, **options: Any) -> Mapping[str, Any]:
        """Send the same request until it is answered: the server is to know it again."""
        while True:
            try:
                return await self._send(path, json=body, **options)
            except httpx2.HTTPError:
                await self._wait_until_up()

    async def _wait_until_up(self) -> None:
        await self.up.wait()
        await anyio.sleep(0.01)  # the socket may close before anybody has noticed the kill

    async def _send(self, path: str, **options: Any) -> Mapping[str, Any]:
        self.in_flight += 1
        try:
            response = await self.http.post(path, **options)
        finally:
            self.in_flight -= 1
        assert response.status_code == 200, response.text
        answer: Mapping[str, Any] = response.json()
        self.acknowledged_at = time.monotonic()
        return answer

    async def _note(self, **entry: Any) -> None:
        await to_thread.run_sync(lambda: self.journal.write(**entry))
