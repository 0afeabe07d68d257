"""Where settings come from: flags win over variables, variables over the file, the file over
defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from gymhost.config.interpolation import Substitute, references
from gymhost.config.problems import ConfigError, Place, dotted, explain, unknown_key
from gymhost.config.reading import read
from gymhost.config.settings import (
    TABLE,
    AgentSettings,
    EnvironmentSettings,
    LimitsSettings,
    Settings,
)
from gymhost.config.text import Text

if TYPE_CHECKING:
    from gymhost.config.file import Document

__all__ = ["CONFIG_VARIABLE", "Configuration", "load_configuration", "load_settings"]

CONFIG_VARIABLE = "GYMHOST_CONFIG"
DEFAULT_FILE = Path("gymhost.yaml")


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings in force, and where each came from."""

    settings: Settings
    document: Document | None
    overrides: Mapping[str, str]
    """The flag or variable of each setting that has one."""
    chosen_by: str
    """Why it is this file, or none."""

    def origin(self, place: Place) -> str:
        """Return where a value came from: a flag, a variable, a file and line, or `default`.

        After the line, the `${NAME}` that the value came through.
        """
        name = str(place[0])
        if name in self.overrides:
            return self.overrides[name]
        if self.document is not None and name in self.document.data:
            line = f"{self.document.name}:{self.document.line(place)}"
            through = ", ".join(f"${{{each}}}" for each in self.references(place))
            return f"{line} ({through})" if through else line
        return "default"

    def references(self, place: Place) -> list[str]:
        """Return the names that a value of the file refers to by `${NAME}`."""
        if self.document is None or place[0] in self.overrides:
            return []
        return references(self.document.written.get(place, ""))


def load_settings(
    config: Path | None = None,
    flags: Mapping[str, object] = {},
    variables: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings in force. A flag that is None was not given.

    `config` is the file; without it, the one in GYMHOST_CONFIG, else `gymhost.yaml` if it is here.

    Raises: ConfigError: all that is wrong, a line each.
    """
    return load_configuration(config, flags, variables).settings


def load_configuration(
    config: Path | None = None,
    flags: Mapping[str, object] = {},
    variables: Mapping[str, str] = os.environ,
) -> Configuration:
    """Return the settings in force, and where each came from.

    Raises: ConfigError: all that is wrong, a line each.
    """
    document, chosen_by = _document(config, variables)
    given: dict[str, Any] = dict(document.data) if document is not None else {}
    overrides: dict[str, str] = {}
    for name, row in TABLE.items():
        value = variables.get(row.variable, "").strip()
        if value:  # an empty variable is one that is not set
            given[name] = [Text(value)] if name == "keys" else Text(value)
            overrides[name] = row.variable
    for name, flag in flags.items():
        if flag is not None:
            given[name] = flag
            overrides[name] = TABLE[name].flag or name
    try:
        settings, problems = Settings.model_validate(given), []
    except ValidationError as exc:
        settings, problems = Settings(), exc.errors(include_url=False)
    checked = Configuration(settings, document, overrides, chosen_by)
    lines = _lines(checked, problems)
    if lines:
        raise ConfigError(lines)  # not from pydantic's: it has the values
    return checked


def _document(config: Path | None, variables: Mapping[str, str]) -> tuple[Document | None, str]:
    variable = variables.get(CONFIG_VARIABLE, "").strip()
    if config is not None:
        path, chosen_by = config, "--config"
    elif variable:
        path, chosen_by = Path(variable), CONFIG_VARIABLE
    else:
        path, chosen_by = DEFAULT_FILE, "the working folder"
    try:
        text = read(path)
    except FileNotFoundError as exc:
        if chosen_by in {"--config", CONFIG_VARIABLE}:
            raise ConfigError([f"{chosen_by}: there is no file {str(path)!r}"]) from exc
        return None, "default"
    # only here: most have no file, and PyYAML takes 15 ms and half a MB
    from gymhost.config.file import parse_document, read_names

    names = cache(lambda: read_names(path.parent / "env.yaml"))
    return parse_document(str(path), text, Substitute(variables, names)), chosen_by


def _lines(checked: Configuration, errors: list[Any]) -> list[str]:
    """Say what is wrong, in the file's order; and not again what follows from it."""
    document, found = checked.document, list[tuple[int, str]]()
    known: set[Place] = set()
    if document is not None:
        for place, line, problem in document.problems:
            if place[0] not in checked.overrides:
                known.add(place)
                found.append((line, f"{document.name}:{line}: {dotted(place)}: {problem}"))
    for error in errors:
        place = error["loc"]
        if place[-1] == "[key]" and error["type"] == "value_error":  # pydantic's, of a wrong name
            place = place[:-1]
        if any(place[: len(each)] == each for each in known):
            continue
        origin, line = checked.overrides.get(place[0], ""), 0
        if document is not None and place[0] not in checked.overrides:
            line = document.line(place)
            origin = f"{document.name}:{line}: {dotted(place)}"
        found.append((line, f"{origin}: {_problem(checked, error)}"))
    return [text for _, text in sorted(found, key=lambda each: each[0])]


def _problem(checked: Configuration, error: Any) -> str:
    place: Place = error["loc"]
    if error["type"] == "extra_forbidden":
        return unknown_key(str(place[-1]), _known_keys(place))
    override = place[0] in checked.overrides
    value = error["input"]
    if override and isinstance(value, Text):
        error = {**error, "input": str(value)}
    written = checked.document.written.get(place) if checked.document and not override else None
    return explain(error, written, secret=place[0] == "keys")


def _known_keys(place: Place) -> list[str]:
    models: dict[int, type[BaseModel]] = {1: Settings, 3: EnvironmentSettings, 4: LimitsSettings}
    if place[0] == "agents" and len(place) == 3:
        return list(AgentSettings.model_fields)
    return list(models[len(place)].model_fields)
