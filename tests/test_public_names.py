"""The public names are those that the reference lists."""

import re
from pathlib import Path

import gymhost

REFERENCE = Path(__file__).parents[1] / "docs" / "reference.md"


def test_every_public_name_is_in_the_reference_with_one_sentence() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", REFERENCE.read_text("utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == gymhost.__all__
    for name, sentence in rows:
        assert re.fullmatch(r"[^.]+\.", sentence), name


def test_the_public_names_are_sorted_and_there() -> None:
    assert gymhost.__all__ == sorted(gymhost.__all__)
    for name in gymhost.__all__:
        assert getattr(gymhost, name).__module__.startswith("gymhost.")


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert gymhost.__version__ == version("gymhost")
