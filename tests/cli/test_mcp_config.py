"""`gymhost mcp-config`, in this process, against a server in another."""

from __future__ import annotations

import json
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gymhost.cli import kept_sessions
from gymhost.cli.kept_sessions import MOST, KeptSession, find, keep
from gymhost.models import SeedAnswer
from tests.cli.conftest import Ran, Run
from tests.cli.strangers import answering, http
from tests.e2e.servers import Server

HEADER = "X-NeMo-Gym-Session-Token"


def session_of(ran: Ran) -> str:
    """The session that a seeding has named."""
    (line,) = [line for line in ran.err.splitlines() if line.startswith("session ")]
    return line.split()[1].rstrip(",")


def task_of(server: Server, ran: Ran) -> dict[str, Any]:
    with server.client() as client:
        task: dict[str, Any] = client.get(f"/sessions/{session_of(ran)}").json()["task"]
    return task


def refusal(ran: Ran) -> str:
    """The one line of a command that failed."""
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("gymhost: ")
    return line.removeprefix("gymhost: ")


@pytest.mark.parametrize(
    ("options", "key", "file"),
    [
        ([], "mcpServers", ".mcp.json"),
        (["--client", "claude"], "mcpServers", ".mcp.json"),
        (["--client", "cursor"], "mcpServers", ".cursor/mcp.json"),
        (["--client", "vscode"], "servers", ".vscode/mcp.json"),
    ],
)
def test_the_config_alone_is_on_stdout_and_what_comes_next_on_stderr(
    run: Run, served: Server, options: list[str], key: str, file: str
) -> None:
    ran = run("mcp-config", "toolbox", *options)
    assert ran.code == 0
    printed = json.loads(ran.out)
    token = printed[key]["toolbox"]["headers"].pop(HEADER)
    url = f"{served.url}/envs/toolbox/mcp"
    assert printed == {key: {"toolbox": {"type": "http", "url": url, "headers": {}}}}
    assert token not in ran.err
    session, agent, task, score = ran.err.splitlines()
    assert session.startswith(f"session  {session_of(ran)}, until ")
    assert agent == f"agent    paste this into {file}, and start it"
    assert task == "task     whatever you ask it: none was given that says it"
    assert score == f"score    gymhost mcp-config toolbox --verify ANSWER --url {served.url}"


def test_an_answer_is_scored_in_the_session_that_was_seeded_last(run: Run, served: Server) -> None:
    first = run("mcp-config", "toolbox", "--metadata", '{"answer": "first"}')
    run("mcp-config", "pictures")
    run("mcp-config", "toolbox", "--metadata", '{"answer": "最後"}')
    ran = run("mcp-config", "toolbox", "--verify", "最後")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "reward: 1.0",
        'reward_components: {"right": 1.0}',
        'said: "最後"',
        "called: []",
    ]
    assert run("mcp-config", "toolbox", "--verify", "最後").out == ran.out  # and again
    said = refusal(run("mcp-config", "toolbox", "--verify", "another"))
    assert said.startswith("409 already_verified: ")
    ran = run("mcp-config", "toolbox", "--verify", "wrong", "--session", session_of(first))
    assert ran.out.startswith("reward: 0.0\n")
    assert ran.code == 0


def test_an_empty_answer_is_one(run: Run, served: Server) -> None:
    run("mcp-config", "toolbox")
    assert run("mcp-config", "toolbox", "--verify", "").out.startswith("reward: 0.0\n")


def test_without_a_session_it_is_said_how_to_seed_one(
    run: Run, served: Server, tmp_path: Path
) -> None:
    for _ in range(2):
        assert refusal(run("mcp-config", "toolbox", "--verify", "x")) == (
            f"no session of 'toolbox' at {served.url} is known here: seed one with "
            "`gymhost mcp-config toolbox`, or name one with --session"
        )
        # a file that says nothing is as none
        (tmp_path / "state" / "gymhost").mkdir(parents=True, exist_ok=True)
        (tmp_path / "state" / "gymhost" / "sessions.json").write_bytes(b"\xff[{}]")
    run("mcp-config", "toolbox")
    assert run("mcp-config", "toolbox", "--verify", "yes").code == 0


def test_a_session_that_the_server_does_not_know_is_lost(run: Run, served: Server) -> None:
    said = refusal(run("mcp-config", "toolbox", "--verify", "x", "--session", "nope"))
    assert said.startswith("404 session_lost: ")


