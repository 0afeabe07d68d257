"""`gymhost list`."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.distributions import install, variables
from tests.e2e.servers import GYMHOST, Server, Servers

TWO_TOOLS = """
from gymhost import Environment, hookimpl, tool

class Two(Environment):
    @tool
    def one(self) -> str: ...

    @tool
    def other(self) -> str: ...

    async def startup(self):
        raise AssertionError("listing starts nothing")

    async def verify(self, session, trajectory):
        return 0.0

class Quiet:
    @hookimpl(wrapper=True)
    def verify(self):
        return (yield)
"""
BROKEN = "def load():\n    import no_such_module\n\nload()"


def test_what_is_installed_is_listed_and_nothing_is_started(run: Run, site: Path) -> None:
    points = {"two": "Two", "quiet": "Quiet"}
    install(site, "gym-two", TWO_TOOLS, points, version="2.1")
    ran = run("list")
    assert (ran.code, ran.err) == (0, "")
    assert ran.rows[0] == ["NAME", "KIND", "STATUS", "FROM", "TOOLS, OR WHY IT FAILS"]
    assert ["two", "environment", "up", "gym-two 2.1", "one, other"] in ran.rows
    assert ["quiet", "extension", "up", "gym-two 2.1", ""] in ran.rows
    assert any(row[0] == "weather" and row[4] == "get_weather" for row in ran.rows)


SLOW = "import time\ntime.sleep(0.3)\n" + TWO_TOOLS


def test_the_slowest_to_import_is_first_and_the_others_do_not_pay_for_it(
    run: Run, site: Path
) -> None:
    install(site, "gym-slow", SLOW, {"slow": "Two"})
    install(site, "gym-two", TWO_TOOLS, {"a-two": "Two"})
    ran = run("list", "--timings")
    assert (ran.code, ran.err) == (0, "")
    assert ran.rows[0] == ["NAME", "KIND", "STATUS", "MS", "FROM"]
    assert ran.rows[1][:3] == ["slow", "environment", "up"]
    took = {row[0]: float(row[3]) for row in ran.rows[1:]}
    assert took["slow"] >= 300
    assert 0 < took["a-two"] < took["slow"]


def test_what_fails_is_listed_with_its_reason(run: Run, site: Path) -> None:
    install(site, "gym-broken", BROKEN, {"broken": "Broken"})
    ran = run("list")
    assert (ran.code, ran.err) == (1, "")
    (row,) = [row for row in ran.rows if row[0] == "broken"]
    assert row[2:4] == ["failed", "gym-broken 1.0"]
    assert "No module named 'no_such_module'" in row[4]
    assert "Traceback" not in ran.out
    assert any(row[0] == "weather" and row[2] == "up" for row in ran.rows)


AGENTS = """
from gymhost import hookimpl

class Parrots:
    @hookimpl
    def register_agents(self, register):
        register("parrot", Parrots)
        register("scripted", Parrots)
