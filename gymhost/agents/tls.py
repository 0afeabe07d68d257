"""What checks the certificates of the servers that agents ask."""

from __future__ import annotations

import ssl
from functools import cache

import httpx2

__all__ = ["tls"]


@cache
def tls() -> ssl.SSLContext:
    """Return one for all attempts: reading the certificates takes 40 ms."""
    return httpx2.create_ssl_context()
