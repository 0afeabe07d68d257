"""Find, load and block plugins, and record what loaded, what failed and why."""

from __future__ import annotations

import inspect
import logging
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import pluggy

from gymhost.config import EnvironmentConfig
from gymhost.environment import Environment
from gymhost.errors import PluginLoadError
from gymhost.hookspecs import EXTENSION_HOOKS, LIFECYCLE_HOOKS, PROJECT

__all__ = [
    "Extension",
    "LoadedEnvironment",
    "PluginLoader",
    "PluginRecord",
    "check_all_up",
    "describe",
]

logger = logging.getLogger("gymhost.plugins")

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

# A plugin's import or constructor may call sys.exit(); that must not end the host.
AUTHOR_ERRORS = (Exception, SystemExit)


@dataclass(slots=True)
class PluginRecord:
    """What became of one plugin, or of one mounted environment."""

    name: str
    kind: Literal["environment", "extension", "unknown"]
    status: Literal["up", "failed", "blocked"]
    distribution: str | None = None
    version: str | None = None
    error: BaseException | None = None

    @property
    def reason(self) -> str | None:
        """Why it failed, in one line, the cause included."""
        return None if self.error is None else describe(self.error)


@dataclass(slots=True)
class LoadedEnvironment:
    """An environment that could be built, and how it is mounted."""

    record: PluginRecord
    instance: Environment[Any]
    config: EnvironmentConfig


@dataclass(frozen=True, slots=True)
class Extension:
    """A registered plugin whose hooks wrap the environments'."""

    record: PluginRecord
    instance: object

    @property
    def name(self) -> str:
        """The entry point's name, or the class's."""
        return self.record.name


@dataclass(slots=True)
class _Source:
    """Something to make environments of."""

    plugin: object
    distribution: str | None = None
    version: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def describe(error: BaseException) -> str:
    """Return an error and its causes in one line."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = str(current) or type(current).__name__
        if isinstance(current, SystemExit):
            text = f"it called sys.exit({current.code!r})"
        elif not isinstance(current, PluginLoadError) and str(current):
            text = f"{type(current).__name__}: {text}"
        if not parts or text not in parts[-1]:
            parts.append(text)
        current = current.__cause__
    return ": ".join(" ".join(part.split()) for part in parts)


class PluginLoader:
    """Loads plugins into one plugin manager; each failure is that plugin's alone."""

    def __init__(self, manager: pluggy.PluginManager, blocked: Collection[str] = ()) -> None:
        self._manager = manager
        self._blocked = frozenset(blocked)
        self._sources: dict[str, _Source] = {}
        self.records: list[PluginRecord] = []
        self.extensions: list[Extension] = []

    def discover(self) -> None:
        """Import what is installed under the entry-point group `gymhost`."""
        claims: dict[str, list[EntryPoint]] = defaultdict(list)
        # sorted: directory order differs between machines, and wrapper order follows it
        for point in sorted(entry_points(group=PROJECT), key=_order):
            claims[point.name].append(point)
        for name, points in claims.items():
            record = PluginRecord(name, "unknown", "failed", *_distribution(points[0]))
            if name in self._blocked:
                record.status = "blocked"
                self.records.append(record)
                continue
            try:
                self._import(name, points, record)
            except AUTHOR_ERRORS as exc:
                self._record_failure(record, exc)

    def _import(self, name: str, points: Sequence[EntryPoint], record: PluginRecord) -> None:
        check_name(name)
        if len({_distribution(point) for point in points}) > 1:
            owners = " and ".join(" ".join(filter(None, _distribution(p))) for p in points)
            raise PluginLoadError(f"{name!r} is claimed by {owners}: uninstall one of them")
        try:
            loaded = points[0].load()
        except AUTHOR_ERRORS as exc:
            owner = " ".join(filter(None, _distribution(points[0])))
            raise PluginLoadError(
                f"{name!r} ({owner}) could not be imported from {points[0].value!r}"
            ) from exc
        if isinstance(loaded, type) and issubclass(loaded, Environment):
            self._sources[name] = _Source(loaded, record.distribution, record.version)
            return
        record.kind = "extension"
        self.add_extension(loaded, record)

    def add_extension(self, plugin: object, record: PluginRecord | None = None) -> None:
        """Register an object, or an instance of a class, whose hooks wrap the environments'."""
        name = getattr(plugin, "__name__", type(plugin).__name__)
        record = record or PluginRecord(name, "extension", "failed")
        try:
            instance = plugin() if isinstance(plugin, type) else plugin
            self._check_hooks(instance, extension=True)
            self._manager.register(instance, name=f"extension:{record.name}")
            register = getattr(instance, "register_environments", None)
            if register is not None:
                register(self._add_source)
        except AUTHOR_ERRORS as exc:
            if self._manager.has_plugin(f"extension:{record.name}"):
                self._manager.unregister(name=f"extension:{record.name}")
            self._record_failure(record, exc)
            return
        record.status = "up"
        self.records.append(record)
        self.extensions.append(Extension(record, instance))

    def _add_source(self, name: str, plugin: type[Environment[Any]], **options: Any) -> None:
        check_name(name)
        if name in self._sources:
            raise PluginLoadError(f"two environments are named {name!r}")
        self._sources[name] = _Source(plugin, options=options)

    def mount(
        self, configs: Mapping[str, EnvironmentConfig], *, only: bool = False
    ) -> list[LoadedEnvironment]:
        """Build the installed environments (unless `only`) and the configured ones."""
        mounts = {} if only else {name: EnvironmentConfig() for name in self._sources}
        mounts.update(configs)
        built = (self._build(name, config) for name, config in sorted(mounts.items()))
        return [loaded for loaded in built if loaded is not None]

    def _build(self, name: str, config: EnvironmentConfig) -> LoadedEnvironment | None:
        record = PluginRecord(name, "environment", "failed")
        try:
            check_name(name)
            source = self._source(name, config)
            record.distribution, record.version = source.distribution, source.version
            instance = _instantiate(name, source, config)
            self._check_hooks(instance, extension=False)
            self._manager.register(instance, name=f"environment:{name}")
        except AUTHOR_ERRORS as exc:
            self._record_failure(record, exc)
            return None
        record.status = "up"
        self.records.append(record)
        return LoadedEnvironment(record, instance, config)

    def _source(self, name: str, config: EnvironmentConfig) -> _Source:
        wanted = config.plugin if config.plugin is not None else name
        if not isinstance(wanted, str):
            return _Source(wanted)
        if wanted in self._blocked:
            raise PluginLoadError(f"plugin {wanted!r} is blocked")
        if wanted not in self._sources:
            known = ", ".join(sorted(self._sources)) or "none"
            raise PluginLoadError(f"no environment plugin is named {wanted!r}. Installed: {known}")
        return self._sources[wanted]

    def take_out(self, record: PluginRecord, instance: object, error: BaseException) -> None:
        """Record that a plugin failed after it was registered, and take its hooks out again."""
        if self._manager.is_registered(instance):
            self._manager.unregister(instance)
        self._note(record, error)

    def _check_hooks(self, plugin: object, *, extension: bool) -> None:
        """Refuse what pluggy would take in silence: unknown hooks, and hooks out of place."""
        for attribute in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, attribute)
            if options is None:
                continue
            name = options["specname"] or attribute
            if name not in LIFECYCLE_HOOKS | EXTENSION_HOOKS:
                known = ", ".join(sorted(LIFECYCLE_HOOKS | EXTENSION_HOOKS))
                raise PluginLoadError(f"{name!r} is no hook. Hooks: {known}")
            if options["hookwrapper"]:
                raise PluginLoadError(f"{attribute!r}: use wrapper=True, not hookwrapper=True")
            if options["wrapper"] and not inspect.isgeneratorfunction(getattr(plugin, attribute)):
                raise PluginLoadError(
                    f"{attribute!r} is marked wrapper=True and is no generator: it must be a "
                    "plain `def` that yields once"
                )
            self._check_place(name, wrapper=options["wrapper"], extension=extension)

    def _check_place(self, name: str, *, wrapper: bool, extension: bool) -> None:
        if extension and name in LIFECYCLE_HOOKS - {"startup", "shutdown"} and not wrapper:
            raise PluginLoadError(
                f"an extension can only wrap {name!r}: mark it @hookimpl(wrapper=True)"
            )
        if not extension and name in EXTENSION_HOOKS:
            raise PluginLoadError(f"{name!r} is for extensions, not for environments")

    def _record_failure(self, record: PluginRecord, error: BaseException) -> None:
        self.records.append(record)
        self._note(record, error)

    def _note(self, record: PluginRecord, error: BaseException) -> None:
        record.status, record.error = "failed", error
        logger.error("%s is not served: %s", record.name, record.reason, exc_info=error)


