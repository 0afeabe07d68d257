"""A process imports what it uses: the rest would be half of its start, and of its memory."""

import subprocess
import sys

import pytest

from tests.e2e.servers import BACKENDS, Servers

LISTING = "import sys; print(*sys.modules, sep='\\n')"
UNUSED = {
    "blake3",
    "gymhost.agents",
    "gymhost.client",
    "gymhost.config.file",  # there is none
    "gymhost.mcp_tools",
    "gymhost.rollouts",
    "gymhost.server.uvicorn_asyncio",
    "gymhost.stores.sqlite",
    "gymhost.testing",
    "msgspec",
    "platformdirs",
    "rich",
    "yaml",
}
OTHER_LOOPS = {
    "asyncio": {"trio", "hypercorn.trio", "gymhost.server.hypercorn_trio"},
    "trio": {"uvloop", "hypercorn.asyncio", "gymhost.server.hypercorn_asyncio"},
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_server_imports_nothing_that_it_does_not_use(servers: Servers, backend: str) -> None:
    at_exit = f"import atexit\natexit.register(lambda: exec({LISTING!r}))"
    (servers.folder / "sitecustomize.py").write_text(at_exit)
    server = servers.start("--backend", backend, GYMHOST_API_KEY="a-key-of-the-test")
    with server.client() as client:
        assert client.get("/healthz").status_code == 200
    assert server.stop() == 0
    imported = set(server.lines)
    assert f"gymhost.server.hypercorn_{backend}" in imported
    assert imported & (UNUSED | OTHER_LOOPS[backend]) == set()


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("gymhost", UNUSED | {"gymhost.host", "hypercorn", "mcp", "starlette", "typer"}),
        ("gymhost.cli", UNUSED | {"gymhost.host", "hypercorn", "mcp", "starlette"}),
        ("gymhost.cli.serve", UNUSED | {"hypercorn"}),
    ],
)
def test_an_import_brings_nothing_that_is_for_others(module: str, unused: set[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"import {module}; {LISTING}"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(ran.stdout.splitlines())
    assert module in imported
    assert imported & unused == set()
