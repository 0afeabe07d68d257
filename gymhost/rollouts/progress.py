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

    def show() -> None:
        now = tally()
        say(_line(now, pace.left(now)))

    async with _repeated(show, seconds):
        yield


@asynccontextmanager
async def display(
    tally: Callable[[], Tally], *, clock: Clock | None = None
) -> AsyncGenerator[None]:
    """Show a bar on standard error, and below it what came out, for as long as the block runs.

    What others write there meanwhile, a log or a warning, stands above.
    """
    # here: a program that reads lines does without
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    pace = Pace(clock or SystemClock())

    def picture() -> Group:
        now = tally()
        left = pace.left(now)
        ended = now.scored + sum(now.failed.values())
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=now.total, completed=ended, width=40),
            Text(f"{ended}/{now.total}", no_wrap=True),
            Text("" if left is None else f"{_duration(left)} left", no_wrap=True),
        )
        # as many lines as it takes: each kind of failure is to be seen
        return Group(bar, Text(f"{describe(now)}, {now.running} running"))

    console = Console(stderr=True, highlight=False)
    with Live(picture(), console=console, auto_refresh=False, transient=True) as live:
        async with _repeated(lambda: live.update(picture(), refresh=True), REFRESH_SECONDS):
            yield


@asynccontextmanager
async def _repeated(show: Callable[[], None], seconds: float) -> AsyncGenerator[None]:
    async def repeat() -> None:
        while True:
            await anyio.sleep(seconds)
            show()

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(repeat)
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - raised below, and not in a group
            failure = exc
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
