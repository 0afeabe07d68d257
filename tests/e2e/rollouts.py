"""`gymhost rollout` as a process of its own, and what it has written."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.distributions import install, variables
from tests.e2e.servers import GYMHOST

KEY = "the-trainers-key"
SUMS = Path(__file__).parent / "worlds" / "sums.py"


def install_sums(folder: Path) -> None:
    """Install the environment `sums`."""
    install(folder, "sums", SUMS, {"sums": "Sums"})


def sums(number: int) -> dict[str, Any]:
    """The task of a number: it adds some, and is right about it but for every seventh."""
    numbers = [number % 10 + 1, number % 3, 5][: number % 4]
    answer = "no idea" if number % 7 == 0 else str(sum(numbers))
    calls = [{"name": "add", "arguments": {"number": each}} for each in numbers]
    return {
        "responses_create_params": {"input": f"Add {numbers}."},
        "verifier_metadata": {"number": number},
        "reference": {"calls": calls, "answer": answer},
    }


def oracle(number: int) -> float:
    """What the task of a number is worth."""
    numbers = [number % 10 + 1, number % 3, 5][: number % 4]
    return 0.0 if number % 7 == 0 else sum(numbers) / 100


def meet(together: int) -> dict[str, Any]:
    """A task that ends when so many have come."""
    return {
        "verifier_metadata": {"together": together},
        "reference": {"calls": [{"name": "meet"}], "answer": "0"},
    }


@dataclass(frozen=True)
class Ended:
    """What became of a run."""

    code: int
    out: str
    err: str
    cpu: float
    """Seconds of the process's own."""
    memory: int
    """Its peak, in bytes."""


class Rollouts:
    """Runs of one output, in a folder."""

    def __init__(
        self,
        folder: Path,
        rows: Iterable[dict[str, Any]],
        *arguments: str,
        environment: str = "sums",
        **more: str,
    ) -> None:
        """`more` are environment variables."""
        self.folder = folder
        self._environment = environment
        self._variables = variables(folder, **{"GYMHOST_API_KEY": KEY, **more})
        self.output = folder / "rollouts.jsonl"
        with (folder / "tasks.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        self._arguments = arguments

    def start(self, *more: str, **options: Any) -> subprocess.Popen[str]:
        """Start a run."""
        tasks = [self._environment, "-i", "tasks.jsonl"]
        return subprocess.Popen(
            [GYMHOST, "rollout", *tasks, *self._arguments, *more],
            env=self._variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *more: str, **options: Any) -> Ended:
        """Run to the end."""
        return ended(self.start(*more, **options))

    def wait_for_rows(self, number: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many rows are written."""
        while self.count() < number:
            assert process.poll() is None, ended(process)
            time.sleep(0.005)

    def count(self) -> int:
        """How many whole rows there are."""
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    def read(self, what: str = "") -> list[dict[str, Any]]:
        """The rows of the output, or of a file beside it."""
        path = self.folder / f"rollouts{what}.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def rewards(self) -> dict[tuple[int, int], float]:
        """Each attempt's reward: it has one row."""
        rows = self.read()
        keys = Counter((row["_ng_task_index"], row["_ng_rollout_index"]) for row in rows)
        assert set(keys.values()) <= {1}
        return {(row["_ng_task_index"], row["_ng_rollout_index"]): row["reward"] for row in rows}


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for a run's end."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        err = process.stderr.read()  # a few lines: the other pipe can't fill up meanwhile
        out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(process.returncode, out, err, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
