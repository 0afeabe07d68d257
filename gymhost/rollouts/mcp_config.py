"""An agent's `mcp_config`: its own MCP servers, and gymhost's entry for one rollout."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic_core

from gymhost.errors import GymhostError
from gymhost.models import JSONObject, SeedAnswer, json_type

__all__ = ["McpConfigError", "StaticServers", "read_servers"]

logger = logging.getLogger("gymhost.rollouts")


class McpConfigError(GymhostError):
    """It names no MCP servers; the text has none of its values."""


def read_servers(config: Mapping[str, Any] | str | None) -> dict[str, JSONObject]:
    """Return the servers of a file, or of what a configuration has inline.

    Both may have them under `mcpServers`, as the files of agents do.

    Raises: McpConfigError.
    """
    if config is None:
        return {}
    value: Any = _read(Path(config)) if isinstance(config, str) else dict(config)
    if isinstance(value, dict) and set(value) == {"mcpServers"}:
        value = value["mcpServers"]
    if not isinstance(value, dict):
        raise McpConfigError(f"mcp_config must map names to servers, and is {json_type(value)}")
    for name, server in value.items():
        _check(name, server)
    return value


def _read(path: Path) -> Any:
    try:
        return pydantic_core.from_json(path.read_bytes())
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise McpConfigError(f"mcp_config {path} can't be read: {reason}") from exc


def _check(name: str, server: Any) -> None:
    if not isinstance(server, dict) or not (
        isinstance(server.get("command"), str) or isinstance(server.get("url"), str)
    ):
        raise McpConfigError(f"mcp_config.{name} must have a `url` or a `command`")
    for key, kind, what in (
        ("args", list, "a list"),
        ("env", dict, "a mapping"),
        ("headers", dict, "a mapping"),
    ):
        given = server.get(key)
        if given is None:
            continue
        values = given.values() if isinstance(given, dict) else given
        if not isinstance(given, kind) or not all(isinstance(each, str) for each in values):
            raise McpConfigError(f"mcp_config.{name}.{key} must be {what} of texts")


class StaticServers:
    """An agent's own servers, which gymhost's entry joins for each rollout."""

    def __init__(self, servers: Mapping[str, JSONObject]) -> None:
        self._servers = dict(servers)
        self._warned = False

    def with_session(self, seeded: SeedAnswer) -> dict[str, JSONObject]:
        """Return the servers of one rollout. On the same name, gymhost's wins."""
        if seeded.mcp is None:
            return dict(self._servers)
        name = seeded.mcp.server_name
        if name in self._servers and not self._warned:
            self._warned = True
            logger.warning(
                "the agent's mcp_config has a server %r, too: the environment's takes its place",
                name,
            )
        entry = {"type": "http", "url": seeded.mcp.url, "headers": dict(seeded.mcp.headers)}
        return {**self._servers, name: entry}
