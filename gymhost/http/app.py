"""The application: its table of routes, and its life."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

import gymhost
from gymhost.errors import (
    InvalidBody,
    InvalidField,
    InvalidTask,
    MethodNotAllowed,
    NotFound,
    RequestError,
    SessionEnded,
    SessionError,
    SessionLost,
    StoreError,
)
from gymhost.host import Host, task_group
from gymhost.http.agent_plane import agent_plane
from gymhost.http.api import Api
from gymhost.http.auth import Guard
from gymhost.http.body import ClientGone
from gymhost.http.http_exchange import HttpExchange
from gymhost.http.mcp import McpEndpoint
from gymhost.http.openapi import OpenApi
from gymhost.http.operation import ENVIRONMENT, Handler, Operation
from gymhost.http.operations import CONTROL_PLANE
from gymhost.http.problems import EXCEPTION_HANDLERS
from gymhost.http.requests import InFlight, InFlightMiddleware
from gymhost.mount import Mount as HostMount
from gymhost.plugins import check_all_up

__all__ = ["GymhostApp", "create_app"]


ENVIRONMENTS = "/envs"
BELOW = f"{ENVIRONMENTS}/"

# What an environment is refused requests for, and nothing else counts: the failures of its hooks,
# its limits and invalid tasks are counted where they happen.
COUNTED = (InvalidBody, InvalidField, SessionError, StoreError)


Serve = Callable[[HttpExchange], Awaitable[None]]


class GymhostApp(Starlette):
    """The ASGI application, with what a server needs to stop it well."""

    served: Host
    in_flight: InFlight
    environments: EnvironmentRoutes
    openapi: OpenApi
    requests_stay = False
    """Whether the server lets requests go on whose clients have left: gymhost's own does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Nearly every request is an environment's: it has no use for the router and for two layers
        # of starlette's middleware, which cost as much as a tool call's own record.
        direct = scope["type"] == "http" and not scope.get("root_path")
        if direct and scope["path"].startswith(BELOW):
            exchange = HttpExchange(scope, receive, send, stays=self.requests_stay)
            await self.in_flight.serve(exchange, self.environments.answer)
        else:
            await super().__call__(scope, receive, send)

    async def drain(self, grace: float) -> int:
        """Take no new work, end open streams at once, and give the rest `grace` seconds.

        Returns how many requests had to be cancelled.
        """
        self.served.stopping = True
        self.environments.close_streams()
        return await self.in_flight.drain(grace, self.served.interrupt)


