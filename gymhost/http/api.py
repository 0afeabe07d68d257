"""The control plane's handlers: parse, call the host, serialise."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any, Literal, cast

import pydantic_core
from starlette.datastructures import URL

from gymhost.aggregation import read_results
from gymhost.allocating import keep_pages
from gymhost.errors import BodyTooLarge, InvalidField, RequestError, SessionLost
from gymhost.host import Host
from gymhost.http import record_schemas, schemas
from gymhost.http.body import parse_object
from gymhost.http.http_exchange import Head, HttpExchange
from gymhost.http.queries import Query
from gymhost.http.records import listed, recorded
from gymhost.http.reply import Reply
from gymhost.lean_body import AnyBody, LeanBody, read_lean
from gymhost.models import TOKEN_HEADER, JSONObject, json_type
from gymhost.mount import Mount
from gymhost.plugin_records import PluginRecord
from gymhost.times import rfc3339

__all__ = ["COOKIE", "MOST_SESSIONS", "Api"]

COOKIE = "gymhost_session"
MOST_SESSIONS = 1000
"""On one page of the list."""
SESSION_ID = re.compile("[0-9a-f]{32}")
VERDICT_KEYS = ("reward", "reward_components", "mask_sample", "failure_kind", "unmasked_reward")


class Api:
    """Answers trainers and operators. Each handler gets an environment's name, or ""."""

    def __init__(
        self,
        host: Host,
        version: str,
        document: Callable[[], Awaitable[bytes]],
        public_url: str | None = None,
    ) -> None:
        """`document` returns the one of /openapi.json.

        `public_url` is where clients reach this server, where the Host header does not say.
        """
        self._host = host
        self._document = document
        self._version = version
        self._public_url = public_url.rstrip("/") if public_url else None

    async def seed_session(self, exchange: HttpExchange, name: str) -> Reply:
        mount = self._host.mount(name)
        raw, body = await self._body(exchange, mount)
        key = exchange.header(b"idempotency-key") or None
        seeded = await self._host.seed(name, body, raw, key, stays=exchange.stays)
        answer: JSONObject = {
            "session_id": seeded.session_id,
            "expires_at": rfc3339(seeded.expires_at),
        }
        if len(mount.tools):
            answer["mcp"] = {
                "server_name": name,
                "url_path": "/mcp",
                "url": f"{self._base_url(exchange)}/envs/{name}/mcp",
                "transport": "http",
                "headers": {TOKEN_HEADER: seeded.token},
            }
        return _session_json(answer, name, seeded.session_id)

    async def verify(self, exchange: HttpExchange, name: str) -> Reply:
        mount = self._host.mount(name)
        raw = await self._raw(exchange, mount)
        body = _verify_body(mount, raw)
        if isinstance(body, LeanBody) and exchange.stays:
            keep_pages()  # more will come
        optional = mount.instance.stateless
        session_id = _session_id(exchange.head, body, optional=optional)
        try:
            answer = await self._host.verify(name, session_id, body, raw, stays=exchange.stays)
        except RequestError as exc:
            _set_cookie_on(exc, name, session_id)
            raise
        mount.reads_whole |= isinstance(body, LeanBody) and body.is_parsed
        if b"return=minimal" in exchange.head.get(b"prefer", b"").replace(b" ", b"").lower():
            return _session_reply(pydantic_core.to_json(answer.fields), name, answer.session_id)
        return _session_reply(_echo(raw, body, answer.fields), name, answer.session_id)

    async def close_session(self, exchange: HttpExchange, name: str) -> Reply:
        mount = self._host.mount(name)
        _, body = await self._body(exchange, mount)
        session_id = _session_id(exchange.head, body)
        assert session_id is not None
        try:
            status = await self._host.close(name, session_id)
        except RequestError as exc:
            _set_cookie_on(exc, name, session_id)
            raise
        return _session_json({"session_id": session_id, "status": status}, name, session_id)

    async def aggregate_metrics(self, exchange: HttpExchange, name: str) -> Reply:
        _, body = await self._body(exchange, self._host.mount(name))
        results = read_results(body.get("verify_responses"))
        metrics = await self._host.aggregate_metrics(name, results)
        return Reply(metrics)

    async def environments(self, exchange: HttpExchange, name: str) -> Reply:
        """List what is mounted, and what failed, with its reason."""
        up = [self._environment(mount) for _, mount in sorted(self._host.mounts.items())]
        extensions = [
            _plugin(record)
            for record in self._host.records
            if record.status == "up" and record.kind == "extension"
        ]
        failed: list[schemas.FailedPlugin] = [
            {**_plugin(record), "reason": record.reason}
            for record in self._host.records
            if record.status != "up"
        ]
        body: schemas.Environments = {
            "environments": up,
            "extensions": extensions,
            "failed": failed,
        }
        return _json(body)

    async def environment(self, exchange: HttpExchange, name: str) -> Reply:
        return _json(self._environment(self._host.mount(name)))

    def _environment(self, mount: Mount) -> schemas.Environment:
        return {
            "name": mount.name,
            "status": "degraded" if mount.degraded else "up",
            "distribution": mount.record.distribution,
            "version": mount.record.version,
            "url_path": f"/envs/{mount.name}",
            "stateless": mount.instance.stateless,
            "tools": cast(list[schemas.Tool], mount.tool_definitions()),
            "limits": pydantic_core.to_jsonable_python(mount.limits),
            "use": self._use(mount),
            "limits_hit": dict(sorted(mount.limits_hit.items())),
            "counts": dict(sorted(mount.counts.items())),
        }

    def _use(self, mount: Mount) -> schemas.Use:
        sessions = self._host.registry.use(mount.name)
        return {
            "open_sessions": mount.open_sessions,
            "calls_in_flight": mount.calls_in_flight,
            "calls_waiting": sessions.calls_waiting,
            "session_queue": sessions.session_queue,
            "session_calls": sessions.session_calls,
            "threads": mount.threads.in_use,
            "hook_threads": mount.hook_threads.in_use,
            "threads_waiting": mount.threads.waiting + mount.hook_threads.waiting,
            "stuck_threads": mount.stuck_threads,
        }

    async def sessions(self, exchange: HttpExchange, name: str) -> Reply:
        query = Query(
            exchange.scope["query_string"],
            "environment",
            "status",
            "since",
            "until",
            "cursor",
            "limit",
        )
        with query.cursor_checked():
            page = await self._host.store.list(
                environment=query.text("environment"),
                status=query.status("status"),
                since=query.time("since"),
                until=query.time("until"),
                cursor=query.text("cursor"),
                limit=query.whole("limit", default=100, most=MOST_SESSIONS),
            )
        return _json(listed(page))

    async def prune_sessions(self, exchange: HttpExchange, name: str) -> Reply:
        query = Query(exchange.scope["query_string"], "ended_before", "environment")
        before, environment = query.time("ended_before"), query.text("environment")
        if before is None:
            raise InvalidField("'ended_before' says how old a session must be to be forgotten.")
        pruned = await self._host.prune(before, environment=environment)
        body: record_schemas.Pruned = {"pruned": pruned}
        return _json(body)

    async def session(self, exchange: HttpExchange, name: str) -> Reply:
        session_id = exchange.scope["path_params"]["session_id"]
        store = self._host.store
        row = await store.get(session_id)
        if row is None:
            raise SessionLost(f"No session {session_id!r} is known.")
        found = recorded(row, await store.calls(session_id))
        if self._host.keep_trajectories:
            trajectory = await store.trajectory(session_id)
            found["trajectory"] = trajectory and pydantic_core.from_json(trajectory)
        return _json(found)

    async def delete_session(self, exchange: HttpExchange, name: str) -> Reply:
        await self._host.forget(exchange.scope["path_params"]["session_id"])
        return Reply(status=204, media_type=b"")

    async def health(self, exchange: HttpExchange, name: str) -> Reply:
        """Answer while the process can answer."""
        body: schemas.Health = {"status": "ok", "version": self._version}
        return _json(body)

    async def ready(self, exchange: HttpExchange, name: str) -> Reply:
        """Answer 200 while new sessions are taken.

        503 while stopping, with nothing to serve, or where the session store can't be written.
        """
        # numbers: it needs no key, and the names are for those who have one
        degraded = sum(mount.degraded for mount in self._host.mounts.values())
        failed = sum(record.status == "failed" for record in self._host.records)
        # a host that stops has let go of its store, or is about to
        store = "unchecked" if self._host.stopping else await self._host.store_health.failure()
        status: Literal["ready", "degraded", "stopping", "no environments", "store failed"]
        if self._host.stopping:
            status = "stopping"
        elif store is not None:
            status = "store failed"
        elif not self._host.mounts:
            status = "no environments"
        else:
            status = "degraded" if degraded else "ready"
        body: schemas.Readiness = {
            "status": status,
            "degraded": degraded,
            "failed": failed,
            "store": store or "ok",
        }
        return _json(body, 200 if status in ("ready", "degraded") else 503)

    async def openapi(self, exchange: HttpExchange, name: str) -> Reply:
        return Reply(await self._document())

    async def index(self, exchange: HttpExchange, name: str) -> Reply:
        body: schemas.Index = {
            "gymhost": self._version,
            "environments": "/envs",
            "health": "/healthz",
            "openapi": "/openapi.json",
        }
        return _json(body)

    async def _body(self, exchange: HttpExchange, mount: Mount) -> tuple[bytes, JSONObject]:
        raw = await self._raw(exchange, mount)
        return raw, parse_object(raw)

    async def _raw(self, exchange: HttpExchange, mount: Mount) -> bytes:
        try:
            return await exchange.read_body(mount.limits.body_bytes)
        except BodyTooLarge:
            mount.counts["body_too_large"] += 1
            mount.hit("body_bytes")
            raise

    def _base_url(self, exchange: HttpExchange) -> str:
        if self._public_url is not None:
            return self._public_url
        scope = exchange.scope
        server = scope.get("server")
        return _reached(scope["scheme"], exchange.head.get(b"host"), server and tuple(server))


