"""Await one environment's hook implementation inside every plugin's wrappers.

pluggy finds and orders the implementations; it can't await them (a wrapper around an async hook
would see the coroutine). So a chain is compiled from pluggy's record, and driven here: the
wrappers are pluggy's ordinary generators, entered outermost first, around the awaited result.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import pluggy

from gymhost.errors import CallTimeout, HookError
from gymhost.hookspecs import PROJECT, HookSpecs
from gymhost.threads import Threads

__all__ = ["HookChain", "compile_chain", "create_plugin_manager"]

Wrapper = Generator[Any, Any, Any]


def create_plugin_manager() -> pluggy.PluginManager:
    """Return a plugin manager that knows every hook.

    The specs come before any plugin: pluggy refuses an `async def` wrapper only when it knows
    the hook's spec.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    return manager


def compile_chain(
    manager: pluggy.PluginManager,
    hook_name: str,
    plugin: object,
    *,
    environment: str,
    siblings: Sequence[object],
    threads: Threads,
) -> HookChain:
    """Compile `plugin`'s implementation of a hook and the wrappers around it.

    `siblings` are the other environments: their own wrappers apply to themselves alone. An
    implementation is picked by identity, never by excluding others; a hook that the plugin does
    not implement falls back to its method of that name, the base class's default.

    Raises: HookError: the plugin implements the hook twice.
    """
    implementations = getattr(manager.hook, hook_name).get_hookimpls()
    others = {id(sibling) for sibling in siblings if sibling is not plugin}
    own = [impl for impl in implementations if impl.plugin is plugin and not _wraps(impl)]
    if len(own) > 1:
        names = ", ".join(sorted(impl.function.__name__ for impl in own))
        raise HookError(f"{hook_name!r} is implemented more than once: {names}")
    function = own[0].function if own else getattr(plugin, hook_name)
    return HookChain(
        hook_name,
        environment,
        function,
        own[0].argnames if own else tuple(inspect.signature(function).parameters),
        # pluggy calls the last registered first: that one is outermost
        [
            (impl.function, impl.argnames)
            for impl in reversed(implementations)
            if _wraps(impl) and id(impl.plugin) not in others
        ],
        threads,
    )


def _wraps(implementation: pluggy.HookImpl) -> bool:
    return bool(implementation.wrapper)


class HookChain:
    """One hook of one environment, ready to be awaited."""

    def __init__(
        self,
        hook_name: str,
        environment: str,
        function: Callable[..., Any],
        argument_names: Sequence[str],
        wrappers: Sequence[tuple[Callable[..., Wrapper], Sequence[str]]],
        threads: Threads,
    ) -> None:
        self.hook_name = hook_name
        self._environment = environment
        self._function = function
        self._argument_names = argument_names
        self._is_async = inspect.iscoroutinefunction(function)
        self._wrappers = wrappers
        self._threads = threads

    @property
    def has_wrappers(self) -> bool:
        """Whether anything is wrapped around the implementation."""
        return bool(self._wrappers)

    async def __call__(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        """Await the hook. `seconds` bounds the implementation; the wrappers see the timeout.

        Raises: CallTimeout: it took longer; HookError: a wrapper broke the rules; and whatever
        the implementation or a wrapper raises.
        """
        if not self._wrappers:
            return await self._implementation(arguments, seconds)
        return await self._inside_wrappers({**arguments, "environment": self._environment}, seconds)

    async def _implementation(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        chosen = {name: arguments[name] for name in self._argument_names if name in arguments}
        # not fail_after: a TimeoutError of the author's own must stay what it is
        with anyio.move_on_after(seconds) as scope:
            if self._is_async:
                return await self._function(**chosen)
            result = await self._threads.run(partial(self._function, **chosen))
            # a decorator may hide a coroutine function behind a plain one
            return await result if inspect.isawaitable(result) else result
        if scope.cancelled_caught:
            raise CallTimeout(f"{self.hook_name} of {self._environment!r}", seconds)
        raise AssertionError("unreachable")  # pragma: no cover

    async def _inside_wrappers(self, arguments: Mapping[str, Any], seconds: float) -> Any:
        entered: list[Wrapper] = []
        result: Any = None
        error: BaseException | None = None
        try:
            for function, names in self._wrappers:
                wrapper = function(**{name: arguments[name] for name in names})
                await self._enter(wrapper)
                entered.append(wrapper)
            result = await self._implementation(arguments, seconds)
        except BaseException as exc:  # noqa: BLE001 - raised again below, if no wrapper minds
            error = exc
        for wrapper in reversed(entered):
            try:
                result = await self._leave(wrapper, result, error)
                error = None
            except BaseException as exc:  # noqa: BLE001
                error = exc
        if error is not None:
            try:
                raise error
            finally:
                del error  # the traceback holds this frame: don't hold it back
        return result

    async def _enter(self, wrapper: Wrapper) -> None:
        """Run a wrapper up to its bare `yield`."""
        if await _advance(wrapper, partial(next, wrapper)) is _RETURNED:
            raise HookError(f"a wrapper of {self.hook_name!r} did not yield: {_name(wrapper)}")

    async def _leave(self, wrapper: Wrapper, result: Any, error: BaseException | None) -> Any:
        """Send what was awaited, or throw what was raised, and return what the wrapper returns."""
        step = partial(wrapper.send, result) if error is None else partial(wrapper.throw, error)
        returned: list[Any] = []
        if await _advance(wrapper, step, returned) is not _RETURNED:
            wrapper.close()
            raise HookError(f"a wrapper of {self.hook_name!r} yielded twice: {_name(wrapper)}")
        return returned[0]


_RETURNED = object()


async def _advance(
    wrapper: Wrapper, step: Callable[[], Any], returned: list[Any] | None = None
) -> object:
    """Advance a wrapper to its next bare `yield`, awaiting each awaitable that it yields.

    Returns None at a bare yield, `_RETURNED` at the end (what it returned is in `returned`).
    """
    while True:
        try:
            yielded = step()
        except StopIteration as stop:
            if returned is not None:
                returned.append(stop.value)
            return _RETURNED
        if yielded is None:
            return None
        if not isinstance(yielded, Awaitable):
            wrapper.close()
            raise HookError(
                f"{_name(wrapper)} yielded {yielded!r}: a wrapper yields nothing, or an awaitable"
            )
        try:
            value = await yielded
        except BaseException as exc:  # noqa: BLE001 - the wrapper's to handle
            step = partial(wrapper.throw, exc)
        else:
            step = partial(wrapper.send, value)


def _name(wrapper: Wrapper) -> str:
    return getattr(wrapper, "__qualname__", repr(wrapper))
