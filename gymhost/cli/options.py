"""The arguments and options that more than one command has, and what a shell completes."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated

import typer

from gymhost.hookspecs import PROJECT

__all__ = ["Metadata", "Name", "TaskFile", "Url", "environment_names"]


def environment_names() -> list[str]:
    """Return the names that installed plugins have registered; none is imported."""
    return sorted({point.name for point in entry_points(group=PROJECT)})


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The environment.", autocompletion=environment_names)
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="GYMHOST_URL",
        help="The running gymhost.",
        show_default="where `gymhost serve` would serve",
    ),
]
TaskFile = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="FILE[:LINE]",
        help="Seed with this task: a JSON file, or a line of a JSONL file (the first by default).",
    ),
]
Metadata = Annotated[
    str | None,
    typer.Option(
        "--metadata",
        metavar="JSON",
        help="Seed with a task of this verifier_metadata alone.",
    ),
]
