"""`gymhost config show`: what is in force, and where each value came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import typer
from pydantic import SecretStr

from gymhost.cli.output import table
from gymhost.cli.settings import ConfigFile, with_flags
from gymhost.config import Configuration, load_configuration
from gymhost.config.problems import Place, dotted
from gymhost.config.text import Text, names_a_secret

__all__ = ["config"]

config = typer.Typer(help="Show the configuration.", no_args_is_help=True)

PASSWORD = re.compile(r"(?<=://)[^/@]*@")
MASK = "***"


@config.command("show")
@with_flags
def show(config: ConfigFile = None, **flags: Any) -> None:
    """Show what is in force, and where each value came from.

    That is a flag, a variable, a line of a file, or the default. Keys, values that came through
    `${NAME}`, and options that are named like a secret are masked. Exit code 2 where the
    configuration is wrong.

    Examples:

      gymhost config show

      gymhost config show --config gymhost.yaml --port 9000
    """
    loaded = load_configuration(config, flags)
    file = loaded.document.name if loaded.document is not None else "-"
    rows = [("config", file, loaded.chosen_by), *_rows(loaded)]
    table(("SETTING", "VALUE", "FROM"), rows)


def _rows(loaded: Configuration) -> Iterator[tuple[str, str, str]]:
    for name in type(loaded.settings).model_fields:
        value = getattr(loaded.settings, name)
        if name in {"environments", "extensions"}:
            value = loaded.given.get(name) or {}
        elif isinstance(loaded.given.get(name), Text) and name not in loaded.overrides:
            value = loaded.given[name]
        for place, leaf in _leaves((name,), value):
            yield dotted(place), _cell(place, leaf), loaded.origin(place)


def _leaves(place: Place, value: Any) -> Iterator[tuple[Place, Any]]:
    """Yield each value that is no list or mapping of others."""
    if value and isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves((*place, name), each)
    elif value and isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _leaves((*place, number), each)
    else:
        yield place, value


def _cell(place: Place, value: Any) -> str:
    if value is None or value == () or value == {} or value == []:
        return "-"
    if isinstance(value, Text | SecretStr):
        return MASK
    if any(map(names_a_secret, place[2:])):  # a number
        return MASK
    if isinstance(value, str):
        return PASSWORD.sub(f"{MASK}@", value)
    return json.dumps(value, default=str)
