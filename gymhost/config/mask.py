"""Hides an operator's secrets in what is written for others: logs, and why a plugin failed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

__all__ = ["MASK", "Mask"]

MASK = "***"
SHORTEST = 4
"""Characters. Nobody's secret is shorter, and to hide each `8` would hide the log."""
WHOLE_WORD = 8
"""A shorter secret is hidden where it is a word of its own."""
# How far from a secret's first letters the `...` stands with which pydantic shortens it.
NEAR = r"[^\n]{0,48}?"


class Mask:
    """Replaces each of the secrets that it has learnt, however it is written, by `***`.

    That is as it is; escaped as JSON, Python and URLs do, also twice; and shortened by pydantic.
    """

    def __init__(self, secrets: Iterable[str] = (), *, shortest: int = SHORTEST) -> None:
        self._shortest = shortest
        self._patterns: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Hide these, too."""
        for secret in {each.strip() for each in secrets}:
            if secret and len(secret) >= self._shortest:
                self._patterns.setdefault(secret, _pattern(secret))
        # the longest first: one may be part of another
        found = [self._patterns[each] for each in sorted(self._patterns, key=len, reverse=True)]
        self._pattern = re.compile("|".join(found)) if found else None

    def __call__(self, text: str) -> str:
        """Return a text without the secrets."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _pattern(secret: str) -> str:
    whole = _written(secret)
    if len(secret) < WHOLE_WORD:
        # not \b: a secret may begin or end with a sign
        return rf"(?<![0-9A-Za-z]){whole}(?![0-9A-Za-z])"
    end = min(12, max(4, len(secret) // 3))
    head, tail = _written(secret[:end]), _written(secret[-end:])
    # one end alone, too: before it may be another secret, with the same first letters
    return rf"{whole}|{head}{NEAR}(?=\.\.\.)|(?<=\.\.\.){NEAR}{tail}"


def _written(text: str) -> str:
    # spaces as one: a failure's reason is one line
    return "".join(
        _spaces(part) if part.isspace() else "".join(map(_letter, part))
        for part in re.split(r"(\s+)", text)
    )


def _spaces(spaces: str) -> str:
    ways = [r"\s", r"\+", r"\\{1,8}[nrtvf]", *map(_letter, sorted(set(spaces)))]
    return f"(?:{'|'.join(ways)}){{1,{len(spaces)}}}"


def _letter(letter: str) -> str:
    """Return a pattern of the ways to write a letter."""
    # repetitions are bounded: else a text of nothing but backslashes would take for ever
    if letter.isascii() and letter.isalnum():
        return letter
    ways = [re.escape(letter), f"(?i:{quote(letter, safe='')})"]
    if not letter.isascii() or not letter.isprintable():
        code = ord(letter)
        ways.append(rf"\\{{1,8}}(?:x{code:02x}|u{code:04x}|U{code:08x})")
        units = letter.encode("utf-16-be", "surrogatepass")
        pair = [rf"\\{{1,8}}u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)]
        ways.append("(?i:" + "".join(pair) + ")")
    if letter == "\\":
        return r"(?:\\{1,8}|(?i:%5c))"
    return rf"\\{{0,8}}(?:{'|'.join(ways)})"
