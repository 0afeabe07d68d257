"""Async tests run on both backends without asking for it."""

from pathlib import Path

import pytest
import trio


async def test_an_async_test_runs_on_the_backend_it_is_given(anyio_backend_name: str) -> None:
    assert trio.lowlevel.in_trio_run() == (anyio_backend_name == "trio")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_test_may_name_its_backend() -> None:
    assert not trio.lowlevel.in_trio_run()


def test_an_async_test_runs_on_asyncio_and_on_trio(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An inner run imports every installed plugin anew; it needs just one.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makepyfile("async def test_it(): ...")
    result = pytester.runpytest("-p", "anyio.pytest_plugin", "--anyio-mode=auto", "--verbose")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_it[[]asyncio[]]*", "*test_it[[]trio[]]*"])
