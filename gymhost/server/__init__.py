"""Serve the application on a port, with hypercorn or uvicorn, and stop it well.

What is theirs here is the connection and its protocols. Taking the port, signals, the drain and
cutting off what is left are ours, and the same for both.
"""

from __future__ import annotations

from gymhost.server.binding import bind
from gymhost.server.serving import Backend, ServerName, loop_options, serve
from gymhost.server.stopping import GRACE_SECONDS, run

__all__ = ["GRACE_SECONDS", "Backend", "ServerName", "bind", "loop_options", "run", "serve"]
