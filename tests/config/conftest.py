"""Configuration files, in a working folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gymhost.config import ConfigError, Settings, load_settings

Write = Callable[..., Path]
Load = Callable[..., Settings]
Refusal = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Write:
    """Write a file, `gymhost.yaml` if it has no other name."""

    def write_file(content: str | bytes, name: str = "gymhost.yaml") -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def load(write: Write) -> Load:
    """Write `gymhost.yaml`, and load it with variables."""

    def load_text(content: str | bytes, **variables: str) -> Settings:
        write(content)
        return load_settings(None, {}, variables)

    return load_text


@pytest.fixture
def refusal(load: Load) -> Refusal:
    """Write a wrong `gymhost.yaml`, and return what is said about it, a line each."""

    def problems(content: str | bytes, **variables: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(content, **variables)
        assert str(caught.value).splitlines() == list(caught.value.problems)
        return list(caught.value.problems)

    return problems
