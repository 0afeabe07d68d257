"""Instances are made with an operator's options, and no failure shows the secret ones."""

from __future__ import annotations

import traceback
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from gymhost.config.text import Text
from gymhost.errors import PluginLoadError
from gymhost.instances import instantiate

SECRET = "hunter22-" + "s3cret" * 20  # longer than pydantic shows: it would leave out the middle


class Judge:
    def __init__(self, api_key: str = "", deep: Any = None, seconds: float = 1) -> None:
        self.options = (api_key, deep, seconds)


class Strict(BaseModel):
    api_key: int
    seconds: float = 1


class Refuses:
    def __init__(self, api_key: str) -> None:
        raise ValueError(f"{api_key!r} is no key")


class RefusesAll:
    def __init__(self, **options: Any) -> None:
        raise ValueError(f"bad {options!r}, that is {list(options.values())}")


class Exits:
    def __init__(self, api_key: str) -> None:
        raise SystemExit(api_key)


class Blames:
    def __init__(self, api_key: str) -> None:
        try:
            Strict.model_validate({"api_key": api_key})
        except ValueError as exc:
            raise LookupError("not a judge's") from exc


def test_a_class_gets_ordinary_strings() -> None:
    deep = {"list": [Text("a"), {"b": Text("c")}], "number": 1}
    judge = instantiate(Judge, {"api_key": Text("key"), "deep": deep})
    key, given, _ = judge.options
    assert (key, given) == ("key", {"list": ["a", {"b": "c"}], "number": 1})
    assert {type(key), type(given["list"][0]), type(given["list"][1]["b"])} == {str}


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Judge, "TypeError: Judge.__init__() got an unexpected keyword argument 'more'"),
        (Strict, "api_key: Input should be a valid integer, unable to parse string as an integer"),
        (Refuses, "ValueError: '***' is no key"),
        (Exits, "SystemExit: ***"),
        (Blames, "LookupError: not a judge's: api_key: Input should be a valid integer, unable to"),
    ],
)
def test_no_failure_shows_a_secret(cls: type[Any], said: str) -> None:
    options: dict[str, Any] = {"api_key": Text(SECRET)}
    if cls is Judge:
        options["more"] = [Text(SECRET)]
    with pytest.raises(PluginLoadError) as caught:
        instantiate(cls, options)
    given = ", ".join(sorted(options))
    start = f"{cls.__name__} could not be made with the options: {given}: {said}"
    assert str(caught.value).startswith(start)
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter22" not in shown
    assert "s3cret" not in shown


def test_a_secret_with_quotes_and_lines_is_not_shown_either() -> None:
    secret = 'it\'s\na "key"'
    with pytest.raises(PluginLoadError) as caught:
        instantiate(Refuses, {"api_key": Text(secret)})
    assert str(caught.value).endswith("ValueError: '***' is no key")


@pytest.mark.parametrize(
    "secret",
    [12345678, -1.5e300, b"12345678", "12345678", date(1999, 8, 7), [[12345678], (12345678,)]],
)
def test_what_is_named_like_a_secret_is_one_whatever_its_type(secret: Any) -> None:
    with pytest.raises(PluginLoadError) as caught:
        instantiate(RefusesAll, {"db": {"password": secret}})
    shown = "".join(traceback.format_exception(caught.value))
    assert "***" in shown
    for part in ("12345678", "1.5", "1999"):
        assert part not in shown
    assert instantiate(Judge, {"api_key": secret}).options[0] == secret


@pytest.mark.parametrize("password", ["", Text(""), True, None])
def test_what_can_be_no_secret_hides_nothing(password: Any) -> None:
    with pytest.raises(PluginLoadError) as caught:
        instantiate(RefusesAll, {"password": password})
    assert str(caught.value.__cause__).startswith("bad {'password': ")


def test_a_failure_without_secrets_keeps_its_cause() -> None:
    with pytest.raises(PluginLoadError) as caught:
        instantiate(RefusesAll, {"author": "public", "token_free": None})
    assert str(caught.value) == "RefusesAll could not be made with the options: author, token_free"
    assert isinstance(caught.value.__cause__, ValueError)
