"""The environment variables that Claude Code gets, and which of their values are secrets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gymhost.agents.base import McpServers
from gymhost.redaction import Redaction, names_a_secret

__all__ = ["PASSED", "check_names", "redaction", "variables"]

PASSED = (
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    # the way to the model
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    # and what to trust on it
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
)
"""What is passed on from this process's environment, with all `LC_*`. No key, and no home."""

OWN = {
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",  # looked for upwards: /tmp has room for anybody's
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",  # an instruction's `@/etc/passwd` is just text
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
    # Otherwise a server that is slow is "pending", and may fail later without anybody noticing.
    "MCP_CONNECTION_NONBLOCKING": "0",
    "MCP_TIMEOUT": "60000",
}


def check_names(names: Iterable[str]) -> None:
    """Refuse variables that an agent must never see: they may have the control key.

    Raises: ValueError.
    """
    for name in names:
        if name.upper().startswith("GYMHOST_"):
            raise ValueError(f"{name} is never passed on to an agent")


def variables(folder: Path, passed: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """Return all that the process gets: some of ours, a home of its own, and `env`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED or name.startswith("LC_") or name in passed
    }
    places = {
        "CLAUDE_CONFIG_DIR": str(folder / "config"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "CLAUDE_CODE_TMPDIR": str(folder / "tmp"),
    }
    return {"PATH": os.defpath, **kept, **OWN, **places, **env}


def redaction(env: Mapping[str, str], mcp: McpServers) -> Redaction:
    """Return what hides secrets in a record: an agent can print them, with its own tools."""
    return Redaction(_secrets(env, mcp))


def _secrets(env: Mapping[str, str], mcp: McpServers) -> Iterator[str]:
    places = [env, *(server.get(key) for server in mcp.values() for key in ("headers", "env"))]
    for place in places:
        if isinstance(place, Mapping):
            for name, value in place.items():
                if names_a_secret(name) and isinstance(value, str):
                    yield value
