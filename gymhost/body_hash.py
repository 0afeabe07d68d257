"""By what a body is known again that comes twice: a verify's, or that of an Idempotency-Key."""

from __future__ import annotations

from hashlib import sha256

__all__ = ["hash_body"]

LARGE = 16 * 1024
"""Bytes from which on the other hash pays: its module is imported for it."""


def hash_body(raw: bytes) -> bytes:
    """Return 256 bits: SHA-256; of a large body BLAKE3, which takes a third of the time."""
    if len(raw) < LARGE:
        return sha256(raw).digest()
    from blake3 import blake3

    return blake3(raw).digest()
