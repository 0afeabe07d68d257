"""Fixtures for all tests: every async test runs on asyncio and on trio."""

import os

import pytest
from hypothesis import settings

from gymhost.http.app import GymhostApp

pytest_plugins = ["pytester", "tests.conformance", "tests.measured", "tests.require_all"]

# A deadline would measure the machine.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


# `-n auto`; optional, since xdist may be left out. Half of the time a worker waits, for a process
# that starts or for a limit to pass: with one for each processor these would be idle as long.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return 2 * (os.cpu_count() or 1)


# Named here although anyio has this fixture: its own would leave trio out where it is missing.
# Module scope, as there, so that an async fixture may live as long as its module.
# A test for one backend: @pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(params=[False, True], ids=["clients-leave", "requests-stay"])
def stays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Serve as other servers do, where a client that leaves may cancel its request; and as ours."""
    requests_stay: bool = request.param
    monkeypatch.setattr(GymhostApp, "requests_stay", requests_stay)
    return requests_stay
