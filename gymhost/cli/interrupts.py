"""Run a command that Ctrl-C ends in good order."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple

import anyio
import typer

__all__ = ["INTERRUPTED", "run"]

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells count

_Arguments = TypeVarTuple("_Arguments")


def run(command: Callable[[*_Arguments], Awaitable[None]], *arguments: *_Arguments) -> None:
    """Run a command. Ctrl-C cancels it, so that it closes what it has opened; a second one kills.

    Raises: typer.Exit: it was interrupted; whatever the command raises.
    """
    anyio.run(_run, command, arguments)


async def _run(
    command: Callable[[*_Arguments], Awaitable[None]], arguments: tuple[*_Arguments]
) -> None:
    failure: Exception | None = None
    interrupted = False
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                nonlocal interrupted
                async for _ in signals:
                    interrupted = True
                    signal.signal(signal.SIGINT, signal.SIG_DFL)
                    tasks.cancel_scope.cancel()

            tasks.start_soon(cancel)
            try:
                await command(*arguments)
            except Exception as exc:  # noqa: BLE001 - raised below, and not in a group
                failure = exc
            tasks.cancel_scope.cancel()
    # not KeyboardInterrupt, which anyio.run would raise by itself: it is lost where the connection
    # that is cancelled fails in another way at the same time
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if failure is not None:
        raise failure
