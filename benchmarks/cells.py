"""What is measured: a cell is a server, a protocol, a load and a size; a run is a table of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from pydantic import BaseModel, ConfigDict

BACKENDS = ("asyncio", "trio")
LEGACY, MODERN = "2025-06-18", "2026-07-28"
PROTOCOLS = (LEGACY, MODERN)


class Cell(BaseModel):
    """One line of the table. A new dimension is a field with a default: old reports stay valid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str
    protocol: str = LEGACY
    """The MCP version of the tool call."""
    concurrency: int = 16
    """Episodes at once, each on a connection of its own."""
    kilobytes: int = 2
    """The body of verify: the trajectory, in units of 1,024 bytes."""

    def __str__(self) -> str:
        return f"{self.backend} {self.protocol} {self.concurrency} at once, {self.kilobytes} KB"


# The loads of one server: everything crossed with everything would take half an hour.
LOADS = (
    {"concurrency": 1},
    {"concurrency": 16},
    {"concurrency": 64},
    {"concurrency": 256},
    {"kilobytes": 64},
    {"kilobytes": 512},
    {"protocol": MODERN},
)
DEFAULT = tuple(Cell(backend=backend, **load) for load in LOADS for backend in BACKENDS)
QUICK = tuple(Cell(backend=backend) for backend in BACKENDS)


def choose(
    backends: Sequence[str] = (),
    protocols: Sequence[str] = (),
    concurrencies: Sequence[int] = (),
    sizes: Sequence[int] = (),
    *,
    table: Sequence[Cell] = DEFAULT,
) -> list[Cell]:
    """Return the cells of `table` on these back ends.

    A protocol, a concurrency or a size asks for every combination of what is named instead, with
    the usual value where nothing is.
    """
    backends = backends or BACKENDS
    if not (protocols or concurrencies or sizes):
        return [cell for cell in table if cell.backend in backends]
    usual = Cell(backend=BACKENDS[0])
    named = product(
        sizes or [usual.kilobytes],
        protocols or [usual.protocol],
        concurrencies or [usual.concurrency],
        backends,
    )
    return [
        Cell(backend=backend, protocol=protocol, concurrency=concurrency, kilobytes=kilobytes)
        for kilobytes, protocol, concurrency, backend in dict.fromkeys(named)
    ]
