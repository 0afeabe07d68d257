"""Fixtures for tests with processes and sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import measured
from tests.e2e.gates import Gate, open_gate
from tests.e2e.rollouts import KEY
from tests.e2e.servers import BACKENDS, STACKS, Flags, Server, Servers


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """What the server runs on; the test itself needs no event loop."""
    name: str = request.param
    return name


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> Flags:
    """The flags of a server and an event loop."""
    return STACKS[request.param]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """A folder with `worlds/gated.py` installed, and the servers that see it."""
    started = Servers(tmp_path)
    started.install_gated()
    yield started
    started.end()


@pytest.fixture(scope="session", params=STACKS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    started = Servers(tmp_path_factory.mktemp("server"))
    started.install_gated()
    try:
        yield started.start(*STACKS[request.param], **measured.VARIABLES)
    finally:
        started.end()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that other processes play against, with KEY, for all tests that leave no session."""
    started = Servers(tmp_path_factory.mktemp("host"))
    try:
        yield started.start(GYMHOST_API_KEY=KEY)
    finally:
        started.end()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with open_gate() as opened:
        yield opened