def test_a_session_that_was_closed_is_not_scored(run: Run, served: Server) -> None:
    seeded = run("mcp-config", "toolbox")
    with served.client() as client:
        closed = client.post("/envs/toolbox/close_session", json={"session_id": session_of(seeded)})
    assert closed.status_code == 200
    assert refusal(run("mcp-config", "toolbox", "--verify", "x")).startswith("410 session_")


def test_a_masked_score_is_no_reward(run: Run, served: Server) -> None:
    run("mcp-config", "toolbox")
    run("call", "toolbox", "crash", "--session", "last")
    said = refusal(run("mcp-config", "toolbox", "--verify", "yes"))
    assert said.startswith("502 environment_error: ")
    assert said.endswith(" It would have scored 1.0.")
    run("mcp-config", "reporting")
    run("call", "reporting", "crash", "--session", "last")
    ran = run("mcp-config", "reporting", "--verify", "yes")
    assert ran.code == 1
    assert ran.err == "gymhost: something failed in this session: leave its reward out\n"
    assert "mask_sample: true" in ran.out.splitlines()


# -- the task --------------------------------------------------------------------------------------

ASKED = {"responses_create_params": {"input": "Wo liegt Ünna?"}, "verifier_metadata": {"n": 1}}


@pytest.mark.parametrize(
    ("content", "suffix", "said"),
    [
        (json.dumps(ASKED), "", "Wo liegt Ünna?"),
        (json.dumps(ASKED, indent=2, ensure_ascii=False), "", "Wo liegt Ünna?"),
        ('\n{"a": 1}\n' + json.dumps(ASKED), ":3", "Wo liegt Ünna?"),
        (json.dumps(ASKED) + "\nnot JSON\n", "", "Wo liegt Ünna?"),
        ("\r\n\r\n" + json.dumps(ASKED) + "\r\n{}\r\n", "", "Wo liegt Ünna?"),
    ],
)
def test_a_task_of_a_file_is_seeded_and_its_instruction_shown(
    run: Run, served: Server, tmp_path: Path, content: str, suffix: str, said: str
) -> None:
    file = tmp_path / "täsk.jsonl"
    file.write_text(content, "utf-8", newline="")
    ran = run("mcp-config", "toolbox", "--task", f"{file}{suffix}")
    assert ran.code == 0
    assert f"task     {said}" in ran.err.splitlines()
    assert task_of(served, ran) == ASKED


def test_a_file_may_have_a_name_that_ends_in_a_number(
    run: Run, served: Server, tmp_path: Path
) -> None:
    (tmp_path / "task:2").write_text(json.dumps(ASKED))
    ran = run("mcp-config", "toolbox", "--task", str(tmp_path / "task:2"))
    assert task_of(served, ran) == ASKED


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([{"role": "user", "content": "One."}, {"content": "Two."}], "One.\nTwo."),
        ([{"content": [{"type": "input_text", "text": "One."}, {"type": "image"}]}], "One."),
        ([1, {"content": 1}, {"content": [2, {"text": 3}]}], None),
        ([], None),
        ("", None),
        ({"content": "x"}, None),
    ],
)
def test_an_instruction_is_the_text_of_the_tasks_input(
    run: Run, served: Server, tmp_path: Path, asked: Any, said: str | None
) -> None:
    file = tmp_path / "task.json"
    file.write_text(json.dumps({"responses_create_params": {"input": asked}}))
    ran = run("mcp-config", "toolbox", "--task", str(file))
    shown = ran.err[ran.err.index("task     ") :].partition("\nscore")[0]
    assert shown == f"task     {said or 'whatever you ask it: none was given that says it'}"


