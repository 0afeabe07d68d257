"""Each setting: its type, its default, and one clear line about a wrong value."""

from __future__ import annotations

import dataclasses

import pytest

from gymhost import Limits
from gymhost.config.settings import TABLE, Settings
from tests.config.conftest import Load, Refusal

WRONG = {
    "hots: x": "hots: unknown key: did you mean 'host'?",
    "PORT: 1": "PORT: unknown key: did you mean 'port'?",
    "zzz: x": "zzz: unknown key. Known here: agents, backend, blocked, environments, extensions, "
    "grace, host, keep_trajectories, keys, log_format, mcp_allowed_hosts, only, port, public_url, "
    "server, store, strict",
    "host: 8080": "host: must be text, not 8080: put it in quotes",
    "host: ''": "host: must not be empty",
    "host: on": "host: must be text, not on, which YAML reads as true: put it in quotes",
    "host: [a]": "host: must be text, not a list",
    "host:": "host: must be text, not nothing",
    "port: '80'": "port: must be a whole number, not the text '80': write 80",
    "port: http": "port: must be a whole number, not the text 'http'",
    "port: '8.5'": "port: must be a whole number, not the text '8.5'",
    "port: 80.0": "port: must be a whole number, not 80.0",
    "port: yes": "port: must be a whole number, not yes, which YAML reads as true",
    "port: 65536": "port: must be 65535 or less, not 65536",
    "port: -1": "port: must be 0 or more, not -1",
    "port: 1_000_00": "port: must be 65535 or less, not 1_000_00, which YAML reads as 100000",
    "backend: curio": "backend: must be 'asyncio' or 'trio', not the text 'curio'",
    "backend: {a: b}": "backend: must be 'asyncio' or 'trio', not a mapping",
    "grace: 1e3": "grace: must be a number, not the text '1e3': write 1000",
    "grace: '0.5'": "grace: must be a number, not the text '0.5': write it without quotes",
    "grace: .nan": "grace: must be a finite number, not .nan, which YAML reads as nan",
    "grace: -1": "grace: must be 0 or more, not -1",
    "strict: 1": "strict: must be true or false, not 1",
    "strict: 'yes'": "strict: must be true or false, not the text 'yes'",
    "log_format: 2024-01-02": "log_format: must be 'text' or 'json', not 2024-01-02, which YAML "
    "reads as a date",
    "store: redis://u:hunter22@h": "store: must be the URL of a session store: memory://, "
    "or sqlite:///path.db, with ?synchronous=full where it is to survive a power cut",
    "store: !!binary aGVsbG8=": "store: must be text, not aGVsbG8=, which YAML reads as bytes: "
    "put it in quotes",
    "keys: hunter22": "keys: must be a list (its value is not shown)",
    "keys: [12345678]": "keys.0: must be text (its value is not shown): put it in quotes",
    "keys: [a, 'hunter 22']": "keys.1: can't be sent in a header, which takes ASCII letters, "
    "digits and punctuation, and no spaces",
    "keys: ['']": "keys.0: can't be sent in a header, which takes ASCII letters, digits and "
    "punctuation, and no spaces",
    "blocked: weather": "blocked: must be a list, not text",
    "blocked: {weather: 1}": "blocked: must be a list, not a mapping",
    "only: maybe": "only: must be true or false, not the text 'maybe'",
    "environments: [weather]": "environments: must be a mapping (`name: value`), not a list",
    "environments: {Bad Name: }": "environments.Bad Name: 'Bad Name' can't be mounted: use "
    "lower-case ASCII letters, digits, '_' and '-'",
    "environments: {'': }": "environments.: '' can't be mounted: use lower-case ASCII letters, "
    "digits, '_' and '-'",
    "environments: {w: 5}": "environments.w: must be a mapping (`name: value`), not 5",
    "environments: {w: {limit: {}}}": "environments.w.limit: unknown key: did you mean 'limits'?",
    "environments: {w: {plugin: 5}}": "environments.w.plugin: must be text, not 5: put it in "
    "quotes",
    "environments: {w: {config: [a]}}": "environments.w.config: must be a mapping "
    "(`name: value`), not a list",
    "environments: {w: {on_failure: on}}": "environments.w.on_failure: must be 'error' or "
    "'report', not on, which YAML reads as true",
    "environments: {w: {limits: {tool_secs: 1}}}": "environments.w.limits.tool_secs: unknown "
    "key: did you mean 'tool_seconds'?",
    "environments: {w: {limits: {threads: 1.5}}}": "environments.w.limits.threads: must be a "
    "whole number, not 1.5",
    "environments: {w: {limits: {threads: 0}}}": "environments.w.limits.threads: must be more "
    "than 0, not 0",
    "environments: {w: {limits: {idle_seconds: .inf}}}": "environments.w.limits.idle_seconds: "
    "must be a finite number, not .inf, which YAML reads as inf",
    "extensions: {e: x}": "extensions.e: must be a mapping (`name: value`), not text",
}


