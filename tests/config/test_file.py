"""Reading YAML: what is taken, and one clear line about what is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gymhost.config import ConfigError, load_settings
from tests.config.conftest import Load, Refusal, Write

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "\n".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40)
)

UNREADABLE: dict[str, tuple[str | bytes, str]] = {
    "a list": ("- port", r"gymhost.yaml: must be a mapping of settings \(`port: 8000`\)"),
    "text": ("port", "gymhost.yaml: must be a mapping of settings .*"),
    "syntax": ("port: [1\nhost: 3", "gymhost.yaml:2: is no YAML: .*expected ',' or ']'.*"),
    "a tab": ("environments:\n\tweather:", "gymhost.yaml:2: is no YAML: .*cannot start any token"),
    "two documents": ("port: 1\n---\nport: 2", "gymhost.yaml:2: is no YAML: .*another document"),
    "an alias of nothing": ("a: 1\nhost: *pass", "gymhost.yaml:2: is no YAML: .* alias ..."),
    "Latin-1": (b"port: 1\nhost: \xfc", "gymhost.yaml:2: is not UTF-8"),
    "UTF-16": ("port: 1".encode("utf-16"), "gymhost.yaml:1: is not UTF-8"),
    "a zero byte": ("port: \0", "gymhost.yaml: is no YAML: it has control characters"),
    "huge": ("#" * 2_000_000, "gymhost.yaml: is larger than 1048576 bytes"),
    "deep": ("{a: " * 5_000, "gymhost.yaml: is nested too deeply"),
    "deep and whole": ("a: " + "[" * 3_000 + "]" * 3_000, "gymhost.yaml: is nested too deeply"),
    "a bomb": (BOMB, "gymhost.yaml: has more than 100000 values, aliases counted .*"),
    "a bomb of merges": (MERGE_BOMB, "gymhost.yaml: has more than 100000 values, .*"),
    "merged into itself": ("blocked: &a {<<: {<<: *a}}", "gymhost.yaml: is nested too deeply"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_settings_is_one_line(refusal: Refusal, name: str) -> None:
    content, said = UNREADABLE[name]
    first, *more = refusal(content)
    assert re.fullmatch(said, first)
    assert all("unknown key" in each for each in more)


WRONG: dict[str, tuple[str, str]] = {
    "a key twice": ("port: 1\nport: 2", "2: port: is there already, in line 1"),
    "a name twice": (
        "environments:\n  a:\n  b:\n  a:",
        "4: environments.a: is there already, in line 2",
    ),
    "a number as a key": ("8: x", "1: 8: a key must be text: put it in quotes"),
    "on as a name": (
        "environments:\n  on: {}",
        "2: environments.on: a key must be text: put it in quotes",
    ),
    "a list as a key": ("? [a]\n: b", "1: ...: a key must be text: put it in quotes"),
    "Python": (
        "port: !!python/object/apply:os.getpid []",
        "1: port: has a YAML tag (!...), which is not taken here",
    ),
    "a set": ("blocked: !!set {a}", "1: blocked: has a YAML tag (!...), which is not taken here"),
    "a tag": ("port: !mine 3", "1: port: has a YAML tag (!...), or is a sign: put it in quotes"),
    "a sign": ("host: =", "1: host: has a YAML tag (!...), or is a sign: put it in quotes"),
    "no date": (
        "host: 2024-13-45",
        "1: host: is no timestamp, as which YAML reads it: put it in quotes",
    ),
    "no number": ("port: !!int x", "1: port: is no int, as which YAML reads it: put it in quotes"),
    "no truth": (
        "strict: !!bool x",
        "1: strict: is no bool, as which YAML reads it: put it in quotes",
    ),
    "digits": (
        f"port: {'9' * 5_000}",
        "1: port: is no int, as which YAML reads it: put it in quotes",
    ),
    "hexadecimal digits": (
        f"port: 0x{'f' * 5_000}",
        "1: port: is no int, as which YAML reads it: put it in quotes",
    ),
    "itself": ("blocked: &a [*a]", "1: blocked.0: refers to itself by an alias"),
    "itself, merged": (
        "environments: &a {w: {config: {<<: *a}}}",
        "1: environments.w.config.w: refers to itself by an alias",
    ),
    "merged text": ("environments: {a: {<<: b}}", "1: environments.a: merges (<<) what is no map"),
    "control characters": ('"po\\nrt": 1', "1: po\\nrt: unknown key: did you mean 'port'?"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_one_line_with_its_place(refusal: Refusal, name: str) -> None:
    content, said = WRONG[name]
    (line,) = refusal(content)
    assert line.startswith(f"gymhost.yaml:{said}")
    assert line.isprintable()


def test_nothing_that_may_be_a_password_is_quoted(refusal: Refusal) -> None:
    for password in ("*hunter22", "!hunter22", "&hunter22 &hunter22", "%hunter22", "@hunter22"):
        for line in refusal(f"environments: {{judge: {{config: {{password: {password}}}}}}}"):
            assert "hunter22" not in line


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "\ufeff", "---\n"])
def test_an_empty_file_has_the_defaults(load: Load, content: str) -> None:
    assert load(content).port == 8000


def test_a_byte_order_mark_is_no_part_of_the_first_key(load: Load) -> None:
    assert load("\ufeffport: 9000").port == 9000


def test_aliases_and_merges_mean_what_they_mean_in_yaml(load: Load) -> None:
    settings = load(
        """
        environments:
          one: &one
            limits: {tool_seconds: 5, threads: 2}
          two:
            <<: *one
            on_failure: report
          three:
            limits:
              <<: [{threads: 3}, {threads: 4, session_calls: 7}]
              tool_seconds: 6
        """
    )
    configs = settings.environment_configs()
    assert (configs["two"].limits, configs["two"].on_failure) == (configs["one"].limits, "report")
    three = configs["three"].limits
    assert (three.tool_seconds, three.threads, three.session_calls) == (6, 3, 7)


def test_a_folder_and_what_can_not_be_read_are_named(folder: Path, write: Write) -> None:
    write("", "file")
    for path, why in ((folder, "Is a directory"), (folder / "file" / "x", "Not a directory")):
        with pytest.raises(ConfigError) as caught:
            load_settings(path, {}, {})
        assert caught.value.problems == (f"{path}: can't be read: {why}",)
