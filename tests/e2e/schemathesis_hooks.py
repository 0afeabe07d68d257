"""What schemathesis, in a process of its own, puts into its requests: ids of live sessions.

Every other request gets those of the next session: generated ones are hardly ever known.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import schemathesis

SESSIONS = itertools.cycle(json.loads(os.environ["LIVE_SESSIONS"]))
"""The environment, the id and the token of each."""
TURN = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if next(TURN) % 2:
        return
    name, session_id, token = next(SESSIONS)
    if "name" in case.path_parameters:
        case.path_parameters["name"] = name
    if "session_id" in case.path_parameters:
        case.path_parameters["session_id"] = session_id
    if case.operation.path.endswith(("/verify", "/close_session")):
        case.cookies = {**(case.cookies or {}), "gymhost_session": session_id}
    if case.operation.path.endswith("/mcp"):
        case.headers = {**(case.headers or {}), "X-NeMo-Gym-Session-Token": token}
