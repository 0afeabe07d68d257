"""An agent's own MCP servers: read from the configuration or a file, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gymhost.rollouts.mcp_config import McpConfigError, read_servers

SERVERS = {
    "far": {"url": "https://far.example/mcp", "headers": {"Authorization": "Bearer x"}},
    "near": {"command": "near", "args": ["--fast"], "env": {"MODE": "x"}},
}


def test_servers_are_inline_or_in_a_file_with_or_without_the_word(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    assert read_servers(None) == {}
    assert read_servers(SERVERS) == SERVERS
    assert read_servers({"mcpServers": SERVERS}) == SERVERS
    for content in (SERVERS, {"mcpServers": SERVERS}):
        path.write_text(json.dumps(content))
        assert read_servers(str(path)) == SERVERS


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"a": {}}, "mcp_config.a must have a `url` or a `command`"),
        ({"a": "secret"}, "mcp_config.a must have a `url` or a `command`"),
        ({"a": {"url": 7}}, "mcp_config.a must have a `url` or a `command`"),
        ({"a": {"command": "x", "args": "secret"}}, "mcp_config.a.args must be a list of texts"),
        ({"a": {"command": "x", "args": [1]}}, "mcp_config.a.args must be a list of texts"),
        ({"a": {"command": "x", "env": {"B": 1}}}, "mcp_config.a.env must be a mapping of texts"),
        ({"a": {"url": "x", "headers": ["secret"]}}, "mcp_config.a.headers must be a mapping"),
        ({"mcpServers": ["secret"]}, "mcp_config must map names to servers, and is an array"),
    ],
)
def test_what_is_no_server_is_said_without_its_values(config: dict[str, Any], said: str) -> None:
    with pytest.raises(McpConfigError) as caught:
        read_servers(config)
    assert str(caught.value).startswith(said)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"), [(None, "No such file"), ("{", "EOF"), ("[]", "and is an array")]
)
def test_a_file_that_is_none_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "mcp.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(McpConfigError, match=said):
        read_servers(str(path))
