"""A stdio MCP server whose tools do what tools may do, well or badly."""

import os
import sys

import anyio
from mcp import MCPError
from mcp.server.mcpserver import MCPServer
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

server = MCPServer("odd")
arrived = 0
all_here = anyio.Event()


@server.tool()
async def environment() -> list[str]:
    return sorted(os.environ)


@server.tool()
async def mixed() -> CallToolResult:
    text = TextResourceContents(uri="file:///b", text="B")
    return CallToolResult(
        content=[
            TextContent(type="text", text="A"),
            EmbeddedResource(type="resource", resource=text),
            ResourceLink(type="resource_link", uri="file:///c", name="c"),
            ImageContent(type="image", data="", mime_type="image/png"),
        ]
    )


@server.tool()
async def structured() -> CallToolResult:
    return CallToolResult(content=[], structured_content={"a": [1, "ü"]})


@server.tool()
async def refuse() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="No.")], is_error=True)


@server.tool()
async def together(number: int) -> str:
    """Answers once three calls are here."""
    global arrived
    arrived += 1
    if arrived == 3:
        all_here.set()
    await all_here.wait()
    return str(number)


@server.tool()
async def leave() -> str:
    os._exit(3)


@server.tool()
async def hang() -> str:
    await anyio.sleep_forever()
    raise AssertionError


@server.tool()
async def wait(port: int) -> str:
    """Wait at a gate of the test's."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"wait\n")
        await stream.receive()
    return "released"


@server.tool()
async def invalid() -> str:
    raise MCPError(INVALID_PARAMS, "that will not do")


@server.tool()
async def broken() -> str:
    raise MCPError(INTERNAL_ERROR, "out of order")


async def long_a() -> str:
    return "long a"


async def long_b() -> str:
    return "long b"


server.add_tool(long_a, name=f"{'long_' * 13}a")
server.add_tool(long_b, name=f"{'long_' * 13}b")
server.add_tool(long_a, name="dotted.name")

if __name__ == "__main__":
    if sys.argv[1:] == ["--fail"]:
        sys.exit("no licence found; key=sk-of-mine")
    server.run("stdio")
