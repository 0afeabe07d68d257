"""Await one environment's hook implementation inside every plugin's wrappers.

pluggy finds and orders the implementations; it can't await them (a wrapper around an async hook
would see the coroutine). So a chain is compiled from pluggy's record, and driven here: the
wrappers are pluggy's ordinary generators, entered outermost first, around the awaited result.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import anyio
import pluggy

from gymhost.deadlines import Deadlines, Interrupted, never_waits
from gymhost.errors import CallTimeout, HookError
from gymhost.hookspecs import PROJECT, HookSpecs
from gymhost.threads import Threads

__all__ = ["Check", "HookCall", "HookChain", "Runner", "compile_chain", "create_plugin_manager"]

Wrapper = Generator[Any, Any, Any]
Runner = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Awaits a function somewhere else: `OwnerTask.run`."""
Check = Callable[[Any], Any]
"""Returns a hook's result as its wrappers are to see it, or raises what is wrong with it."""


def create_plugin_manager() -> pluggy.PluginManager:
    """Return a plugin manager that knows every hook.

    The specs come before any plugin: pluggy refuses an `async def` wrapper only when it knows
    the hook's spec.
    """
    manager = _PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    return manager


class _PluginManager(pluggy.PluginManager):
    """One that looks for hooks only where some may be."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        # Two thirds of what dir() finds are Python's own, and each takes pluggy some 50 us.
        return None if is_pythons(name) else super().parse_hookimpl_opts(plugin, name)


def is_pythons(name: str) -> bool:
    """Whether an attribute is Python's own, as `__init__`: none is a hook."""
    return name.startswith("__")


def compile_chain(
    manager: pluggy.PluginManager,
    hook_name: str,
    plugin: object,
    *,
    environment: str,
    siblings: Sequence[object],
    threads: Threads,
    check: Check | None = None,
    timed_out: Callable[[], None] = lambda: None,
    deadlines: Deadlines | None = None,
) -> HookChain:
    """Compile `plugin`'s implementation of a hook and the wrappers around it.

    `siblings` are the other environments: their own wrappers apply to themselves alone. An
    implementation is picked by identity, never by excluding others; a hook that the plugin does
    not implement falls back to the method that it inherits, the base class's default.

    Raises: HookError: the plugin implements the hook twice, or only wraps an abstract one.
    """
    implementations = getattr(manager.hook, hook_name).get_hookimpls()
    own = [impl for impl in implementations if impl.plugin is plugin and not impl.wrapper]
    if len(own) > 1:
        names = ", ".join(sorted(impl.function.__name__ for impl in own))
        raise HookError(f"{hook_name!r} is implemented more than once: {names}")
    # pluggy calls the last registered first: that one is outermost
    wrappers = [impl for impl in reversed(implementations) if impl.wrapper]
    if wrappers:  # rarely; and there may be a thousand siblings
        others = {id(sibling) for sibling in siblings if sibling is not plugin}
        wrappers = [impl for impl in wrappers if id(impl.plugin) not in others]
    return HookChain(
        hook_name,
        environment,
        HookCall.of(own[0]) if own else _inherited(plugin, hook_name),
        [HookCall.of(impl) for impl in wrappers],
        threads,
        check,
        timed_out,
        deadlines,
    )


@dataclass(frozen=True, slots=True)
class HookCall:
    """A function, and which of a hook's arguments it takes, in pluggy's two kinds."""

    function: Callable[..., Any]
    positional: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Those with a default of their own: pluggy passes them all the same."""

    @classmethod
    def of(cls, implementation: pluggy.HookImpl) -> HookCall:
        """Return what pluggy found out about an implementation."""
        return cls(
            implementation.function, implementation.argnames, tuple(implementation.kwargnames)
        )

    def bind(self, arguments: Mapping[str, Any]) -> Callable[[], Any]:
        """Return the function with the arguments it takes, as pluggy would call it."""
        positional = [arguments[name] for name in self.positional]
        if not self.optional:
            return partial(self.function, *positional)
        return partial(
            self.function,
            *positional,
            **{name: arguments[name] for name in self.optional if name in arguments},
        )


def _inherited(plugin: object, hook_name: str) -> HookCall:
    """Return the method that a plugin inherits, below wrappers of its own of the same name."""
    for cls in type(plugin).__mro__:
        member = vars(cls).get(hook_name)
        if member is None or getattr(member, f"{PROJECT}_impl", {}).get("wrapper"):
            continue
        if getattr(member, "__isabstractmethod__", False):
            break
        return HookCall(member.__get__(plugin), _parameters(member))
    raise HookError(f"{hook_name!r} is wrapped, and nothing implements it")


@lru_cache(maxsize=64)  # mostly of the base class's own hooks, for each environment again
def _parameters(method: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a method's parameters, without self."""
    _, *names = inspect.signature(method).parameters
    return tuple(names)


