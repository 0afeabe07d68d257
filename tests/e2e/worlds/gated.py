"""An environment whose code waits at gates: sockets of a test, which lets it go on."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
from pydantic import BaseModel

from gymhost import Environment, Session, Task, Trajectory, tool


class Notes(BaseModel):
    """What the calls of a session have left."""

    notes: list[str] = []


async def gate(port: int, place: str) -> None:
    """Say where the code is, and wait to be let go on."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"{place}\n".encode())
        await stream.receive()


class Gated(Environment[Notes]):
    """Notes each step of its life in the file of GATED_LOG."""

    async def startup(self) -> None:
        if "GATED_STARTUP" in os.environ:
            await gate(int(os.environ["GATED_STARTUP"]), "startup")
        note("startup")

    async def shutdown(self) -> None:
        note("shutdown")
        await hang("shutdown")

    async def seed(self, session: Session[Notes], task: Task) -> Notes:
        if "seed" in task.verifier_metadata:
            await gate(task.verifier_metadata["seed"], "seed")
        return Notes()

    @tool
    async def say(self, session: Session[Notes], text: str) -> str:
        """Say it again."""
        session.state.notes.append(text)
        return text

    @tool
    async def hold(self, session: Session[Notes], port: int, text: str = "held") -> str:
        """Wait at a gate."""
        await gate(port, text)
        session.state.notes.append(text)
        return text

    @tool
    def block(self, port: int) -> str:
        """Wait at a gate in a thread."""
        with socket.create_connection(("127.0.0.1", port)) as stream:
            stream.sendall(b"block\n")
            stream.recv(1)
        return "blocked"

    @tool
    def stick(self, port: int) -> str:
        """Never return."""
        socket.create_connection(("127.0.0.1", port)).sendall(b"stick\n")
        threading.Event().wait()
        return "never"

    async def verify(self, session: Session[Notes], trajectory: Trajectory) -> float:
        if "verify" in session.task.verifier_metadata:
            await gate(session.task.verifier_metadata["verify"], "verify")
        note(f"verified after {len(session.calls)} calls")
        return float(len(session.state.notes))

    async def close(self, session: Session[Notes], reason: str) -> None:
        kinds = [call.outcome.kind for call in session.calls if call.outcome]
        note(" ".join([f"close: {reason}", *kinds]))
        await hang("close")

    def tasks(self) -> Iterator[Task]:
        yield Task()


def note(text: str) -> None:
    if "GATED_LOG" in os.environ:
        with Path(os.environ["GATED_LOG"]).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


async def hang(hook: str) -> None:
    """Hang in the hooks that GATED_HANG names, after arriving at the gate of GATED_PORT.

    With GATED_STUBBORN, no cancellation ends it.
    """
    if hook not in os.environ.get("GATED_HANG", "").split():
        return
    with anyio.CancelScope(shield="GATED_STUBBORN" in os.environ):
        await gate(int(os.environ["GATED_PORT"]), hook)
