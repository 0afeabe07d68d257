"""Ctrl-C ends a command in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import anyio
import pytest
import typer

from gymhost.cli.interrupts import run


async def fail() -> None:
    raise ValueError("it failed")


async def leave() -> None:
    raise typer.Exit(1)


async def interrupt(closed: list[str], at_the_end: type[Exception] | None) -> None:
    """Wait to be cancelled, and close what is open, which takes a while."""
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
            closed.append("closed")
        if at_the_end is not None:
            raise at_the_end


@pytest.mark.parametrize("error", [None, anyio.BrokenResourceError])
def test_ctrl_c_is_exit_code_130_whatever_else_fails(error: type[Exception] | None) -> None:
    closed: list[str] = []
    with pytest.raises(typer.Exit) as caught:
        run(interrupt, closed, error)
    assert caught.value.exit_code == 130
    assert closed == ["closed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("command", "error"), [(fail, ValueError), (leave, typer.Exit)])
def test_what_a_command_raises_comes_out_as_it_is(
    command: Callable[[], None], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(command)


STUBBORN = """
import os, signal, anyio
from gymhost.cli.interrupts import run

async def close_for_ever():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep_forever()

run(close_for_ever)
"""


def test_a_second_ctrl_c_ends_a_command_that_does_not_end() -> None:
    ended = subprocess.run([sys.executable, "-c", STUBBORN], timeout=20, check=False)
    assert ended.returncode == -signal.SIGINT
