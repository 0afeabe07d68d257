"""What a run was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.figures import Machine

DISTRIBUTIONS = (
    *("gymhost", "gym-env-weather", "hypercorn", "h11", "mcp", "starlette"),
    *("anyio", "trio", "pluggy", "pydantic", "pydantic-core"),
    *("uvicorn", "uvloop", "httptools"),
)


def describe(pinning: str) -> Machine:
    """Return what is worth knowing of this machine. No names and no paths of it."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cpu=_cpu(),
        cores=psutil.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        pinning=pinning,
        load_average=None if load is None else round(load, 2),
        versions=dict(_versions()),
        revision=_revision(),
    )


def _versions() -> Iterator[tuple[str, str]]:
    for name in DISTRIBUTIONS:
        with suppress(PackageNotFoundError):  # the last ones are an extra
            yield name, version(name)


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # no Linux
    return platform.processor() or platform.machine()


def _revision() -> str | None:
    """Return the commit, and whether the files differ from it; None outside a git checkout."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        ran = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return ran.stdout.strip()
