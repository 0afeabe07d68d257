"""`gymhost serve`: what it says, where it listens, whom it lets in, when it does not start."""

from __future__ import annotations

import re
import socket
import stat
import subprocess

import httpx2
import pytest

from tests.distributions import install, variables
from tests.e2e.servers import GYMHOST, Server, Servers, seed

pytestmark = pytest.mark.measured

BROKEN = "import no_such_module"
UNSTARTABLE = """
from gymhost import Environment

class Unstartable(Environment):
    async def startup(self):
        raise RuntimeError("no database")

    async def verify(self, session, trajectory):
        return 0.0
"""


LOOPING = """
import asyncio
from gated import Gated, note

class Looping(Gated):
    async def startup(self):
        note(type(asyncio.get_running_loop()).__module__)
"""

EXTENSION = """
from gated import Gated
from gymhost import hookimpl

class More:
    @hookimpl
    def register_environments(self, register):
        register("more", Gated)
"""


def install_failing(servers: Servers) -> None:
    """Install a plugin that can't be imported, and one that can't start."""
    install(servers.folder, "gym-broken", BROKEN, {"broken": "Broken"}, version="0.3")
    install(servers.folder, "unstartable", UNSTARTABLE, {"unstartable": "Unstartable"})


def run(servers: Servers, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [GYMHOST, *arguments],
        env=variables(servers.folder, GATED_LOG=str(servers.state_log), **more),
        cwd=servers.folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_says_what_is_up_where_and_what_failed_and_why(servers: Servers, backend: str) -> None:
    install_failing(servers)
    install(servers.folder, "gym-more", EXTENSION, {"extension": "More"})
    server = servers.start("--backend", backend)
    first, *rest = server.lines
    assert re.fullmatch(rf"gymhost \S+ on {server.url} \(hypercorn, {backend}\)", first)
    # without the project's other plugins, which are installed where the tests run
    rest = [line for line in rest if "(gym-env-" not in line or "weather" in line]
    assert rest[0].split() == ["gated", f"{server.url}/envs/gated", "(gated", "1.0)"]
    assert rest[1].split()[:2] == ["more", f"{server.url}/envs/more"]
    assert rest[2].split()[:2] == ["weather", f"{server.url}/envs/weather"]
    assert rest[3] == "not served:"
    assert rest[4].startswith("  broken (gym-broken 0.3): ")
    assert "No module named 'no_such_module'" in rest[4]
    assert rest[5].startswith("  unstartable (unstartable 1.0): ")
    assert "no database" in rest[5]
    with server.client() as http:
        listed = http.get("/envs").json()
        assert {"gated", "more", "weather"} <= {each["name"] for each in listed["environments"]}
        assert [each["name"] for each in listed["failed"]] == ["broken", "unstartable"]
        seed(http)
        assert http.post("/envs/unstartable/seed_session").status_code == 503
    assert server.stop() == 0


def test_a_strict_server_does_not_start_and_lists_all_failures(
    servers: Servers, backend: str
) -> None:
    install_failing(servers)
    ran = run(servers, "serve", "--port", "0", "--backend", backend, "--strict")
    assert ran.returncode == 1
    assert ran.stdout == ""
    last = ran.stderr[ran.stderr.index("gymhost: not everything can be served:") :]
    assert len(last.splitlines()) == 3
    assert "  broken: " in last
    assert "No module named 'no_such_module'" in last
    assert "  unstartable: " in last
    assert "no database" in last
    assert servers.life == ["startup", "shutdown"]  # what had started was stopped


def test_without_its_extra_uvicorn_is_refused_with_what_to_install(servers: Servers) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'httptools'\")"
    (servers.folder / "httptools.py").write_text(missing)
    ran = run(servers, "serve", "--port", "0", "--server", "uvicorn")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[-1] == (
        "gymhost: uvicorn can't be used: No module named 'httptools'. "
        "Try: pip install 'gymhost[uvicorn]'"
    )
    # and nothing of it is imported where it is not used
    assert servers.start().stop() == 0


@pytest.mark.parametrize(("hide", "loop"), [(False, "uvloop"), (True, "asyncio")])
def test_uvicorn_runs_on_uvloop_where_that_is(servers: Servers, hide: bool, loop: str) -> None:
    install(servers.folder, "looping", LOOPING, {"looping": "Looping"})
    if hide:  # as on Windows
        text = "import sys; sys.modules['uvloop'] = None"
        (servers.folder / "sitecustomize.py").write_text(text)
    server = servers.start("--server", "uvicorn")
    assert server.lines[0].endswith(" (uvicorn, asyncio)")
    assert [step.partition(".")[0] for step in servers.life if step != "startup"] == [loop]
    assert server.stop() == 0


def test_of_two_servers_started_at_once_on_a_port_one_serves(servers: Servers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    command = (GYMHOST, "serve", "--port", port)
    spawned = [servers.spawn(command=command) for _ in range(2)]
    lines = [(process.stdout or [""]).readline() for process, _ in spawned]
    codes = [
        process.wait(20) if not line else None
        for line, (process, _) in zip(lines, spawned, strict=True)
    ]
    assert sorted(codes, key=str) == [1, None]
    serving, _ = spawned[codes.index(None)]
    assert httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    serving.terminate()
    assert serving.wait(20) == 0
    _, log = spawned[codes.index(1)]
    assert "Address already in use" in log.read_text()


def test_a_server_whose_output_nobody_reads_goes_on(servers: Servers) -> None:
    process, _ = servers.spawn()
    assert process.stdout is not None
    address = process.stdout.readline().split()[3]
    process.stdout.close()
    assert httpx2.get(f"{address}/healthz").status_code == 200
    process.terminate()
    assert process.wait(20) == 0


def test_the_key_is_minted_once_and_kept_for_this_user_alone(servers: Servers) -> None:
    # at the same instant, so that both find none
    first, second = [Server(*each) for each in [servers.spawn(), servers.spawn()]]
    assert first.key is not None
    assert len(first.key) >= 40
    assert second.key == first.key
    file = servers.folder / "state" / "gymhost" / "control-key"
    assert file.read_text() == f"{first.key}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["control-key"]
    with first.client() as http, second.client() as other:
        assert http.get("/envs").status_code == other.get("/envs").status_code == 200
    assert httpx2.get(f"{first.url}/envs").status_code == 401
    assert first.stop() == 0
    assert servers.start().key == first.key  # the next start takes the same


def test_a_configured_key_wins_and_is_not_printed(servers: Servers) -> None:
    server = servers.start(GYMHOST_API_KEY="my-own-key")
    assert "control key: the one in GYMHOST_API_KEY" in server.lines
    assert "my-own-key" not in "\n".join(server.lines) + server.log
    assert not (servers.folder / "state").exists()
    own = {"authorization": "Bearer my-own-key"}
    assert httpx2.get(f"{server.url}/envs", headers=own).status_code == 200
    assert httpx2.get(f"{server.url}/envs").status_code == 401


def test_without_a_key_only_this_machine_is_served(servers: Servers) -> None:
    server = servers.start("--no-key")
    (said,) = [line for line in server.lines if line.startswith("no control key: ")]
    assert "every user and program of this machine" in said
    assert not (servers.folder / "state").exists()
    port = server.port
    with httpx2.Client(base_url=server.url) as http:
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LocalHost"):
            assert http.get("/envs", headers={"host": host}).status_code == 200, host
        # DNS rebinding: a page's own name, which resolves to this machine
        for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.", "", "[::1"):
            assert http.get("/envs", headers={"host": host}).status_code == 403, host
        for origin in ("http://evil.example", f"http://localhost.evil.example:{port}", "null"):
            answer = http.post("/envs/gated/seed_session", headers={"origin": origin})
            assert answer.status_code == 403, origin
        answer = http.get("/envs", headers={"origin": f"http://localhost:{port}"})
        assert answer.status_code == 200


def test_an_installation_without_environments_says_what_to_do(servers: Servers) -> None:
    hide = "import importlib.metadata as m\nm.entry_points = lambda **_: ()\n"
    (servers.folder / "sitecustomize.py").write_text(hide)
    server = servers.start()
    assert "  no environments: try `pip install gym-env-weather`, then `gymhost list`" in (
        server.lines
    )
    assert httpx2.get(f"{server.url}/readyz").status_code == 503
