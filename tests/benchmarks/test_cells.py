"""Which cells are measured."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks.cells import (
    DEFAULT,
    GYMHOST,
    LEGACY,
    MEMORY,
    MODERN,
    QUICK,
    SKETCH,
    SQLITE,
    STACKS,
    UVICORN,
    Cell,
    Setup,
    choose,
    interleave,
)

ASYNCIO, TRIO = Cell(backend="asyncio"), Cell(backend="trio")
ON_UVICORN = Cell(backend="asyncio", server=UVICORN)


def values(field: str) -> set[Any]:
    return {getattr(cell, field) for cell in DEFAULT}


def test_the_usual_table_has_every_load_and_every_server() -> None:
    assert choose() == list(DEFAULT)
    assert len(DEFAULT) == len(set(DEFAULT))
    assert values("concurrency") == {1, 16, 64, 256}
    assert values("kilobytes") == {2, 64, 512}
    assert values("protocol") == {LEGACY, MODERN}
    assert values("store") == {MEMORY, SQLITE}
    assert values("environments") == {1, 100, 1000}
    assert values("open_sessions") == {0, 10, 1000, 20000}
    for server, backend in STACKS:
        own = choose(servers=[server], backends=[backend])
        for load in ({"concurrency": 256}, {"kilobytes": 512}, {"protocol": MODERN}):
            assert Cell(server=server, backend=backend, **load) in own


@pytest.mark.parametrize("table", [DEFAULT, QUICK])
def test_what_is_compared_within_a_round_is_side_by_side(table: tuple[Cell, ...]) -> None:
    places = {cell: place for place, cell in enumerate(table)}
    compared = [cell for cell in table if cell.store == SQLITE or cell.application == SKETCH]
    assert compared
    for cell in compared:
        assert places[cell] - places[cell.on(store=MEMORY, application=GYMHOST)] in (1, 2)


def test_what_is_compared_with_nothing_stays_where_it_is() -> None:
    alone = [TRIO.on(store=SQLITE), ASYNCIO]
    assert interleave(alone) == alone


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"backends": ["trio"]}, [cell for cell in DEFAULT if cell.backend == "trio"]),
        ({"servers": [UVICORN]}, [cell for cell in DEFAULT if cell.server == UVICORN]),
        ({"backends": ["trio"], "table": QUICK}, [TRIO]),
        ({"concurrency": [4]}, [cell.on(concurrency=4) for cell in (ASYNCIO, TRIO, ON_UVICORN)]),
        ({"kilobytes": [8], "servers": [UVICORN]}, [ON_UVICORN.on(kilobytes=8)]),
        ({"backends": ["trio"], "protocol": [MODERN]}, [TRIO.on(protocol=MODERN)]),
        (
            {"backends": ["trio"], "kilobytes": [2, 64], "concurrency": [1, 16, 1]},
            [TRIO.on(kilobytes=size, concurrency=n) for size in (2, 64) for n in (1, 16)],
        ),
        (
            {"backends": ["trio"], "store": [SQLITE, MEMORY], "open_sessions": [0, 5]},
            [TRIO.on(open_sessions=n, store=store) for n in (0, 5) for store in (SQLITE, MEMORY)],
        ),
        (
            {"backends": ["trio"], "application": [GYMHOST, SKETCH], "store": [MEMORY, SQLITE]},
            [TRIO, TRIO.on(store=SQLITE), TRIO.on(application=SKETCH)],
        ),
        ({"servers": [UVICORN], "backends": ["trio"]}, []),
        ({"servers": [UVICORN], "backends": ["trio"], "concurrency": [1]}, []),
    ],
)
def test_what_is_named_is_combined(named: dict[str, Any], expected: list[Cell]) -> None:
    assert choose(**named) == expected


def test_cells_share_a_server_that_holds_the_same_and_a_floor_of_the_same_stack() -> None:
    cell = Cell(backend="trio", store=SQLITE, environments=3, open_sessions=4, concurrency=5)
    assert cell.setup == cell.on(kilobytes=9).setup
    assert cell.setup == Setup(backend="trio", store=SQLITE, environments=3, open_sessions=4)
    assert cell.stack == TRIO.stack == Setup(backend="trio")
    assert ON_UVICORN.stack != ASYNCIO.stack


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (TRIO, "trio 2025-06-18 16 at once, 2 KB"),
        (ON_UVICORN, "uvicorn asyncio 2025-06-18 16 at once, 2 KB"),
        (
            TRIO.on(store=SQLITE, environments=3, open_sessions=4),
            "trio 2025-06-18 16 at once, 2 KB, sqlite, 3 environments, 4 open",
        ),
    ],
)
def test_a_cell_is_named_by_what_is_not_as_usual(cell: Cell, name: str) -> None:
    assert str(cell) == name


def test_a_cell_of_an_older_report_has_the_usual_values_for_what_it_lacks() -> None:
    assert Cell.model_validate({"backend": "trio"}) == Cell(
        backend="trio", protocol=LEGACY, concurrency=16, kilobytes=2
    )
    with pytest.raises(ValidationError):
        Cell.model_validate({"backend": "trio", "of a newer report": 1})
