"""Two hundred sessions of four environments at once: each is its own world."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest

from gymhost.http.mcp import TOKEN_HEADER
from tests.distributions import install
from tests.e2e.servers import Server, Servers
from tests.e2e.vaults import VAULT
from tests.http.wire import VERSIONS, call

ENVIRONMENTS = ("north", "east", "south", "west")
SESSIONS = 200
CALLS = 5
BAD_TOKEN = "The session token is not valid here."


@pytest.fixture
def server(servers: Servers, anyio_backend: str) -> Server:
    install(servers.folder, "vault", VAULT, dict.fromkeys(ENVIRONMENTS, "Vault"))
    return servers.start("--backend", anyio_backend)


class Episode:
    """A session, and what its notes and calls must be."""

    def __init__(self, number: int, http: httpx2.AsyncClient) -> None:
        self.name = f"note of {number}"
        self.environment = ENVIRONMENTS[number % len(ENVIRONMENTS)]
        self.id = self.token = ""
        self.notes: list[str] = []
        self.calls: list[tuple[str, str]] = []
        self._http = http
        self._dice = random.Random(number)

    async def seed(self) -> None:
        metadata = {"answer": f"answer of {self.name}"}
        seeded = await self._post("seed_session", {"verifier_metadata": metadata})
        self.id = seeded["session_id"]
        self.token = seeded["mcp"]["headers"][TOKEN_HEADER]

    async def play(self, others: list[Episode]) -> None:
        """Call tools, some that crash; and try the token where it does not belong."""
        for number in range(CALLS):
            name = self._dice.choice(("write", "write", "write", "crash", "refuse"))
            if name == "write":
                note = f"{self.name}.{number}"
                text, failed = await self.call(self.environment, name, note=note)
                self.notes.append(note)
                assert (text, failed) == ("\n".join(self.notes), False)
            else:
                text, failed = await self.call(self.environment, name)
                assert failed
                assert text in ("The tool failed.", "Not today.")
            self.calls.append((name, self.notes[-1] if name == "write" else ""))
            other = self._dice.choice(others)
            if other.environment != self.environment:
                text, failed = await self.call(other.environment, "write", note="an intruder's")
                assert (text, failed) == (BAD_TOKEN, True)

    async def call(self, environment: str, name: str, **arguments: Any) -> tuple[str, bool]:
        """Call a tool with this session's token; return its text, and whether it failed."""
        sent = call(self._dice.choice(VERSIONS), name, self.token, **arguments)
        headers = {key: value for key, value in sent.headers.items() if value is not None}
        answer = await self._http.post(
            f"/envs/{environment}/mcp", content=sent.content, headers=headers
        )
        result = answer.json()["result"]
        return result["content"][0]["text"], result["isError"]

    async def end(self) -> None:
        """Verify, and hold the score and the record to what this session has done."""
        record = (await self._http.get(f"/sessions/{self.id}")).json()
        noted = [(each["name"], each["arguments"].get("note", "")) for each in record["calls"]]
        assert noted == self.calls
        state = {"answer": f"answer of {self.name}", "notes": self.notes, "odd": None}
        assert record["state"] == state
        elsewhere = ENVIRONMENTS[ENVIRONMENTS.index(self.environment) - 1]
        named = {"session_id": self.id}
        strange = await self._http.post(f"/envs/{elsewhere}/verify", json=named)
        assert (strange.status_code, strange.json()["failure_kind"]) == (404, "session_lost")
        verdict = await self._post("verify", named, crashed="crash" in dict(self.calls))
        score = verdict.get("reward", verdict.get("unmasked_reward"))
        assert score == len(self.notes)
        assert verdict.get("answer", state["answer"]) == state["answer"]

    async def _post(self, page: str, body: Any, *, crashed: bool = False) -> dict[str, Any]:
        answer = await self._http.post(f"/envs/{self.environment}/{page}", json=body)
        assert answer.status_code == (502 if crashed else 200), answer.text
        answered: dict[str, Any] = answer.json()
        return answered


@pytest.mark.timeout(200)  # 5 seconds on a machine of its own
async def test_no_session_sees_anothers_state_or_calls(server: Server) -> None:
    headers = {"authorization": f"Bearer {server.key}"}
    limits = httpx2.Limits(max_connections=32)
    async with httpx2.AsyncClient(
        base_url=server.url, headers=headers, timeout=150, limits=limits
    ) as http:
        episodes = [Episode(number, http) for number in range(SESSIONS)]
        await at_once([episode.seed for episode in episodes])
        assert len({episode.token for episode in episodes}) == SESSIONS
        await at_once([partial(episode.play, episodes) for episode in episodes])
        await at_once([episode.end for episode in episodes])
        listed = (await http.get("/envs")).json()["environments"]
    counts = {each["name"]: each["counts"] for each in listed}
    for name in ENVIRONMENTS:
        mine = [episode for episode in episodes if episode.environment == name]
        assert counts[name]["seeded"] == counts[name]["verified"] == len(mine)
        assert counts[name]["calls"] == sum(len(episode.calls) for episode in mine)


async def at_once(steps: Iterable[Callable[[], Awaitable[None]]]) -> None:
    async with anyio.create_task_group() as tasks:
        for step in steps:
            tasks.start_soon(step)
