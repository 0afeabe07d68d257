"""A verify's large body, of which the messages' text is read, and the rest once it is asked for."""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import pydantic_core

from gymhost.models import JSONObject
from gymhost.trajectory import Texts, Trajectory

__all__ = ["LARGE", "AnyBody", "LeanBody", "read_lean", "trajectory_of", "whole"]

LARGE = 16 * 1024
"""Bytes from which on a body is read so. It pays from 1 KiB on, but msgspec is imported for it."""
CHUNK = 16 * 1024


class LeanBody(Mapping[str, Any]):
    """A JSON object as it came; never an empty one.

    Where only a whole parse would refuse it, what asks for more than its text raises InvalidBody:
    msgspec nests deeper than pydantic, and does not look at numbers that nobody asks for.
    """

    def __init__(
        self,
        raw: bytes,
        texts: Texts,
        json: dict[str, bytes],
        parse: Callable[[bytes], JSONObject],
    ) -> None:
        """`json` has other values: b"" where it is known that the body has none."""
        self._raw = raw
        self._texts = texts
        self._json = json
        self._parse = parse

    @property
    def is_parsed(self) -> bool:
        """Whether the rest was asked for."""
        return "whole" in self.__dict__

    @cached_property
    def whole(self) -> JSONObject:
        """All of it.

        Raises: InvalidBody.
        """
        return self._parse(self._raw)

    @cached_property
    def _keys(self) -> set[str]:
        from gymhost.lean_types import keys

        try:
            return keys(self._raw)
        except RecursionError:  # where this is called, less of Python's stack is left
            return set(self.whole)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str) and key in self._json:
            return self._json[key] != b""
        return key == "response" or key in self._keys

    def __getitem__(self, key: str) -> Any:
        """Return a value.

        Raises: KeyError; InvalidBody.
        """
        if key in self._json and not self.is_parsed:
            if not self._json[key]:
                raise KeyError(key)
            try:
                # in a list: as deep as it is in the body
                return pydantic_core.from_json(b"[%b]" % self._json[key], allow_inf_nan=False)[0]
            except ValueError:
                pass  # the whole says what is wrong, and where
        return self.whole[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    def trajectory(self) -> Trajectory:
        """Return the attempt that it reports."""
        return Trajectory.unread(self._texts, lambda: self.whole.get("response"))


AnyBody: TypeAlias = JSONObject | LeanBody
"""A verify's body, parsed whole or not."""


def read_lean(raw: bytes, parse: Callable[[bytes], JSONObject]) -> LeanBody | None:
    """Return a body for which reading so pays and is possible; `parse` reads one whole.

    None where it is small, is no JSON, has a verdict, or no `response` as harnesses write it.
    """
    if len(raw) < LARGE:
        return None
    # here: it costs 0.6 MB and 5 ms, and many a server never gets a large body
    from gymhost.lean_types import decode

    found = decode(raw) if _is_utf8(raw) else None
    return None if found is None else LeanBody(raw, *found, parse)


def whole(body: AnyBody) -> JSONObject:
    """Return a body parsed to its end.

    Raises: InvalidBody.
    """
    return body.whole if isinstance(body, LeanBody) else body


def trajectory_of(body: AnyBody) -> Trajectory:
    """Return the attempt that a body reports."""
    return body.trajectory() if isinstance(body, LeanBody) else Trajectory(body.get("response"))


def _is_utf8(raw: bytes) -> bool:
    """Whether it is: msgspec does not look into a string that it skips."""
    if raw.isascii():
        return True
    view = memoryview(raw)
    size, done = len(raw), 0
    try:
        while done < size:  # in pieces: one emoji makes the text of all of it four times as large
            end = done + CHUNK
            done += utf_8_decode(view[done:end], "strict", end >= size)[1]
    except UnicodeDecodeError:
        return False
    return True
