"""A client's own journal: what a server has acknowledged, on disk before anybody relies on it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Journal:
    """A file of JSON lines, each of them fsynced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, **entry: Any) -> None:
        """Return when the entry is on disk."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def acknowledged(self) -> dict[str, Acknowledged]:
        """Read what the server owes, by session, from the file."""
        sessions: dict[str, Acknowledged] = {}
        for line in self._path.read_bytes().splitlines():
            entry = json.loads(line)
            session = sessions.setdefault(entry["session"], Acknowledged())
            match entry["did"]:
                case "seed":
                    session.token = entry["token"]
                case "call":
                    session.texts.append(entry["text"])
                case "verify":
                    session.verdicts.append(entry["verdict"])
        return sessions


@dataclass
class Acknowledged:
    """What one session was told."""

    token: str = ""
    texts: list[str] = field(default_factory=list)
    """What it said, in the order of the answers."""
    verdicts: list[Mapping[str, Any]] = field(default_factory=list)

    def losses(self, record: Mapping[str, Any] | None) -> list[str]:
        """Say what the server's record of the session lacks, or has too much of."""
        if record is None:
            return ["a seed"]
        said = [call["arguments"]["text"] for call in record["calls"] if call["kind"] == "ok"]
        found = [f"the call {text!r}" for text in self.texts if text not in said]
        found += [f"twice, the call {text!r}" for text in set(said) if said.count(text) > 1]
        if record["state"]["notes"] != said:
            found.append(f"a state: {record['state']['notes']} after {said}")
        scores = [verdict["reward"] for verdict in self.verdicts]
        recorded = record["verdict"]
        if scores and (recorded is None or scores != [recorded["reward"]] * len(scores)):
            found.append(f"a verdict: {scores}, and {recorded}")
        if recorded is not None and recorded["reward"] != len(said):
            found.append(f"a verdict that is none of these calls: {recorded}, {said}")
        return found
