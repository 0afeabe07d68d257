"""A store that fails or stops where a test says, around the one in memory."""

from __future__ import annotations

from typing import Any

from gymhost.errors import StoreError
from gymhost.stores import MemoryStore
from tests.environments import Gate

CANARY = "canary-of-the-store"


class FaultyStore(MemoryStore):
    """Verbs whose names are in `broken` fail before they do anything; some wait at a gate."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.broken: dict[str, Exception] = {}
        self.gates: dict[str, Gate] = {}
        """Waited at before the verb."""
        self.gates_after: dict[str, Gate] = {}

    def fail(self, *verbs: str) -> None:
        """Let verbs fail from now on."""
        self.broken.update((verb, StoreError(CANARY)) for verb in verbs)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in VERBS:
            return found

        async def verb(*args: Any, **options: Any) -> Any:
            if name in self.gates:
                await self.gates[name].pass_through()
            if name in self.broken:
                error = self.broken[name]
                raise type(error)(*error.args)
            result = await found(*args, **options)
            if name in self.gates_after:
                await self.gates_after[name].pass_through()
            return result

        return verb


VERBS = frozenset(
    {
        "acquire",
        "add_token",
        "aclose",
        "calls",
        "check",
        "claim_closing",
        "claim_expired",
        "commit",
        "counts",
        "create",
        "find",
        "find_key",
        "forget",
        "get",
        "list",
        "open",
        "prune",
        "prune_abandoned",
        "record_verdict",
        "release",
        "renew",
        "trajectory",
        "transition",
    }
)
