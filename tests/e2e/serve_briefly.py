"""A server whose hooks have little time: what a configuration file will set, set by hand."""

import logging
import sys
from typing import Any, cast

from gated import Gated  # on the PYTHONPATH of the process

import gymhost.server
from gymhost.cli.output import line
from gymhost.config import EnvironmentConfig
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import LoopbackGuard
from gymhost.limits import Limits

if __name__ == "__main__":
    backend, host_seconds = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="x: %(message)s")
    gymhost.server.HOST_SECONDS = float(host_seconds)
    config = EnvironmentConfig(plugin=Gated, limits=Limits(close_seconds=1.0))
    app = create_app(Host({"gated": config}, discover=False), LoopbackGuard())
    bound = gymhost.server.bind("127.0.0.1", 0)

    def announce() -> None:
        line(f"serving on http://127.0.0.1:{bound.getsockname()[1]}")
        line("Ctrl-C stops it.")

    gymhost.server.run(app, bound, backend=cast(Any, backend), grace=0.2, announce=announce)
    line("stopped")
