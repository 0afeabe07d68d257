"""Compiled hooks of small environments, without a host."""

from typing import Any

from gymhost import Environment, Session
from gymhost.dispatch import Check, HookChain, compile_chain, create_plugin_manager
from gymhost.threads import Threads


class World(Environment):
    """Scores what it is told to."""

    def __init__(self, score: float = 1.0) -> None:
        self.score = score

    async def verify(self, session: Session, trajectory: Any) -> float:
        return self.score


def compiled(
    hook: str,
    environment: Environment,
    *plugins: object,
    threads: Threads | None = None,
    check: Check | None = None,
) -> HookChain:
    """Compile a hook of an environment that is registered before `plugins`."""
    manager = create_plugin_manager()
    for plugin in (environment, *plugins):
        manager.register(plugin)
    siblings = [plugin for plugin in plugins if isinstance(plugin, Environment)]
    return compile_chain(
        manager,
        hook,
        environment,
        environment="world",
        siblings=siblings,
        threads=threads or Threads(2),
        check=check,
    )


VERIFY: dict[str, Any] = {"session": "the session", "trajectory": "the trajectory"}
