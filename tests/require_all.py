"""With GYMHOST_REQUIRE_ALL=1 a test that did not really run fails, unless it is listed here."""

import os
import re
from collections.abc import Generator

import pytest

# Test ids in which `*` stands for anything, each with the reason it may be skipped or fail.
ALLOWED: dict[str, str] = {}


# outermost: pytest's own wrapper is what turns a raised exception into a skip or an xfail
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module can be skipped, too, as by `pytest.importorskip`."""
    report = yield
    refuse(report)
    return report


def refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a report of a skip or xfail one of a failure."""
    if os.environ.get("GYMHOST_REQUIRE_ALL") != "1" or is_allowed(report.nodeid):
        return
    if hasattr(report, "wasxfail"):
        outcome, reason = "expected to fail", report.wasxfail
        del report.wasxfail
    elif report.outcome == "skipped":
        outcome, reason = "skipped", str(report.longrepr)
        if isinstance(report.longrepr, tuple):  # file, line, reason
            reason = report.longrepr[2]
    else:
        return
    report.outcome = "failed"
    report.longrepr = (
        f"{report.nodeid} was {outcome}: {reason}\n"
        "GYMHOST_REQUIRE_ALL=1 wants every test to run. Try: make it run here, or list it in "
        "tests/require_all.py with its reason."
    )


def is_allowed(nodeid: str) -> bool:
    """Whether a pattern fits; not fnmatch, for which the [trio] in an id is a set of letters."""
    patterns = (re.escape(pattern).replace(r"\*", ".*") for pattern in ALLOWED)
    return any(re.fullmatch(pattern, nodeid) for pattern in patterns)
