"""What importing mcp, starlette and hypercorn costs: a process that does that, and answers.

python imports.py BACKEND PORT
"""

from __future__ import annotations

import importlib
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def main(backend: str, port: str) -> None:
    """Answer every connection once."""
    for name in ("mcp.server.lowlevel", "starlette.applications", f"hypercorn.{backend}"):
        importlib.import_module(name)
    with socket.create_server(("127.0.0.1", int(port))) as listening:
        print(f"http://127.0.0.1:{port}", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(ANSWER)


if __name__ == "__main__":
    main(*sys.argv[1:])
