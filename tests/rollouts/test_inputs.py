"""The tasks of a run: what is a row, what is none, and in which line it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gymhost import Task
from gymhost.rollouts.inputs import (
    InputError,
    materialized,
    rows_of_file,
    rows_of_tasks,
    task_of,
)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "tasks.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_rows_are_read_with_whatever_keys_they_have(tmp_path: Path) -> None:
    rows = [
        {"responses_create_params": {"input": "Hi"}, "id": 7, "tags": ["é", None]},
        {"responses_create_params": {"input": [{"role": "system", "content": "Be kind."}]}},
        {},
    ]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = written(tmp_path, b"\xef\xbb\xbf" + text.encode() + b"\r\n  \n")
    assert list(rows_of_file(path)) == rows
    assert list(rows_of_file(path, 2)) == rows[:2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON: EOF while parsing"),
        ("[1]", "a task is a JSON object, not an array"),
        ('{"a": NaN}', "not JSON: "),
        ('{"a": 1e999}', "not JSON: "),
        ('{"a": "\\ud800"}', "not JSON: "),
        (b'{"a": "\xff"}', "not JSON: "),
        ('{"a": ' + "[" * 5_000 + "]" * 5_000 + "}", "not JSON: "),
        ('{"verifier_metadata": 1}', "'verifier_metadata' must be an object, not a number"),
        (
            '{"responses_create_params": {"input": 7}}',
            "'responses_create_params.input' must be a string or a list of messages, not a number",
        ),
        (
            '{"responses_create_params": {"input": [{}, "x"]}}',
            "'responses_create_params.input.1' must be a message, not a string",
        ),
    ],
)
def test_a_malformed_row_is_said_with_its_file_and_line(
    tmp_path: Path, line: str | bytes, said: str
) -> None:
    path = written(tmp_path, b"{}\n\n" + (line.encode() if isinstance(line, str) else line))
    with pytest.raises(InputError) as caught:
        list(rows_of_file(path))
    assert str(caught.value).startswith(f"{path}:3: {said}")
    assert "\n" not in str(caught.value)


def test_what_comes_after_the_limit_is_not_looked_at(tmp_path: Path) -> None:
    assert list(rows_of_file(written(tmp_path, "{}\n{\n"), 1)) == [{}]


@pytest.mark.parametrize(
    ("path", "reason"), [("nowhere.jsonl", "No such file"), (".", "Is a dir"), ("a\0b", "null")]
)
def test_a_file_that_can_not_be_read_is_said(tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        list(rows_of_file(tmp_path / path))


def test_own_tasks_are_rows() -> None:
    tasks = (Task(verifier_metadata={"n": n}, extra={"id": n}) for n in range(3))
    rows = list(rows_of_tasks("world", tasks, 2))
    assert [(row["verifier_metadata"], row["id"]) for row in rows] == [({"n": 0}, 0), ({"n": 1}, 1)]


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800x"])
def test_an_own_task_that_can_not_be_sent_is_said(value: Any) -> None:
    tasks = [Task(), Task(extra={"value": value})]
    with pytest.raises(InputError, match="task 1 of world is not JSON"):
        list(rows_of_tasks("world", tasks))


def test_a_materialized_line_is_the_row_and_where_it_belongs() -> None:
    row = {"verifier_metadata": {"a": 1}, "_ng_task_index": 77, "agent_ref": {"name": "old"}}
    lines = list(materialized([row, {}], 2, "mine"))
    assert [index for index, _ in lines] == [0, 0, 1, 1]
    assert json.loads(lines[1][1]) == {
        "verifier_metadata": {"a": 1},
        "_ng_task_index": 0,
        "_ng_rollout_index": 1,
        "agent_ref": {"name": "mine"},
    }
    assert task_of(lines[0][1]) == Task(verifier_metadata={"a": 1})
