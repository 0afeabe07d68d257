"""The control key: where it comes from, and where it is kept."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from gymhost.errors import ServeError

__all__ = ["VARIABLE", "find_key", "key_path", "mint_key"]

VARIABLE = "GYMHOST_API_KEY"


def key_path() -> Path:
    """Return the file that a minted key is kept in, in the user's state folder."""
    return platformdirs.user_state_path("gymhost") / "control-key"


def find_key(variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the key from `GYMHOST_API_KEY`, else the one that was minted for this user.

    Raises: ServeError: the file can't be read.
    """
    configured = variables.get(VARIABLE)
    if configured:
        return configured
    path = key_path()
    try:
        return path.read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ServeError(f"the control key could not be read from {path}: {exc}") from exc


def mint_key() -> str:
    """Make a key and keep it in a file that only this user can read.

    Raises: ServeError: the file can't be written.
    """
    path = key_path()
    key = secrets.token_urlsafe(32)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # the mode is there from the first byte, and a reader never sees half a key
        temporary.touch(0o600, exist_ok=False)
        temporary.write_text(f"{key}\n", "ascii")
        temporary.replace(path)
    except OSError as exc:
        raise ServeError(
            f"the control key could not be kept in {path}: {exc}. "
            f"Set {VARIABLE} to a key of your own."
        ) from exc
    return key
