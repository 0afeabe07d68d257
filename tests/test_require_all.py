"""The plugin that makes a skipped test fail."""

import pytest

from tests import require_all

SUITE = """
import pytest

@pytest.mark.skip(reason="no client here")
def test_marked(): ...

@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_skips_itself(backend):
    pytest.skip("not today")

@pytest.mark.xfail(reason="bug 7", strict=True)
def test_known_bug():
    assert False

def test_plain(): ...
"""


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYMHOST_REQUIRE_ALL", "1")
    # Inner runs forget what they imported, so each would import every installed plugin again.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    return pytester.runpytest(plugins=[require_all])


def test_a_skip_or_xfail_fails_the_run_and_says_why(pytester: pytest.Pytester) -> None:
    result = run(pytester, SUITE)
    result.assert_outcomes(passed=1, failed=3, errors=1)  # a skip mark acts in the set-up
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*test_known_bug was expected to fail: bug 7*"])
    result.stdout.fnmatch_lines(["*test_skips_itself[[]trio[]] was skipped: *not today*"])


def test_a_module_that_skips_itself_fails_the_run(pytester: pytest.Pytester) -> None:
    result = run(pytester, "import pytest\npytest.importorskip('no_such_module')")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*was skipped: *could not import 'no_such_module'*"])


def test_a_listed_test_may_be_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {"*::test_marked": "...", "*::test_skips_itself[trio]": "...", "*_bug": "..."}
    monkeypatch.setattr(require_all, "ALLOWED", listed)
    result = run(pytester, SUITE)
    result.assert_outcomes(passed=1, failed=1, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["*test_skips_itself[[]asyncio[]] was skipped: *"])


def test_without_the_variable_a_skip_is_a_skip(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GYMHOST_REQUIRE_ALL")
    result = run(pytester, SUITE)
    result.assert_outcomes(passed=1, skipped=3, xfailed=1)
    assert result.ret == pytest.ExitCode.OK


def test_every_listed_test_has_a_reason() -> None:
    assert all(require_all.ALLOWED.values())
