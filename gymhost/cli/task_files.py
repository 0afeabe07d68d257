"""The task that the options `--task` and `--metadata` name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic_core
import typer

from gymhost.errors import InvalidField
from gymhost.models import JSONObject, Task, finite_json, json_type

__all__ = ["chosen_task", "instruction", "parse_object"]


def chosen_task(file: str | None, metadata: str | None) -> Task | None:
    """Return the task; None where no option names one.

    Raises: typer.BadParameter: it can't be read, or both are given.
    """
    if file is not None and metadata is not None:
        raise typer.BadParameter("give --task or --metadata, not both", param_hint="--task")
    if metadata is not None:
        return Task(verifier_metadata=parse_object(metadata, "--metadata"))
    return None if file is None else _read(file)


def _read(name: str) -> Task:
    path, line = _split(name)
    try:
        text = path.read_bytes()
    except (OSError, ValueError) as exc:  # ValueError: a null byte in the name
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise typer.BadParameter(f"{path} can't be read: {reason}", param_hint="--task") from exc
    where = str(path)
    if line is not None or not _is_json(text):
        lines = text.splitlines()
        if line is None:
            line = next((n for n, each in enumerate(lines, 1) if each.strip()), 1)
        where = f"{path}, line {line}"
        if not 1 <= line <= len(lines):
            raise typer.BadParameter(f"{path} has {len(lines)} lines", param_hint="--task")
        text = lines[line - 1]
    try:
        return Task.from_row(parse_object(text, "--task", where))
    except InvalidField as exc:
        raise typer.BadParameter(f"{where}: {exc}", param_hint="--task") from exc


def _split(name: str) -> tuple[Path, int | None]:
    """Take `FILE:LINE` apart, where no file has all of it for its name."""
    file, colon, line = name.rpartition(":")
    if colon and line.isascii() and line.isdecimal() and len(line) < 10 and not _exists(name):
        return Path(file), int(line)
    return Path(name), None


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def _is_json(text: bytes) -> bool:
    """Whether it is one value, and not lines of them."""
    try:
        pydantic_core.from_json(text)
    except ValueError:
        return False
    return True


def parse_object(text: str | bytes, option: str, where: str = "") -> JSONObject:
    """Return a JSON object.

    Raises: typer.BadParameter: it is none, or JSON that can't be sent.
    """
    prefix = f"{where}: " if where else ""
    try:
        value: Any = pydantic_core.from_json(text, allow_inf_nan=False)
        finite_json(value)  # 1e999 reads as an infinity
    except ValueError as exc:
        raise typer.BadParameter(f"{prefix}not JSON: {exc}", param_hint=option) from exc
    if not isinstance(value, dict):
        raise typer.BadParameter(
            f"{prefix}a JSON object is needed, not {json_type(value)}", param_hint=option
        )
    return value


def instruction(task: Task | None) -> str | None:
    """Return what a task asks the agent: the text of its Responses API `input`."""
    asked = task.responses_create_params.get("input") if task is not None else None
    if not isinstance(asked, list):
        return asked if isinstance(asked, str) and asked else None
    texts = [text for item in asked for text in _texts(item)]
    return "\n".join(texts) or None


def _texts(item: Any) -> list[str]:
    content = item.get("content") if isinstance(item, dict) else None
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [
        part["text"]
        for part in parts
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
