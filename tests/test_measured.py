"""The plugin that chooses which processes coverage measures."""

import pytest

from tests import measured

SUITE = """
import os

import pytest

@pytest.fixture(autouse=True)
def seen():
    return os.environ.get("COVERAGE_PROCESS_CONFIG")

def test_plain(seen):
    assert seen is None

@pytest.mark.measured
def test_marked(seen):
    assert seen == "all"
"""


def test_coverage_measures_the_processes_of_marked_tests_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An inner run imports every installed plugin anew; it needs none.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "all")
    pytester.makepyfile(SUITE)
    result = pytester.runpytest("--strict-markers", plugins=[measured])
    result.assert_outcomes(passed=2)
