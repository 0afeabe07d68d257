"""How far a run is: a bar in a terminal, else a line for each step. On standard error."""

from __future__ import annotations

import sys
from types import TracebackType

from rich import progress
from rich.console import Console


class Progress:
    """Drawn between the steps alone: a thread that draws would run on the generator's core."""

    def __init__(self, steps: int) -> None:
        console = Console(stderr=True)
        self._bar = None
        if console.is_terminal:
            self._bar = progress.Progress(
                progress.BarColumn(20),
                progress.TaskProgressColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.description}", markup=False),
                console=console,
                transient=True,
                auto_refresh=False,
            )
            self._task = self._bar.add_task("", total=steps)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, text: str) -> None:
        """Say what was done, or is about to be."""
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.update(self._task, advance=1, description=text, refresh=True)
