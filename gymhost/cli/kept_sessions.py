"""The sessions that this user's `mcp-config` has seeded, so that a later command finds them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from pydantic import BaseModel, TypeAdapter

from gymhost.models import SeedAnswer

if sys.platform != "win32":
    import fcntl

__all__ = ["LAST", "KeptSession", "find", "keep", "sessions_path"]

LAST = "last"
MOST = 100


class KeptSession(BaseModel):
    """A session as it was seeded, its token included."""

    url: str
    environment: str
    seeded: SeedAnswer


FILE = TypeAdapter(list[KeptSession])


def sessions_path() -> Path:
    """Return the file, in the user's state folder, beside the control key."""
    return platformdirs.user_state_path("gymhost") / "sessions.json"


def keep(session: KeptSession) -> None:
    """Add a session, the oldest going where there are too many.

    Raises: OSError.
    """
    path = sessions_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.parent):
        # mkstemp: the mode is 0600 from the first byte, and a reader never sees half a file
        descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(FILE.dump_json([*_read(), session][-MOST:], indent=1))
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Keep other commands out: of two that add at once, one would be lost."""
    if sys.platform == "win32":  # no such lock
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # the folder: the file in it is replaced
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which unlocks


def find(url: str, environment: str, session: str = LAST) -> KeptSession | None:
    """Return a session by its id, or the one of that environment there that was seeded last."""
    for kept in reversed(_read()):
        if (kept.url, kept.environment) == (url, environment) and session in (
            LAST,
            kept.seeded.session_id,
        ):
            return kept
    return None


def _read() -> list[KeptSession]:
    try:
        return FILE.validate_json(sessions_path().read_bytes())
    except (OSError, ValueError):  # nothing kept is nothing lost: a session can be named by its id
        return []