def create_app(
    host: Host,
    guard: Guard,
    *,
    public_url: str | None = None,
    mcp_allowed_hosts: Collection[str] = (),
    strict: bool = False,
) -> GymhostApp:
    """Return the application that serves a host. Its lifespan is the host's.

    A `strict` one does not start where a plugin has failed: a PluginLoadError names them all.

    `mcp_allowed_hosts` turns on the agent plane's check of the Host header, which is off: values
    as they are sent (`gym.example:8000`, `localhost:*`).
    """
    security = (
        TransportSecuritySettings(allowed_hosts=list(mcp_allowed_hosts))
        if mcp_allowed_hosts
        else None
    )
    in_flight = InFlight()
    agent = agent_plane(checks_hosts=security is not None)
    openapi = OpenApi((*CONTROL_PLANE, *agent), host, guard, public_url)
    api = Api(host, gymhost.__version__, openapi.json, public_url)
    pages = _pages(CONTROL_PLANE, api, guard)
    environments = EnvironmentRoutes(host, pages, guard, security)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with host:
            if strict:
                check_all_up(host.records)
            async with environments.run():
                yield

    created = GymhostApp(
        routes=[
            Mount(ENVIRONMENTS, environments),
            *(Route(path, page) for path, page in pages.items() if ENVIRONMENT not in path),
        ],
        middleware=[Middleware(InFlightMiddleware, in_flight=in_flight)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    # a path that ends in a slash is another path: a redirect would lose a POST's body
    created.router.redirect_slashes = False
    created.served, created.in_flight = host, in_flight
    created.environments, created.openapi = environments, openapi
    return created


class Page:
    """One path of the control plane: an operation for each method."""

    def __init__(self, operations: Iterable[Operation], api: Api, guard: Guard) -> None:
        self._api = api
        operations = list(operations)
        self._handlers: dict[str, Handler] = {
            each.method: each.handler for each in operations if each.handler is not None
        }
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]
        self._needs_key = any(each.security != "none" for each in operations)
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = HttpExchange(scope, receive, send)
        if self._needs_key:
            self._guard.check(exchange.head)
        await self.answer(exchange, "")
        await exchange.finish()

    async def answer(self, exchange: HttpExchange, name: str) -> None:
        """Answer whoever may use it."""
        handler = self._handlers.get(exchange.scope["method"])
        if handler is None:
            raise MethodNotAllowed(", ".join(self._handlers))
        await exchange.answer(await handler(self._api, exchange, name))


def _pages(operations: Iterable[Operation], api: Api, guard: Guard) -> dict[str, Page]:
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return {path: Page(each, api, guard) for path, each in by_path.items()}


class EnvironmentRoutes:
    """`/envs/<name>/...`: a look-up, so that a call costs the same among a thousand."""

    def __init__(
        self,
        host: Host,
        pages: Mapping[str, Page],
        guard: Guard,
        security: TransportSecuritySettings | None,
    ) -> None:
        self._host = host
        self._pages = {
            path.removeprefix(ENVIRONMENT): page
            for path, page in pages.items()
            if path.startswith(ENVIRONMENT)
        }
        """By what follows the environment's name."""
        self._guard = guard
        self._security = security
        self._endpoints: list[McpEndpoint] = []
        self._by_path: dict[str, Serve] = {}

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Serve the agent plane of what the host has started."""
        async with task_group() as tasks:
            for name, mount in self._host.mounts.items():
                endpoint = McpEndpoint(self._host, mount, tasks, self._security)
                self._endpoints.append(endpoint)
                self._by_path[f"{BELOW}{name}/mcp"] = endpoint
                for rest, page in self._pages.items():
                    answer = partial(self._answer_page, page, mount)
                    self._by_path[f"{BELOW}{name}{rest}"] = answer
            yield
            self._by_path.clear()
            self._endpoints.clear()
            tasks.cancel_scope.cancel()

    def close_streams(self) -> None:
        """End every stream that a client holds open."""
        for endpoint in self._endpoints:
            endpoint.close_streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = HttpExchange(scope, receive, send)
        await self.answer(exchange)
        await exchange.finish()

    async def answer(self, exchange: HttpExchange) -> None:
        """Answer whoever may."""
        serve = self._by_path.get(exchange.scope["path"]) or self._find(exchange)
        await serve(exchange)

    def _find(self, exchange: HttpExchange) -> Serve:
        """Return what answers another spelling of a path.

        Raises: NotFound, UnknownEnvironment, EnvironmentDown; without a key, the guard's refusal.
        """
        scope = exchange.scope
        # behind a proxy's prefix, starlette's router has taken ours off
        path: str = scope["path"].removeprefix(scope.get("root_path") or ENVIRONMENTS)
        name, _, rest = path.strip("/").partition("/")
        serve = self._by_path.get(f"{BELOW}{name}/{rest}".removesuffix("/"))
        if rest == "mcp" or rest.startswith("mcp/"):
            if serve is None:  # never 401: an agent's client would begin an OAuth discovery
                raise NotFound(f"There is no MCP endpoint at {path!r}.")
            return serve
        # the key comes first: without it, nobody learns which environments there are
        self._guard.check(exchange.head)
        mount = self._host.mount(name)
        if serve is None:
            raise NotFound(f"{mount.name!r} has no page {rest!r}.")
        return serve

    async def _answer_page(self, page: Page, mount: HostMount, exchange: HttpExchange) -> None:
        self._guard.check(exchange.head)
        try:
            await page.answer(exchange, mount.name)
        except COUNTED as exc:
            if not isinstance(exc, InvalidTask | ClientGone):
                mount.counts[_kind(exc)] += 1
            raise


def _kind(error: RequestError) -> str:
    """Return what an error is counted under: as on the agent plane, where that has it, too.

    Its `session_expired` and `session_lost` are the sessions', which the host counts.
    """
    if isinstance(error, SessionLost):
        return "no_session"
    return "session_ended" if isinstance(error, SessionEnded) else error.failure_kind
