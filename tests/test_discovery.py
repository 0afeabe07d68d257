"""Plugins that are really installed: distributions with entry points, in a folder on sys.path."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gymhost import EnvironmentConfig
from gymhost.errors import EnvironmentDown
from gymhost.host import Host
from gymhost.plugins import PluginRecord
from gymhost.testing import client
from tests.distributions import install

WORLD = """
from gymhost import Environment, tool

class World(Environment):
    @tool
    async def look(self) -> str:
        return "a world"

    async def verify(self, session, trajectory):
        return 1.0
"""
EXTENSION = """
from gymhost import hookimpl

class Half:
    @hookimpl(wrapper=True)
    def verify(self):
        return (yield).reward / 2
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for distributions, whose modules are forgotten again."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def record(host: Host, name: str) -> PluginRecord:
    (found,) = [record for record in host.records if record.name == name]
    return found


async def test_what_is_installed_is_served_beside_what_is_given(site: Path) -> None:
    install(site, "gym-env-world", WORLD, {"world": "World", "second": "World"}, version="2.1")
    install(site, "gym-env-half", EXTENSION, {"half": "Half"})
    async with client({}, discover=True) as served:
        assert {"world", "second", "weather"} <= set(served.host.mounts)
        async with served.episode("world") as episode:
            assert (await episode.call_tool("look")).text == "a world"
            assert (await episode.verify())["reward"] == 0.5
    world, half = record(served.host, "world"), record(served.host, "half")
    assert (world.kind, world.status, world.reason) == ("environment", "up", None)
    assert (world.distribution, world.version) == ("gym-env-world", "2.1")
    assert (half.kind, half.status, half.distribution) == ("extension", "up", "gym-env-half")


async def test_installed_extensions_nest_by_name_and_not_by_folder(site: Path) -> None:
    for name, number in (("a", 2), ("b", 3)):  # b's folder is the first on the path
        source = EXTENSION.replace("/ 2", f"* {number} + {number}")
        install(site / name, f"gym-{name}", source, {name: "Half"})
        sys.path.insert(0, str(site / name))
    install(site, "gym-env-world", WORLD, {"world": "World"})
    async with client({}, discover=True) as served:
        async with served.episode("world") as episode:
            assert (await episode.verify())["reward"] == (1 * 2 + 2) * 3 + 3


IMPORT_FAILURES = {
    "missing": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "raises": ("raise OSError('no GPU')", "OSError: no GPU"),
    "grammar": ("def (:", r"SyntaxError: invalid syntax \(gym_bad.py, line 1\)"),
    "exits": ("raise SystemExit(3)", r"it called sys.exit\(3\)"),
    "empty": ("", "AttributeError: module 'gym_bad' has no attribute 'Bad'"),
    "hook": (
        "from gymhost import Environment\nclass Bad(Environment):\n    seed = 5",
        "PluginError: Bad.seed must be a plain method",
    ),
    "state": (
        "from gymhost import Environment\nclass Bad(Environment[dict]): pass",
        r"PluginError: Bad: Environment\[<class 'dict'>\]: the state is a pydantic model",
    ),
}


@pytest.mark.parametrize(("source", "cause"), IMPORT_FAILURES.values(), ids=IMPORT_FAILURES)
def test_a_plugin_that_can_not_be_imported_fails_alone(site: Path, source: str, cause: str) -> None:
    install(site, "gym-bad", source, {"bad": "Bad"}, version="1.2")
    host = Host()
    bad = record(host, "bad")
    assert (bad.kind, bad.status, bad.version) == ("unknown", "failed", "1.2")
    assert bad.reason is not None
    assert re.fullmatch(
        rf"'bad' of gym-bad 1.2 \(gym_bad:Bad\) could not be imported: {cause}", bad.reason
    )
    assert bad.error is not None
    assert bad.error.__cause__ is not None
    assert record(host, "weather").status == "up"
    with pytest.raises(EnvironmentDown, match="could not be imported"):
        host.mount("bad")


def test_a_configured_plugin_that_failed_is_not_said_to_be_missing(site: Path) -> None:
    install(site, "gym-bad", "import no_such_module", {"bad": "Bad"})
    host = Host({"bad": EnvironmentConfig(), "other": EnvironmentConfig(plugin="bad")})
    assert record(host, "bad").kind == "unknown"  # and there is one record of it
    other = record(host, "other")
    assert other.reason is not None
    assert other.reason.startswith("plugin 'bad' failed: 'bad' of gym-bad 1.0")
    assert other.reason.endswith("No module named 'no_such_module'")