@pytest.mark.parametrize("content", WRONG)
def test_a_wrong_value_is_one_clear_line(refusal: Refusal, content: str) -> None:
    assert refusal(f"# a comment\n{content}") == [f"gymhost.yaml:2: {WRONG[content]}"]


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file(refusal: Refusal) -> None:
    lines = refusal("grace: x\nport: x\nport: 1\nnew: 1\n", GYMHOST_BACKEND="x")
    assert [line.split(": ")[:2] for line in lines] == [
        ["GYMHOST_BACKEND", "must be 'asyncio' or 'trio', not the text 'x'"],
        ["gymhost.yaml:1", "grace"],
        ["gymhost.yaml:3", "port"],  # twice; and what is wrong with its value follows from that
        ["gymhost.yaml:4", "new"],
    ]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://gym.example", "https://gym.example"),
        ("http://10.0.0.1:8000/", "http://10.0.0.1:8000"),
        ("https://gym.example/behind/a/proxy/", "https://gym.example/behind/a/proxy"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_public_url_is_where_clients_append_a_path(load: Load, url: str, kept: str) -> None:
    assert load(f"public_url: '{url}'").public_url == kept


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gym.example", "must be an http:// or https:// URL"),
        ("ftp://gym.example", "must be an http:// or https:// URL"),
        ("https://", "must be an http:// or https:// URL"),
        ("http://gym.example:port", "must be an http:// or https:// URL"),
        ("http://gym.example:0", "must be an http:// or https:// URL"),
        ("http://[::1", "must be an http:// or https:// URL"),
        ("http://gym example", "must be an http:// or https:// URL"),
        ("http://gym.example\\n", "must be an http:// or https:// URL"),
        ("http://gym.ex\\u00e4mple", "must be an http:// or https:// URL"),
        ("", "must be an http:// or https:// URL"),
        ("https://gym.example?a=b", "must have no user, no query and no fragment"),
        ("https://gym.example/#a", "must have no user, no query and no fragment"),
        ("https://user:hunter22@gym.example", "must have no user, no query and no fragment"),
    ],
)
def test_what_is_no_public_url_is_refused(refusal: Refusal, url: str, said: str) -> None:
    (line,) = refusal(f'public_url: "{url}"')
    assert line.startswith(f"gymhost.yaml:1: public_url: {said}")
    assert "hunter22" not in line


def test_environments_and_their_limits_become_what_the_host_takes(load: Load) -> None:
    configs = load(
        """
        environments:
          weather:
          celsius:
            plugin: weather
            config: {unit: C, cities: [Paris, {name: Rome}]}
            limits: {tool_seconds: 5, open_sessions: 7}
            on_failure: report
          empty: {config: , limits: }
        """
    ).environment_configs()
    assert (configs["weather"].plugin, configs["weather"].limits) == (None, Limits())
    celsius = configs["celsius"]
    assert (celsius.plugin, celsius.on_failure) == ("weather", "report")
    assert celsius.options == {"unit": "C", "cities": ["Paris", {"name": "Rome"}]}
    assert celsius.limits == Limits(tool_seconds=5.0, open_sessions=7)
    assert (configs["empty"].options, configs["empty"].limits) == ({}, Limits())


