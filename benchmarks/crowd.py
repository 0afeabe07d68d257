"""Installed environments by the hundred: each a distribution, a module and a class of its own.

What one class mounted many times would share (its import, its tools' schemas) is what environments
of different authors do not share.
"""

from __future__ import annotations

import compileall
from pathlib import Path

SOURCE = '''\
"""An environment of the crowd."""

from gymhost import Environment, Session, Trajectory, tool


class Crowd{number:04}(Environment):
    """One tool."""

    @tool
    async def echo(self, session: Session, text: str) -> str:
        """Return the text."""
        return text

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float(bool(session.calls))
'''
METADATA = "Metadata-Version: 2.1\nName: gym-env-crowd-{number:04}\nVersion: 1.0\n"
ENTRY_POINTS = "[gymhost]\ncrowd-{number:04} = gym_env_crowd_{number:04}:Crowd{number:04}\n"


def install_crowd(folder: Path, size: int) -> Path:
    """Put environments into a folder that is to be on Python's path. Returns the folder."""
    folder.mkdir()
    for number in range(size):
        (folder / f"gym_env_crowd_{number:04}.py").write_text(SOURCE.format(number=number))
        about = folder / f"gym_env_crowd_{number:04}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(METADATA.format(number=number))
        (about / "entry_points.txt").write_text(ENTRY_POINTS.format(number=number))
    compileall.compile_dir(folder, quiet=2)  # as pip does: a start does not pay for it
    return folder
