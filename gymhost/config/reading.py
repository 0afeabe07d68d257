"""Read a file of the configuration as text."""

from __future__ import annotations

from pathlib import Path

from gymhost.config.problems import ConfigError

__all__ = ["read"]

MOST_BYTES = 1024 * 1024


def read(path: Path) -> str:
    """Return what is in a file.

    Raises: ConfigError: it can't be read, or is too large, or is not UTF-8; FileNotFoundError.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise ConfigError([f"{path}: can't be read: {exc.strerror}"]) from exc
    if len(content) > MOST_BYTES:
        raise ConfigError([f"{path}: is larger than {MOST_BYTES} bytes"])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError([f"{path}:{line}: is not UTF-8"]) from None
