"""`gymhost key`: show the control key."""

from __future__ import annotations

from gymhost.cli.output import line
from gymhost.cli.settings import ConfigFile
from gymhost.config import load_settings
from gymhost.control_key import VARIABLE, find_kept_key
from gymhost.errors import ServeError

__all__ = ["key"]


def key(config: ConfigFile = None) -> None:
    """Show the control key, as clients send it: `Authorization: Bearer KEY`.

    It is the one of GYMHOST_API_KEY, else the first of the configuration, else the one that
    `gymhost serve` made for this user.

    \b
    Example:
      curl -H "Authorization: Bearer $(gymhost key)" http://127.0.0.1:8000/envs
    """
    keys = load_settings(config).keys
    found = keys[0].get_secret_value() if keys else find_kept_key()
    if found is None:
        raise ServeError(
            f"there is no control key yet: `gymhost serve` makes one, or set {VARIABLE}"
        )
    line(found)
