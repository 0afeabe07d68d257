"""The flags of commands that take settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gymhost.config.settings import TABLE, Setting

__all__ = ["ConfigFile", "with_flags"]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration (GYMHOST_CONFIG). Without one: gymhost.yaml, if it is here.",
        show_default=False,
    ),
]


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in place of its `**flags`, the flag of each setting that has one."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    flags = [_flag(row) for row in TABLE.values() if row.flag is not None]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        command(**arguments)

    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[each.replace(kind=each.KEYWORD_ONLY) for each in (*flags, *own)]
    )
    return run


def _flag(row: Setting) -> inspect.Parameter:
    """Return a parameter that is None where the flag is not given."""
    names = f"{row.flag}/--no-{row.flag[2:]}" if row.type is bool and row.flag else row.flag
    ranges = {"ge": "min", "le": "max"}
    limits = {
        name: getattr(each, key)
        for each in row.metadata
        for key, name in ranges.items()
        if hasattr(each, key)
    }
    facts = [row.variable]
    if row.default not in (None, False):
        facts.append(f"default {row.default:g}" if row.type is float else f"default {row.default}")
    option = typer.Option(
        names,
        help=f"{row.help} ({'; '.join(facts)})",
        show_default=False,
        **limits,
    )
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[row.type | None, option],
    )
