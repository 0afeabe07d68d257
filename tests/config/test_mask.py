"""Secrets are hidden, however they are written; and little else."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gymhost.config.mask import Mask

ODD = "pass/word of \"env\" & 'quotes' \\ é 😀\n\n\t  and more"
LONG = "long-secret-" + "0123456789" * 20


class Strict(BaseModel):
    number: int


@pytest.mark.parametrize(
    "write",
    [
        str,
        repr,
        json.dumps,
        lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: json.dumps(json.dumps(text)),
        lambda text: repr(repr(text)),
        lambda text: repr(json.dumps({"deep": [text]})),
        lambda text: quote(text),
        lambda text: quote(text, safe=""),
        lambda text: quote_plus(text).lower(),
        lambda text: " ".join(text.split()),
        lambda text: str(KeyError(f"no {text}")),
    ],
)
@pytest.mark.parametrize("secret", [ODD, LONG, "hunter2hunter2", "p@ss:w0rd"])
def test_a_secret_is_hidden_however_it_is_written(secret: str, write: object) -> None:
    assert callable(write)
    masked = Mask([secret])(f"before {write(secret)} after")
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert "***" in masked
    left = masked.removeprefix("before ").removesuffix(" after")
    assert set(left) <= set("*'\"\\{}[]:, deepno")


@given(st.text(min_size=8).filter(lambda text: len(text.strip()) >= 8), st.text(), st.text())
@example("\\\\\\\\\\\\\\\\", "\\", "")
@example("........", ".", "...")
def test_any_secret_is_hidden_in_any_text(secret: str, before: str, after: str) -> None:
    mask = Mask([secret])
    for written in (secret, repr(secret), json.dumps(secret)):
        assert secret.strip() not in mask(before + written + after) or secret.strip() in "***"


@pytest.mark.parametrize("around", ["{}", "the key {}", "{} is the key", "the key {} of nobody"])
def test_what_pydantic_has_shortened_is_hidden(around: str) -> None:
    for value in (around.format(LONG), {"key": around.format(LONG)}, [LONG]):
        with pytest.raises(ValidationError) as caught:
            Strict.model_validate({"number": value})
        shown = str(caught.value)
        assert "..." in shown
        masked = Mask([LONG])(shown)
        for size in range(12, 30):
            assert LONG[:size] not in masked
            assert LONG[-size:] not in masked
        assert "Input should be a valid integer" in masked


def test_of_two_secrets_the_longer_one_goes_first() -> None:
    assert Mask(["secret-one", "secret-one-and-two"])("secret-one-and-two") == "***"


def test_a_short_secret_is_hidden_as_a_word_and_a_tiny_one_not() -> None:
    mask = Mask(["8", "1234", "pass"])
    text = "8 of 12345 passed: 1234, pass=1234"
    assert mask(text) == "8 of 12345 passed: ***, ***=***"
    assert Mask(["8"], shortest=1)("8 of 18") == "*** of 18"


def test_without_secrets_a_text_stays_as_it_is() -> None:
    assert Mask()("text") == Mask([""])("text") == Mask([" "])("text") == "text"


def test_what_is_learnt_later_is_hidden_too() -> None:
    mask = Mask(["first-key"])
    mask.learn(["second-key"])
    assert mask("first-key second-key") == "*** ***"


def test_a_hostile_text_takes_no_longer_than_its_length() -> None:
    mask = Mask(["\\\\\\\\ \\\\\\\\", LONG, "." * 20])
    for text in ("\\" * 100_000, "." * 100_000, "long-secret-0" * 10_000, " " * 100_000):
        assert len(mask(text)) <= len(text)  # ends: the timeout of the tests holds it to that
