"""Distributions with plugins, written to a folder that a process has on its PYTHONPATH."""

import os
from pathlib import Path

GATED = Path(__file__).parent / "e2e" / "worlds" / "gated.py"


def install(
    folder: Path,
    name: str,
    source: str | Path,
    points: dict[str, str],
    *,
    version: str = "1.0",
) -> None:
    """Write a distribution of one module, `name` with underscores, and its entry points.

    `points` maps the name of each to what stands behind `module:`.
    """
    module = name.replace("-", "_")
    text = source.read_text("utf-8") if isinstance(source, Path) else source
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(text, "utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{point} = {module}:{target}" for point, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[gymhost]", *lines, ""]))


def variables(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment variables of a process that sees `folder`'s distributions.

    Its state folder is there too, and a key of the developer's own is left out.
    """
    kept = {name: value for name, value in os.environ.items() if name != "GYMHOST_API_KEY"}
    own = {"PYTHONPATH": str(folder), "XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}
    return {**kept, **own, **more}
