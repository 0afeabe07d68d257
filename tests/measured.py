"""Of the processes that tests start, those of tests marked `measured` are measured for coverage.

Measured, a process takes half as long again to start and more for all that it does, and of the
others nothing would be learnt that the tests in this process don't show.
"""

from collections.abc import Generator

import pytest

# By which coverage knows in a new process that it is wanted there.
VARIABLES = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "measured: coverage measures the processes that it starts")


# Around the set-up, too: fixtures start processes.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("measured") is None:
            for name in VARIABLES:
                patch.delenv(name, raising=False)
        return (yield)
