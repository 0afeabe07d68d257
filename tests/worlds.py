"""Environments whose tools are registered on a real MCPServer, by functions that a test gives."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

from gymhost import Environment, EnvironmentConfig, Session, Trajectory, tool
from gymhost.client import Episode
from gymhost.limits import Limits
from gymhost.testing import client


class Place(BaseModel):
    name: str


class Visits(BaseModel):
    places: list[str] = []


class World(Environment[Visits]):
    """Its tools are registered by the function that the test gives it."""

    def __init__(self, register: Callable[["World", MCPServer], None] | None = None) -> None:
        self._register = register

    def register_tools(self, mcp: MCPServer) -> None:
        if self._register is not None:
            self._register(self, mcp)

    @tool
    async def marked(self, session: Session[Visits]) -> list[str]:
        """A marked one."""
        return session.state.places

    async def verify(self, session: Session[Visits], trajectory: Trajectory) -> float:
        return len(session.state.places)


def registering(*functions: Callable[..., Any], **named: Callable[..., Any]) -> World:
    """A world whose register_tools adds these functions."""

    def register(world: World, mcp: MCPServer) -> None:
        for function in functions:
            mcp.tool()(function)
        for name, function in named.items():
            mcp.add_tool(function, name)

    return World(register)


@asynccontextmanager
async def playing(world: World, **limits: Any) -> AsyncGenerator[Episode]:
    """One episode in a world."""
    config = EnvironmentConfig(plugin=world, limits=Limits(**limits))
    with anyio.fail_after(10):
        async with client({"world": config}) as served, served.episode("world") as episode:
            yield episode