def test_a_name_that_two_distributions_claim_is_nobodys(site: Path) -> None:
    install(site, "gym-one", WORLD, {"world": "World"})
    install(site, "gym-two", WORLD, {"world": "World", "own": "World"}, version="2.0")
    host = Host()
    assert record(host, "world").reason == (
        "'world' is claimed by gym-one 1.0 (gym_one:World) and by gym-two 2.0 (gym_two:World): "
        "uninstall one of them"
    )
    assert "world" not in host.mounts
    assert record(host, "own").status == "up"
    assert "gym_one" not in sys.modules


def test_of_two_versions_of_one_distribution_the_first_on_the_path_counts(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere in Python: a reinstallation may leave an old one behind."""
    install(site / "old", "gym-env-world", WORLD, {"world": "World", "gone": "World"})
    install(site / "new", "gym-env-world", WORLD, {"world": "World"}, version="2.0")
    monkeypatch.syspath_prepend(site / "old")
    monkeypatch.syspath_prepend(site / "new")
    host = Host()
    assert record(host, "world").version == "2.0"
    assert "gone" not in host.mounts


@pytest.mark.parametrize("name", ["World", "my.world", "-world", "wörld", "two words"])
def test_a_name_that_is_no_path_segment_fails_alone(site: Path, name: str) -> None:
    install(site, "gym-env-world", WORLD, {name: "World", "fine": "World"})
    host = Host()
    assert record(host, name).reason == (
        f"{name!r} can't be mounted: use lower-case ASCII letters, digits, '_' and '-'"
    )
    assert record(host, "fine").status == "up"
    assert name not in host.mounts


@pytest.mark.parametrize("target", ["function", "NONE", "NUMBER", "Class", "TEXT.upper"])
def test_an_entry_point_to_something_odd_fails_alone(site: Path, target: str) -> None:
    source = "NONE, NUMBER, TEXT = None, 5, ''\nclass Class: pass\ndef function(): pass\n"
    install(site, "gym-odd", source, {"odd": target})
    host = Host()
    odd = record(host, "odd")
    assert odd.reason == (
        f"'odd' of gym-odd 1.0 (gym_odd:{target}) could not be registered as an extension: "
        "it is no Environment class, and implements no hook"
    )
    assert (odd.kind, odd.status) == ("extension", "failed")
    assert record(host, "weather").status == "up"


@pytest.mark.parametrize(
    ("source", "target", "cause"),
    [
        (WORLD + "\nworld = World()", "world", "an instance of World is no extension: an env.*"),
        (
            EXTENSION.replace("verify", "verfy"),
            "Half",
            "'verfy' is no hook. Hooks: .*",
        ),
        ("class Half:\n  def __init__(self, by): ...", "Half", "Half could .*TypeError: .*'by'"),
        ("class Half:\n  def __init__(self): exit()", "Half", r"Half .*sys.exit\(None\)"),
        ("", "", "it is no Environment class, and implements no hook"),
    ],
)
def test_an_extension_that_can_not_be_registered_fails_alone(
    site: Path, source: str, target: str, cause: str
) -> None:
    install(site, "gym-bad", source, {"bad": target})
    if not target:
        point_to_the_module(site, "gym_bad")
    host = Host()
    bad = record(host, "bad")
    assert bad.reason is not None
    assert bad.reason.startswith("'bad' of gym-bad 1.0 (gym_bad")
    assert re.search(f"could not be registered as an extension: {cause}$", bad.reason)
    assert record(host, "weather").status == "up"


def point_to_the_module(site: Path, module: str) -> None:
    points = site / f"{module}-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace(f"{module}:", module))


async def test_a_module_may_be_an_extension(site: Path) -> None:
    source = """
from gymhost import hookimpl

@hookimpl(wrapper=True)
def verify():
    return (yield).reward / 4
"""
    install(site, "gym-quarter", source, {"quarter": ""})
    point_to_the_module(site, "gym_quarter")
    install(site, "gym-env-world", WORLD, {"world": "World"})
    async with client({}, discover=True) as served:
        async with served.episode("world") as episode:
            assert (await episode.verify())["reward"] == 0.25


def test_what_is_blocked_is_not_imported(site: Path) -> None:
    install(site, "gym-bad", "raise SystemExit(1)", {"bad": "Bad"})
    install(site, "gym-env-world", WORLD, {"world": "World"})
    host = Host(blocked=["bad", "world"])
    assert not {"gym_bad", "gym_env_world"} & set(sys.modules)
    for name in ("bad", "world"):
        assert record(host, name).status == "blocked"
        assert record(host, name).reason is None
        assert name not in host.mounts


def test_without_discovery_nothing_is_imported(site: Path) -> None:
    install(site, "gym-env-world", WORLD, {"world": "World"})
    assert Host(discover=False).records == []
    assert "gym_env_world" not in sys.modules


def test_an_extension_does_not_take_an_installed_name_though_it_sorts_first(site: Path) -> None:
    source = """
from gymhost import hookimpl
from gym_env_world import World

class Makes:
    @hookimpl
    def register_environments(self, register):
        register("world", World)
        register("made", World)
"""
    install(site, "gym-env-world", WORLD, {"world": "World"}, version="2.0")
    install(site, "gym-a-maker", source, {"a-maker": "Makes"})
    host = Host()
    assert host.mounts["world"].record.distribution == "gym-env-world"
    assert record(host, "made").distribution == "gym-a-maker"
    failed = [each for each in host.records if each.status == "failed"]
    assert [(each.name, each.distribution, each.reason) for each in failed] == [
        ("world", "gym-a-maker", "'a-maker' registers 'world', which is taken")
    ]


WITH_OPTIONS = """
from gymhost import hookimpl
from pydantic import BaseModel

class Times(BaseModel):
    by: float = 0.5
    path: str = ""

    @hookimpl(wrapper=True)
    def verify(self):
        return (yield).reward * self.by

times = Times(by=0.25)
"""


async def test_an_installed_extension_is_made_with_its_options(site: Path) -> None:
    install(site, "gym-env-world", WORLD, {"world": "World"})
    install(
        site, "gym-times", WITH_OPTIONS, {"quarter": "Times", "half": "Times", "fifth": "Times"}
    )
    options = {"quarter": {"by": 0.25}, "fifth": {"by": 0.2}, "half": {}}
    async with client({}, discover=True, extension_options=options) as served:
        async with served.episode("world") as episode:
            assert (await episode.verify())["reward"] == pytest.approx(0.25 * 0.5 * 0.2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "times",
            "'times' of gym-times 1.0 (gym_times:Times) could not be registered as an extension: "
            "Times could not be made with the options: by: ValidationError: ",
        ),
        (
            "instance",
            "'instance' of gym-times 1.0 (gym_times:times) could not be registered as an "
            "extension: it is no class: it takes no options (by)",
        ),
        ("missing", "no extension is named 'missing'. Installed: "),
        ("world", "'world' is an environment: configure it under `environments`"),
        ("broken", "'broken' of gym-broken 1.0 (gym_broken:Broken) could not be imported: "),
    ],
)
async def test_options_that_an_extension_does_not_take_fail_it_alone(
    site: Path, name: str, reason: str
) -> None:
    install(site, "gym-env-world", WORLD, {"world": "World"})
    install(site, "gym-times", WITH_OPTIONS, {"times": "Times", "instance": "times"})
    install(site, "gym-broken", "import no_such_module", {"broken": "Broken"})
    options = {name: {"by": "much"}}
    async with client({}, discover=True, strict=False, extension_options=options) as served:
        (failed,) = [
            each for each in served.host.records if (each.name, each.status) == (name, "failed")
        ]
        assert failed.reason is not None
        assert failed.reason.startswith(reason)
        up = {"times": 0.25, "instance": 0.5}.get(name, 0.125)
        async with served.episode("world") as episode:
            assert (await episode.verify())["reward"] == up


def test_a_blocked_extension_may_stay_configured(site: Path) -> None:
    install(site, "gym-bad", "raise SystemExit(1)", {"bad": "Bad"})
    host = Host(blocked=["bad", "gone"], extension_options={"bad": {"by": 1}, "gone": {}})
    assert "gym_bad" not in sys.modules
    assert record(host, "bad").status == record(host, "gone").status == "blocked"
