"""Make an instance of a plugin's class with an operator's options, some of which are secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gymhost.config.mask import Mask
from gymhost.config.text import plain, secrets_in
from gymhost.discovery import AUTHOR_ERRORS
from gymhost.environment import Environment
from gymhost.errors import PluginLoadError

__all__ = ["compare_by_identity", "instantiate"]


def instantiate(cls: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Make an instance.

    Raises: PluginLoadError: the class does not take the options, or its code failed. Where one
    of them is secret, without the cause, which may quote it.
    """
    try:
        return cls(**plain(dict(options)))
    except AUTHOR_ERRORS as exc:
        given = ", ".join(sorted(options)) or "none"
        problem = (
            f"{getattr(cls, '__qualname__', repr(cls))} could not be made with the options: {given}"
        )
        secrets = set(secrets_in(dict(options))) - {""}
        if secrets:
            said = Mask(secrets, shortest=1)(": ".join(_parts(exc)))
            raise PluginLoadError(f"{problem}: {said}") from None
        raise PluginLoadError(problem) from exc


def _parts(error: BaseException | None) -> Iterator[str]:
    """Describe an error and its causes; pydantic's without the input, which it shortens."""
    while error is not None:
        if isinstance(error, ValidationError):
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            yield "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems
            )
        else:
            yield f"{type(error).__name__}: {error}"
        error = error.__cause__


def compare_by_identity(cls: type[Environment[Any]]) -> None:
    """Give a class the base class's equality back, which pluggy needs: @dataclass replaces it."""
    if cls.__eq__ is not Environment.__eq__:
        cls.__eq__ = Environment.__eq__  # type: ignore[method-assign]
    if cls.__hash__ is not Environment.__hash__:
        cls.__hash__ = Environment.__hash__  # type: ignore[method-assign]
