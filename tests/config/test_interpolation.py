"""`${NAME}` in values: from the environment, else from `env.yaml`; and it is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from gymhost.config import load_settings
from gymhost.config.text import plain
from tests.config.conftest import Load, Refusal, Write


def options(load: Load, value: str, **variables: str) -> object:
    """Load an environment with one option, and return what its class gets."""
    settings = load(f"environments:\n  world:\n    config:\n      it: {value}\n", **variables)
    return plain(settings.environment_configs()["world"].options)["it"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${NAME}", "value"),
        ("http://${NAME}:${NUMBER}/", "http://value:80/"),
        ("'${NAME}'", "value"),
        ("[${NUMBER}, 80]", None),  # flow style ends at the brace: YAML, not ours
        ("['${NUMBER}', 80]", ["80", 80]),
        ("{a: '${NAME}'}", {"a": "value"}),
        ("$${NAME}", "${NAME}"),
        ("$${", "${"),
        ("$NAME $$ $", "$NAME $$ $"),
        ("${LIKE_YAML}", "[1, {a: b}] # no"),
        ("${LIKE_REFERENCE}", "${NAME}"),
        ("${UNSET:-default}", "default"),
        ("${UNSET:-}", ""),
        ("${EMPTY:-default}", "default"),
        ("${NAME:-default}", "value"),
        ("${lower}", "in capitals"),
    ],
)
def test_references_are_replaced_and_never_read_again(
    load: Load, refusal: Refusal, value: str, expected: object
) -> None:
    variables = {
        "NAME": "value",
        "NUMBER": "80",
        "EMPTY": "",
        "LIKE_YAML": "[1, {a: b}] # no",
        "LIKE_REFERENCE": "${NAME}",
        "LOWER": "in capitals",
    }
    if expected is None:
        assert "is no YAML" in refusal(f"blocked: {value}", **variables)[0]
    else:
        assert options(load, value, **variables) == expected


def test_what_the_class_gets_is_an_ordinary_string(load: Load) -> None:
    assert type(options(load, "${NAME}", NAME="value")) is str


def test_a_setting_converts_what_came_through_a_reference(load: Load) -> None:
    settings = load(
        "port: ${PORT}\ngrace: ${GRACE}\nstrict: ${STRICT}\nbackend: ${BACKEND}\n"
        "environments:\n  w:\n    limits:\n      threads: ${THREADS}\n",
        PORT="9000",
        GRACE="1e-1",
        STRICT="Yes",
        BACKEND="trio",
        THREADS="3",
    )
    assert (settings.port, settings.grace, settings.strict) == (9000, 0.1, True)
    assert type(settings.backend) is str
    assert settings.backend == "trio"
    assert settings.environment_configs()["w"].limits.threads == 3


@pytest.mark.parametrize("name", ["openai_api_key", "OPENAI_API_KEY", "OpenAI_Api_Key"])
def test_env_yaml_has_names_in_any_case_and_texts_as_they_are_written(
    load: Load, write: Write, name: str
) -> None:
    write(f"{name}: 0123\nother: yes\nquoted: ' a: b '\nnested: {{a: b}}\n", "env.yaml")
    assert options(load, "${OPENAI_API_KEY} ${OTHER} ${quoted}") == "0123 yes  a: b "
    assert options(load, "${OPENAI_API_KEY}", OPENAI_API_KEY="mine") == "mine"
    assert options(load, "${OPENAI_API_KEY}", OPENAI_API_KEY="") == "0123"


def test_env_yaml_is_the_one_beside_the_file(write: Write, folder: Path) -> None:
    write("name: here\n", "env.yaml")
    write("name: there\n", "other/env.yaml")
    file = write("host: ${NAME}\n", "other/gym.yaml")
    assert load_settings(file, {}, {}).host == "there"


@pytest.mark.parametrize("empty", ["", "name:\n", "name: ~\n", "name: ''\n", "name: [a]\n"])
def test_what_is_not_set_is_named_with_what_to_do(
    refusal: Refusal, write: Write, empty: str
) -> None:
    write(empty, "env.yaml")
    said = "is not set: set the variable {}, or write it into env.yaml"
    assert refusal("port: 1\nhost: ${NAME}\nenvironments: {w: {plugin: 'x ${OTHER}'}}") == [
        f"gymhost.yaml:2: host: ${{NAME}} {said.format('NAME')}",
        f"gymhost.yaml:3: environments.w.plugin: ${{OTHER}} {said.format('OTHER')}",
    ]


@pytest.mark.parametrize("value", ["${", "a ${} b", "${a b}", "${oc.env:NAME}", "${1}", "${näme}"])
def test_what_is_no_reference_is_said_to_be_none(refusal: Refusal, value: str) -> None:
    assert refusal(f'host: "{value}"', NAME="value") == [
        "gymhost.yaml:1: host: has a `${` without a NAME and a `}`: write `$${` to mean itself"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- a", "env.yaml: must be a mapping of names (`api_key: ...`)"),
        ("name: hunter22\nNAME: hunter22", "env.yaml:2: NAME: is there twice, in whatever case"),
        ("name: *hunter22", "env.yaml:1: is no YAML: found undefined alias ..."),
        (b"name: hunter22\xff", "env.yaml:1: is not UTF-8"),
    ],
)
def test_a_wrong_env_yaml_is_one_line_without_its_values(
    refusal: Refusal, write: Write, content: str | bytes, said: str
) -> None:
    write(content, "env.yaml")
    assert refusal("host: ${NAME}") == [said]


def test_env_yaml_is_not_read_where_nothing_needs_it(load: Load, write: Write) -> None:
    write("- a list", "env.yaml")
    assert load("host: ${NAME}", NAME="value").host == "value"


def test_names_are_never_replaced(load: Load) -> None:
    settings = load(
        "environments: {w: {config: {'${NAME}': 1}}}\nextensions: {'${NAME}': {}}", NAME="value"
    )
    assert settings.environment_configs()["w"].options == {"${NAME}": 1}
    assert settings.extensions == {"${NAME}": {}}


@pytest.mark.parametrize("value", ["${NAME:-${OTHER}}", "${NAME:-a ${OTHER:-b} c}", "${NAME:-$${}"])
def test_a_reference_in_a_default_is_refused(refusal: Refusal, value: str) -> None:
    for name in ("NAME", "OTHER"):
        assert refusal(f'host: "{value}"', **{name: "value"}) == [
            "gymhost.yaml:1: host: has a `${` in the default of ${NAME}, where nothing is replaced"
        ]


def test_a_secret_of_a_wrong_type_is_not_shown(refusal: Refusal) -> None:
    names = ("port", "grace", "strict", "backend", "log_format", "store", "public_url", "keys")
    world = "environments: {w: {limits: {threads: '${S}'}, on_failure: '${S}', config: '${S}'}}"
    extensions = "extensions: {e: '${S}'}\nblocked: ${S}\nunknown: ${S}"
    content = "\n".join([*(f"{name}: ${{S}}" for name in names), world, extensions])
    lines = refusal(content, S="hunter22")
    assert len(lines) == len(names) + 3 + 3
    assert "hunter22" not in "\n".join(lines)
    assert "gymhost.yaml:1: port: must be a whole number (its value is not shown)" in lines
