"""`gymhost serve`: mount every installed environment on one port."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Literal

import typer

import gymhost
from gymhost.cli.output import configure_logging, line
from gymhost.control_key import VARIABLE, find_key, key_path, mint_key
from gymhost.errors import ServeError
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import LOOPBACK_NAMES, Guard, KeyGuard, LoopbackGuard
from gymhost.plugins import PluginRecord
from gymhost.server import GRACE_SECONDS, bind, run

__all__ = ["serve"]


def serve(
    host: Annotated[str, typer.Option(help="The address to serve on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")
    ] = 8000,
    backend: Annotated[
        Literal["asyncio", "trio"], typer.Option(help="The event loop.")
    ] = "asyncio",
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that running requests get to end in a stop.")
    ] = GRACE_SECONDS,
    strict: Annotated[
        bool, typer.Option("--strict", help="Do not start where a plugin fails.")
    ] = False,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Take any request from this machine, without a key.")
    ] = False,
) -> None:
    """Mount every installed environment on one port, until Ctrl-C.

    Ctrl-C (SIGINT) and SIGTERM stop it: no new session or call is taken, running ones get the
    grace, then sessions are closed and environments shut down. A second one ends the grace.

    Examples:

      gymhost serve

      gymhost serve --host 0.0.0.0 --port 9000 --backend trio
    """
    if no_key and host not in LOOPBACK_NAMES:
        raise ServeError(
            f"--no-key serves this machine alone, and {host!r} is more: use --host 127.0.0.1, "
            "or leave --no-key out."
        )
    configure_logging()
    with bind(host, port) as bound:
        guard, about_key = _guard(no_key)
        served = Host()
        app = create_app(served, guard, strict=strict)

        def announce() -> None:
            address = _url(bound)
            line(f"gymhost {gymhost.__version__} on {address} ({backend})")
            _say_what_is_served(served, address)
            line(about_key)
            line("Ctrl-C stops it.")

        run(app, bound, backend=backend, grace=grace, announce=announce)
    line("stopped")


def _guard(no_key: bool) -> tuple[Guard, str]:
    """Return who may use the control plane, and a line about it."""
    if no_key:
        return LoopbackGuard(), (
            "no control key: every user and program of this machine can seed, verify and read"
        )
    key = find_key()
    if os.environ.get(VARIABLE) and key:
        return KeyGuard([key]), f"control key: the one in {VARIABLE}"
    key = key or mint_key()
    return KeyGuard([key]), f"control key: {key} (kept in {key_path()}; `gymhost key` shows it)"


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
