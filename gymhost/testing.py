"""For authors' tests: a host in this process, through the real HTTP application and MCP client.

async with testing.client({"weather": Weather}) as client:
    async with client.episode("weather", task) as episode:
        answer = await episode.call_tool("get_weather", {"city": "Paris"})
        verdict = await episode.verify(answer.text)
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from gymhost.client import Client
from gymhost.host import EnvironmentLike, Host
from gymhost.http.app import GymhostApp, create_app
from gymhost.http.auth import KeyGuard
from gymhost.plugins import check_all_up

__all__ = ["InProcessClient", "client"]


class InProcessClient(Client):
    """A client of a host in this process."""

    def __init__(self, app: GymhostApp, key: str) -> None:
        super().__init__(
            "http://gymhost.test",
            key,
            transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
        )
        self.app = app
        self.key = key

    @property
    def host(self) -> Host:
        """The host that answers."""
        return self.app.served


@asynccontextmanager
async def client(
    environments: Mapping[str, EnvironmentLike],
    *,
    strict: bool = True,
    discover: bool = False,
    **host_options: Any,
) -> AsyncGenerator[InProcessClient]:
    """Serve environments, without sockets, for as long as the block runs.

    `host_options` are `Host`'s others; installed plugins are looked for with `discover`.

    Raises: PluginLoadError: an environment failed to load or start (not with `strict=False`).
    """
    host = Host(environments, discover=discover, **host_options)
    key = secrets.token_urlsafe()
    app = create_app(host, KeyGuard([key]))
    async with app.router.lifespan_context(app), InProcessClient(app, key) as in_process:
        if strict:
            check_all_up(host.records)
        yield in_process
