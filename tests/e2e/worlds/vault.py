"""An environment full of secrets, with a tool for each way in which one could get out."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError as ServerToolError
from pydantic import BaseModel

from gymhost import (
    Environment,
    InvalidTask,
    Session,
    Task,
    ToolError,
    Trajectory,
    VerifyResult,
    hookimpl,
    tool,
)

HIDDEN = os.environ.get("VAULT_HIDDEN", "canary-of-the-code")
"""What the code knows, and nobody is to be told."""


class Ledger(BaseModel):
    """What a session has: only its notes are its agent's to read."""

    answer: str = ""
    notes: list[str] = []
    odd: Any = None


class Strict(BaseModel):
    """Quotes in its errors what it was given."""

    number: int


class Vault(Environment[Ledger]):
    """Tells an agent its own notes, and nothing else."""

    def __init__(self, password: str = "canary-of-an-option") -> None:
        self._password = password

    @property
    def _all(self) -> str:
        return f"{HIDDEN} {self._password}"

    async def startup(self) -> None:
        if "VAULT_DEBUG" in os.environ:
            logging.getLogger().setLevel(logging.DEBUG)
            logging.getLogger("vault").debug("all of it is on")

    async def seed(self, session: Session[Ledger], task: Task) -> Ledger:
        match task.verifier_metadata.get("seed"):
            case "crash":
                raise RuntimeError(self._all)
            case "invalid":
                raise InvalidTask("no such chapter")
        return Ledger(answer=str(task.verifier_metadata.get("answer", "")))

    @tool
    async def write(self, session: Session[Ledger], note: str) -> str:
        """Write a note down, and read all of them."""
        session.state.notes.append(note)
        return "\n".join(session.state.notes)

    @tool
    async def crash(self, session: Session[Ledger]) -> str:
        """Fail over everything at once."""
        session.state.notes.append("crashed")
        try:
            Path(f"/nowhere/{HIDDEN}").read_text()  # noqa: ASYNC240
        except OSError as exc:
            raise RuntimeError(f"{self._all} {session.task} {session.state}") from exc
        return ""

    @tool
    def crash_in_a_thread(self, session: Session[Ledger]) -> str:
        """Fail over everything at once, in a thread."""
        raise LookupError(self._all, session.task, session.state)

    @tool
    async def exit(self) -> str:
        """Try to end the process."""
        raise SystemExit(self._all)

    @tool
    async def misread(self, session: Session[Ledger]) -> str:
        """Fail with an error that quotes what was read."""
        return str(Strict.model_validate({"number": f"{session.state.answer} {self._all}"}))

    @tool
    async def refuse(self, session: Session[Ledger]) -> str:
        """Fail, in words for the agent, whose cause is not for it."""
        raise ToolError("Not today.") from RuntimeError(f"{self._all} {session.state}")

    @tool(timeout=0.02)
    async def stall(self) -> str:
        """Take too long."""
        await anyio.sleep_forever()
        return self._all

    @tool
    async def spoil(self, session: Session[Ledger]) -> str:
        """Leave a state that no store can hold."""
        session.state.odd = {self._all}, session.state.answer
        return "done"

    @tool
    async def overflow(self) -> str:
        """Return more than may be returned."""
        return self._all * 100_000

    @tool
    async def infinite(self) -> dict[str, Any]:
        """Return what is no JSON."""
        return {self._all: float("nan")}

    @tool
    async def opaque(self, session: Session[Ledger]) -> Any:
        """Return an object of the code's own."""
        return {"session": session}

    @tool
    async def cause_noise(self) -> str:
        """Say secrets to a log, as careless code does."""
        logging.getLogger("vault").error("using %s", self._password, extra={"also": self._password})
        logging.getLogger("vault").warning("as JSON: %s", json.dumps({"as": self._password}))
        warnings.warn(f"careless: {self._password}", UserWarning, stacklevel=1)
        return "done"

    def register_tools(self, mcp: MCPServer) -> None:
        """The same ways out, through the SDK."""

        @mcp.tool()
        async def sdk_crash(session: Session[Ledger]) -> str:
            """Fail over everything at once."""
            raise RuntimeError(f"{self._all} {session.task} {session.state}")

        @mcp.tool()
        def sdk_crash_in_a_thread(session: Session[Ledger]) -> str:
            """Fail over everything at once, in a thread."""
            raise RuntimeError(f"{self._all} {session.task} {session.state}")

        @mcp.tool()
        async def sdk_misread(session: Session[Ledger]) -> str:
            """Fail with an error that quotes what was read."""
            return str(Strict.model_validate({"number": f"{session.state.answer} {self._all}"}))

        @mcp.tool()
        async def sdk_refuse(session: Session[Ledger]) -> str:
            """Fail, in words for the agent, whose cause is not for it."""
            raise ServerToolError("Not today.") from RuntimeError(f"{self._all} {session.state}")

        @mcp.tool(structured_output=True)
        async def sdk_unstructured(session: Session[Ledger]) -> Strict:
            """Return what does not fit the schema of what is returned."""
            return {"number": f"{session.state.answer} {self._all}"}  # type: ignore[return-value]

        @mcp.tool()
        async def sdk_opaque(session: Session[Ledger]) -> Any:
            """Return an object of the code's own."""
            return {"session": session}

    async def verify(self, session: Session[Ledger], trajectory: Trajectory) -> VerifyResult:
        if trajectory.final_text == "crash":
            raise RuntimeError(f"{self._all} {session.state}")
        notes = "\n".join(session.state.notes)
        return VerifyResult(
            reward=len(session.state.notes), notes=notes, answer=session.state.answer
        )

    async def close(self, session: Session[Ledger], reason: str) -> None:
        if session.task.verifier_metadata.get("close") == "crash":
            raise RuntimeError(f"{self._all} {session.state}")


class Unstartable(Vault):
    """Fails to start, over its password."""

    async def startup(self) -> None:
        raise ConnectionError(f"no database at postgres://vault:{self._password}@db")


class Unbuildable(Vault):
    """Can't be made, over its password."""

    def __init__(self, password: str = "") -> None:
        raise ValueError(f"{password!r} is no password")


class Unregistrable(Vault):
    """Fails to register its tools, over its password."""

    def register_tools(self, mcp: MCPServer) -> None:
        raise RuntimeError(self._password)


class Nosy:
    """An extension that fails to start, over its password."""

    def __init__(self, password: str = "") -> None:
        self._password = password

    @hookimpl
    async def startup(self) -> None:
        raise RuntimeError(f"no entry with {self._password}")


class Talkative:
    """An extension that fails to register its environments, over its password."""

    def __init__(self, password: str = "") -> None:
        self._password = password

    @hookimpl
    def register_environments(self, register: Any) -> None:
        raise RuntimeError(f"none with {self._password!r}")
