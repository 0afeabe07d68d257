"""Of the processes that tests start, those of tests marked `measured` are measured for coverage.

Measured, a process takes half as long again to start and more for all that it does, and of the
others nothing would be learnt that the tests in this process don't show.
"""

import os
from collections.abc import Generator

import pytest

PREFIX = "COVERAGE_PROCESS_"
VARIABLES = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
"""By which coverage knows in a new process that it is wanted there: for what all tests share."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "measured: coverage measures the processes that it starts")


# Around the set-up, too: fixtures start processes.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("measured") is None:
            for name in [name for name in os.environ if name.startswith(PREFIX)]:
                patch.delenv(name)
        return (yield)