class HookChain:
    """One hook of one environment, ready to be awaited."""

    def __init__(
        self,
        hook_name: str,
        environment: str,
        implementation: HookCall,
        wrappers: Sequence[HookCall],
        threads: Threads,
        check: Check | None = None,
        timed_out: Callable[[], None] = lambda: None,
        deadlines: Deadlines | None = None,
    ) -> None:
        """`check` makes of what is returned what a wrapper is sent. Where there is no wrapper, it
        is left to the caller. `timed_out` is called when the implementation took too long, which
        a wrapper may hide from the caller.
        """
        self.hook_name = hook_name
        self.implementation = implementation
        self._environment = environment
        self._is_async = inspect.iscoroutinefunction(implementation.function)
        takes = {*implementation.positional, *implementation.optional}
        plain = "environment" not in takes and not implementation.optional
        self._is_direct = self._is_async and plain and not wrappers
        """Nothing stands between the caller and the implementation, as in most environments."""
        self._is_unlimited = self._is_direct and never_waits(implementation.function)
        self._wrappers = wrappers
        self._threads = threads
        self._check = check
        self._timed_out = timed_out
        self._deadlines = deadlines or Deadlines()

    def is_default(self, method: Callable[..., Any]) -> bool:
        """Whether the implementation is this method of a base class, with nothing around it."""
        # by the function: `specname` may have given another method the hook
        function = getattr(self.implementation.function, "__func__", None)
        return function is method and not self._wrappers

    async def __call__(
        self, arguments: Mapping[str, Any], seconds: float, run: Runner | None = None
    ) -> Any:
        """Await the hook. `seconds` bounds the implementation; the wrappers see the timeout.

        With `run` the implementation is awaited by it, in another task than the wrappers.

        Raises: CallTimeout: it took longer; Interrupted: by a stop; HookError: a wrapper broke the
        rules; and whatever the implementation or a wrapper raises.
        """
        if self._is_direct and run is None:
            values = map(arguments.__getitem__, self.implementation.positional)
            if self._is_unlimited:
                return await self.implementation.function(*values)
            return await self._limited(seconds, self.implementation.function, *values)
        arguments = {**arguments, "environment": self._environment}
        call: Callable[[], Awaitable[Any]]
        call = partial(self._call, self.implementation.bind(arguments))
        if run is not None:
            call = partial(run, call)
        if not self._wrappers:
            return await self._limited(seconds, call)
        # the wrappers have no limit of their own, and are interrupted as the implementation is
        limited = partial(self._limited, seconds, call)
        return await self._limited(math.inf, self._inside_wrappers, arguments, limited)

    async def _call(self, function: Callable[[], Any]) -> Any:
        if self._is_async:
            return await function()
        result = await self._threads.run(function)
        # a decorator may hide a coroutine function behind a plain one
        return await result if inspect.isawaitable(result) else result

    async def _limited(
        self, seconds: float, function: Callable[..., Awaitable[Any]], *values: Any
    ) -> Any:
        # no TimeoutError: one of the author's own must stay what it is
        scope = anyio.CancelScope()
        self._deadlines.begin(scope, seconds)
        try:
            with scope:
                return await function(*values)
        finally:
            self._deadlines.end(scope, seconds)
        raise self._given_up(seconds)

    def _given_up(self, seconds: float) -> CallTimeout | Interrupted:
        if self._deadlines.interrupted:
            return Interrupted()
        self._timed_out()
        return CallTimeout(f"{self.hook_name} of {self._environment!r}", seconds)

    async def _inside_wrappers(
        self, arguments: Mapping[str, Any], call: Callable[[], Awaitable[Any]]
    ) -> Any:
        entered: list[Wrapper] = []
        result: Any = None
        error: BaseException | None = None
        try:
            for each in self._wrappers:
                wrapper = each.bind(arguments)()
                await self._enter(wrapper)
                entered.append(wrapper)
            result = self._checked(await call())
        except BaseException as exc:  # noqa: BLE001 - raised again below, if no wrapper minds
            error = exc
        for wrapper in reversed(entered):
            try:
                result = self._checked(await self._leave(wrapper, result, error), wrapper)
                error = None
            except BaseException as exc:  # noqa: BLE001
                error = exc
        if error is not None:
            try:
                raise error
            finally:
                # Its traceback holds this frame, which holds the whole trajectory: a circle would
                # keep both until the garbage collector comes by.
                del error
        return result

    def _checked(self, value: Any, wrapper: Wrapper | None = None) -> Any:
        if self._check is None:
            return value
        try:
            return self._check(value)
        except Exception as exc:
            if wrapper is not None:  # else it is the environment's, as ever
                exc.add_note(f"{_name(wrapper)} returned it, a wrapper of {self.hook_name!r}")
            raise

    async def _enter(self, wrapper: Wrapper) -> None:
        """Run a wrapper up to its bare `yield`."""
        if await _advance(wrapper, partial(next, wrapper)) is _RETURNED:
            raise HookError(f"a wrapper of {self.hook_name!r} did not yield: {_name(wrapper)}")

    async def _leave(self, wrapper: Wrapper, result: Any, error: BaseException | None) -> Any:
        """Send what was awaited, or throw what was raised, and return what the wrapper returns."""
        step = partial(wrapper.send, result) if error is None else partial(wrapper.throw, error)
        returned: list[Any] = []
        try:
            if await _advance(wrapper, step, returned) is _RETURNED:
                return returned[0]
            wrapper.close()
            raise HookError(
                f"a wrapper of {self.hook_name!r} yielded twice: {_name(wrapper)}"
            ) from error
        finally:
            del error, step  # see _inside_wrappers


_RETURNED = object()


async def _advance(
    wrapper: Wrapper, step: Callable[[], Any], returned: list[Any] | None = None
) -> object:
    """Advance a wrapper to its next bare `yield`, awaiting each awaitable that it yields.

    Returns None at a bare yield, `_RETURNED` at the end (what it returned is in `returned`).
    """
    try:
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
                    f"{_name(wrapper)} yielded {yielded!r}: a wrapper yields nothing, "
                    "or an awaitable"
                )
            try:
                value = await yielded
            except BaseException as exc:  # noqa: BLE001 - the wrapper's to handle
                step = partial(wrapper.throw, exc)
            else:
                step = partial(wrapper.send, value)
    finally:
        del step  # see _inside_wrappers


def _name(wrapper: Wrapper) -> str:
    return getattr(wrapper, "__qualname__", repr(wrapper))
