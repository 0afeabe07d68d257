"""Lines that are on disk before they count."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from gymhost.rollouts.appending import AppendedFile, RecordError


@pytest.fixture
def file(tmp_path: Path) -> Iterator[AppendedFile]:
    with closing(AppendedFile(tmp_path / "rows.jsonl")) as opened:
        yield opened


async def test_many_lines_at_once_are_all_there_with_few_syncs(
    file: AppendedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = 0
    real = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(file.append, b'{"n": %d}\n' % number)
    assert sorted(row["n"] for row in file.rows()) == list(range(200))
    assert 0 < syncs < 10


async def test_a_cancelled_append_is_written(file: AppendedFile) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await file.append(b"{}\n")
    assert file.path.read_bytes() == b"{}\n"


async def test_a_batch_that_does_not_fit_leaves_nothing_of_itself(
    file: AppendedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file.append(b'{"n": 1}\n')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))
    try:
        with pytest.raises(RecordError, match=r"rows.jsonl can't be written: File too large"):
            await file.append(b'{"n": "' + b"x" * 100 + b'"}\n')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.path.read_bytes() == b'{"n": 1}\n'
    with pytest.raises(RecordError, match="File too large"):  # a gap would be worse
        await file.append(b'{"n": 3}\n')
    assert file.path.read_bytes() == b'{"n": 1}\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b"', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"b": 2}', b'{"a": 1}\n{"b": 2}\n'),
        (b'{"a"', b""),
        (b'{"a": 1}\n{"b": "' + b"x" * 3_000_000, b'{"a": 1}\n'),
        (b'{"a": "' + b"x" * 3_000_000 + b'"}', b'{"a": "' + b"x" * 3_000_000 + b'"}\n'),
    ],
)
def test_a_torn_last_line_is_taken_off(file: AppendedFile, before: bytes, after: bytes) -> None:
    file.path.write_bytes(before)
    file.repair()
    assert file.path.read_bytes() == after
    file.repair()
    assert file.path.read_bytes() == after


@pytest.mark.parametrize("name", ["nowhere/rows.jsonl", "", "a\0b"])
def test_what_can_not_be_opened_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match="can't be opened"):
        AppendedFile(tmp_path / name)