"""


def test_agents_are_listed_gymhosts_own_and_registered_ones(run: Run, site: Path) -> None:
    install(site, "parrots", AGENTS, {"parrots": "Parrots"}, version="3.0")
    ran = run("list")
    agents = [row for row in ran.rows if row[1] == "agent"]
    assert [row[0] for row in agents] == [
        *("claude-code", "responses", "scripted", "parrot", "scripted")
    ]
    assert agents[3][1:] == ["agent", "up", "parrots 3.0", ""]
    taken = "the name is taken by an agent of gymhost's own"
    assert agents[4][1:] == ["agent", "failed", "parrots 3.0", taken]
    assert ran.code == 1


@pytest.mark.parametrize("option", ["--verbose", "-v"])
def test_verbose_shows_where_it_failed(run: Run, site: Path, option: str) -> None:
    install(site, "gym-broken", BROKEN, {"broken": "Broken"})
    ran = run("list", option)
    assert ran.code == 1
    assert "\nbroken:\nTraceback " in ran.out
    assert "in load\n    import no_such_module\n" in ran.out


def test_an_empty_installation_says_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])  # where distributions are looked for
    ran = run("list")
    assert ran.code == 0
    assert ran.out == "No plugins are installed. Try: pip install gym-env-weather\n"


def test_a_terminal_gets_a_table(tmp_path: Path) -> None:
    # what looks like rich's markup stays as it is
    source = "raise ImportError('needs [bold]extra[/bold] \\\\[x]')"
    install(tmp_path, "gym-broken", source, {"broken": "Broken"})
    ours, theirs = pty.openpty()
    environment = variables(tmp_path, TERM="xterm", COLUMNS="250")
    ran = subprocess.run([GYMHOST, "list"], env=environment, stdout=theirs, timeout=30, check=False)
    os.close(theirs)
    printed = b""
    try:
        while piece := os.read(ours, 65536):
            printed += piece
    except OSError:  # how a terminal says that its other side has gone
        pass
    os.close(ours)
    assert ran.returncode == 1
    text = printed.decode()
    assert "\t" not in text
    assert "\x1b[1m" in text  # bold: the head
    lines = [line.rstrip() for line in text.splitlines()]
    (weather,) = [line for line in lines if line.startswith("weather")]
    assert weather.split() == [
        *("weather", "environment", "up", "gym-env-weather", "0.1.0", "get_weather")
    ]
    assert "needs [bold]extra[/bold] \\[x]" in text


def test_it_lists_what_the_configuration_makes_of_the_plugins(
    run: Run, site: Path, tmp_path: Path
) -> None:
    install(site, "gym-two", TWO_TOOLS, {"two": "Two", "quiet": "Quiet"})
    install(site, "gym-broken", BROKEN, {"broken": "Broken"})
    config = tmp_path / "gym.yaml"
    config.write_text(
        "only: true\nblocked: [broken]\nextensions: {quiet: }\n"
        "environments: {mine: {plugin: two}, celsius: {plugin: weather, config: {unit: C}}}\n"
    )
    ran = run("list", "--config", str(config))
    assert (ran.code, ran.err) == (0, "")
    rows = {row[0]: row[1:] for row in ran.rows}
    assert rows["mine"] == ["environment", "up", "gym-two 1.0", "one, other"]
    assert rows["celsius"][-1] == "get_weather"
    assert rows["broken"][:2] == ["unknown", "blocked"]
    assert rows["quiet"][1] == "up"
    assert not {"two", "weather"} & rows.keys()


def test_options_that_are_wrong_are_a_failure_without_the_secret(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter22")
    config = tmp_path / "gym.yaml"
    config.write_text("environments:\n  weather:\n    config:\n      unit: ${SECRET}\n")
    ran = run("list", "--verbose", "--config", str(config))
    assert ran.code == 1
    assert "ValueError: unit must be 'F' or 'C', not '***'" in ran.out
    assert "hunter22" not in ran.out + ran.err


def test_a_running_gymhost_says_how_its_environments_are(
    run: Run, toolbox_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert toolbox_server.key is not None
    monkeypatch.setenv("GYMHOST_API_KEY", toolbox_server.key)
    ran = run("list", "--url", toolbox_server.url)
    assert (ran.code, ran.err) == (1, "")  # one has not started
    head, *rows = ran.rows
    assert head[:4] == ["NAME", "STATUS", "SESSIONS", "CALLS"]
    listed = {row[0]: row[1:] for row in rows}
    assert listed["toolless"] == ["up", "0", "0", "0", ""]
    assert listed["unstartable"][:4] == ["failed", "", "", ""]
    assert listed["unstartable"][4]
    refused = run("list", "--url", "http://127.0.0.1:1")
    assert (refused.code, refused.out) == (1, "")
    assert "no gymhost answers at http://127.0.0.1:1" in refused.err


HANGING = """
import time
from gymhost import Environment, tool

class Hanging(Environment):
    @tool(timeout=0.05)
    def hang(self) -> str:
        time.sleep(1000)

    async def verify(self, session, trajectory):
        return 0.0
"""


def test_an_environment_whose_threads_are_stuck_is_listed_as_degraded(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    servers = Servers(tmp_path / "degraded")
    servers.folder.mkdir(exist_ok=True)
    install(servers.folder, "gym-hanging", HANGING, {"hanging": "Hanging"})
    config = tmp_path / "degraded.yaml"
    config.write_text("environments: {hanging: {limits: {stuck_threads: 1}}}")
    try:
        server = servers.start("--config", str(config))
        assert server.key is not None
        monkeypatch.setenv("GYMHOST_API_KEY", server.key)
        for hung, (code, status) in enumerate([(0, "up"), (1, "degraded")], start=1):
            assert run("call", "hanging", "hang", "--url", server.url).code == 1
            ran = run("list", "--url", server.url)
            assert ran.code == code
            (row,) = [row for row in ran.rows if row[0] == "hanging"]
            assert (row[1], row[4]) == (status, str(hung))
            assert f"tool_seconds {hung}" in row[5]
    finally:
        servers.end()
