"""Precedence: a flag, a variable, the file, the default; and which file it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from gymhost.config import ConfigError, Settings, load_configuration, load_settings
from gymhost.config.settings import TABLE
from tests.config.conftest import Write

# For each setting of the table: in the file, in the variable, what that means, and the flag.
VALUES: dict[str, tuple[str, str, object, object]] = {
    "host": ("'1.1.1.1'", "2.2.2.2", "2.2.2.2", "3.3.3.3"),
    "port": ("1", "2", 2, 3),
    "backend": ("asyncio", "trio", "trio", "asyncio"),
    "server": ("hypercorn", "uvicorn", "uvicorn", "hypercorn"),
    "public_url": ("http://one", "http://two", "http://two", "http://three"),
    "keys": ("[one]", "two", (SecretStr("two"),), None),
    "store": ("memory://", "memory://", "memory://", "memory://"),
    "keep_trajectories": ("true", "no", False, True),
    "log_format": ("text", "json", "json", "text"),
    "grace": ("1", "2.5", 2.5, 3.0),
    "strict": ("true", "no", False, True),
}


def test_every_setting_of_the_table_is_tried() -> None:
    assert set(VALUES) == set(TABLE)
    assert {name for name, values in VALUES.items() if values[3] is None} == {
        name for name, row in TABLE.items() if row.flag is None
    }


@pytest.mark.parametrize("name", VALUES)
def test_a_flag_wins_over_a_variable_and_that_over_the_file(write: Write, name: str) -> None:
    row = TABLE[name]
    in_file, in_variable, meant, flag = VALUES[name]
    write(f"# a comment\n{name}: {in_file}\n")
    variables = {row.variable: f" {in_variable}\n"}
    assert load_configuration(None, {}, {}).origin((name,)) == "gymhost.yaml:2"
    by_variable = load_configuration(None, {name: None}, variables)
    assert by_variable.origin((name,)) == row.variable
    assert getattr(by_variable.settings, name) == meant
    if row.flag is not None:
        by_flag = load_configuration(None, {name: flag}, variables)
        assert (by_flag.origin((name,)), getattr(by_flag.settings, name)) == (row.flag, flag)


def test_what_nobody_gave_has_its_default() -> None:
    loaded = load_configuration(None, {"port": None}, {})
    assert loaded.settings == Settings()
    assert {loaded.origin((name,)) for name in Settings.model_fields} == {"default"}
    assert (loaded.document, loaded.chosen_by) == (None, "default")


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_variable_is_one_that_is_not_set(write: Write, empty: str) -> None:
    write("port: 9000")
    variables = {row.variable: empty for row in TABLE.values()}
    loaded = load_configuration(None, {}, {**variables, "GYMHOST_CONFIG": empty})
    assert loaded.settings == Settings(port=9000)
    assert loaded.overrides == {}


def test_a_wrong_variable_or_flag_says_its_name() -> None:
    flags = {"public_url": "gym.example", "grace": -1.0}
    variables = {
        "GYMHOST_PORT": "http",
        "GYMHOST_STRICT": "maybe",
        "GYMHOST_API_KEY": "hunter 22",
        "GYMHOST_STORE": "redis://u:hunter22@h",
        "GYMHOST_GRACE": "what the flag hides",
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(None, flags, variables)
    url = "--public-url: must be an http:// or https:// URL, as in https://gym.example"
    assert sorted(caught.value.problems) == [
        "--grace: must be 0 or more, not -1.0",
        url,
        "GYMHOST_API_KEY: can't be sent in a header, which takes ASCII letters, digits and "
        "punctuation, and no spaces",
        "GYMHOST_PORT: must be a whole number, not the text 'http'",
        "GYMHOST_STORE: must be the URL of a session store: memory://, "
        "or sqlite:///path.db, with ?synchronous=full where it is to survive a power cut",
        "GYMHOST_STRICT: must be true or false, not the text 'maybe'",
    ]
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_what_the_file_has_wrong_does_not_matter_where_a_flag_wins(write: Write) -> None:
    write("port: ${NOT_SET}\ngrace: x\n")
    settings = load_settings(None, {"grace": 1.0}, {"GYMHOST_PORT": "9000"})
    assert (settings.port, settings.grace) == (9000, 1)


def test_the_variable_for_the_key_replaces_the_keys_of_the_file(write: Write) -> None:
    write("keys: [one, two]")
    (key,) = load_settings(None, {}, {"GYMHOST_API_KEY": "three"}).keys
    assert key.get_secret_value() == "three"


def test_the_file_is_the_flags_else_the_variables_else_the_one_that_is_here(
    write: Write, folder: Path
) -> None:
    variables = {"GYMHOST_CONFIG": str(write("port: 2", "two.yaml"))}
    write("port: 3")
    one = write("port: 1", "one.yaml")
    found = [
        load_configuration(one, {}, variables),
        load_configuration(None, {}, variables),
        load_configuration(None, {}, {}),
    ]
    assert [(each.settings.port, each.chosen_by) for each in found] == [
        (1, "--config"),
        (2, "GYMHOST_CONFIG"),
        (3, "the working folder"),
    ]


def test_a_file_that_was_asked_for_and_is_not_there_is_an_error(folder: Path) -> None:
    for config, variables in ((Path("no.yaml"), {}), (None, {"GYMHOST_CONFIG": "no.yaml"})):
        with pytest.raises(ConfigError) as caught:
            load_settings(config, {}, variables)
        name = "--config" if config else "GYMHOST_CONFIG"
        assert caught.value.problems == (f"{name}: there is no file 'no.yaml'",)


def test_the_names_that_a_value_came_through_are_said_with_its_line(write: Write) -> None:
    write("port: ${PORT:-1}\nhost: $${H}\nmcp_allowed_hosts: ['${A}:${B}', '${UNSET:-x}', y]\n")
    variables = {"PORT": "2", "A": "a", "B": "b"}
    loaded = load_configuration(None, {}, variables)
    places = [("port",), ("host",), *(("mcp_allowed_hosts", i) for i in range(3))]
    assert [loaded.origin(place) for place in places] == [
        "gymhost.yaml:1 (${PORT})",
        "gymhost.yaml:2",
        "gymhost.yaml:3 (${A}, ${B})",
        "gymhost.yaml:3 (${UNSET})",
        "gymhost.yaml:3",
    ]
    by_variable = load_configuration(None, {}, {**variables, "GYMHOST_PORT": "3"})
    assert by_variable.origin(("port",)) == "GYMHOST_PORT"


def test_a_bad_name_is_said_beside_what_is_wrong_with_its_entry(write: Write) -> None:
    write("environments:\n  fine:\n  Bad: {limit: 1}\n  '[key]': {limit: 1}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {}, {})
    assert [each.split(": ")[:3] for each in caught.value.problems] == [
        ["gymhost.yaml:3", "environments.Bad", "'Bad' can't be mounted"],
        ["gymhost.yaml:3", "environments.Bad.limit", "unknown key"],
        ["gymhost.yaml:4", "environments.[key]", "'[key]' can't be mounted"],
        ["gymhost.yaml:4", "environments.[key].limit", "unknown key"],
    ]


def test_where_a_nested_value_came_from_is_its_line(write: Write) -> None:
    write("environments:\n  weather:\n    config:\n      unit: C\n  other:\n")
    loaded = load_configuration(None, {}, {})
    place = ("environments", "weather", "config", "unit")
    assert loaded.origin(place) == "gymhost.yaml:4"
    assert loaded.origin(place[:2]) == "gymhost.yaml:2"
    assert loaded.origin(("environments", "weather", "limits", "threads")) == "gymhost.yaml:2"
