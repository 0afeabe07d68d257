"""Secrets are taken out of records, however deep in JSON they are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pydantic_core
import pytest

from gymhost.redaction import Redaction, names_a_secret


def to_json(value: Any) -> str:
    return pydantic_core.to_json(value).decode()


@pytest.mark.parametrize("secret", ["sk-12345678", 'a"b\\c\nd', "schlüssel", "東京-key-1"])
@pytest.mark.parametrize("outer", [json.dumps, to_json])
@pytest.mark.parametrize("inner", [json.dumps, to_json])
def test_a_secret_is_hidden_in_text_in_json_and_in_json_within_json(
    secret: str, inner: Callable[[Any], str], outer: Callable[[Any], str]
) -> None:
    hide = Redaction([secret])
    assert hide.text(f"<{secret}>") == "<***>"
    call = outer({"arguments": inner({"a": secret})})
    assert json.loads(json.loads(hide.text(call))["arguments"]) == {"a": "***"}
    assert json.loads(hide.text(outer([secret]))) == ["***"]


def test_of_a_header_the_key_alone_is_hidden_too_and_longer_secrets_are_hidden_whole() -> None:
    hide = Redaction(["Bearer abcdefgh", "abcdefgh-and-more"])
    assert hide(b"Bearer abcdefgh, abcdefgh, abcdefgh-and-more") == b"***, ***, ***"


def test_what_is_too_short_to_tell_anything_stays() -> None:
    assert Redaction(["short", "", "Bearer 1"]).text("short 1") == "short 1"


def test_names_of_secrets_are_known() -> None:
    for name in ("API_KEY", "X-Token", "password", "Set-Cookie", "Authorization", "auth"):
        assert names_a_secret(name), name
    for name in ("author", "model", "url", "Accept"):
        assert not names_a_secret(name), name
