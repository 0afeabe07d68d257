"""Fixtures for the tests of the benchmarks."""

from collections.abc import Iterator

import pytest

from tests.benchmarks.fake_server import FakeServer, fake_server


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as serving:
        yield serving