def check_name(name: str) -> None:
    """Refuse what would be no path segment.

    Raises: PluginLoadError: a name that is not `[a-z0-9][a-z0-9_-]*`.
    """
    if not NAME.fullmatch(name):
        raise PluginLoadError(
            f"{name!r} can't be mounted: use lower-case ASCII letters, digits, '_' and '-'"
        )


def _instantiate(name: str, source: _Source, config: EnvironmentConfig) -> Environment[Any]:
    if isinstance(source.plugin, Environment):
        if config.options:
            raise PluginLoadError(f"{name!r} is an instance: it takes no options")
        return source.plugin
    if not (isinstance(source.plugin, type) and issubclass(source.plugin, Environment)):
        raise PluginLoadError(f"{name!r} is no Environment class: {source.plugin!r}")
    options = {**source.options, **config.options}
    try:
        return source.plugin(**options)
    except AUTHOR_ERRORS as exc:
        given = ", ".join(sorted(options)) or "none"
        raise PluginLoadError(
            f"{source.plugin.__qualname__} could not be made with the options: {given}"
        ) from exc


def _order(point: EntryPoint) -> tuple[str, ...]:
    return (point.name, *(part or "" for part in _distribution(point)), point.value)


def _distribution(point: EntryPoint) -> tuple[str | None, str | None]:
    return (point.dist.name, point.dist.version) if point.dist is not None else (None, None)


def check_all_up(records: Sequence[PluginRecord]) -> None:
    """Refuse to go on where something failed.

    Raises: PluginLoadError: all of what failed, a line each.
    """
    failed = [record for record in records if record.status == "failed"]
    if failed:
        lines = "".join(f"\n  {record.name}: {record.reason}" for record in failed)
        raise PluginLoadError(f"not everything can be served:{lines}") from failed[0].error
