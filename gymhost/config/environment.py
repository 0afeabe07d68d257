"""What an operator decides about one environment, and the names that it may have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gymhost.environment import Environment
from gymhost.errors import PluginLoadError
from gymhost.limits import Limits

__all__ = ["EnvironmentConfig", "check_name"]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class EnvironmentConfig:
    """How an environment is mounted under one name."""

    plugin: str | type[Environment[Any]] | Environment[Any] | None = None
    """An installed plugin's name (None: the mount's own name), a class, or a ready instance."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Keyword arguments of the class. Not in the repr: some are secret."""
    limits: Limits = field(default_factory=Limits)
    on_failure: Literal["error", "report"] = "error"
    """What verify answers in a session where something failed: 502, or 200 with `mask_sample`."""


def check_name(name: object) -> None:
    """Refuse what would be no path segment.

    Raises: PluginLoadError: a name that is not `[a-z0-9][a-z0-9_-]*`.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise PluginLoadError(
            f"{name!r} can't be mounted: use lower-case ASCII letters, digits, '_' and '-'"
        )
