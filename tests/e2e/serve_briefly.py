"""A server whose hooks have little time: what a configuration file will set, set by hand."""

import logging
from argparse import ArgumentParser

from gated import Gated  # on the PYTHONPATH of the process

from gymhost.cli.output import line
from gymhost.config import EnvironmentConfig
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import LoopbackGuard
from gymhost.limits import Limits
from gymhost.server import bind, run, stopping

if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("host_seconds", type=float)
    parser.add_argument("--backend", default="asyncio")
    parser.add_argument("--server", default="hypercorn")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="x: %(message)s")
    stopping.HOST_SECONDS = given.host_seconds
    config = EnvironmentConfig(plugin=Gated, limits=Limits(close_seconds=1.0))
    app = create_app(Host({"gated": config}, discover=False), LoopbackGuard())
    bound = bind("127.0.0.1", 0)

    def announce() -> None:
        line(f"http://127.0.0.1:{bound.getsockname()[1]} ({given.server}, {given.backend})")
        line("Ctrl-C stops it.")

    run(app, bound, server=given.server, backend=given.backend, grace=0.2, announce=announce)
    line("stopped")
