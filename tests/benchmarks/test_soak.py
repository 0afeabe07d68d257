"""The soak says what a server holds, and complains where that is more than at the start."""

import pytest

from benchmarks.soak import Level

START = Level(memory=80.0, threads=5, descriptors=30, rows=0)


@pytest.mark.parametrize(
    ("end", "complaints"),
    [
        (START, []),
        (Level(82.0, 4, 29, 0), []),
        (Level(90.0, 5, 30, 0), ["10.0 MB of memory"]),
        (Level(80.0, 6, 32, 1), ["1 threads", "2 descriptors", "1 rows"]),
    ],
)
def test_what_is_held_is_told(end: Level, complaints: list[str]) -> None:
    assert end.above(START, START) == complaints
