from __future__ import annotations

import os
import signal
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from gymhost.agents.processes import LINE_LIMIT, TAIL_LIMIT, Ended, Lines, run_program
from tests.agents.programs import CHILD, FOREVER, is_alive, program

MEGABYTE = 2**20


class Program:
    """A program with a name that is hard to read in /proc, and what it printed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "cla) R 1"
        self.lines: list[bytes] = []

    @property
    def pids(self) -> list[int]:
        """The numbers it printed."""
        return [int(line) for line in self.lines if line]

    async def run(
        self, code: str, on_line: Callable[[bytes], bool] | None = None, **options: Any
    ) -> Ended:
        """Run it to its end."""
        program(self._path, code)

        def keep(line: bytes) -> bool:
            self.lines.append(line)
            return on_line is None or on_line(line)

        with anyio.fail_after(30):
            return await run_program(
                [str(self._path)],
                keep,
                env={"PATH": os.environ["PATH"]},
                cwd=self._path.parent,
                **options,
            )


@pytest.fixture
def fake(tmp_path: Path) -> Program:
    return Program(tmp_path)


async def test_each_line_is_handed_over_and_the_last_may_be_half_of_one(fake: Program) -> None:
    ended = await fake.run("import sys; print('a\\n\\nb'); print('c', end=''); sys.exit('why')")
    assert fake.lines == [b"a", b"", b"b", b"c"]
    assert ended == Ended(1, "why")


async def test_it_gets_what_is_typed_and_the_variables_it_is_given(
    fake: Program, tmp_path: Path
) -> None:
    typed = tmp_path / "typed"
    typed.write_text("hello")
    code = "import os, sys; print(sys.stdin.read(), sorted(os.environ))"
    with typed.open("rb") as stdin:
        await fake.run(code, stdin=stdin)
    # LC_CTYPE: Python sets it for itself
    assert b"".join(fake.lines).replace(b"'LC_CTYPE', ", b"") == (
        b"hello ['GYMHOST_AGENT_PROCESS', 'PATH']"
    )


async def test_only_the_last_of_stderr_is_kept(fake: Program) -> None:
    ended = await fake.run("import sys; sys.stderr.write('x' * 2**20 + 'end')")
    assert len(ended.stderr) == TAIL_LIMIT
    assert ended.stderr.endswith("end")


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
CHILDREN = {
    "a child": CHILD + "child()",
    "a child without output": CHILD + "child(stdout=subprocess.DEVNULL)",
    "a child in a session of its own": CHILD + "child(start_new_session=True)",
    "a daemon": CHILD + f"child({CHILD + 'child(start_new_session=True)'!r}).wait()",
    # what is ignored stays ignored in a child
    "one that ignores being asked": DEAF + CHILD + "child()",
}


@pytest.mark.parametrize("code", CHILDREN.values(), ids=CHILDREN)
async def test_what_outlives_it_is_ended(fake: Program, code: str) -> None:
    ended = await fake.run(code, grace=0.3)
    assert ended.exit_code == 0
    assert fake.pids
    assert not [pid for pid in fake.pids if pid and is_alive(pid)]


async def test_one_that_got_away_does_not_keep_anybody_waiting(fake: Program) -> None:
    await fake.run(CHILD + "child(env={}, start_new_session=True)", grace=0.1)
    (pid,) = fake.pids
    try:
        assert is_alive(pid)  # the test is of this case
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_cancellation_ends_it_and_its_children(fake: Program, deaf: bool) -> None:
    start = "child(); child(start_new_session=True); print(0, flush=True)\n"
    code = (DEAF if deaf else "") + CHILD + start + FOREVER
    with anyio.CancelScope() as scope:

        def cancel(line: bytes) -> bool:
            if line == b"0":
                scope.cancel()
            return True

        await fake.run(code, cancel, grace=0.3)
    assert scope.cancelled_caught
    assert len(fake.pids) == 3
    assert not [pid for pid in fake.pids if pid and is_alive(pid)]


async def test_it_is_ended_when_no_more_lines_are_wanted(fake: Program) -> None:
    ended = await fake.run(f"print('a\\nb', flush=True)\n{FOREVER}", lambda line: line != b"a")
    assert fake.lines == [b"a"]
    assert ended.exit_code == -signal.SIGTERM


async def test_its_end_is_awaited_where_it_closes_its_output(fake: Program, tmp_path: Path) -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.2); os._exit(7)"
    assert (await fake.run(code)).exit_code == 7


@pytest.mark.parametrize("end", [b"\\n", b""], ids=["in lines", "in one line"])
async def test_a_hundred_megabytes_are_not_held(fake: Program, end: bytes) -> None:
    code = "import sys\nfor _ in range(100): sys.stdout.buffer.write(b'x' * 2**20 + b'%s')"
    sizes: list[int] = []

    def measure(line: bytes) -> bool:
        fake.lines.clear()
        sizes.append(len(line))
        return True

    tracemalloc.start()
    try:
        await fake.run(code % end.decode(), measure)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) == (100 * MEGABYTE if end else 0)
    assert peak < (8 * MEGABYTE if end else LINE_LIMIT + 8 * MEGABYTE)


@pytest.mark.parametrize("name", ["nothing-here", "."])
async def test_what_is_no_program_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"directory|denied"):
        await run_program([str(tmp_path / name)], lambda _: True, env={}, cwd=tmp_path)


async def test_an_error_in_the_callback_ends_it(tmp_path: Path) -> None:
    pids: list[int] = []

    def fail(line: bytes) -> bool:
        pids.append(int(line))
        raise RuntimeError("a bug")

    code = f"import os; print(os.getpid(), flush=True); {FOREVER}"
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError), flatten_subgroups=True):
        await run_program([sys.executable, "-c", code], fail, env={}, cwd=tmp_path)
    assert not is_alive(pids[0])


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_come_out_as_they_are_however_they_come_in(size: int) -> None:
    data = b"a\nbcd\n\n" + b"x" * 11 + b"\nefghi\njk"
    lines = Lines(limit=10)
    found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert found == [b"a", b"bcd", b"", b"efghi"]
    assert lines.rest() == b"jk"
