"""What the commands print: tables for people, tab-separated lines for programs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["configure_logging", "error", "line", "table"]


def line(text: str = "") -> None:
    """Print a line, at once: a program may be reading. One that has stopped reading is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # what could not be written would fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error(text: str) -> None:
    """Print an error."""
    print(f"gymhost: {text}", file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: as a table in a terminal, else tab-separated with the columns' names first."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            line("\t".join(" ".join(cell.split()) for cell in row))
        return
    printed = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        printed.add_row(*(Text(cell) for cell in row))  # Text: no cell is rich's markup
    Console(highlight=False).print(printed)


def configure_logging(*, quiet: bool = False) -> None:
    """Log to standard error. First of all: the MCP SDK configures logging where nobody has.

    `quiet` is for commands that print failures themselves.
    """
    logging.basicConfig(
        level=logging.CRITICAL if quiet else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("mcp", "httpx2", "hypercorn", "gymhost.hypercorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
