"""Load plugins, each on its own: what fails is recorded, and the others go on."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pluggy

from gymhost.config import EnvironmentConfig
from gymhost.config.environment import check_name
from gymhost.config.mask import Mask
from gymhost.config.text import secrets_in
from gymhost.discovery import AUTHOR_ERRORS, Installed, installed
from gymhost.dispatch import HookCall
from gymhost.environment import Environment
from gymhost.errors import PluginLoadError
from gymhost.hookrules import check_environment, check_extension
from gymhost.instances import compare_by_identity, instantiate
from gymhost.plugin_records import Kind, PluginRecord, check_all_up

__all__ = [
    "Extension",
    "LoadedEnvironment",
    "PluginLoader",
    "PluginRecord",
    "check_all_up",
    "check_name",
]

logger = logging.getLogger("gymhost.plugins")


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
    seconds: float = 0.0
    """What importing it took."""


class PluginLoader:
    """Loads plugins into one plugin manager; each failure is that plugin's alone."""

    def __init__(
        self,
        manager: pluggy.PluginManager,
        blocked: Collection[str] = (),
        extension_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._manager = manager
        self._blocked = frozenset(blocked)
        self._extension_options = extension_options or {}
        self._sources: dict[str, _Source] = {}
        self._failed: dict[str, BaseException] = {}
        self._mask = Mask()
        for options in self._extension_options.values():
            self._mask.learn(secrets_in(options))
        self.records: list[PluginRecord] = []
        self.agents: dict[str, Callable[..., Any] | str] = {}
        """What makes agents, by the names that extensions have given them."""
        self.agent_owners: dict[str, PluginRecord] = {}
        """Which extension has."""
        self.extensions: list[Extension] = []

    def discover(self) -> None:
        """Import what is installed, and register it."""
        for plugin in installed():
            record = self._new_record(plugin.name, "unknown", plugin.distribution, plugin.version)
            if plugin.name in self._blocked:
                self._record_blocked(record)
                continue
            try:
                check_name(plugin.name)
                self._take(plugin, record)
            except AUTHOR_ERRORS as exc:
                self._failed[plugin.name] = exc
                self._record_failure(record, exc)
        # last: an installed name is not to be taken by an extension that sorts before it
        for extension in self.extensions:
            self._let_register(extension)

    def _take(self, plugin: Installed, record: PluginRecord) -> None:
        with record.timed():
            loaded = plugin.load()
        if isinstance(loaded, type) and issubclass(loaded, Environment):
            self._sources[record.name] = _Source(
                loaded, record.distribution, record.version, seconds=record.seconds
            )
            return
        record.kind = "extension"
        try:
            options = self._extension_options.get(plugin.name, {})
            self._register_extension(loaded, record, options)
        except AUTHOR_ERRORS as exc:
            raise PluginLoadError(
                f"{plugin.title} could not be registered as an extension"
            ) from exc

    def add_extension(self, plugin: object) -> None:
        """Register an object, or an instance of a class, whose hooks wrap the environments'."""
        name = getattr(plugin, "__name__", type(plugin).__name__)
        record = self._new_record(self._free_name(name), "extension")
        try:
            extension = self._register_extension(plugin, record)
        except AUTHOR_ERRORS as exc:
            self._record_failure(record, exc)
        else:
            self._let_register(extension)

    def _register_extension(
        self, plugin: object, record: PluginRecord, options: Mapping[str, Any] = {}
    ) -> Extension:
        with record.timed():
            instance = instantiate(plugin, options) if isinstance(plugin, type) else plugin
        if options and instance is plugin:
            raise PluginLoadError(f"it is no class: it takes no options ({', '.join(options)})")
        if isinstance(instance, Environment):
            raise PluginLoadError(
                f"an instance of {type(instance).__qualname__} is no extension: an environment is "
                "named by its class"
            )
        check_extension(self._manager, instance)
        taken = self._manager.get_name(instance)
        if taken is not None:
            raise PluginLoadError(f"an equal extension is registered: {taken}")
        self._manager.register(instance, name=f"extension:{record.name}")
        record.status = "up"
        self.records.append(record)
        extension = Extension(record, instance)
        self.extensions.append(extension)
        return extension

    def _free_name(self, name: str) -> str:
        """Return a name that no extension has: two of one class differ in their options."""
        taken = {extension.name for extension in self.extensions}
        names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        return next(each for each in names if each not in taken)

    def _let_register(self, extension: Extension) -> None:
        """Take the environments and agents that an extension registers; if it fails, none."""
        record = extension.record
        sources: dict[str, _Source] = {}

        def register(name: str, plugin: type[Environment[Any]], /, **options: Any) -> None:
            try:
                check_name(name)
                if name in self._sources or name in sources:
                    raise PluginLoadError(f"{record.name!r} registers {name!r}, which is taken")
            except PluginLoadError as exc:
                whose = record.distribution, record.version
                self._record_failure(self._new_record(str(name), "environment", *whose), exc)
            else:
                sources[name] = _Source(plugin, record.distribution, record.version, options)

        agents: dict[str, Callable[..., Any] | str] = {}

        def register_agent(name: str, factory: Callable[..., Any] | str, /) -> None:
            check_name(name)
            if name in self.agents or name in agents:
                raise PluginLoadError(f"the agent {name!r} is registered already")
            if not callable(factory) and ":" not in factory:
                raise PluginLoadError(
                    f"the agent {name!r} is no class, function or 'module:attribute': {factory!r}"
                )
            agents[name] = factory

        try:
            self._call_own(extension, "register_environments", register)
            self._call_own(extension, "register_agents", register_agent)
        except AUTHOR_ERRORS as exc:
            self.take_out(record, extension.instance, exc)
        else:
            self._sources.update(sources)
            self.agents.update(agents)
            self.agent_owners.update(dict.fromkeys(agents, record))

    def _call_own(self, extension: Extension, hook: str, register: Callable[..., None]) -> None:
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            if impl.plugin is extension.instance:
                HookCall.of(impl).bind({"register": register})()

    def mount(
        self, configs: Mapping[str, EnvironmentConfig], *, only: bool = False
    ) -> list[LoadedEnvironment]:
        """Build the installed environments (unless `only`) and the configured ones."""
        mounts = {} if only else {name: EnvironmentConfig() for name in self._sources}
        mounts.update(configs)
        for config in configs.values():
            self._mask.learn(secrets_in(config.options))
        self._refuse_unused_options()
        built = [self._build(name, config) for name, config in sorted(mounts.items())]
        for name in sorted(self._blocked - {each.name for each in self.records}):
            logger.warning("%r is blocked, and nothing here has that name", name)
        return [loaded for loaded in built if loaded is not None]

    def _refuse_unused_options(self) -> None:
        """Record the extensions that are configured and not there."""
        known = {extension.name for extension in self.extensions}
        for name in sorted(self._extension_options.keys() - known - self._failed.keys()):
            record = self._new_record(name, "extension")
            what = (
                f"no extension is named {name!r}. Installed: {', '.join(sorted(known)) or 'none'}"
            )
            if name in self._sources:
                what = f"{name!r} is an environment: configure it under `environments`"
            if name in self._blocked:
                self._record_blocked(record)
            else:
                self._record_failure(record, PluginLoadError(what))

    def _build(self, name: str, config: EnvironmentConfig) -> LoadedEnvironment | None:
        record = self._new_record(name, "environment")
        if name in self._blocked:
            self._record_blocked(record)
            return None
        if name in self._failed and config.plugin in (None, name):
            return None  # its record says why
        try:
            check_name(name)
            source = self._source(name, config)
            record.distribution, record.version = source.distribution, source.version
            # importing is the first mount's: the others of the same class had it for nothing
            record.seconds, source.seconds = source.seconds, 0.0
            with record.timed():
                instance = self._instance(name, source, config)
            check_environment(self._manager, instance)
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
        if wanted in self._failed:
            raise PluginLoadError(f"plugin {wanted!r} failed") from self._failed[wanted]
        if wanted in {extension.name for extension in self.extensions}:
            raise PluginLoadError(f"{wanted!r} is an extension: configure it under `extensions`")
        if wanted not in self._sources:
            known = ", ".join(sorted(self._sources)) or "none"
            raise PluginLoadError(f"no environment plugin is named {wanted!r}. Installed: {known}")
        return self._sources[wanted]

    def _instance(self, name: str, source: _Source, config: EnvironmentConfig) -> Environment[Any]:
        plugin = source.plugin
        options = {**source.options, **config.options}
        if isinstance(plugin, type) and issubclass(plugin, Environment):
            instance: Environment[Any] = instantiate(plugin, options)
            compare_by_identity(type(instance))
            return instance
        if not isinstance(plugin, Environment):
            raise PluginLoadError(f"{name!r} is no Environment class: {plugin!r}")
        if options:
            raise PluginLoadError(f"{name!r} is an instance: it takes no options")
        compare_by_identity(type(plugin))
        taken = self._manager.get_name(plugin)
        if taken is not None:
            raise PluginLoadError(
                f"this instance of {type(plugin).__qualname__} is mounted already, as {taken}: "
                "mount the class, or another instance"
            )
        return plugin

    def take_out(self, record: PluginRecord, instance: object, error: BaseException) -> None:
        """Record that a plugin failed after it was registered, and take its hooks out again."""
        self._manager.unregister(instance)
        self._note(record, error)

    def _new_record(
        self, name: str, kind: Kind, distribution: str | None = None, version: str | None = None
    ) -> PluginRecord:
        """Return a record that has failed, until it is up."""
        return PluginRecord(name, kind, "failed", distribution, version, mask=self._mask)

    def _record_failure(self, record: PluginRecord, error: BaseException) -> None:
        self.records.append(record)
        self._note(record, error)

    def _record_blocked(self, record: PluginRecord) -> None:
        if record.name not in {each.name for each in self.records if each.status == "blocked"}:
            record.status = "blocked"
            self.records.append(record)

    def _note(self, record: PluginRecord, error: BaseException) -> None:
        record.status, record.error = "failed", error
        # of our own, without a cause: the reason is all there is
        said = isinstance(error, PluginLoadError) and error.__cause__ is None
        logger.error(
            "%s is not served: %s", record.name, record.reason, exc_info=None if said else error
        )
