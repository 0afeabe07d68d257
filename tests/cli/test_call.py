"""`gymhost call`, in this process, against a server in another."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from gymhost.cli.kept_sessions import sessions_path
from tests.cli.conftest import Run
from tests.cli.strangers import answering, http
from tests.e2e.servers import Server


def open_sessions(server: Server, environment: str = "toolbox") -> int:
    with server.client() as client:
        number: int = client.get(f"/envs/{environment}").json()["use"]["open_sessions"]
    return number


def record(server: Server, session: str) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.get(f"/sessions/{session}").json()
    return found


def test_the_answers_text_is_printed_and_the_session_closed(run: Run, served: Server) -> None:
    before = open_sessions(served)
    ran = run("call", "toolbox", "say", "--arg", "text=São Paulo = 東京\n2")
    assert (ran.code, ran.out, ran.err) == (0, "São Paulo = 東京\n2\n", "")
    assert open_sessions(served) == before


def test_words_become_what_the_tools_schema_says(run: Run, served: Server) -> None:
    words = ("text=3", "n=3", "ratio=1", "flag=true", 'words=["a"]', "level=2", "letters=é")
    given = (part for word in (*words, 'point={"x": 1}') for part in ("--arg", word))
    ran = run("call", "toolbox", "take", *given, "--json")
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    taken = answer["structuredContent"]
    assert [taken[word.partition("=")[0]] for word in words] == ["3", 3, 1, True, ["a"], 2, "é"]
    assert taken["point"] == {"x": 1, "y": 0}
    assert json.loads(answer["content"][0]["text"]) == taken
    assert answer["isError"] is False


def seeds(run: Run) -> int:
    """How many sessions the server has seeded, before this one."""
    return int(run("call", "toolbox", "seeds").out) - 1


def test_a_wrong_word_is_refused_before_a_session_is_seeded(run: Run, served: Server) -> None:
    seeded = seeds(run)
    ran = run("call", "toolbox", "say", "--arg", "txt=1")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: gymhost call ")
    assert ran.err.splitlines()[-1] == (
        "Error: Invalid value for --arg: say takes no 'txt'. It takes: text (string, required)."
    )
    assert seeds(run) == seeded + 1


def test_arguments_as_json_are_sent_as_they_are(
    run: Run, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("call", "toolbox", "say", "--args-json", '{"text": "é"}').out == "é\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO('{"text": "東"}'.encode())))
    assert run("call", "toolbox", "say", "--args-json", "-").out == "東\n"
    # what an agent would read
    ran = run("call", "toolbox", "say", "--args-json", '{"txt": 1}')
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Invalid arguments for 'say': ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "a JSON object is needed, not an array"),
        ("", "not JSON: "),
        ("{'text': 1}", "not JSON: "),
        ('{"n": NaN}', "not JSON: "),
        ('{"n": 1e999}', "not JSON: "),
        ("[" * 100_000, "not JSON: "),
    ],
)
def test_arguments_that_are_no_json_object_are_refused(run: Run, text: str, said: str) -> None:
    ran = run("call", "toolbox", "say", "--args-json", text, "--url", "http://127.0.0.1:9")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith(f"Error: Invalid value for --args-json: {said}")


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("refuse", "no such city: Ünknown"),
        ("crash", "The tool failed."),
    ],
)
def test_a_tools_error_is_told_on_stderr_and_exit_code_one(
    run: Run, served: Server, tool: str, said: str
) -> None:
    ran = run("call", "toolbox", tool)
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert "secret" not in ran.err
    ran = run("call", "toolbox", tool, "--json")
    assert (ran.code, ran.err) == (1, "")
    answer = json.loads(ran.out)
    assert answer["isError"] is True
    assert said in answer["content"][0]["text"]


def test_what_is_not_text_is_named(run: Run, served: Server) -> None:
    ran = run("call", "pictures", "look")
    assert (ran.code, ran.out) == (0, "here\n")
    assert ran.err == "and what is not text: image. See it with --json\n"
    ran = run("call", "pictures", "look", "--json")
    assert json.loads(ran.out)["content"][1]["mimeType"] == "image/png"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("toolbox", "sya"),
            "toolbox has no tool 'sya'. Its tools: asked, crash, refuse, say, seeds, take",
        ),
        (("toolless", "say"), "toolless has no tool 'say'. Its tools: none"),
        (("nowhere", "say"), "404 unknown_environment: No environment is named 'nowhere'. "),
        (("unstartable", "say"), "503 environment_error: 'unstartable' is not served: "),
    ],
)
def test_what_is_not_there_is_said(
    run: Run, served: Server, names: tuple[str, str], said: str
) -> None:
    ran = run("call", *names)
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith(f"gymhost: {said}")
    assert names[0] != "nowhere" or "Served here: " in line
    assert names[0] != "unstartable" or "no database" in line


@pytest.mark.parametrize("name", [".", "..", "../readyz", "", "Weather", "wetter-für"])
@pytest.mark.parametrize("command", [["call", "NAME", "say"], ["mcp-config", "NAME"]])
def test_what_can_be_no_environments_name_is_a_wrong_use(
    run: Run, command: list[str], name: str
) -> None:
    ran = run(*(name if word == "NAME" else word for word in command))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1] == (
        f"Error: Invalid value for NAME: {name!r} is the name of no environment: those have "
        "lower-case ASCII letters, digits, '_' and '-'"
    )


def test_a_task_is_seeded_with_the_call(run: Run, served: Server) -> None:
    ran = run("call", "toolbox", "asked", "--metadata", '{"answer": "nö"}')
    assert json.loads(ran.out)["verifier_metadata"] == {"answer": "nö"}
    assert json.loads(run("call", "toolbox", "asked").out)["verifier_metadata"] == {}


def test_a_session_goes_on_over_several_calls(run: Run, served: Server) -> None:
    seeded = run("mcp-config", "toolbox")
    session = seeded.err.split()[1].rstrip(",")
    assert run("call", "toolbox", "say", "--arg", "text=1", "--session", "last").out == "1\n"
    assert run("call", "toolbox", "say", "--arg", "text=2", "--session", session).out == "2\n"
    assert [call["name"] for call in record(served, session)["calls"]] == ["say", "say"]
    assert record(served, session)["status"] == "open"
    verified = run("mcp-config", "toolbox", "--verify", "yes")
    assert 'called: ["say", "say"]' in verified.out.splitlines()
    ran = run("call", "toolbox", "say", "--arg", "text=3", "--session", "last")
    assert (ran.code, ran.out, ran.err) == (1, "", "The session has ended.\n")


def test_a_session_that_is_not_known_here_can_not_go_on(run: Run, served: Server) -> None:
    for session, said in [
        ("last", f"no session of 'toolbox' at {served.url} is known here: seed one with "),
        ("0" * 32, "the token of session '00000000000000000000000000000000' is not known here: "),
    ]:
        ran = run("call", "toolbox", "say", "--arg", "text=1", "--session", session)
        assert (ran.code, ran.out) == (1, "")
        (line,) = ran.err.splitlines()
        assert line.startswith(f"gymhost: {said}")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (http("404 Not Found", "<h1>Not here</h1>"), "does not answer as one: "),
        (http("200 OK", "<h1>Welcome</h1>"), "does not answer as one: "),
        (http("401 Unauthorized", ""), "does not answer as one: "),
        (b"", "broke off, or is no gymhost: "),
    ],
)
def test_an_mcp_endpoint_that_is_another_program_is_said(
    run: Run, served: Server, raw: bytes, said: str
) -> None:
    run("mcp-config", "toolbox")
    with answering(raw) as url:
        # as where the server's public_url is wrong
        moved = sessions_path().read_text().replace(f"{served.url}/envs", f"{url}/envs")
        sessions_path().write_text(moved)
        ran = run("call", "toolbox", "say", "--arg", "text=x", "--session", "last")
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert said in line
