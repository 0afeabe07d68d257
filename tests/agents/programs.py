"""Programs that a test writes down, and whether they still run."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

FOREVER = "import time; time.sleep(600)"

CHILD = f"""
import subprocess, sys
def child(code={FOREVER!r}, **options):
    process = subprocess.Popen([sys.executable, "-c", code], **options)
    print(process.pid, flush=True)
    return process
"""
"""A function that starts a child, prints its process id and returns it."""


def program(path: Path, code: str) -> Path:
    """Write a program in Python."""
    path.write_text(f"#!{sys.executable}\n{code}", "utf-8")
    path.chmod(0o755)
    return path


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has asked how it ended does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
