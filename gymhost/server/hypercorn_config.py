"""How hypercorn is used, on either event loop.

Its connections end with what a client sends that they can't read, and cancel the requests that run
on them: an agent could spoil its own sample, having its call cut short. In ours, the client is as
one that has left.

Its own server, in 0.18, waits for open connections without any limit on Python 3.12 and later,
ends on trio with the first connection that fails (a path over HTTP/2 that is not ASCII is enough),
and stops the application only after all that.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed
from hypercorn.protocol import ProtocolWrapper

from gymhost.http.app import GymhostApp
from gymhost.server.connections import KEEP_ALIVE_SECONDS

__all__ = ["close_streams", "configure", "wrap"]

# More than hypercorn lets one connection have.
STREAMS = 200


def configure() -> Config:
    """Return hypercorn's configuration."""
    config = Config()
    config.errorlog = logging.getLogger("gymhost.hypercorn")
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = 1_000_000_000
    config.include_server_header = False
    return config


def wrap(app: GymhostApp) -> ASGIWrapper:
    """Return the application as hypercorn's protocols call it."""
    return ASGIWrapper(cast(Any, app))  # hypercorn has its own types for ASGI


async def close_streams(protocol: ProtocolWrapper) -> None:
    """Tell each request of a connection that its client has left."""
    # The stream that has failed may fail again. It is forgotten before that: so ask once more.
    for _ in range(STREAMS):
        with suppress(Exception):
            return await protocol.handle(Closed())
