"""`gymhost serve --store sqlite:///...`: sessions that outlive their process."""

from __future__ import annotations

import sqlite3
from signal import SIGKILL, SIGTERM

import pytest

from tests.e2e.servers import Servers, call_tool, seed, verify
from tests.e2e.test_serve import run

STORE = ("--store", "sqlite:///sessions.db")


@pytest.mark.parametrize("signal", [SIGTERM, SIGKILL], ids=["stopped", "killed"])
def test_sessions_go_on_after_a_restart(servers: Servers, backend: str, signal: int) -> None:
    first = servers.start("--backend", backend, *STORE)
    with first.client() as http:
        session_id, token = seed(http)
        for text in ("one", "two"):
            assert not call_tool(http, token, "say", text=text)["isError"]
        scored, _ = seed(http)
        verdict = verify(http, scored).json()
        before = http.get(f"/sessions/{session_id}").json()
    first.stop(signal)

    # at once: a lease lasts 30 s, and its holder is gone
    second = servers.start("--backend", backend, *STORE)
    with second.client() as http:
        after = http.get(f"/sessions/{session_id}").json()
        assert after == before
        assert after["state"] == {"notes": ["one", "two"]}
        assert [each["arguments"]["text"] for each in after["calls"]] == ["one", "two"]
        assert not call_tool(http, token, "say", text="three")["isError"]
        assert http.get(f"/sessions/{session_id}").json()["state"]["notes"][-1] == "three"
        assert verify(http, scored).json() == verdict
        assert verify(http, session_id).status_code == 200
        listed = http.get("/envs/gated").json()
        assert listed["use"]["open_sessions"] == 0
    assert second.stop() == 0
    assert not list(servers.folder.glob("sessions.db*-*"))


def test_a_store_that_can_not_be_opened_is_one_line_and_exit_code_1(servers: Servers) -> None:
    path = servers.folder / "sessions.db"
    path.write_text("This is no database. " * 100)
    for given in ((), ("--log-format", "json")):
        done = run(servers, "serve", "--port", "0", *STORE, *given)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert str(path) in line
        assert "is damaged, or no SQLite database" in line
        assert "Ctrl-C" not in done.stdout


def test_a_locked_store_is_in_readyz_until_it_is_free(servers: Servers) -> None:
    server = servers.start(*STORE)
    with server.client() as http:
        session_id, token = seed(http)
        other = sqlite3.connect(servers.folder / "sessions.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()["store"]) == (503, "locked")
        assert http.get(f"/sessions/{session_id}").status_code == 200
        other.close()
        while http.get("/readyz").status_code != 200:
            pass
        assert not call_tool(http, token, "say", text="after")["isError"]
    assert server.stop() == 0
    assert "is locked by another program" in server.log
