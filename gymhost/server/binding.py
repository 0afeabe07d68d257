"""Take a port."""

from __future__ import annotations

import errno
import socket

from gymhost.errors import ServeError

__all__ = ["BACKLOG", "bind"]

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Take a port: one in use is found before anything is started. Clients wait till it serves.

    Raises: ServeError: it is in use, not allowed, or no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as exc:
        raise ServeError(f"{host!r} is no address of this machine: {exc}.") from exc
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # listen too: SO_REUSEADDR lets two sockets share a port on which neither listens
        bound.listen(BACKLOG)
    except OSError as exc:
        bound.close()
        hint = "Try another one: --port 0 takes any that is free."
        if exc.errno == errno.EADDRNOTAVAIL:
            hint = "Try --host 127.0.0.1, or 0.0.0.0 for every address."
        raise ServeError(f"port {port} on {host} can't be taken: {exc.strerror}. {hint}") from exc
    return bound
