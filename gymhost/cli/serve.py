"""`gymhost serve`: mount every installed environment on one port."""

from __future__ import annotations

import logging
import socket
from typing import Annotated, Any

import typer

import gymhost
from gymhost.asgi import application, control_keys
from gymhost.cli.output import line
from gymhost.cli.settings import ConfigFile, with_flags
from gymhost.collecting import leave_imports_out
from gymhost.config import ConfigError, Configuration, Settings, load_configuration
from gymhost.config.mask import Mask
from gymhost.control_key import key_path
from gymhost.errors import GymhostError
from gymhost.host import Host
from gymhost.http.auth import LOOPBACK_NAMES, Guard, KeyGuard, LoopbackGuard
from gymhost.logs import configure_logging
from gymhost.plugins import PluginRecord
from gymhost.server import bind, run

__all__ = ["serve"]

logger = logging.getLogger("gymhost.cli.serve")


@with_flags
def serve(
    config: ConfigFile = None,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Take any request from this machine, without a key.")
    ] = False,
    **flags: Any,
) -> None:
    """Mount every installed environment on one port, until Ctrl-C.

    Ctrl-C (SIGINT) and SIGTERM stop it: no new session or call is taken, running ones get the
    grace, then sessions are closed and environments shut down. A second one ends the grace.

    A flag wins over its variable (GYMHOST_PORT), that over the file, that over the default.
    `gymhost config show` shows what is in force. Exit code 2 where that is wrong.

    Examples:

      gymhost serve

      gymhost serve --host 0.0.0.0 --port 9000 --backend trio

      gymhost serve --server uvicorn

      gymhost serve --config gymhost.yaml
    """
    loaded = load_configuration(config, flags)
    _check_server(loaded)
    if no_key:
        _check_no_key(loaded)
    mask = Mask(loaded.settings.secrets())
    configure_logging(loaded.settings.log_format, mask=mask)
    try:
        _serve(loaded, no_key, mask)
    except GymhostError as exc:
        if loaded.settings.log_format == "text":
            raise
        logger.critical("%s", exc)  # a line of JSON, as all of them
        raise typer.Exit(1) from exc


def _serve(loaded: Configuration, no_key: bool, mask: Mask) -> None:
    settings = loaded.settings
    leave_imports_out()
    with bind(settings.host, settings.port) as bound:
        guard, about_key = _guard(loaded, no_key, mask)
        app = application(settings, guard)

        def announce() -> None:
            address = _url(bound)
            stack = f"{settings.server}, {settings.backend}"
            line(f"gymhost {gymhost.__version__} on {address} ({stack})")
            _say_what_is_served(app.served, address)
            _say_where_from(settings, loaded)
            line(about_key)
            line("Ctrl-C stops it.")

        run(
            app,
            bound,
            server=settings.server,
            backend=settings.backend,
            grace=settings.grace,
            announce=announce,
        )
    line("stopped")


def _check_server(loaded: Configuration) -> None:
    if (loaded.settings.server, loaded.settings.backend) == ("uvicorn", "trio"):
        server, backend = (loaded.origin((each,)) for each in ("server", "backend"))
        raise ConfigError(
            [
                f"uvicorn ({server}) runs on asyncio alone, and the backend is trio ({backend}): "
                "use asyncio, or hypercorn."
            ]
        )


def _check_no_key(loaded: Configuration) -> None:
    host = loaded.settings.host
    if loaded.settings.keys:
        raise ConfigError(
            [f"--no-key takes no keys, and {loaded.origin(('keys',))} has some: leave one out."]
        )
    if host not in LOOPBACK_NAMES:
        raise ConfigError(
            [
                f"--no-key serves this machine alone, and {host!r} ({loaded.origin(('host',))}) is "
                "more: use --host 127.0.0.1, or leave --no-key out."
            ]
        )


def _guard(loaded: Configuration, no_key: bool, mask: Mask) -> tuple[Guard, str]:
    """Return who may use the control plane, and a line about it."""
    if no_key:
        return LoopbackGuard(), (
            "no control key: every user and program of this machine can seed, verify and read"
        )
    keys, minted = control_keys(loaded.settings)
    if minted:
        mask.learn(keys)
        about = f"{keys[0]} (kept in {key_path()}; `gymhost key` shows it)"
    else:
        number = "the one" if len(keys) == 1 else f"one of the {len(keys)}"
        about = f"{number} in {loaded.origin(('keys',))}"
    return KeyGuard(keys), f"control key: {about}"


def _say_where_from(settings: Settings, loaded: Configuration) -> None:
    if settings.public_url is not None:
        line(f"public URL: {settings.public_url}")
    if loaded.document is not None:
        line(f"configuration: {loaded.document.name}")


def _say_what_is_served(host: Host, address: str) -> None:
    width = max((len(name) for name in host.mounts), default=0)
    for name, mount in sorted(host.mounts.items()):
        line(f"  {name:<{width}}  {address}/envs/{name}{_origin(mount.record)}")
    if not host.mounts:
        line("  no environments: try `pip install gym-env-weather`, then `gymhost list`")
    failed = [record for record in host.records if record.status == "failed"]
    if failed:
        line("not served:")
    for record in failed:
        line(f"  {record.name}{_origin(record)}: {record.reason}")


def _origin(record: PluginRecord) -> str:
    if record.distribution is None:
        return ""
    return f" ({record.distribution} {record.version})"


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"