def test_every_limit_can_be_configured(load: Load) -> None:
    names = [field.name for field in dataclasses.fields(Limits)]
    written = "\n".join(f"      {name}: {number}" for number, name in enumerate(names, 1))
    settings = load(f"environments:\n  world:\n    limits:\n{written}\n")
    limits = settings.environment_configs()["world"].limits
    assert [getattr(limits, name) for name in names] == list(range(1, len(names) + 1))


def test_empty_lists_and_mappings_may_be_left_empty(load: Load) -> None:
    names = ("keys", "environments", "extensions", "blocked", "mcp_allowed_hosts")
    assert load("".join(f"{name}:\n" for name in names)) == Settings()


def test_lists_are_taken(load: Load) -> None:
    settings = load(
        "keys: [one, ' two ']\nblocked: [a, b]\nmcp_allowed_hosts: ['gym.example:*']\n"
        "only: true\nextensions: {log: {path: x}, other: }"
    )
    assert [key.get_secret_value() for key in settings.keys] == ["one", "two"]
    assert (settings.blocked, settings.mcp_allowed_hosts) == (("a", "b"), ("gym.example:*",))
    assert settings.only
    assert settings.extensions == {"log": {"path": "x"}, "other": {}}


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ("", "http://127.0.0.1:8000"),
        ("host: 0.0.0.0\nport: 9000", "http://127.0.0.1:9000"),
        ("host: '::'", "http://[::1]:8000"),
        ("host: gym.local", "http://gym.local:8000"),
        ("public_url: https://gym.example/a/", "http://127.0.0.1:8000"),
    ],
)
def test_a_client_on_this_machine_finds_the_url(load: Load, content: str, url: str) -> None:
    assert load(content).url == url


def test_a_public_url_loses_its_last_slash(load: Load) -> None:
    assert load("public_url: https://gym.example/a/").public_url == "https://gym.example/a"
    assert load("public_url:").public_url is None


def test_no_secret_is_in_the_repr(load: Load) -> None:
    settings = load(
        """
        keys: [hunter22]
        environments: {judge: {config: {api_key: hunter22, deep: ['${S}']}}}
        extensions: {log: {token: hunter22}}
        """,
        S="hunter22",
    )
    configs = settings.environment_configs()
    assert "hunter22" not in f"{settings!r} {settings} {configs!r} {configs['judge'].options!r}"


def test_the_table_has_a_variable_for_each_setting_of_the_server_and_a_flag_for_most() -> None:
    in_the_file_alone = {
        "agents", "blocked", "environments", "extensions", "mcp_allowed_hosts", "only",
    }  # fmt: skip
    assert set(TABLE) == set(Settings.model_fields) - in_the_file_alone
    assert {name: row.variable for name, row in TABLE.items()} == {
        name: f"GYMHOST_{'API_KEY' if name == 'keys' else name.upper()}" for name in TABLE
    }
    assert {name for name, row in TABLE.items() if row.flag is None} == {"keys"}
    assert TABLE["log_format"].flag == "--log-format"


def test_the_secrets_are_the_keys_and_the_secret_options(load: Load) -> None:
    settings = load(
        """
        keys: [one-key, "${TWO}"]
        environments:
          a: {config: {api_key: three, city: Paris, deep: [{x: "${FOUR}"}], token: 55555}}
        extensions:
          b: {password: six, colour: "${SEVEN}"}
        """,
        TWO="two-key",
        FOUR="four",
        SEVEN="seven",
    )
    wanted = {"one-key", "two-key", "three", "four", "55555", "six", "seven"}
    assert set(settings.secrets()) == wanted


def test_the_password_of_the_store_is_a_secret_as_the_url_has_it_and_as_it_is() -> None:
    settings = Settings.model_construct(store="redis://user:p%40ss@host/0")  # for one to come
    assert set(settings.secrets()) == {"p%40ss", "p@ss"}
