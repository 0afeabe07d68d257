"""What a plugin's hook implementations must be like: pluggy takes much that never fires."""

from __future__ import annotations

import inspect
from typing import Any

import pluggy

from gymhost.dispatch import is_pythons
from gymhost.errors import PluginLoadError
from gymhost.hookspecs import EXTENSION_HOOKS, LIFECYCLE_HOOKS, PROJECT

__all__ = ["check_environment", "check_extension"]

HOOKS = LIFECYCLE_HOOKS | EXTENSION_HOOKS
OWN_HOOKS = EXTENSION_HOOKS | {"startup", "shutdown"}
"""What an extension may implement; the other hooks it can only wrap."""

_MARK = f"{PROJECT}_impl"


def check_environment(manager: pluggy.PluginManager, plugin: object) -> None:
    """Check an environment.

    Raises: PluginLoadError: an implementation that would never fire, or not as it is meant.
    """
    for name, hook, options in _implementations(manager, plugin):
        if hook in EXTENSION_HOOKS:
            raise PluginLoadError(f"{name!r}: {hook!r} is for extensions, not for environments")
        _check_kind(plugin, name, options)


def check_extension(manager: pluggy.PluginManager, plugin: object) -> None:
    """Check an extension.

    Raises: PluginLoadError: an implementation that would never fire, or not as it is meant; or
    there is none at all.
    """
    implemented = _implementations(manager, plugin)
    for name, hook, options in implemented:
        _check_kind(plugin, name, options)
        if hook not in OWN_HOOKS and not options["wrapper"]:
            raise PluginLoadError(
                f"an extension can only wrap {hook!r}: mark {name!r} @hookimpl(wrapper=True)"
            )
        if hook in EXTENSION_HOOKS and (
            options["wrapper"] or inspect.iscoroutinefunction(getattr(plugin, name))
        ):
            raise PluginLoadError(f"{name!r}: {hook!r} is a plain `def`, and no wrapper")
    _refuse_forgotten_marks(plugin, {name for name, _, _ in implemented})
    if not implemented:
        raise PluginLoadError("it is no Environment class, and implements no hook")


def _implementations(
    manager: pluggy.PluginManager, plugin: object
) -> list[tuple[str, str, dict[str, Any]]]:
    """Return each marked attribute, with its hook and its options."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    for name in dir(plugin):
        if is_pythons(name):
            continue
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            member = inspect.getattr_static(plugin, name, None)
            # a function's mark is what pluggy has looked for
            if not inspect.isfunction(member) and _is_marked(member):
                raise PluginLoadError(f"{name!r} is marked as a hook and is no plain method")
            continue
        hook = options["specname"] or name
        if hook not in HOOKS:
            raise PluginLoadError(f"{hook!r} is no hook. Hooks: {', '.join(sorted(HOOKS))}")
        found.append((name, hook, dict(options)))
    return found


def _is_marked(value: object) -> bool:
    """Whether a value has the marker. It is not asked for it: a proxy has every attribute."""
    return isinstance(inspect.getattr_static(value, _MARK, None), dict)


def _check_kind(plugin: object, name: str, options: dict[str, Any]) -> None:
    function = getattr(plugin, name)
    yields = inspect.isgeneratorfunction(function)
    if options["hookwrapper"]:
        raise PluginLoadError(f"{name!r}: use wrapper=True, not hookwrapper=True")
    if options["wrapper"] and not yields:
        raise PluginLoadError(
            f"{name!r} is marked wrapper=True and is no generator: it must be a plain `def` that "
            "yields once"
        )
    if not options["wrapper"] and (yields or inspect.isasyncgenfunction(function)):
        raise PluginLoadError(f"{name!r} yields: only a wrapper may, @hookimpl(wrapper=True)")


def _refuse_forgotten_marks(plugin: object, marked: set[str]) -> None:
    """An extension has no base class that would mark its methods, so a forgotten mark is silent."""
    for name in sorted(HOOKS - marked):
        member = inspect.getattr_static(plugin, name, None)
        if not inspect.isfunction(member):
            continue
        if name in OWN_HOOKS or inspect.isgeneratorfunction(member):
            raise PluginLoadError(f"{name!r} is named like a hook and not marked: use @hookimpl")
