"""The tasks of a run: rows of a JSONL file, or an environment's own; each is checked before all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pydantic_core

from gymhost.errors import GymhostError, InvalidField
from gymhost.models import JSONObject, Task, finite_json, json_type

__all__ = ["OWN_KEYS", "InputError", "materialized", "rows_of_file", "rows_of_tasks", "task_of"]

OWN_KEYS = ("_ng_task_index", "_ng_rollout_index", "agent_ref")
"""What the runner adds to a row. An input that has them, as another run's, has them replaced."""


class InputError(GymhostError):
    """The input is no list of tasks, in one line: nothing is started."""


def rows_of_file(path: Path, limit: int | None = None) -> Iterator[JSONObject]:
    """Yield the rows of a JSONL file, one at a time. Empty lines are none.

    Raises: InputError: with the file and the line.
    """
    try:
        with path.open("rb") as file:
            yield from islice(_rows(path, file), limit)
    except (OSError, ValueError) as exc:  # ValueError: a null byte in the name
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise InputError(f"{path} can't be read: {reason}") from exc


def _rows(path: Path, file: Iterable[bytes]) -> Iterator[JSONObject]:
    for number, line in enumerate(file, 1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield _parsed(f"{path}:{number}", text)


def _parsed(where: str, line: bytes) -> JSONObject:
    try:
        row: Any = pydantic_core.from_json(line, allow_inf_nan=False)
        # 1e999 reads as an infinity, and a depth that can be read may be too deep to be written
        finite_json(row)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{where}: not JSON: {' '.join(str(exc).split())}") from exc
    if not isinstance(row, dict):
        raise InputError(f"{where}: a task is a JSON object, not {json_type(row)}")
    _check(where, row)
    return row


def rows_of_tasks(
    environment: str, tasks: Iterable[Task], limit: int | None = None
) -> Iterator[JSONObject]:
    """Yield an environment's own tasks as rows.

    Raises: InputError: one that can't be sent.
    """
    for number, task in enumerate(islice(tasks, limit)):
        where = f"task {number} of {environment}"
        row = task.to_row()
        try:
            finite_json(row).encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise InputError(f"{where} is not JSON: {exc}") from exc
        _check(where, row)
        yield row


def _check(where: str, row: JSONObject) -> None:
    try:
        task = Task.from_row(row)
    except InvalidField as exc:
        raise InputError(f"{where}: {str(exc).rstrip('.')}") from exc
    asked = task.responses_create_params.get("input")
    if asked is None or isinstance(asked, str):
        return
    if not isinstance(asked, list):
        raise InputError(
            f"{where}: 'responses_create_params.input' must be a string or a list of messages, "
            f"not {json_type(asked)}"
        )
    for number, message in enumerate(asked):
        if not isinstance(message, dict):
            raise InputError(
                f"{where}: 'responses_create_params.input.{number}' must be a message, "
                f"not {json_type(message)}"
            )


def materialized(
    rows: Iterable[JSONObject], attempts: int, agent: str
) -> Iterator[tuple[int, bytes]]:
    """Yield a line for each attempt, and its task's number: a task's attempts one after another."""
    for index, row in enumerate(rows):
        bare = {key: value for key, value in row.items() if key not in OWN_KEYS}
        for attempt in range(attempts):
            own = {
                "_ng_task_index": index,
                "_ng_rollout_index": attempt,
                "agent_ref": {"name": agent},
            }
            yield index, finite_json({**bare, **own}).encode() + b"\n"


def task_of(line: bytes) -> Task:
    """Return the task of a materialized line."""
    row = pydantic_core.from_json(line)
    return Task.from_row({key: value for key, value in row.items() if key not in OWN_KEYS})
