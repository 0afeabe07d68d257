"""The environment variables that Claude Code gets, and which of their values are secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gymhost.agents.base import McpServers

__all__ = ["PASSED", "check_names", "masked", "secrets_of", "variables"]

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

SECRET = re.compile(r"key|token|secret|passw|cookie|auth|credential", re.IGNORECASE)
MASK = b"***"
SHORTEST_SECRET = 8  # characters: to mask "1" would spoil the record


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


def secrets_of(env: Mapping[str, str], mcp: McpServers) -> tuple[bytes, ...]:
    """Return the values that a record must not have, longest first."""
    found = {value for value in _secrets(env, mcp) if len(value) >= SHORTEST_SECRET}
    return tuple(value.encode() for value in sorted(found, key=len, reverse=True))


def _secrets(env: Mapping[str, str], mcp: McpServers) -> Iterator[str]:
    places = [env, *(server.get(key) for server in mcp.values() for key in ("headers", "env"))]
    for place in places:
        if isinstance(place, Mapping):
            for name, value in place.items():
                if SECRET.search(str(name)) and isinstance(value, str):
                    yield value.split()[-1] if value.strip() else ""  # of `Bearer ...`


def masked(data: bytes, secrets: Iterable[bytes]) -> bytes:
    """Return the data without the secrets: an agent can print them, with its own tools."""
    for secret in secrets:
        data = data.replace(secret, MASK)
    return data
