"""How hypercorn is used, on either event loop.

Its own server, in 0.18, waits for open connections without any limit on Python 3.12 and later,
ends on trio with the first connection that fails (a path over HTTP/2 that is not ASCII is enough),
and stops the application only after all that.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config

from gymhost.http.app import GymhostApp
from gymhost.server.connections import KEEP_ALIVE_SECONDS

__all__ = ["configure", "wrap"]


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
