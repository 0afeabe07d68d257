"""`${NAME}` in the values of a configuration: from the environment, else from `env.yaml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gymhost.config.text import Text

__all__ = ["ReferenceProblem", "Substitute", "references"]

# `$${` is a literal `${`; what is neither is a mistake, and said to be one
PATTERN = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{")


def references(text: str) -> list[str]:
    """Return the names that a text refers to, in its order."""
    return [match["name"] for match in PATTERN.finditer(text) if match["name"]]


class ReferenceProblem(Exception):
    """A reference that can't be replaced, in words."""


class Substitute:
    """Replaces the references in a text. What is put in is not looked at again."""

    def __init__(self, variables: Mapping[str, str], more: Callable[[], Mapping[str, str]]) -> None:
        """`more` reads `env.yaml`, with its names in lower case: when it is needed."""
        self._variables = variables
        self._more = more

    def __call__(self, text: str) -> str:
        """Return a text with its references replaced, a `Text` if there was one.

        Raises: ReferenceProblem: a name that is not set, or no reference; ConfigError: `env.yaml`.
        """
        replaced = PATTERN.sub(self._replace, text)
        return Text(replaced) if references(text) else replaced

    def _replace(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match["name"]
        if name is None:
            raise ReferenceProblem(
                "has a `${` without a NAME and a `}`: write `$${` to mean itself"
            )
        if "${" in (match["default"] or ""):
            raise ReferenceProblem(
                f"has a `${{` in the default of ${{{name}}}, where nothing is replaced"
            )
        # an empty one counts as not set, as it does for GYMHOST_*; `${NAME:-}` takes it
        value = (
            self._variables.get(name)
            or self._variables.get(name.upper())
            or self._more().get(name.lower())
            or match["default"]
        )
        if value is None:
            raise ReferenceProblem(
                f"${{{name}}} is not set: set the variable {name}, or write it into env.yaml"
            )
        return value
