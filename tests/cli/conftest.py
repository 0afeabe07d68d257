"""The command line, run in this process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gymhost.cli import main
from tests.distributions import install
from tests.e2e.servers import Server, Servers


@dataclass(frozen=True)
class Ran:
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The tab-separated cells of a table, its head included."""
        return [line.split("\t") for line in self.out.splitlines() if "\t" in line]


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `gymhost` with arguments, where only a folder's distributions are installed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("GYMHOST_API_KEY", raising=False)

    def run_main(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["gymhost", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, *capsys.readouterr())

    return run_main


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to install distributions in, for this process. What they import is forgotten."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command does to the levels of loggers."""
    names = ("mcp", "httpx2", "hypercorn", "gymhost.hypercorn")
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


TOOLBOX = Path(__file__).parent / "worlds" / "toolbox.py"
MOUNTED = {
    "toolbox": "Toolbox",
    "reporting": "Toolbox",
    "pictures": "Pictures",
    "toolless": "Toolless",
    "unstartable": "Unstartable",
}


@pytest.fixture(scope="session")
def toolbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server of `worlds/toolbox.py` for all tests."""
    servers = Servers(tmp_path_factory.mktemp("toolbox"))
    install(servers.folder, "toolbox", TOOLBOX, MOUNTED)
    config = servers.folder / "served.yaml"
    config.write_text("environments: {reporting: {on_failure: report}}")
    try:
        yield servers.start("--config", str(config))
    finally:
        servers.end()


@pytest.fixture
def served(toolbox_server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, where commands find it by GYMHOST_URL and its key."""
    assert toolbox_server.key is not None
    monkeypatch.setenv("GYMHOST_URL", toolbox_server.url)
    monkeypatch.setenv("GYMHOST_API_KEY", toolbox_server.key)
    return toolbox_server
