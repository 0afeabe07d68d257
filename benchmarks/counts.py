"""Whether a server holds what it was set up with: a crowd that failed to load costs nothing."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

from benchmarks.cells import Setup
from benchmarks.errors import BenchmarkError
from benchmarks.servers import START_SECONDS, Server


def check_counts(server: Server, setup: Setup) -> None:
    """Ask what is mounted and open.

    Raises: BenchmarkError: it is something else.
    """
    environments = _environments(server)
    served = sum(each["status"] == "up" for each in environments)
    open_ = sum(each["use"]["open_sessions"] for each in environments if each.get("use"))
    for name, number, due in (
        ("environments", served, setup.environments),
        ("open sessions", open_, setup.open_sessions),
    ):
        if number != due:
            raise BenchmarkError(f"{setup}: {number} {name}, and {due} were due.{server.tail()}")


def _environments(server: Server) -> list[dict[str, Any]]:
    connection = HTTPConnection(*server.address, timeout=START_SECONDS)
    try:
        connection.request("GET", "/envs", headers={"authorization": f"Bearer {server.key}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise BenchmarkError(f"GET /envs answered {answer.status}: {body[:500]!r}")
        found: list[dict[str, Any]] = json.loads(body)["environments"]
    except OSError as exc:
        raise BenchmarkError(f"GET /envs was not answered: {exc}.{server.tail()}") from exc
    finally:
        connection.close()
    return found
