"""What the commands print: tables for people, tab-separated lines for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

__all__ = ["error", "line", "note", "survive_odd_terminals", "table"]


def survive_odd_terminals() -> None:
    """Print `\\u6771` where the terminal has no such letter, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def line(text: str = "") -> None:
    """Print a line, at once: a program may be reading. One that has stopped reading is no error."""
    _print(text, sys.stdout)


def note(text: str) -> None:
    """Print what is for a person, beside a result that a program reads."""
    _print(text, sys.stderr)


def error(text: str) -> None:
    """Print an error."""
    note(f"gymhost: {text}")


def _print(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # what could not be written would fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: as a table in a terminal, else tab-separated with the columns' names first."""
    if sys.stdout is None or not sys.stdout.isatty():  # None: it was closed before the start
        for row in (columns, *rows):
            line("\t".join(" ".join(cell.split()) for cell in row))
        return
    # here: it takes longer to import than most commands run
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head = "" if os.environ.get("NO_COLOR") else "bold"  # rich still writes bold under NO_COLOR
    printed = Table(*columns, box=None, header_style=head, pad_edge=False)
    for row in rows:
        printed.add_row(*(Text(cell) for cell in row))  # Text: no cell is rich's markup
    Console(highlight=False).print(printed)
