"""Find what is installed under the entry-point group `gymhost`, and import it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gymhost.errors import PluginLoadError
from gymhost.hookspecs import PROJECT

__all__ = ["AUTHOR_ERRORS", "Installed", "installed"]

AUTHOR_ERRORS = (Exception, SystemExit, BaseExceptionGroup)
"""A plugin's import or constructor may call sys.exit(); that must not end the host."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A name of the entry-point group, and who claims it. Nothing is imported yet."""

    name: str
    distribution: str | None
    version: str | None
    points: tuple[EntryPoint, ...]

    @property
    def title(self) -> str:
        """What an error calls it."""
        return f"{self.name!r} of {_claim(self.points[0])}"

    def load(self) -> Any:
        """Import the object.

        Raises: PluginLoadError: it can't be imported, or more than one is meant.
        """
        claims = sorted({_claim(point) for point in self.points})
        if len(claims) > 1:
            raise PluginLoadError(
                f"{self.name!r} is claimed by {' and by '.join(claims)}: uninstall one of them"
            )
        try:
            return self.points[0].load()
        except AUTHOR_ERRORS as exc:
            raise PluginLoadError(f"{self.title} could not be imported") from exc


def installed() -> list[Installed]:
    """Return what is installed, by name."""
    claims: dict[str, list[EntryPoint]] = defaultdict(list)
    # sorted: directory order differs between machines, and wrapper order follows it
    for point in sorted(entry_points(group=PROJECT), key=lambda point: (point.name, _claim(point))):
        claims[point.name].append(point)
    return [
        Installed(name, *_distribution(points[0]), tuple(points)) for name, points in claims.items()
    ]


def _distribution(point: EntryPoint) -> tuple[str | None, str | None]:
    return (point.dist.name, point.dist.version) if point.dist is not None else (None, None)


def _claim(point: EntryPoint) -> str:
    return " ".join([*filter(None, _distribution(point)), f"({point.value})"])
