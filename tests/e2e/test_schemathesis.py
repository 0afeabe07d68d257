"""schemathesis against a real server: no answer but what the document says, and no hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from gymhost.http.operations import CONTROL_PLANE
from tests.distributions import variables
from tests.e2e.servers import BACKENDS, Server, Servers, call_tool, seed

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
SEED = 3
# What it may not find. The others want of a server that it takes and refuses just what the schema
# says, but session ids are not all known, and a body is read leniently.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


def run_schemathesis(
    servers: Servers, server: Server, document: str, sessions: list[tuple[str, str, str]]
) -> subprocess.CompletedProcess[str]:
    """Run it over everything, as anybody would: in a process of its own."""
    file = servers.folder / "openapi.json"  # from its URL, it would leave that one out
    file.write_text(document, "utf-8")
    command = [
        *(SCHEMATHESIS, "run", str(file), "--url", server.url),
        *("--header", f"Authorization: Bearer {server.key}"),
        *("--checks", ",".join(CHECKS)),
        *("--phases", "examples,coverage,fuzzing,stateful"),
        *("--seed", str(SEED), "--max-examples", "5", "--continue-on-failure"),
        *("--request-timeout", "10", "--no-shrink", "--warnings", "off", "--no-color"),
    ]
    more = {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.e2e.schemathesis_hooks",
        "LIVE_SESSIONS": json.dumps(sessions),
    }
    return subprocess.run(
        command,
        env=variables(servers.folder, **more),
        cwd=servers.folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.mark.timeout(200)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_answer_is_as_documented_and_the_server_is_as_good_as_before(
    servers: Servers, backend: str
) -> None:
    server = servers.start("--backend", backend)
    with server.client() as http:
        document = http.get("/openapi.json").text
        sessions = [(name, *seed(http, name)) for name in ("weather", "gated") for _ in range(20)]
        ran = run_schemathesis(servers, server, document, sessions)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert f"Tested: {len(CONTROL_PLANE) + 1}" in ran.stdout, ran.stdout
        for phase in ("Coverage", "Fuzzing", "Stateful"):
            assert f"✅ {phase}" in ran.stdout, ran.stdout

        # a whole good episode
        session_id, token = seed(http, "weather", expected_city="Paris")
        report = call_tool(http, token, "get_weather", environment="weather", city="Paris")
        text = [{"type": "output_text", "text": report["content"][0]["text"]}]
        message = {"type": "message", "role": "assistant", "content": text}
        body = {"session_id": session_id, "response": {"output": [message]}}
        verdict = http.post("/envs/weather/verify", json=body)
        assert verdict.json()["reward"] == 1.0

        # and nothing is left of what was sent
        for name in ("weather", "gated"):
            environment = http.get(f"/envs/{name}").json()
            use = {**environment["use"]}
            opened = use.pop("open_sessions")
            assert use.pop("session_calls") <= 1
            assert set(use.values()) == {0}
            assert environment["status"] == "up"
        seeded = environment["counts"]["seeded"]
    assert server.stop() == 0
    # gated's sessions: each was closed once, and those that were counted as open at the end
    reasons = [line.split()[1] for line in servers.life if line.startswith("close:")]
    assert (len(reasons), reasons.count("shutdown")) == (seeded, opened)
    for sign in ("failed in gymhost", "Error in ASGI", "a connection was closed", "never"):
        assert sign not in server.log


def test_a_process_serves_the_document_that_answers_are_held_to(server: Server) -> None:
    local = create_app(Host({}, discover=False), KeyGuard(["key"])).openapi.document
    with server.client() as http:
        served = http.get("/openapi.json").json()
    names = served["components"]["parameters"].pop("Environment")["schema"]["enum"]
    assert {"gated", "weather"} <= set(names)
    assert served.pop("components") == {
        name: part for name, part in local["components"].items() if name != "parameters"
    } | {"parameters": {}}
    assert served == {name: part for name, part in local.items() if name != "components"}
