"""Agents by name: built in, and registered by plugins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gymhost import hookimpl
from gymhost.agents.find import UnknownAgent, find_agent
from gymhost.agents.scripted import Scripted
from gymhost.host import Host


class Parrot:
    def __init__(self, word: str = "hello") -> None:
        self.word = word


def test_the_scripted_agent_is_built_in() -> None:
    assert find_agent("scripted") is Scripted


def test_a_registered_agent_is_found_as_a_class_or_by_where_it_is() -> None:
    registered: Any = {"parrot": Parrot, "far": f"{__name__}:Parrot"}
    assert find_agent("parrot", registered) is Parrot
    assert find_agent("far", {"far": "gymhost.agents.scripted:Scripted"}) is Scripted


def test_the_names_of_gymhost_can_not_be_taken() -> None:
    assert find_agent("scripted", {"scripted": "nowhere:Other"}) is Scripted


@pytest.mark.parametrize(
    ("kind", "where", "said"),
    [
        ("codex", None, "no agent is named 'codex'. Known: claude-code, mine, responses, scripted"),
        ("mine", "no_module_of_that_name:Agent", "No module named 'no_module_of_that_name'"),
        ("mine", "gymhost.models:Nothing", "has no attribute 'Nothing'"),
        ("mine", "gymhost.models:__doc__", "is nothing that makes one"),
    ],
)
def test_what_can_not_be_found_is_said(kind: str, where: str | None, said: str) -> None:
    with pytest.raises(UnknownAgent) as caught:
        find_agent(kind, {"mine": where or "gymhost.agents.scripted:Scripted"})
    assert said in str(caught.value)


def registering(*agents: tuple[Any, Any]) -> object:
    class Registers:
        @hookimpl
        def register_agents(self, register: Callable[..., None]) -> None:
            for name, factory in agents:
                register(name, factory)

    return Registers()


def test_an_extension_registers_agents() -> None:
    extensions = [registering(("parrot", Parrot)), registering(("lazy", "somewhere:Agent"))]
    host = Host(extensions=extensions, discover=False)
    assert [record.status for record in host.records] == ["up", "up"]
    assert host.agents == {"parrot": Parrot, "lazy": "somewhere:Agent"}


@pytest.mark.parametrize(
    ("agents", "reason"),
    [
        ([("Parrot", Parrot)], "'Parrot' can't be mounted: use lower-case"),
        ([("a", Parrot), ("a", Parrot)], "the agent 'a' is registered already"),
        ([("a", "somewhere")], "the agent 'a' is no class, function or 'module:attribute'"),
    ],
)
def test_an_extension_that_registers_wrong_agents_is_out_with_all_of_them(
    agents: list[tuple[Any, Any]], reason: str
) -> None:
    host = Host(extensions=[registering(("good", Parrot), *agents)], discover=False)
    (record,) = host.records
    assert record.status == "failed"
    assert record.reason is not None
    assert record.reason.startswith(reason)
    assert host.agents == {}
