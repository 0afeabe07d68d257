"""Which names are those of secrets, and the secrets taken out of what others will read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

import pydantic_core

__all__ = ["Redaction", "names_a_secret"]

# auth is one, and authorization; an author is none
NAME = re.compile("key|token|passw|secret|credential|cookie|auth(?!or(?!i[sz]))", re.IGNORECASE)
SCHEME = re.compile(r"(?:bearer|basic|token)\s+(?=\S)", re.IGNORECASE)
HIDDEN = "***"
SHORTEST = 6  # a shorter one is in many texts that tell nothing


def names_a_secret(name: object) -> bool:
    """Whether a value of this name is not to be shown."""
    return NAME.search(str(name)) is not None


class Redaction:
    """Hides each of some secrets in text: as it is, in JSON, and in JSON that is in JSON.

    By plain search, for records of many megabytes; `config.mask.Mask` also finds what others have
    shortened or escaped in their own ways.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        """Of `Bearer KEY`, as a header has it, the key is a secret by itself."""
        found = {way for secret in secrets for way in _ways(secret)}
        # the longest first: one may be part of another
        self._secrets = [each.encode("utf-8", "replace") for each in sorted(found, key=_size)]

    def __call__(self, data: bytes) -> bytes:
        """Return bytes without the secrets."""
        for secret in self._secrets:
            data = data.replace(secret, HIDDEN.encode())
        return data

    def text(self, text: str) -> str:
        """Return text without the secrets."""
        return self(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _size(text: str) -> int:
    return -len(text)


def _ways(secret: str) -> Iterator[str]:
    for each in (secret.strip(), SCHEME.sub("", secret.strip(), count=1)):
        if len(each) >= SHORTEST:
            yield each
            yield from (twice for once in _written(each) for twice in (once, *_written(once)))


def _written(text: str) -> Iterator[str]:
    yield json.dumps(text)[1:-1]  # letters that are not ASCII as \u00e9
    try:
        yield pydantic_core.to_json(text).decode()[1:-1]
    except ValueError:  # half a character
        return
