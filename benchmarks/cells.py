"""What is measured: a cell is a server, what it holds, and a load; a run is a table of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict

BACKENDS = ("asyncio", "trio")
HYPERCORN, UVICORN = "hypercorn", "uvicorn"
SERVERS = (HYPERCORN, UVICORN)
STACKS = ((HYPERCORN, "asyncio"), (HYPERCORN, "trio"), (UVICORN, "asyncio"))
"""The servers, on the loops that they run on."""
GYMHOST, SKETCH = "gymhost", "sketch"
APPLICATIONS = (GYMHOST, SKETCH)
MEMORY, SQLITE = "memory", "sqlite"
STORES = (MEMORY, SQLITE)
LEGACY, MODERN = "2025-06-18", "2026-07-28"
PROTOCOLS = (LEGACY, MODERN)


class Setup(BaseModel):
    """A server process, and what it holds beside the episodes that are played."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str
    server: str = HYPERCORN
    application: str = GYMHOST
    """What is served: gymhost, or the sketch of it that some targets are parts of."""
    store: str = MEMORY
    environments: int = 1
    """Those that are mounted. One of them is played."""
    open_sessions: int = 0
    """Sessions that stay open in the one that is played, and are not used."""

    @property
    def stack(self) -> Setup:
        """The same server and loop, with nothing else: what the floor is of."""
        return Setup(backend=self.backend, server=self.server)

    def __str__(self) -> str:
        return " ".join([self.stack_name, *self.holds])

    @property
    def stack_name(self) -> str:
        """The loop, and the server where it is not the usual one."""
        return self.backend if self.server == HYPERCORN else f"{self.server} {self.backend}"

    @property
    def holds(self) -> list[str]:
        """What is not as usual, in words."""
        words = [self.application] if self.application != GYMHOST else []
        if self.store != MEMORY:
            words.append(self.store)
        if self.environments != 1:
            words.append(f"{self.environments} environments")
        if self.open_sessions:
            words.append(f"{self.open_sessions} open")
        return words


class Cell(Setup):
    """One line of the table. A new dimension is a field with a default: old reports stay valid."""

    protocol: str = LEGACY
    """The MCP version of the tool call."""
    concurrency: int = 16
    """Episodes at once, each on a connection of its own."""
    kilobytes: int = 2
    """The body of verify: the trajectory, in units of 1,024 bytes."""

    @property
    def setup(self) -> Setup:
        """The server that it takes; cells of one setup share it."""
        return Setup(**{name: getattr(self, name) for name in Setup.model_fields})

    @property
    def is_possible(self) -> bool:
        """Whether what is served can do that: the sketch has one environment, in memory."""
        plain = self.on(store=MEMORY, environments=1, open_sessions=0, protocol=LEGACY)
        return self.application == GYMHOST or self == plain

    def __str__(self) -> str:
        load = f"{self.protocol} {self.concurrency} at once, {self.kilobytes} KB"
        return ", ".join([f"{self.stack_name} {load}", *self.holds])

    def on(self, **changed: Any) -> Cell:
        """Return the same cell with other values of some fields."""
        return self.model_copy(update=changed)


def interleave(cells: Iterable[Cell]) -> list[Cell]:
    """Return them with what is compared side by side: a load on both stores and on the sketch."""
    places: dict[Cell, int] = {}
    cells = list(cells)
    for cell in cells:
        places.setdefault(_twin(cell), len(places))
    return sorted(cells, key=lambda cell: places[_twin(cell)])


def _twin(cell: Cell) -> Cell:
    return cell.on(store=MEMORY, application=GYMHOST)


# The loads of each server: everything crossed with everything would take a day.
LOADS: tuple[Mapping[str, Any], ...] = (
    {"concurrency": 1},
    {"concurrency": 16},
    {"concurrency": 64},
    {"concurrency": 256},
    {"kilobytes": 64},
    {"kilobytes": 512},
    {"protocol": MODERN},
    {"store": SQLITE},
    {"application": SKETCH},
    {"application": SKETCH, "kilobytes": 512},
)
# What is asked of the usual server alone: each takes a process of its own, and some are large.
USUAL_LOADS: tuple[Mapping[str, Any], ...] = (
    {"store": SQLITE, "concurrency": 1},
    {"store": SQLITE, "concurrency": 64},
    {"store": SQLITE, "kilobytes": 512},
    {"environments": 100},
    {"environments": 1000},
    {"open_sessions": 10},
    {"open_sessions": 1000},
    {"open_sessions": 20000},
)
_STACKED = [Cell(server=server, backend=backend) for server, backend in STACKS]
USUAL = _STACKED[0]
DEFAULT = tuple(
    interleave(
        [
            *(cell.on(**load) for load in LOADS for cell in _STACKED),
            *(USUAL.on(**load) for load in USUAL_LOADS),
        ]
    )
)
QUICK = tuple(interleave([*_STACKED, USUAL.on(store=SQLITE)]))


def choose(
    table: Sequence[Cell] = DEFAULT,
    *,
    backends: Sequence[str] = (),
    servers: Sequence[str] = (),
    **named: Sequence[Any],
) -> list[Cell]:
    """Return the cells of `table` on these back ends and servers, of which some have none.

    Another field of a cell that is named asks for every combination of what is named instead, with
    the usual value where nothing is.
    """
    backends, servers = backends or BACKENDS, servers or SERVERS
    wanted = {field: dict.fromkeys(values) for field, values in named.items() if values}
    if wanted:
        loads = [dict(zip(wanted, values, strict=True)) for values in product(*wanted.values())]
        crossed = (cell.on(**load) for load in loads for cell in _STACKED)
        table = interleave(cell for cell in crossed if cell.is_possible)
    return [cell for cell in table if cell.backend in backends and cell.server in servers]
