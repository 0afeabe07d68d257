"""The application that a configuration describes, for any ASGI server.

    uvicorn --factory gymhost.asgi:app
    hypercorn "gymhost.asgi:app()"

`gymhost serve` stops better than these: it ends the streams that agents hold open, drains what
runs, and cancels what is left, before it closes sessions.
"""

from __future__ import annotations

import logging
from typing import Any

from gymhost.config import Settings, load_settings
from gymhost.config.mask import Mask
from gymhost.control_key import find_kept_key, key_path, mint_key
from gymhost.host import Host
from gymhost.http.app import GymhostApp, create_app
from gymhost.http.auth import Guard, KeyGuard
from gymhost.logs import configure_logging

__all__ = ["app", "application", "control_keys", "create_host"]

logger = logging.getLogger("gymhost.asgi")


def app() -> GymhostApp:
    """Make the application of `gymhost.yaml` and the variables, which always has a control key.

    What is the server's (host, port, backend, server, grace) is whoever's that runs it.

    Raises: ConfigError: all that is wrong, a line each. ServeError: no key can be kept.
    """
    settings = load_settings()
    keys, minted = control_keys(settings)
    configure_logging(settings.log_format, mask=Mask([*settings.secrets(), *keys]))
    if minted:
        logger.info("the control key is kept in %s; `gymhost key` shows it", key_path())
    return application(settings, KeyGuard(keys))


def application(settings: Settings, guard: Guard) -> GymhostApp:
    """Make the application of a configuration."""
    host = create_host(settings, store=settings.store, keep_trajectories=settings.keep_trajectories)
    return create_app(
        host,
        guard,
        public_url=settings.public_url,
        mcp_allowed_hosts=settings.mcp_allowed_hosts,
        strict=settings.strict,
    )


def create_host(settings: Settings, **options: Any) -> Host:
    """Make the host of a configuration, with no store but memory. `options` are more of Host's."""
    return Host(
        settings.environment_configs(),
        only=settings.only,
        blocked=settings.blocked,
        extension_options=settings.extensions,
        **options,
    )


def control_keys(settings: Settings) -> tuple[list[str], bool]:
    """Return the configured keys, or the one kept for this user, and whether it is that one.

    Raises: ServeError: the kept one can't be read, or a new one can't be kept.
    """
    keys = [key.get_secret_value() for key in settings.keys]
    return (keys, False) if keys else ([find_kept_key() or mint_key()], True)
