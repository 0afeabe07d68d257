"""The control key: where it comes from, and where it is kept."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from gymhost.errors import ServeError

__all__ = ["VARIABLE", "find_kept_key", "find_key", "is_usable", "key_path", "mint_key"]

VARIABLE = "GYMHOST_API_KEY"

# what a header takes: no spaces, no control characters, ASCII
USABLE = re.compile(r"[!-~]+")


def key_path() -> Path:
    """Return the file that a minted key is kept in, in the user's state folder."""
    return platformdirs.user_state_path("gymhost") / "control-key"


def find_key(variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the key from `GYMHOST_API_KEY`, else the one that was minted for this user.

    Raises: ServeError: the file can't be read, or the key can't be sent in a header.
    """
    configured = variables.get(VARIABLE, "").strip()
    if configured:
        _check(configured, f"in {VARIABLE}", "Set another one")
        return configured
    return find_kept_key()


def find_kept_key() -> str | None:
    """Return the key that was minted for this user.

    Raises: ServeError: the file can't be read, or the key can't be sent in a header.
    """
    path = key_path()
    try:
        kept = path.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ServeError(f"the control key could not be read: {exc}.") from exc
    if not kept:
        return None
    _check(kept, f"kept in {path}", "Delete that file, and `gymhost serve` makes a new one")
    return kept


def mint_key() -> str:
    """Make a key and keep it in a file that only this user can read; return the key kept there.

    Raises: ServeError: the file can't be written.
    """
    path = key_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _keep(path, secrets.token_urlsafe(32))
    except OSError as exc:
        raise ServeError(
            f"the control key could not be kept: {exc}. Set {VARIABLE} to a key of your own."
        ) from exc


def _keep(path: Path, key: str) -> str:
    # mkstemp: the mode is 0600 from the first byte, and a reader never sees half a key
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{key}\n")
        try:
            os.link(temporary, path)
        except FileExistsError:
            # a server that started at the same instant; an empty file has no key to respect
            other = find_kept_key()
            if other is not None:
                return other
            Path(temporary).replace(path)
        return key
    finally:
        Path(temporary).unlink(missing_ok=True)


def is_usable(key: str) -> bool:
    """Whether a header takes a key."""
    return USABLE.fullmatch(key) is not None


def _check(key: str, where: str, remedy: str) -> None:
    if not is_usable(key):
        raise ServeError(
            f"the control key {where} can't be sent in a header, which takes ASCII letters, "
            f"digits and punctuation, and no spaces. {remedy}."
        )
