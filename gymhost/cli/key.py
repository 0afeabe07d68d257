"""`gymhost key`: show the control key."""

from __future__ import annotations

from gymhost.cli.output import line
from gymhost.control_key import VARIABLE, find_key
from gymhost.errors import ServeError

__all__ = ["key"]


def key() -> None:
    """Show the control key, as clients send it: `Authorization: Bearer KEY`.

    Example:

      curl -H "Authorization: Bearer $(gymhost key)" http://127.0.0.1:8000/envs
    """
    found = find_key()
    if found is None:
        raise ServeError(
            f"there is no control key yet: `gymhost serve` makes one, or set {VARIABLE}"
        )
    line(found)
