"""The control key: where it comes from, and where it is kept."""

from __future__ import annotations

import os
import re
import secrets
import socket
import tempfile
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from gymhost.errors import ServeError

__all__ = [
    "VARIABLE",
    "find_kept_key",
    "find_key",
    "is_this_machine",
    "is_usable",
    "key_path",
    "mint_key",
]

VARIABLE = "GYMHOST_API_KEY"

# what a header takes: no spaces, no control characters, ASCII
USABLE = re.compile(r"[!-~]+")


def key_path() -> Path:
    """Return the file that a minted key is kept in, in the user's state folder."""
    import platformdirs  # only here: most servers are given a key

    return platformdirs.user_state_path("gymhost") / "control-key"


def find_key(variables: Mapping[str, str] = os.environ, *, host: str = "127.0.0.1") -> str | None:
    """Return the key for a host: the one of `GYMHOST_API_KEY`, else the one minted for this user.

    The minted one is for this machine alone; whoever answers elsewhere could use it here.

    Raises: ServeError: the file can't be read, or the key can't be sent in a header.
    """
    configured = variables.get(VARIABLE, "").strip()
    if configured:
        _check(configured, f"in {VARIABLE}", "Set another one")
        return configured
    return find_kept_key() if is_this_machine(host) else None


def is_this_machine(host: str) -> bool:
    """Whether a URL's host is an address of this machine.

    No name is, but `localhost`: where one leads is another's to say, and may change.
    """
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind((host, 0))  # the system takes only addresses that it has
    except OSError:
        return address.is_loopback  # as ::1 where IPv6 is off
    return not address.is_multicast


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
