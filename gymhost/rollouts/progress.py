"""How far a run is: a display in a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio

from gymhost.clock import Clock, SystemClock
from gymhost.rollouts.runner import Tally

__all__ = ["Pace", "describe", "display", "lines"]

LINE_SECONDS = 10.0
REFRESH_SECONDS = 0.25


class Pace:
    """Tells how long a run will take, from how long it has taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()

    def left(self, tally: Tally) -> float | None:
        """Return the seconds that are left; None where nothing is known yet."""
        if not tally.played:
            return None
        return (self._clock.monotonic() - self._began) / tally.played * tally.left


def describe(tally: Tally) -> str:
    """Say what came out so far."""
    mean = "-" if tally.mean is None else f"{tally.mean:.3f}"
    told = f"mean reward {mean}"
    if tally.failed:
        kinds = ", ".join(f"{number} {kind}" for kind, number in tally.failed.most_common())
        told += f", {sum(tally.failed.values())} failed ({kinds})"
    return told


def _line(tally: Tally, left: float | None) -> str:
    end = "" if left is None else f", {_duration(left)} left"
    return f"{tally.scored}/{tally.total} scored, {describe(tally)}, {tally.running} running{end}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@asynccontextmanager
async def lines(
    tally: Callable[[], Tally],
    say: Callable[[str], None],
    *,
    clock: Clock | None = None,
    seconds: float = LINE_SECONDS,
) -> AsyncGenerator[None]:
    """Say a line every few seconds, for as long as the block runs."""
    pace = Pace(clock or SystemClock())

    async def repeat() -> None:
        while True:
            await anyio.sleep(seconds)
            now = tally()
            say(_line(now, pace.left(now)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(repeat)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def display(
    tally: Callable[[], Tally], *, clock: Clock | None = None
) -> AsyncGenerator[None]:
    """Show a bar on standard error, for as long as the block runs."""
    # here: a program that reads lines does without
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    pace = Pace(clock or SystemClock())
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=None, left="")

        def show() -> None:
            now, left = tally(), pace.left(tally())
            progress.update(
                task,
                total=now.total,
                completed=now.scored,
                description=describe(now),
                left="" if left is None else f"{_duration(left)} left",
                refresh=True,
            )

        async def repeat() -> None:
            while True:
                show()
                await anyio.sleep(REFRESH_SECONDS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(repeat)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
        show()
