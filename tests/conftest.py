"""Fixtures for all tests: every async test runs on asyncio and on trio."""

import pytest

pytest_plugins = ["pytester", "tests.conformance", "tests.require_all"]


# Named here although anyio has this fixture: its own would leave trio out where it is missing.
# Module scope, as there, so that an async fixture may live as long as its module.
# A test for one backend: @pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend
