"""Find what is installed under the entry-point group `gymhost`, and import it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

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
    claims: tuple[str, ...]
    """Who claims the name, in words: of each point."""

    @property
    def title(self) -> str:
        """What an error calls it."""
        return f"{self.name!r} of {self.claims[0]}"

    def load(self) -> Any:
        """Import the object.

        Raises: PluginLoadError: it can't be imported, or more than one is meant.
        """
        claims = sorted(set(self.claims))
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
    claims: dict[str, list[_Claim]] = defaultdict(list)
    # sorted: directory order differs between machines, and wrapper order follows it
    for claim in sorted(map(_claim, entry_points(group=PROJECT)), key=lambda claim: claim.order):
        claims[claim.point.name].append(claim)
    return [_installed(name, of_name) for name, of_name in claims.items()]


class _Claim(NamedTuple):
    """One entry point, and what its distribution says. That is parsed here, once."""

    point: EntryPoint
    distribution: str | None
    version: str | None

    @property
    def order(self) -> tuple[str, str]:
        return self.point.name, str(self)

    def __str__(self) -> str:
        given = filter(None, (self.distribution, self.version))
        return " ".join([*given, f"({self.point.value})"])


def _claim(point: EntryPoint) -> _Claim:
    if point.dist is None:
        return _Claim(point, None, None)
    metadata = point.dist.metadata  # parsed at each access, also by `dist.name`
    return _Claim(point, metadata["Name"], metadata["Version"])


def _installed(name: str, claims: list[_Claim]) -> Installed:
    first = claims[0]
    points = tuple(claim.point for claim in claims)
    return Installed(name, first.distribution, first.version, points, tuple(map(str, claims)))