@lru_cache(maxsize=64)  # starlette takes URLs apart, and clients come by few names
def _reached(scheme: str, host: bytes | None, server: tuple[str, int | None] | None) -> str:
    """Return where a client has reached this server, as its request says."""
    headers = [] if host is None else [(b"host", host)]
    url = URL(scope={"scheme": scheme, "server": server, "path": "/", "headers": headers})
    return f"{url.scheme}://{url.netloc}"


def _verify_body(mount: Mount, raw: bytes) -> AnyBody:
    parse = partial(parse_object, finite=False)  # echoed, not kept
    lean = None if mount.reads_whole else read_lean(raw, parse)
    return parse(raw) if lean is None else lean


def _session_id(head: Head, body: AnyBody, *, optional: bool = False) -> str | None:
    """Return the session that a request names: in its body, else in its cookie.

    Raises: InvalidField: it names none.
    """
    named = body.get("session_id")
    if named is not None:
        if not isinstance(named, str) or not named:
            kind = "an empty one" if named == "" else json_type(named)
            raise InvalidField(f"'session_id' must be a string, not {kind}.")
        return named
    # the first of several of that name: clients send the old one last
    for cookie in head.get(b"cookie", b"").decode("latin-1").split(";"):
        key, _, value = cookie.strip().partition("=")
        if key == COOKIE and value:
            return value.strip('"')
    if optional:
        return None
    raise InvalidField(
        "Name the session: send seed_session's cookie back, or its 'session_id' in the body."
    )


