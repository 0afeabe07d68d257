"""`gymhost config show`: what is in force, and where each value came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import typer
from pydantic import BaseModel, SecretStr

from gymhost.cli.output import table
from gymhost.cli.settings import ConfigFile, with_flags
from gymhost.config import Configuration, load_configuration
from gymhost.config.problems import Place, dotted
from gymhost.config.text import Text
from gymhost.redaction import names_a_secret

__all__ = ["config"]

config = typer.Typer(help="Show the configuration.", no_args_is_help=True)

# to the last @: a password may have one, and any other sign of a URL
PASSWORD = re.compile(r"(?<=://).*@", re.DOTALL)
MASK = "***"


@config.command("show")
@with_flags
def show(config: ConfigFile = None, **flags: Any) -> None:
    """Show what is in force, and where each value came from.

    That is a flag, a variable, a line of a file with the `${NAME}` in it, or the default. Keys and
    passwords in URLs are masked, and so are options that came through `${NAME}` or are named like
    a secret. Exit code 2 where the configuration is wrong.

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
        for place, leaf in _leaves((name,), getattr(loaded.settings, name)):
            hidden = _is_secret(place, leaf) or (name == "store" and loaded.references(place))
            yield dotted(place), MASK if hidden else _cell(leaf), loaded.origin(place)


def _leaves(place: Place, value: Any) -> Iterator[tuple[Place, Any]]:
    """Yield each value that is no list or mapping of others; of an environment, what was given."""
    if isinstance(value, BaseModel):
        fields, given = type(value).model_fields, value.model_fields_set
        value = {name: getattr(value, name) for name in fields if name in given}
    if value and isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves((*place, name), each)
    elif value and isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _leaves((*place, number), each)
    else:
        yield place, value


def _is_secret(place: Place, value: Any) -> bool:
    """Whether it is a key, or an option that is not to be shown."""
    if isinstance(value, SecretStr):
        return True
    option = place[0] == "extensions" or place[2:3] in (("config",), ("options",), ("mcp_config",))
    # a server's headers and variables are how it is told who asks
    private = place[2:3] == ("mcp_config",) and bool({"headers", "env"} & set(map(str, place[4:])))
    named = private or any(map(names_a_secret, place[2:]))
    return option and not _is_empty(value) and (named or isinstance(value, Text))


def _is_empty(value: Any) -> bool:
    return value is None or value == () or value == {} or value == []


def _cell(value: Any) -> str:
    if _is_empty(value):
        return "-"
    if isinstance(value, str):
        return PASSWORD.sub(f"{MASK}@", value)
    return json.dumps(value, default=str)
