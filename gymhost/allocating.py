"""How much memory malloc keeps, where it would give it back only to ask for it again."""

from __future__ import annotations

from functools import cache

__all__ = ["keep_pages"]

# malloc.h of the GNU C library
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 16 * 1024 * 1024
"""Bytes at the heap's end that are not given back."""
LARGEST = 4 * 1024 * 1024
"""Bytes up to which a piece comes from the heap."""


@cache
def keep_pages() -> None:
    """Have malloc keep what large bodies have used; once, and nothing where it is not GNU's.

    A buffer of half a MB is given back as soon as it is free. The next one's pages then come from
    the kernel, each at its first touch: a fifth of a large verify's CPU.
    """
    try:
        import ctypes  # here: it takes 0.4 MB, and many a server never gets a large body

        mallopt = ctypes.CDLL(None).mallopt
    except (ImportError, AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, KEPT)