def _set_cookie_on(error: RequestError, environment: str, session_id: str | None) -> None:
    """Set the cookie on an error, too: clients go on with the cookies of the last answer."""
    # a lost one belongs to no session, and its id is whatever was sent
    if not isinstance(error, SessionLost) and SESSION_ID.fullmatch(session_id or ""):
        error.headers["set-cookie"] = _cookie(environment, session_id or "")


def _echo(raw: bytes, body: AnyBody, fields: JSONObject) -> bytes:
    """Return the body again, with fields added, without writing again what came.

    A body that is an answer to an earlier verify has a verdict, too: it is left out.
    """
    if not body:
        return pydantic_core.to_json(fields)
    keys = body.keys()
    if not (keys.isdisjoint(VERDICT_KEYS) and keys.isdisjoint(fields)):
        kept = {key: value for key, value in body.items() if key not in VERDICT_KEYS}
        # null: a number like 1e400 can't be written again
        return pydantic_core.to_json({**kept, **fields}, inf_nan_mode="null")
    # joined: each `+` would copy all of it
    came = memoryview(raw)[: len(raw.rstrip()) - 1]
    return b"".join((came, b",", pydantic_core.to_json(fields)[1:]))


def _plugin(record: PluginRecord) -> schemas.Plugin:
    return {
        "name": record.name,
        "kind": record.kind,
        "status": record.status,
        "distribution": record.distribution,
        "version": record.version,
    }


def _json(body: Any, status: int = 200) -> Reply:
    # a state may hold an infinity, where its model says how it is written
    return Reply(pydantic_core.to_json(body, inf_nan_mode="strings"), status)


def _session_json(body: JSONObject, environment: str, session_id: str) -> Reply:
    return _session_reply(pydantic_core.to_json(body), environment, session_id)


def _session_reply(body: bytes, environment: str, session_id: str | None) -> Reply:
    if session_id is None:
        return Reply(body)
    cookie = (b"set-cookie", _cookie(environment, session_id).encode())
    return Reply(body, headers=(cookie,))


def _cookie(environment: str, session_id: str) -> str:
    return f"{COOKIE}={session_id}; Path=/envs/{environment}; HttpOnly; SameSite=Lax"
