"""Imports in gymhost/ point downwards only, and asyncio is imported only for its servers."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

# A part is a module or package directly in gymhost/. It may import parts of the layers below it,
# and those beside it as long as that makes no circle. Inside a package, anything goes.
LAYERS = (
    {
        "aggregation",
        "allocating",
        "body_hash",
        "clock",
        "collecting",
        "control_key",
        "deadlines",
        "errors",
        "limits",
        "models",
        "owner_task",
        "pins",
        "plugin_records",
        "redaction",
        "shields",
        "threads",
        "times",
    },
    {
        "discovery",
        "dispatch",
        "hookrules",
        "hookspecs",
        "lean_body",
        "lean_types",
        "mcp_tools",
        "scores",
        "session",
        "signatures",
        "tools",
        "trajectory",
    },
    {"config", "environment", "stores"},
    # __init__: the public names, for authors
    {"__init__", "instances", "plugins", "registry", "slots", "store_health"},
    {"lifecycle", "mount"},
    {"calling", "ending", "seeding", "sweeper", "verification"},  # what the host does
    {"host"},
    {"dashboard", "http"},
    {"asgi", "logs", "server"},
    {"__main__", "cli"},
)
# They may run on another machine than the host, so they know its wire and none of its parts.
REMOTE = {"agents", "checking", "client", "episode", "lean_http", "rollouts"}
# For plugin authors, who get whatever their tests need.
TESTING = "testing"

PARTS = {*set().union(*LAYERS), *REMOTE, TESTING}
# where the servers are that run on it
ASYNCIO_ALLOWED = (
    "server/hypercorn_asyncio.py",
    "server/uvicorn_asyncio.py",
    "server/uvicorn_protocol.py",
)


def may_import(part: str) -> set[str]:
    """The other parts that a part may import."""
    if part == TESTING:
        allowed = PARTS
    elif part in REMOTE:
        allowed = LAYERS[0] | REMOTE
    else:
        height = next(i for i, layer in enumerate(LAYERS) if part in layer)
        allowed = set().union(*LAYERS[: height + 1])
        if part in LAYERS[-1]:
            allowed |= REMOTE | {TESTING}
    return allowed - {part}


class Import(NamedTuple):
    """One imported module, with the place that imports it."""

    where: str
    part: str
    target: str


def test_imports_point_downwards() -> None:
    assert violations(Path(__file__).parents[1] / "gymhost") == []


def violations(root: Path) -> list[str]:
    """Each import in the package at `root` that breaks a rule, in words."""
    imports = list(imports_below(root))
    edges: dict[str, set[str]] = {}
    found = []
    for where, part, target in imports:
        if target == "asyncio":
            if where.partition(":")[0] not in ASYNCIO_ALLOWED:
                found.append(f"{where}: asyncio is imported only for its servers; use anyio")
        elif part in PARTS and target not in may_import(part):
            found.append(f"{where}: {part} may not import {target}")
        else:
            edges.setdefault(part, set()).add(target)
    for unknown in sorted(parts_of(root) - PARTS):
        found.append(f"{unknown}: no layer; give it one in {Path(__file__).name}")
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        found.append(f"a circle of imports: {' <- '.join(error.args[1])}")
    return found


def parts_of(root: Path) -> set[str]:
    """The parts that the package at `root` has."""
    return {path.relative_to(root).parts[0].removesuffix(".py") for path in root.rglob("*.py")}


def imports_below(root: Path) -> Iterator[Import]:
    """Every import of asyncio and of another part, wherever in a file it stands."""
    parts = parts_of(root)
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root)
        part = file.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(), path.name)):
            for name in imported_names(node, package=(root.name, *file.parent.parts)):
                target = target_of(name, root.name, parts)
                if target is not None and target != part:
                    yield Import(f"{file}:{getattr(node, 'lineno', 0)}", part, target)


def imported_names(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """The full dotted names that one statement imports; relative ones start at `package`."""
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom():
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, node.module) if node.module else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def target_of(name: str, package: str, parts: set[str]) -> str | None:
    """The part that a dotted name is in, "asyncio", or None for what the rules do not mind."""
    first, *rest = name.split(".")
    if first != package:
        return first if first == "asyncio" else None
    if rest == ["__version__"]:
        return None  # a fact, not a dependency
    return rest[0] if rest and rest[0] in parts else "__init__"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A package that keeps every rule."""
    root = tmp_path / "gymhost"
    for name in (
        "__init__",
        "errors",
        "models",
        "session",
        "host",
        "agents",
        "cli/__init__",
        "server/__init__",
    ):
        path = root / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (root / "__init__.py").write_text("from gymhost.session import Session")
    (root / "models.py").write_text("from gymhost import __version__, errors")
    (root / "session.py").write_text("import gymhost.models")
    (root / "server" / "uvicorn_asyncio.py").write_text("import asyncio")
    (root / "cli" / "__init__.py").write_text("from .. import server\nfrom . import serve")
    (root / "cli" / "serve.py").write_text("import gymhost.server, gymhost.agents, gymhost.cli")
    return root


def test_a_package_that_keeps_the_rules_passes(root: Path) -> None:
    assert violations(root) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("models.py", "from gymhost.session import Session", "models may not import session"),
        ("models.py", "import gymhost.host as h", "models may not import host"),
        ("models.py", "from . import host", "models may not import host"),
        ("models.py", "from gymhost import Session", "models may not import __init__"),
        ("models.py", "import gymhost", "models may not import __init__"),
        ("models.py", "from gymhost import *", "models may not import __init__"),
        ("agents.py", "def f():\n    from .host import Host", "agents may not import host"),
        ("agents.py", "if TYPE_CHECKING:\n  from gymhost.session import S", "agents may not"),
        ("host.py", "from gymhost.agents import Agent", "host may not import agents"),
        ("agents.py", "from gymhost import Session", "agents may not import __init__"),
        ("__init__.py", "from gymhost.cli import main", "__init__ may not import cli"),
        ("http/mcp/app.py", "from ...cli.serve import serve", "http may not import cli"),
        ("errors.py", "from gymhost.models import Task", "a circle of imports: errors <- models"),
        ("host.py", "import asyncio", "host.py:1: asyncio is imported only for its servers"),
        ("host.py", "from asyncio import Lock", "asyncio is imported only for"),
        ("host.py", "import asyncio.subprocess", "asyncio is imported only for"),
        ("cli/uvicorn_asyncio.py", "import asyncio", "asyncio is imported only for"),
        ("helpers.py", "", "helpers: no layer"),
        ("helpers/more.py", "from gymhost.host import Host", "helpers: no layer"),
    ],
)
def test_a_violation_is_found(root: Path, file: str, source: str, complaint: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    (found,) = violations(root)
    assert complaint in found
