"""The server that is soaked: two environments whose sessions are over in a second."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
from pydantic import BaseModel

from gymhost import Environment, EnvironmentConfig, Limits, Session, Task, Trajectory, tool
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from gymhost.logs import configure_logging
from gymhost.server import Backend, bind, run

SHORT = Limits(
    unused_seconds=1, idle_seconds=1, total_seconds=60, retention_seconds=1, tool_seconds=0.5
)


class Notes(BaseModel):
    """What a session has written."""

    notes: list[str] = []


class Plain(Environment[Notes]):
    """Sessions with a state, and tools of every kind."""

    @tool
    async def write(self, session: Session[Notes], note: str) -> str:
        """Write a note down."""
        session.state.notes.append(note)
        return note

    @tool
    def write_in_a_thread(self, session: Session[Notes], note: str) -> str:
        """Write a note down, in a thread."""
        session.state.notes.append(note)
        return note

    @tool
    def oversleep(self) -> str:
        """Take longer than a call may; the thread is abandoned, and returns later."""
        threading.Event().wait(0.7)
        return "late"

    @tool
    async def crash(self) -> str:
        """Fail."""
        raise RuntimeError("it fails")

    async def verify(self, session: Session[Notes], trajectory: Trajectory) -> float:
        return float(len(session.state.notes))

    async def close(self, session: Session[Notes], reason: str) -> None:
        await anyio.lowlevel.checkpoint()


class Pinned(Plain):
    """Sessions that hold a descriptor and a task."""

    pinned = True

    async def seed(self, session: Session[Notes], task: Task) -> Notes:
        await session.enter(_machine())
        return Notes()


@asynccontextmanager
async def _machine() -> AsyncGenerator[None]:
    descriptor = os.open(__file__, os.O_RDONLY)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            yield
            tasks.cancel_scope.cancel()
    finally:
        os.close(descriptor)


def main(backend: str, store: str) -> None:
    """Serve on a free port."""
    configure_logging("text")
    config: dict[str, Any] = {
        "plain": EnvironmentConfig(plugin=Plain, limits=SHORT),
        "pinned": EnvironmentConfig(plugin=Pinned, limits=SHORT),
    }
    with bind("127.0.0.1", 0) as bound:
        app = create_app(
            Host(config, discover=False, store=store), KeyGuard([os.environ["GYMHOST_API_KEY"]])
        )
        port = bound.getsockname()[1]
        run(
            app,
            bound,
            backend=cast(Backend, backend),
            announce=lambda: print(f"http://127.0.0.1:{port} in {Path.cwd()}", flush=True),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
