"""The application under servers that are not gymhost's own."""

from __future__ import annotations

import re
import sys
import time

import httpx2
import pytest

from tests import conformance
from tests.e2e.servers import Servers, call_tool, seed, verify

pytestmark = pytest.mark.measured

COMMANDS = {
    "uvicorn": ("--factory", "gymhost.asgi:app", "--port", "0"),
    "hypercorn": ("gymhost.asgi:app()", "--bind", "127.0.0.1:0"),
    "hypercorn on trio": ("gymhost.asgi:app()", "--bind", "127.0.0.1:0", "-k", "trio"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_any_asgi_server_serves_what_the_configuration_describes(
    servers: Servers, name: str
) -> None:
    (servers.folder / "gymhost.yaml").write_text("environments: {more: {plugin: gated}}\n")
    command = (sys.executable, "-m", name.partition(" ")[0])
    process, log = servers.spawn(*COMMANDS[name], command=command)
    while (found := re.search(r"unning on (http://127\.0\.0\.1:\d+)", log.read_text())) is None:
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)  # to spin takes the processor from what is waited for
    conformance.watch(found[1], has_key=True, process=process)
    key = (servers.folder / "state" / "gymhost" / "control-key").read_text().strip()
    assert key not in log.read_text()
    assert "`gymhost key` shows it" in log.read_text()
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=found[1], headers=headers, timeout=20) as http:
        session_id, token = seed(http, "more")
        result = call_tool(http, token, "say", environment="more", text="well")
        assert result["content"][0]["text"] == "well"
        assert verify(http, session_id, "more").json()["reward"] == 1.0
        seed(http)
    process.terminate()
    process.wait(20)
    assert servers.life[-3:] == ["close: shutdown", "shutdown", "shutdown"]
    assert "Traceback" not in log.read_text()


def test_a_wrong_configuration_is_said_in_lines(servers: Servers) -> None:
    (servers.folder / "gymhost.yaml").write_text("prot: 1\n")
    process, log = servers.spawn(*COMMANDS["uvicorn"], command=(sys.executable, "-m", "uvicorn"))
    assert process.wait(20) != 0
    assert "gymhost.yaml:1: prot: unknown key" in log.read_text()
