"""Which cells are measured."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks.cells import BACKENDS, DEFAULT, LEGACY, MODERN, QUICK, Cell, choose


def test_the_usual_table_has_each_load_on_each_back_end() -> None:
    assert choose() == list(DEFAULT)
    loads = {(cell.protocol, cell.concurrency, cell.kilobytes) for cell in DEFAULT}
    assert {n for _, n, _ in loads} == {1, 16, 64, 256}
    assert {size for _, _, size in loads} == {2, 64, 512}
    assert {protocol for protocol, _, _ in loads} == {LEGACY, MODERN}
    assert len(DEFAULT) == len(set(DEFAULT)) == len(loads) * len(BACKENDS)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"backends": ["trio"]}, [cell for cell in DEFAULT if cell.backend == "trio"]),
        ({"backends": ["trio"], "table": QUICK}, [Cell(backend="trio")]),
        ({"concurrencies": [4]}, [Cell(backend=b, concurrency=4) for b in BACKENDS]),
        ({"sizes": [8]}, [Cell(backend=b, kilobytes=8) for b in BACKENDS]),
        (
            {"backends": ["trio"], "protocols": [MODERN]},
            [Cell(backend="trio", protocol=MODERN)],
        ),
        (
            {"backends": ["trio"], "sizes": [2, 64], "concurrencies": [1, 16, 1]},
            [
                Cell(backend="trio", concurrency=concurrency, kilobytes=kilobytes)
                for kilobytes in (2, 64)
                for concurrency in (1, 16)
            ],
        ),
    ],
)
def test_what_is_named_is_combined(named: dict[str, Any], expected: list[Cell]) -> None:
    assert choose(**named) == expected


def test_a_cell_of_an_older_report_has_the_usual_values_for_what_it_lacks() -> None:
    assert Cell.model_validate({"backend": "trio"}) == Cell(
        backend="trio", protocol=LEGACY, concurrency=16, kilobytes=2
    )
    with pytest.raises(ValidationError):
        Cell.model_validate({"backend": "trio", "of a newer report": 1})
