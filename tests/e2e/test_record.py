"""The record of a real server over a store on disk: kept across a restart, shown and forgotten."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.distributions import variables
from tests.e2e.servers import BACKENDS, GYMHOST, Server, Servers, call_tool, seed

SAID = {"output": [{"role": "assistant", "content": "Grüße"}]}


def gymhost(servers: Servers, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where the servers run."""
    return subprocess.run(
        [GYMHOST, *arguments],
        env=variables(servers.folder),
        cwd=servers.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_record_outlives_its_server_and_is_forgotten_when_it_is_told_to(
    servers: Servers, backend: str
) -> None:
    flags = ("--backend", backend, "--store", "sqlite:///kept.db", "--keep-trajectories")
    server = servers.start(*flags)
    with server.client() as http:
        scored, _ = seed(http, "weather")
        body = {"session_id": scored, "response": SAID}
        assert http.post("/envs/weather/verify", json=body).status_code == 200
        living, token = seed(http, "weather")
        call_tool(http, token, "get_weather", environment="weather", city="Oslo")
        before = http.get(f"/sessions/{scored}").json()
        assert before["trajectory"] == SAID
    assert server.stop() == 0

    server = servers.start(*flags)
    with server.client() as http:
        assert http.get(f"/sessions/{scored}").json() == before
        found = http.get("/sessions").json()["sessions"]
        assert [each["session_id"] for each in found] == [living, scored]
        listed = gymhost(servers, "sessions", "list", "--url", server.url)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == [
            *("SESSION", living, scored)
        ]
        # its token works still, until the session is forgotten
        oslo = call_tool(http, token, "get_weather", environment="weather", city="Oslo")
        assert not oslo["isError"]
        assert http.delete(f"/sessions/{living}").status_code == 204
        refused = call_tool(http, token, "get_weather", environment="weather", city="Oslo")
        assert refused["isError"]
        assert refused["content"][0]["text"] == "The session token is not valid here."
        assert http.get("/envs/weather").json()["use"]["open_sessions"] == 0
    _prune_beside(servers, server)


def _prune_beside(servers: Servers, server: Server) -> None:
    """A store is pruned where its host has stopped."""
    assert server.stop() == 0
    assert Path(servers.folder / "kept.db").exists()
    store = ("sessions", "prune", "--store", "sqlite:///kept.db", "--ended-before", "0s")
    for flags, said in (
        (("--dry-run",), "1 session ended before "),
        (("--yes",), "1 session forgotten\n"),
        (("--yes",), "0 sessions forgotten\n"),
    ):
        ran = gymhost(servers, *store, *flags)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(said)
