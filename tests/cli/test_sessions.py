"""`gymhost sessions`: a host's record as a person and a program read it, and what is forgotten."""

from __future__ import annotations

import json
import os
import pty
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import typer

from gymhost.cli import spans
from gymhost.stores import open_store
from tests.cli.conftest import Ran, Run
from tests.e2e.servers import Server, Servers, call_tool, seed
from tests.stores.sessions import leased, new, verdict


@pytest.fixture
def http(served: Server) -> Iterator[httpx2.Client]:
    """The server's control plane, with no session of an earlier test."""
    with served.client() as client:
        for each in client.get("/sessions", params={"limit": 1000}).json()["sessions"]:
            client.delete(f"/sessions/{each['session_id']}")
        yield client


def one_of_each(http: httpx2.Client) -> tuple[str, str, str]:
    """A living session, a scored one and a spoiled one."""
    living, _ = seed(http, "reporting")
    scored, token = seed(http, "toolbox")
    call_tool(http, token, "say", environment="toolbox", text="東京")
    call_tool(http, token, "refuse", environment="toolbox")
    http.post("/envs/toolbox/verify", json={"session_id": scored, "response": {}})
    spoiled, token = seed(http, "reporting")
    call_tool(http, token, "crash", environment="reporting")
    http.post("/envs/reporting/verify", json={"session_id": spoiled, "response": {}})
    return living, scored, spoiled


def column(ran: Ran, name: str) -> list[str]:
    head, *rows = ran.rows
    return [row[head.index(name)] for row in rows]


# -- list ------------------------------------------------------------------------------------------


def test_the_list_is_a_table_newest_first(http: httpx2.Client, run: Run) -> None:
    living, scored, spoiled = one_of_each(http)
    ran = run("sessions", "list")
    assert (ran.code, ran.err) == (0, "")
    assert column(ran, "SESSION") == [spoiled, scored, living]
    assert column(ran, "ENVIRONMENT") == ["reporting", "toolbox", "reporting"]
    assert column(ran, "STATUS") == ["verified", "verified", "open"]
    masked, reward, none = column(ran, "REWARD")
    assert (masked, none) == ("masked", "-")
    assert float(reward) >= 0
    assert column(ran, "FAILURES") == ["environment_error 1", "tool_error 1", "-"]
    assert column(ran, "ENDED")[2] == "-"


