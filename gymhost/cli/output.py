"""What the commands print: tables for people, tab-separated lines for programs."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

__all__ = ["error", "line", "note", "printable", "survive_odd_terminals", "table"]


def survive_odd_terminals() -> None:
    """Print `\\u6771` where the terminal has no such letter, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """Write `\\x1b` for an escape, and so on: what others say must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char).startswith("C") and char not in "\n\t"
        else char
        for char in text
    )


def line(text: str = "") -> None:
    """Print a line, at once: a program may be reading. One that has stopped reading is no error.

    A program gets it as it is, and a terminal what is `printable`.
    """
    _print(printable(text) if _is_terminal() else text, sys.stdout)


def note(text: str) -> None:
    """Print what is for a person, beside a result that a program reads."""
    _print(printable(text), sys.stderr)


def error(text: str) -> None:
    """Print an error."""
    note(f"gymhost: {text}")


def _print(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # what could not be written would fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()  # None: it was closed before the start


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: as a table in a terminal, else tab-separated with the columns' names first."""
    if not _is_terminal():
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
        printed.add_row(*(Text(printable(cell)) for cell in row))  # Text: no cell is rich's markup
    Console(highlight=False).print(printed)
