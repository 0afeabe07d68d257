"""Fixtures for all tests: every async test runs on asyncio and on trio."""

import pytest

from gymhost.http.app import GymhostApp

pytest_plugins = ["pytester", "tests.conformance", "tests.require_all"]


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
