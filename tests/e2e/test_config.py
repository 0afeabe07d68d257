"""`gymhost serve` as a configuration file wants it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.distributions import install, variables
from tests.e2e.servers import BACKENDS, GYMHOST, Server, Servers, call_tool, seed, verify

WORLD = """
import warnings
from gymhost import Environment, hookimpl, tool

class World(Environment):
    def __init__(self, score: float = 1.0, api_key: str = "") -> None:
        if api_key == "wrong-hunter22":
            raise ValueError(f"{api_key} is wrong")
        self.score, self.api_key = score, api_key

    @tool
    def key_length(self) -> str:
        return f"{type(self.api_key).__name__} {len(self.api_key)}"

    @tool
    def crash(self) -> str:
        warnings.warn("an old\\nthing", DeprecationWarning)
        raise RuntimeError("a bug")

    def verify(self, session, trajectory):
        return self.score

class Times:
    def __init__(self, by: float) -> None:
        self.by = by

    @hookimpl(wrapper=True)
    def verify(self):
        return (yield).reward * self.by
"""
CONFIG = """
port: 65000  # the flag wins
public_url: https://${GYM_NAME}/behind/
keys: [first-hunter22, '${SECOND_KEY}']
log_format: json
only: true
environments:
  world:
    config:
      api_key: ${API_KEY}
  low:
    plugin: world
    config: {score: 0.5}
    limits: {session_calls: 1}
    on_failure: report
  denied:
    plugin: world
    config:
      api_key: wrong-${SECOND_KEY}
  missing:
extensions:
  times: {by: 0.5}
blocked: [never]
"""
ENV = "api_key: a-hunter22\nsecond_key: hunter22\n"


@pytest.fixture(scope="module", params=BACKENDS)
def configured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with a configuration in its working folder."""
    servers = Servers(tmp_path_factory.mktemp("configured"))
    install(servers.folder, "gym-world", WORLD, {"world": "World", "times": "Times"})
    install(servers.folder, "gym-never", "raise SystemExit('imported')", {"never": "Never"})
    (servers.folder / "gymhost.yaml").write_text(CONFIG)
    (servers.folder / "env.yaml").write_text(ENV)
    try:
        more = {"GYM_NAME": "gym.example", "GYMHOST_BACKEND": request.param}
        yield servers.start(**more, PYTHONWARNINGS="always")
    finally:
        servers.end()


@pytest.fixture
def http(configured: Server) -> Iterator[httpx2.Client]:
    headers = {"authorization": "Bearer first-hunter22"}
    with httpx2.Client(base_url=configured.url, headers=headers, timeout=20) as client:
        yield client


def test_it_says_where_its_configuration_is_and_no_key(
    configured: Server, request: pytest.FixtureRequest
) -> None:
    backend = request.node.callspec.params["configured"]
    assert configured.lines[0].endswith(f" on {configured.url} (hypercorn, {backend})")
    assert "configuration: gymhost.yaml" in configured.lines
    assert "public URL: https://gym.example/behind" in configured.lines
    assert "control key: one of the 2 in gymhost.yaml:4" in configured.lines


def test_each_of_the_keys_opens_the_control_plane(configured: Server) -> None:
    for key, status in (("first-hunter22", 200), ("hunter22", 200), ("${SECOND_KEY}", 401)):
        headers = {"authorization": f"Bearer {key}"}
        assert httpx2.get(f"{configured.url}/envs", headers=headers).status_code == status


def test_the_configured_environments_are_served_alone(http: httpx2.Client) -> None:
    listed = http.get("/envs").json()
    assert [each["name"] for each in listed["environments"]] == ["low", "world"]
    reasons = {each["name"]: each["reason"] for each in listed["failed"]}
    assert reasons.keys() == {"denied", "missing", "never"}
    assert reasons["never"] is None  # blocked, and not imported
    assert reasons["denied"] == (
        "World could not be made with the options: api_key: ValueError: *** is wrong"
    )
    assert reasons["missing"].startswith("no environment plugin is named 'missing'")


def test_options_and_limits_are_each_mounts_own(http: httpx2.Client) -> None:
    session, token = seed(http, "world")
    for _ in range(2):
        answer = call_tool(http, token, "key_length", environment="world")
        assert answer["content"][0]["text"] == "str 10"
    assert verify(http, session, "world").json()["reward"] == 0.5  # halved by the extension
    session, token = seed(http, "low")
    assert not call_tool(http, token, "key_length", environment="low").get("isError")
    assert call_tool(http, token, "key_length", environment="low")["isError"]
    assert verify(http, session, "low").json()["reward"] == 0.25


def test_a_failure_is_reported_where_it_is_configured(http: httpx2.Client) -> None:
    for name, status in (("low", 200), ("world", 502)):
        session, token = seed(http, name)
        assert call_tool(http, token, "crash", environment=name)["isError"]
        answer = verify(http, session, name)
        assert (answer.status_code, answer.json()["mask_sample"]) == (status, True)


def test_a_seed_answer_has_the_public_url(http: httpx2.Client) -> None:
    seeded = http.post("/envs/world/seed_session", json={}).json()
    assert seeded["mcp"]["url"] == "https://gym.example/behind/envs/world/mcp"


def test_the_log_is_json_and_has_no_secret(configured: Server, http: httpx2.Client) -> None:
    _, token = seed(http, "world")
    call_tool(http, token, "crash", environment="world")
    records = [json.loads(line) for line in configured.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in records)
    assert any("RuntimeError: a bug" in record.get("exception", "") for record in records)
    assert any("an old\nthing" in record["message"] for record in records)
    assert any("denied is not served" in record["message"] for record in records)
    assert "hunter22" not in configured.log
    assert "hunter22" not in "\n".join(configured.lines)


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [GYMHOST, *arguments],
        env=variables(folder, **more),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_strict_server_refuses_an_environment_that_is_not_installed(tmp_path: Path) -> None:
    config = "strict: true\nlog_format: json\nport: 0\nonly: true\nenvironments: {missing: }\n"
    (tmp_path / "gymhost.yaml").write_text(config)
    ran = run(tmp_path, "serve")
    assert (ran.returncode, ran.stdout) == (1, "")
    *_, last = [json.loads(line) for line in ran.stderr.splitlines()]
    assert last["level"] == "CRITICAL"
    assert last["message"].startswith("not everything can be served:\n  missing: no environment")
    config = config.replace("json", "text")
    (tmp_path / "gymhost.yaml").write_text(config)
    ran = run(tmp_path, "serve")
    assert ran.returncode == 1
    assert "\ngymhost: not everything can be served:\n  missing: " in ran.stderr


def test_a_wrong_configuration_starts_nothing(tmp_path: Path) -> None:
    install(tmp_path, "gym-world", "print('imported')\n" + WORLD, {"world": "World"})
    (tmp_path / "gymhost.yaml").write_text("keys: ['${KEY}']\nenvironments: {world: {cfg: {}}}\n")
    ran = run(tmp_path, "serve", GYMHOST_PORT="0", KEY="hunter 22")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines() == [
        "gymhost: gymhost.yaml:1: keys.0: can't be sent in a header, which takes ASCII letters, "
        "digits and punctuation, and no spaces",
        "gymhost: gymhost.yaml:2: environments.world.cfg: unknown key: did you mean 'config'?",
    ]
    assert not (tmp_path / "state").exists()
