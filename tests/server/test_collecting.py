"""A server collects garbage seldom, and never looks through what it has loaded."""

import subprocess
import sys

import pytest

SCRIPT = """
import gc
from gymhost.server.collecting import THRESHOLDS, collect_seldom
collect_seldom()
assert gc.isenabled()
assert gc.get_threshold() == THRESHOLDS
assert gc.get_freeze_count() > 10_000
kept = []
kept.append(kept)
del kept
assert gc.collect() > 0
"""


@pytest.mark.measured
def test_what_is_loaded_is_left_out_and_circles_are_still_collected() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
