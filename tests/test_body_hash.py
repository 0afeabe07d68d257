"""By what a body is known again."""

from __future__ import annotations

from hashlib import sha256

import pytest
from blake3 import blake3

from gymhost.body_hash import LARGE, hash_body


@pytest.mark.parametrize("size", [0, 1, 2048, LARGE - 1])
def test_a_small_bodys_is_sha256(size: int) -> None:
    assert hash_body(b"x" * size) == sha256(b"x" * size).digest()


@pytest.mark.parametrize("size", [LARGE, LARGE + 1, 1024 * 1024])
def test_a_large_bodys_is_blake3(size: int) -> None:
    assert hash_body(b"x" * size) == blake3(b"x" * size).digest()


@pytest.mark.parametrize("size", [2048, LARGE, 512 * 1024])
@pytest.mark.parametrize("place", [0, 1000, -1])
def test_another_byte_is_another_body(size: int, place: int) -> None:
    body = bytearray(size)
    first = hash_body(bytes(body))
    body[place] = 1
    assert hash_body(bytes(body)) != first
    assert len(first) == 32
