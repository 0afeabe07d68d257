"""The process keeps the memory that large bodies use, and asks the kernel for it once."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

ROUNDS = 50
SCRIPT = f"""
import resource
from gymhost.allocating import keep_pages

def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use() -> None:
    bodies = [b"x" * (512 * 1024) for _ in range(8)]

def faults_of_a_round() -> float:
    use()
    before = faults()
    for _ in range({ROUNDS}):
        use()
    return (faults() - before) / {ROUNDS}

print(faults_of_a_round())
keep_pages()
keep_pages()
print(faults_of_a_round())
"""


WITHOUT_CTYPES = """
import sys
sys.modules["_ctypes"] = None
from gymhost.allocating import keep_pages

keep_pages()
"""


def test_a_python_without_ctypes_does_without() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_CTYPES], check=True, timeout=60)


def _has_mallopt() -> bool:
    try:
        return bool(ctypes.CDLL(None).mallopt)
    except (AttributeError, OSError, TypeError):
        return False


@pytest.mark.skipif(not _has_mallopt(), reason="the C library is not GNU's: it has no mallopt")
def test_pages_are_asked_for_once() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    before, after = map(float, ran.stdout.split())
    assert after < before / 5
