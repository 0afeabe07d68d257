"""Read YAML: plain values, and the line that each is on. Imported where there is a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gymhost.config.interpolation import ReferenceProblem, Substitute
from gymhost.config.problems import ConfigError, Place
from gymhost.config.reading import read
from gymhost.config.text import Text
from gymhost.redaction import names_a_secret

__all__ = ["Document", "parse_document", "read_names"]

MOST_VALUES = 100_000

# A name at the end of PyYAML's message: it may be half of a password that begins with * or !.
QUOTED = re.compile(r" '(?!<)[^' ]{2,}'(?=;|$)")

TAG = "tag:yaml.org,2002:"


@dataclass(slots=True)
class Document:
    """A configuration file."""

    name: str
    """As the user calls it."""
    data: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    written: dict[Place, str] = field(default_factory=dict)
    """How the scalars stand in the file."""
    problems: list[tuple[Place, int, str]] = field(default_factory=list)
    """What is wrong already, in which line. The values at these places mean nothing."""

    def line(self, place: Place) -> int:
        """Return the line of a value, or of the nearest that holds it."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]


def parse_document(name: str, text: str, substitute: Substitute) -> Document:
    """Parse a file of settings, with its references replaced. `name` is as the user calls it.

    Raises: ConfigError: it is no YAML, or no mapping, or holds too much.
    """
    loader, root = _compose(name, text)
    document = Document(name, {})
    if root is None:
        return document
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{name}: must be a mapping of settings (`port: 8000`)"])
    try:
        document.lines[()] = root.start_mark.line + 1
        document.data = _Walk(document, loader, substitute).value(root, ())
    except RecursionError:
        raise ConfigError([f"{name}: is nested too deeply"]) from None
    return document


def read_names(path: Path) -> dict[str, str]:
    """Read `env.yaml`: names, in lower case, and texts as they are written.

    Nothing of it is shown in an error but names. What is no scalar is left out.

    Raises: ConfigError: it can't be read, or is no YAML mapping, or has a name twice.
    """
    name = str(path)
    try:
        _, root = _compose(name, read(path))
    except FileNotFoundError:
        return {}
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{name}: must be a mapping of names (`api_key: ...`)"])
    found: dict[str, str] = {}
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            continue
        lower = key.value.lower()
        if lower in found:
            line = key.start_mark.line + 1
            raise ConfigError([f"{name}:{line}: {key.value}: is there twice, in whatever case"])
        # as it is written: YAML would make 83 of 0123
        found[lower] = "" if value.tag == f"{TAG}null" else value.value
    return found


def _compose(name: str, text: str) -> tuple[yaml.SafeLoader, yaml.Node | None]:
    """Parse, and build nothing yet. The causes are left out: they quote the file."""
    try:
        # not the C loader, which deep nesting crashes
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        # a document that holds nothing is a file that does
        return loader, None if root is None or root.tag == f"{TAG}null" else root
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = ", ".join(filter(None, (exc.context, exc.problem)))
        raise ConfigError([f"{name}{line}: is no YAML: {QUOTED.sub(' ...', problem)}"]) from None
    except yaml.YAMLError:
        raise ConfigError([f"{name}: is no YAML: it has control characters"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: is nested too deeply"]) from None


class _Walk:
    """Makes values of nodes, each with its place."""

    def __init__(self, document: Document, loader: yaml.SafeLoader, substitute: Substitute) -> None:
        self._document = document
        self._loader = loader
        self._substitute = substitute
        self._visited = 0
        self._inside: set[int] = set()

    def value(self, node: yaml.Node, place: Place) -> Any:
        """Return a node's value; None, and a problem noted, for one that has none."""
        self._visit()
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._inside:
            return self._wrong(place, "refers to itself by an alias")
        self._inside.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
                return [self._at(each, each, (*place, i)) for i, each in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
                return self._mapping(node, place)
            return self._wrong(place, "has a YAML tag (!...), which is not taken here")
        finally:
            self._inside.remove(id(node))

    def _visit(self) -> None:
        self._visited += 1
        if self._visited > MOST_VALUES:
            text = f"has more than {MOST_VALUES} values, aliases counted as often as used"
            raise ConfigError([f"{self._document.name}: {text}"])

    def _at(self, marked: yaml.Node, node: yaml.Node, place: Place) -> Any:
        self._document.lines[place] = marked.start_mark.line + 1
        return self.value(node, place)

    def _wrong(self, place: Place, problem: str, line: int | None = None) -> None:
        self._document.problems.append((place, line or self._document.line(place), problem))

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in self._pairs(node, place):
            pairs.setdefault(key.value, (key, value))
        return {name: self._at(*pair, (*place, name)) for name, pair in pairs.items()}

    def _pairs(
        self, node: yaml.MappingNode, place: Place
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Yield a mapping's own keys and values, then those that it merges in."""
        merged: list[yaml.Node] = []
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == f"{TAG}merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif not isinstance(key, yaml.ScalarNode) or key.tag != f"{TAG}str":
                self._wrong_key(key, place, line)
            elif key.value in lines:
                first = lines[key.value]
                self._wrong((*place, key.value), f"is there already, in line {first}", line)
            else:
                lines[key.value] = line
                yield key, value
        for each in merged:
            self._visit()
            if not isinstance(each, yaml.MappingNode):
                self._wrong(place, "merges (<<) what is no mapping")
            else:
                yield from self._pairs(each, place)

    def _wrong_key(self, key: yaml.Node, place: Place, line: int) -> None:
        text = key.value if isinstance(key, yaml.ScalarNode) else "..."
        self._wrong((*place, text), "a key must be text: put it in quotes", line)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        self._document.written[place] = node.value
        if node.tag == f"{TAG}str":
            try:
                text = self._substitute(node.value)
            except ReferenceProblem as exc:
                return self._wrong(place, str(exc))
            # what is deeper than the names of environments and extensions is their options
            return Text(text) if any(map(names_a_secret, place[2:])) else text
        try:
            value = self._loader.construct_object(node)
            str(value)  # Python writes no integer of 5000 digits, which may be read as hexadecimal
        except yaml.YAMLError:
            return self._wrong(place, "has a YAML tag (!...), or is a sign: put it in quotes")
        except (  # PyYAML's, of 2024-13-45
            ArithmeticError,
            AttributeError,
            LookupError,
            ValueError,
        ):
            kind = node.tag.removeprefix(TAG)
            return self._wrong(place, f"is no {kind}, as which YAML reads it: put it in quotes")
        return value