@pytest.mark.parametrize(
    ("content", "suffix", "said"),
    [
        (None, "", "task.jsonl can't be read: No such file or directory"),
        (b"", "", "task.jsonl has 0 lines"),
        (b"{}\n{}", ":3", "task.jsonl has 2 lines"),
        (b"{}\n{}", ":0", "task.jsonl has 2 lines"),
        (b"[1]", "", "task.jsonl: a JSON object is needed, not an array"),
        (b"{}\n7", ":2", "task.jsonl, line 2: a JSON object is needed, not a number"),
        (b"\n{'a': 1}", "", "task.jsonl, line 2: not JSON: "),
        (b'{"a": "\xff"}', "", "task.jsonl, line 1: not JSON: "),
        (b'{"a": NaN}', "", "task.jsonl: not JSON: "),
        (b'{"a": 1e999}', "", "task.jsonl: not JSON: "),
        (b'{"verifier_metadata": []}', "", "task.jsonl: 'verifier_metadata' must be an object, "),
    ],
)
def test_a_task_that_can_not_be_read_is_a_wrong_use(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    suffix: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("task.jsonl").write_bytes(content)
    ran = run("mcp-config", "toolbox", "--task", f"task.jsonl{suffix}")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith(f"Error: Invalid value for --task: {said}")


@pytest.mark.parametrize(
    ("name", "said"),
    [("\0", "embedded null byte"), (".", "Is a directory"), ("x" * 300, "File name too long")],
)
def test_a_file_that_is_none_is_named(run: Run, name: str, said: str) -> None:
    ran = run("mcp-config", "toolbox", "--task", f"{name}:1")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metadata", "{}", "--task", "x"], "--task: give --task or --metadata, not both"),
        (["--metadata", "[]"], "--metadata: a JSON object is needed, not an array"),
        (["--metadata", "Paris"], "--metadata: not JSON: "),
        (["--session", "x"], "--session: is the session to --verify"),
        (["--verify", "x", "--task", "y"], "--verify: the session has its task already"),
        (["--verify", "x", "--metadata", "{}"], "--verify: the session has its task already"),
    ],
)
def test_options_that_do_not_go_together_are_a_wrong_use(
    run: Run, options: list[str], said: str
) -> None:
    ran = run("mcp-config", "toolbox", *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith(f"Error: Invalid value for {said}")


# -- what is kept ----------------------------------------------------------------------------------


def test_the_token_is_kept_for_this_user_alone(run: Run, served: Server, tmp_path: Path) -> None:
    run("mcp-config", "toolbox")
    folder = tmp_path / "state" / "gymhost"
    assert [path.name for path in folder.iterdir()] == ["sessions.json"]
    assert stat.S_IMODE((folder / "sessions.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_session_that_can_not_be_kept_is_scored_by_its_id(
    run: Run, served: Server, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "gymhost").write_text("a file")
    ran = run("mcp-config", "toolbox")
    assert ran.code == 0
    assert json.loads(ran.out)["mcpServers"]
    assert f"gymhost: the session can't be kept in {tmp_path}" in ran.err
    assert ran.err.splitlines()[-1].endswith(f" --session {session_of(ran)}")
    ran = run("mcp-config", "toolbox", "--verify", "yes", "--session", session_of(ran))
    assert ran.out.startswith("reward: 1.0\n")


def kept_as(session: str) -> KeptSession:
    seeded = {"session_id": session, "expires_at": "2026-01-01T00:00:00Z"}
    return KeptSession(url="http://x", environment="e", seeded=SeedAnswer.model_validate(seeded))


def test_of_two_commands_at_once_neither_loses_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    both = threading.Barrier(2)
    read = kept_sessions._read

    def read_together() -> list[KeptSession]:
        found = read()
        with suppress(threading.BrokenBarrierError):  # one waits outside, as it should
            both.wait(0.2)
        return found

    monkeypatch.setattr(kept_sessions, "_read", read_together)
    commands = [threading.Thread(target=keep, args=(kept_as(name),)) for name in "ab"]
    for command in commands:
        command.start()
    for command in commands:
        command.join(10)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert find("http://x", "e", "a") is not None
    assert find("http://x", "e", "b") is not None


def test_the_oldest_of_too_many_sessions_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for number in range(MOST + 1):
        keep(kept_as(str(number)))
    assert find("http://x", "e", "0") is None
    for session in ("1", str(MOST)):
        kept = find("http://x", "e", session)
        assert kept is not None
        assert kept.seeded.session_id == session
    last = find("http://x", "e")
    assert last is not None
    assert last.seeded.session_id == str(MOST)
    assert find("http://y", "e") is find("http://x", "f") is None


# -- where the server is, and what goes wrong ------------------------------------------------------


def test_an_environment_without_tools_has_nothing_for_an_agent(run: Run, served: Server) -> None:
    assert refusal(run("mcp-config", "toolless")) == "toolless has no tools to give to an agent"


def test_a_failed_environment_says_why(run: Run, served: Server) -> None:
    said = refusal(run("mcp-config", "unstartable"))
    assert said.startswith("503 environment_error: 'unstartable' is not served: ")
    assert "no database" in said


def test_the_server_is_where_the_configuration_says(
    run: Run, served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GYMHOST_URL")
    monkeypatch.delenv("GYMHOST_API_KEY")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gymhost.yaml").write_text(f"port: {served.port}\nkeys: ['{served.key}']\n")
    ran = run("mcp-config", "toolbox")
    assert ran.code == 0
    assert ran.err.splitlines()[-1] == "score    gymhost mcp-config toolbox --verify ANSWER"
    assert run("mcp-config", "toolbox", "--verify", "yes").out.startswith("reward: 1.0\n")
    (tmp_path / "gymhost.yaml").rename(tmp_path / "other.yaml")
    assert run("mcp-config", "toolbox", "--config", "other.yaml").code == 0
    monkeypatch.setenv("GYMHOST_URL", "http://127.0.0.1:9")
    assert run("mcp-config", "toolbox", "--url", served.url, "--config", "other.yaml").code == 0


def test_a_configuration_with_any_port_needs_a_url(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "any.yaml"
    file.write_text("port: 0")
    ran = run("mcp-config", "toolbox", "--config", str(file))
    assert (ran.code, ran.out) == (2, "")
    assert "takes any free port, so say which it is: --url http://" in ran.err


@pytest.mark.parametrize(
    "url", ["ftp://x", "127.0.0.1:8000", "http://", "http://[::1", "http://u:p@x", "http://x?y"]
)
def test_what_is_no_url_is_a_wrong_use(run: Run, url: str) -> None:
    ran = run("mcp-config", "toolbox", "--url", url)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1] == (
        f"Error: Invalid value for --url: {url!r} is no URL of a server, "
        "as http://127.0.0.1:8000 is"
    )


@pytest.mark.parametrize("command", [["mcp-config", "weather"], ["call", "weather", "x"]])
def test_where_no_server_runs_it_is_said_how_to_start_one(run: Run, command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    said = refusal(run(*command, "--url", url))
    assert said.startswith(f"no gymhost answers at {url} (")
    assert said.endswith("): start one with `gymhost serve`, or say where it is with --url")


def test_a_wrong_key_says_where_the_right_one_comes_from(
    run: Run, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYMHOST_API_KEY", "wrong")
    said = refusal(run("mcp-config", "toolbox"))
    assert said.startswith(f"{served.url} does not take the control key: set GYMHOST_API_KEY ")
    assert "`gymhost key`" in said
    assert "wrong" not in said
    monkeypatch.delenv("GYMHOST_API_KEY")
    said = refusal(run("mcp-config", "toolbox"))
    assert said.startswith(f"{served.url} needs its control key: ")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (http("404 Not Found", "<h1>Not\nhere</h1>"), "is no gymhost: 404: <h1>Not here</h1>"),
        (http("404 Not Found", '{"detail": "Not Found"}'), "is no gymhost: 404: Not Found"),
        (http("200 OK", '{"tools": 1}'), "is no gymhost"),
        (http("200 OK", "x" * 5000), f"is no gymhost: 200: {'x' * 95}"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "broke off, or is no gymhost: "),
        (b"", "broke off, or is no gymhost: "),
    ],
)
def test_another_program_on_the_port_is_told_from_gymhost(run: Run, raw: bytes, said: str) -> None:
    with answering(raw) as url:
        refused = refusal(run("mcp-config", "weather", "--url", url))
    assert refused.startswith(f"what answers at {url} {said}")
    assert len(refused) < 250


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (["mcp-config", "weather"], '{"tools": [{"name": "x"}]}'),
        (["mcp-config", "weather", "--verify", "x", "--session", "y"], '{"rewards": 1}'),
    ],
)
def test_an_answer_that_gymhost_does_not_give_is_no_gymhosts(
    run: Run, command: list[str], body: str
) -> None:
    with answering(http("200 OK", body)) as url:
        refused = refusal(run(*command, "--url", url))
    assert refused.startswith(f"what answers at {url} is no gymhost")


def test_tls_with_a_server_that_has_none_is_said(run: Run, served: Server) -> None:
    url = served.url.replace("http://", "https://")
    said = refusal(run("mcp-config", "toolbox", "--url", url))
    assert said.startswith(f"TLS with {url} failed: ")
    assert "Check https:// or http://" in said