def test_times_are_local_and_may_be_pasted_back(
    http: httpx2.Client, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = seed(http, "toolbox")
    record = http.get(f"/sessions/{session}").json()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        (created,) = column(run("sessions", "list"), "CREATED")
        shown = datetime.fromisoformat(f"{created}+09:00")
        assert shown == datetime.fromisoformat(record["created_at"]).replace(microsecond=0)
        assert column(run("sessions", "list", "--since", created), "SESSION") == [session]
        assert column(run("sessions", "list", "--until", created), "SESSION") == []
    finally:
        monkeypatch.undo()
        time.tzset()


def test_filters_and_the_limit_are_kept(http: httpx2.Client, run: Run) -> None:
    living, scored, spoiled = one_of_each(http)

    def found(*flags: str) -> list[str]:
        return column(run("sessions", "list", *flags), "SESSION")

    assert found("--environment", "reporting") == [spoiled, living]
    assert found("--environment", "reporting", "--status", "open") == [living]
    assert found("--since", "1h") == [spoiled, scored, living]
    assert found("--until", "1h") == []
    assert found("--environment", "no-such") == []
    cut = run("sessions", "list", "--limit", "2")
    assert column(cut, "SESSION") == [spoiled, scored]
    assert "--limit" in cut.err
    assert run("sessions", "list", "--limit", "3").err == ""


def test_as_json_each_line_is_what_the_server_says(http: httpx2.Client, run: Run) -> None:
    one_of_each(http)
    ran = run("sessions", "list", "--json")
    said = [json.loads(each) for each in ran.out.splitlines()]
    assert said == http.get("/sessions").json()["sessions"]
    assert datetime.fromisoformat(said[0]["created_at"]).tzinfo is not None


# -- show ------------------------------------------------------------------------------------------


def test_a_record_is_shown_whole(http: httpx2.Client, run: Run) -> None:
    _, scored, spoiled = one_of_each(http)
    ran = run("sessions", "show", scored)
    assert (ran.code, ran.err) == (0, "")
    fields = {row[0]: row[1] for row in ran.rows if len(row) == 2}
    assert (fields["session"], fields["status"]) == (scored, "verified")
    assert fields["failures"] == "tool_error 1"
    head, *calls = [row for row in ran.rows if len(row) > 2]
    assert [row[head.index("TOOL")] for row in calls] == ["say", "refuse"]
    assert [row[head.index("HOW")] for row in calls] == ["ok", "tool_error"]
    assert json.loads(calls[0][head.index("ARGUMENTS")]) == {"text": "東京"}
    fields = {row[0]: row[1] for row in run("sessions", "show", spoiled).rows if len(row) == 2}
    assert fields["reward"] == "masked"
    assert fields["failure_kind"] == "environment_error"
    assert "unmasked_reward" in fields


def test_as_json_a_record_is_what_the_server_says(http: httpx2.Client, run: Run) -> None:
    _, scored, _ = one_of_each(http)
    ran = run("sessions", "show", scored, "--json")
    assert json.loads(ran.out) == http.get(f"/sessions/{scored}").json()


@pytest.mark.parametrize("session", ["no-such", "../envs", "a/b", "?x=1"])
def test_a_session_that_is_not_there_is_one_line(
    http: httpx2.Client, run: Run, session: str
) -> None:
    ran = run("sessions", "show", session)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("gymhost: 404 ")
    assert ran.err.count("\n") == 1


def test_another_server_is_told_apart(
    served: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def other(self: Any, *arguments: Any, **options: Any) -> Any:
        return {"sessions": [{"session_id": "x"}], "cursor": None}

    monkeypatch.setattr("gymhost.client.Client.request", other)
    for command in (["list"], ["show", "x"], ["prune", "--dry-run"], ["prune", "--yes"]):
        ran = run("sessions", *command)
        assert (ran.code, ran.out) == (1, "")
        assert "is no gymhost" in ran.err


# -- prune -----------------------------------------------------------------------------------------


def test_a_hosts_old_sessions_are_forgotten(http: httpx2.Client, run: Run) -> None:
    living, scored, spoiled = one_of_each(http)
    assert run("sessions", "prune", "--yes").out == "0 sessions forgotten\n"
    said = run("sessions", "prune", "--ended-before", "0s", "--dry-run").out
    assert said.startswith("2 sessions ended before ")
    of_one = ("--ended-before", "0s", "--environment", "toolbox")
    assert run("sessions", "prune", *of_one, "--yes").out == "1 session forgotten\n"
    assert http.get(f"/sessions/{scored}").status_code == 404
    assert run("sessions", "prune", "--ended-before", "0s", "-y").out == "1 session forgotten\n"
    assert column(run("sessions", "list"), "SESSION") == [living]
    assert http.get(f"/sessions/{spoiled}").status_code == 404


def test_what_an_environment_that_is_gone_has_left_open_is_forgotten_after_a_day(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"

    async def fill() -> None:
        store = open_store(url)
        await store.open()
        for name, hours in (("old", 25), ("young", 1)):
            created_at = time.time() - hours * 3_600
            await store.create(new(name, environment="gone", created_at=created_at))
        await store.aclose()

    anyio.run(fill)
    (tmp_path / "host").mkdir()
    servers = Servers(tmp_path / "host")
    try:
        server = servers.start("--store", url)
        assert server.key is not None
        monkeypatch.setenv("GYMHOST_URL", server.url)
        monkeypatch.setenv("GYMHOST_API_KEY", server.key)
        said = run("sessions", "prune", "--ended-before", "0s", "--dry-run").out
        assert said.startswith("0 sessions ended before ")
        assert said.endswith(", 1 left open by environments that are not served\n")
        assert run("sessions", "prune", "--ended-before", "0s", "-y").out == "1 session forgotten\n"
        assert column(run("sessions", "list"), "SESSION") == ["young"]
    finally:
        servers.end()


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """A store with three sessions that ended an hour ago, one that lives, and one of yesterday."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    hour_ago = time.time() - 3_600

    async def fill() -> None:
        store = open_store(url)
        await store.open()
        for number in range(3):
            lease = await leased(store, f"s-{number}", environment=f"env-{number % 2}")
            await store.record_verdict(lease, verdict(recorded_at=hour_ago))
        await store.create(new("living"))
        lease = await leased(store, "old", environment="env-0")
        await store.transition(lease, ("open",), "closed", hour_ago - 86_400)
        await store.aclose()

    anyio.run(fill)
    return url


def left(url: str) -> set[str]:
    async def read() -> set[str]:
        store = open_store(url)
        await store.open()
        found = {row.session_id for row in (await store.list()).rows}
        await store.aclose()
        return found

    return anyio.run(read)


def test_a_stopped_hosts_old_sessions_are_forgotten(run: Run, store_url: str) -> None:
    of_store = ("sessions", "prune", "--store", store_url)
    assert run(*of_store, "--dry-run").out.startswith("1 session ended before ")
    assert run(*of_store, "--yes").out == "1 session forgotten\n"
    assert left(store_url) == {"s-0", "s-1", "s-2", "living"}
    of_one = (*of_store, "--ended-before", "30m", "--environment", "env-0")
    assert run(*of_one, "--dry-run").out.startswith("2 sessions ended before ")
    assert run(*of_one, "--yes").out == "2 sessions forgotten\n"
    assert left(store_url) == {"s-1", "living"}


def test_a_store_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    ran = run("sessions", "prune", "--yes", "--store", f"sqlite:///{tmp_path}/typo.db")
    assert (ran.code, ran.out) == (1, "")
    assert "there is no session store" in ran.err
    assert not (tmp_path / "typo.db").exists()


def test_a_store_that_is_none_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader, " * 1000)
    ran = run("sessions", "prune", "--yes", "--store", f"sqlite:///{tmp_path}/letter.txt")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("gymhost: ")
    assert ran.err.count("\n") == 1


def test_without_a_terminal_nobody_is_asked_and_nothing_forgotten(run: Run, store_url: str) -> None:
    ran = run("sessions", "prune", "--store", store_url)
    assert ran.code == 2
    assert "--yes" in ran.err
    assert len(left(store_url)) == 5


@pytest.mark.parametrize(
    ("answer", "code", "remaining"), [("y\n", 0, 4), ("n\n", 1, 5), ("\n", 1, 5)]
)
def test_in_a_terminal_one_is_asked(
    run: Run,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    remaining: int,
) -> None:
    outer, inner = pty.openpty()
    with os.fdopen(outer, "wb", 0) as person, os.fdopen(inner) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        person.write(answer.encode())
        ran = run("sessions", "prune", "--store", store_url)
    assert ran.code == code
    assert "1 session ended before" in ran.err
    assert "Forget them?" in ran.err
    assert len(left(store_url)) == remaining


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("0s", timedelta()),
        ("90m", timedelta(minutes=90)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("1w", timedelta(weeks=1)),
        ("1d12h", timedelta(hours=36)),
    ],
)
def test_a_span_is_so_long_ago(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    meant = spans.moment(text, "--since")
    assert meant is not None
    assert before <= meant + ago <= datetime.now(UTC)


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 h", "-2h", "2h ago", "1.5h", "2H", "٢h", "999999999w", "9999-99-99"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no time"):
        spans.moment(text, "--since")


def test_a_time_with_an_offset_is_that_time() -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for text in ("2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "2026-01-31 12:00+00:00"):
        assert spans.moment(text, "--since") == noon


def test_a_time_that_is_over_here_is_shown_all_the_same() -> None:
    assert spans.local(datetime(9999, 12, 31, 23, 59, tzinfo=UTC)).startswith("9999-12-31")
    assert spans.local(None) == "-"
