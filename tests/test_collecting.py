"""A server collects garbage seldom, and never looks through what it has loaded."""

import subprocess
import sys

import pytest

CIRCLE = """
kept = []
kept.append(kept)
del kept
"""
SCRIPT = f"""
import gc
from gymhost.collecting import (
    THRESHOLDS, collect_seldom, leave_imports_out, leave_loaded_out
)
collect_seldom()
assert gc.isenabled()
assert gc.get_threshold() == THRESHOLDS
leave_imports_out()
imported = gc.get_freeze_count()
assert imported > 10_000
loaded = [[] for _ in range(1_000)]
{CIRCLE}
gc.callbacks.append(lambda phase, found: collected.append(found["collected"]))
collected = []
leave_loaded_out()
assert collected[-1] > 0
assert gc.get_freeze_count() > imported + 1_000
{CIRCLE}
assert gc.collect() > 0
"""


@pytest.mark.measured
def test_what_is_loaded_is_left_out_and_circles_are_still_collected() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
