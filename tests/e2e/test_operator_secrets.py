"""What the operator's secrets are found in: nothing that the server writes, logs or answers."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import Any

import h2.config
import h2.connection
import httpx2
import psutil
import pytest

from gymhost.http.mcp import TOKEN_HEADER
from tests.distributions import variables
from tests.e2e import vaults
from tests.e2e.raw import connect, read_until
from tests.e2e.servers import GYMHOST, Server, Servers, call_tool, verify

CRASH = [{"type": "message", "role": "assistant", "content": "crash"}]
TOOLS = (
    "write",
    "crash",
    "crash_in_a_thread",
    "exit",
    "misread",
    "refuse",
    "stall",
    "spoil",
    "infinite",
    "cause_noise",
    "sdk_crash",
    "sdk_misread",
    "sdk_unstructured",
)
FAILING = {"nosy", "talkative", "unbuildable", "unregistrable", "unstartable"}
WRONG_KEYS = ("canary-of-a-wrong-key", "canary-of-a-wrong-key\xe9", "canary-of-a-wrong-key" * 2000)
IDEMPOTENCY_KEY = "canary-of-idempotency"
STRANGE_COOKIE = "canary-of-a-cookie"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_in_the_log_or_in_an_answer(
    servers: Servers, backend: str, log_format: str
) -> None:
    canaries = vaults.secrets_of_the_operator()
    canaries.plant("a wrong key", WRONG_KEYS[0])
    canaries.plant("a strange cookie", STRANGE_COOKIE)
    arguments = ("--backend", backend, "--log-format", log_format)
    server = vaults.start(servers, *arguments, VAULT_DEBUG="1")
    answers: list[bytes] = []
    with server.client(event_hooks={"response": [keep(answers)]}) as http:
        for environment in ("vault", "cellar"):
            live(http, server, environment, canaries)
    check_processes(server.process.pid, canaries)
    assert server.stop() == 0
    if log_format == "json":
        for line in server.log.splitlines():
            json.loads(line)

    # the test reaches what it is about: each failure is in the log, with its traceback
    for said in ("Traceback", "could not be started", "no database", "tool 'crash' of vault"):
        assert said in server.log, said
    for said in ("seed of vault failed", "verify of vault failed", "close of vault failed"):
        assert said in server.log, said
    assert "using ***" in server.log
    assert "all of it is on" in server.log
    assert "a connection was closed" in server.log
    assert len(answers) > 50
    assert canaries.found_in("\n".join(server.lines)) == {}
    assert canaries.found_in(server.log) == {}
    for answer in answers:
        assert canaries.found_in(answer) == {}


def test_each_of_the_keys_opens_the_control_plane_while_they_are_rotated(servers: Servers) -> None:
    server = vaults.start(servers)
    assert any(line.startswith("control key: one of the 2 in ") for line in server.lines)
    for key in vaults.KEYS:
        headers = {"authorization": f"Bearer {key}"}
        assert httpx2.get(f"{server.url}/envs", headers=headers).status_code == 200
    both = [("authorization", f"Bearer {key}") for key in vaults.KEYS]
    assert httpx2.get(f"{server.url}/envs", headers=both).status_code == 401


@pytest.mark.parametrize("command", ["list", "list --verbose", "check", "config show"])
def test_no_command_prints_a_secret(servers: Servers, command: str) -> None:
    vaults.write(servers.folder)
    ran = subprocess.run(
        [GYMHOST, *command.split()],
        env=variables(servers.folder, **vaults.VARIABLES),
        cwd=servers.folder,
        capture_output=True,
        timeout=50,
        check=False,
    )
    said = ran.stdout + ran.stderr
    assert b"***" in said
    assert b"talkative" in said
    assert (b"Traceback" in said) == (command == "list --verbose")
    assert vaults.secrets_of_the_operator().found_in(said) == {}


def keep(answers: list[bytes]) -> Any:
    def read(response: httpx2.Response) -> None:
        head = b"\n".join(name + b": " + value for name, value in response.headers.raw)
        answers.append(head + b"\n" + response.read())

    return read


def live(http: httpx2.Client, server: Server, environment: str, canaries: vaults.Canaries) -> None:
    """Drive a whole life, in which everything fails that can."""
    seeded = httpx2.post(
        f"{server.url}/envs/{environment}/seed_session",
        headers={
            "authorization": f"Bearer {server.key}",
            "idempotency-key": "canary-of-idempotency",
        },
        json={"verifier_metadata": {"close": "crash"}},
    ).json()  # not by `http`: the token is in this answer, and in no other
    (token,) = seeded["mcp"]["headers"].values()
    session_id = seeded["session_id"]
    canaries.plant_token(f"the token of {environment}", token)
    canaries.plant("an idempotency key", IDEMPOTENCY_KEY)
    url = f"/envs/{environment}"
    for name in TOOLS:
        call_tool(
            http, token, name, environment=environment, **({"note": "n"} if name == "write" else {})
        )
    call_tool(http, token, "crash", environment=environment, unknown=1)
    call_tool(http, token, "no_such_tool", environment=environment)
    call_tool(http, token[:-4], "write", environment=environment)
    call_tool(http, token + "x", "write", environment=environment)
    for metadata in ({"seed": "crash"}, {"seed": "invalid"}):
        http.post(f"{url}/seed_session", json={"verifier_metadata": metadata})
    for body in (b"{", b"\xff", b"[]", b'{"verifier_metadata": 5}', b'{"session_id": 5}'):
        for page in ("seed_session", "verify", "close_session", "aggregate_metrics"):
            http.post(f"{url}/{page}", content=body)
    for key in WRONG_KEYS:
        for path in ("/envs", url, f"/sessions/{session_id}"):
            for value in (f"Bearer {key}", f"Basic {key}", key):
                headers = {"authorization": value.encode("latin-1")}
                assert http.get(path, headers=headers).status_code in (400, 401, 431)
    cookie = {"cookie": f"gymhost_session={STRANGE_COOKIE}; other={STRANGE_COOKIE}"}
    http.get("/envs", headers=cookie)
    hang_up(server, token)
    failed = {"session_id": session_id, "response": {"output": CRASH}}
    assert http.post(f"{url}/verify", json=failed).status_code == 502
    masked = verify(http, session_id, environment).json()
    assert masked["failure_kind"] == "environment_error"
    http.post(f"{url}/close_session", json={"session_id": session_id})
    call_tool(http, token, "write", environment=environment)
    for path in (
        "/",
        "/envs",
        url,
        f"/sessions/{session_id}",
        "/healthz",
        "/readyz",
        "/openapi.json",
    ):
        assert http.get(path).status_code == 200
    for path in ("/envs/unstartable", "/envs/unbuildable", "/envs/unregistrable"):
        assert http.get(path).status_code == 503
        assert http.post(f"{path}/seed_session").status_code == 503
    failures = {each["name"]: each["reason"] for each in http.get("/envs").json()["failed"]}
    assert failures.keys() == FAILING
    assert "no database at postgres://vault:***@db" in failures["unstartable"]


def hang_up(server: Server, token: str) -> None:
    """Send what is no HTTP, with secrets in it."""
    start = f"POST /envs/vault/mcp HTTP/1.1\r\nhost: x\r\n{TOKEN_HEADER}: {token}"
    for rest in (
        "\x01\r\n\r\n",
        "\r\nauthorization Bearer x\r\n\r\n",
        "\r\nContent-Length: x\r\n\r\n",
    ):
        with connect(server) as client:
            client.sendall(f"{start}{rest}\r\n\r\n".encode())
            read_until(client, b"\r\n\r\n")
    sent = {
        b":method": b"POST",
        b":path": "/envs/\xe9/mcp".encode(),  # a connection that hypercorn fails over
        b":authority": b"x",
        b":scheme": b"http",
        b"authorization": f"Bearer {server.key}".encode(),
        TOKEN_HEADER.lower().encode(): token.encode(),
    }
    config = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    http2 = h2.connection.H2Connection(config)
    http2.initiate_connection()
    http2.send_headers(1, list(sent.items()), end_stream=True)
    with connect(server) as client:
        client.sendall(http2.data_to_send())
        client.shutdown(socket.SHUT_WR)
        read_until(client, b"no end but the connection's")
    with connect(server) as client:  # HTTP/2, whose frames are wrong
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + token.encode() * 3)
        client.shutdown(socket.SHUT_WR)
        read_until(client, b"no end but the connection's")


def check_processes(pid: int, canaries: vaults.Canaries) -> None:
    """Look for secrets in what every user of the machine can read of a process."""
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        assert canaries.found_in(" ".join(each.cmdline())) == {}
        assert canaries.found_in(each.name()) == {}
