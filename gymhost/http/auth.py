"""Who may use the control plane: whoever has a key; without keys, this machine alone."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from hashlib import sha256
from typing import Protocol
from urllib.parse import urlsplit

from gymhost.errors import Forbidden, RequestError, Unauthorized
from gymhost.http.http_exchange import Head

__all__ = ["Guard", "KeyGuard", "LoopbackGuard"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard(Protocol):
    """Lets a control-plane request pass, or raises."""

    refusal: type[RequestError]
    """What it raises."""

    def check(self, head: Head) -> None:
        """Raises: the refusal."""


class KeyGuard:
    """Takes `Authorization: Bearer KEY` for any of several keys."""

    refusal: type[RequestError] = Unauthorized

    def __init__(self, keys: Collection[str]) -> None:
        stripped = [key.strip() for key in keys]
        if not stripped or not all(stripped):
            raise ValueError("a control key can't be empty")
        # one length for all: compare_digest tells apart lengths
        self._digests = [sha256(key.encode()).digest() for key in stripped]

    def check(self, head: Head) -> None:
        # several are one here, which is no key: what is in front of the server may have looked at
        # another of them than we would
        scheme, _, key = head.get(b"authorization", b"").partition(b" ")
        key = key.strip(b" \t")
        if scheme.lower() != b"bearer" or not key:
            raise Unauthorized("Send the control key: `Authorization: Bearer KEY`.")
        given = sha256(key).digest()
        # every key is compared, so that the time tells nothing
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if not any(matches):
            raise Unauthorized("The control key is wrong. `gymhost key` shows the right one.")


class LoopbackGuard:
    """Takes requests that name this machine: no page elsewhere can make a browser send one."""

    refusal: type[RequestError] = Forbidden

    def check(self, head: Head) -> None:
        if _host_name("//" + head.get(b"host", b"").decode("latin-1")) not in LOOPBACK_NAMES:
            raise Forbidden("Without a key, only requests to localhost are taken.")
        origin = head.get(b"origin")
        if origin is not None and _host_name(origin.decode("latin-1")) not in LOOPBACK_NAMES:
            raise Forbidden("Without a key, no requests from other sites' pages are taken.")


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
