"""The running gymhost that a command speaks to, and what is said where that goes wrong."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import typer
from pydantic import BaseModel, Field, ValidationError

from gymhost.client import ApiError, Client
from gymhost.config import ConfigError, load_settings
from gymhost.control_key import VARIABLE, find_kept_key, is_this_machine
from gymhost.errors import GymhostError
from gymhost.models import JSONObject

__all__ = [
    "Remote",
    "RemoteError",
    "ServedEnvironment",
    "ServedTool",
    "chosen_remote",
    "connected",
    "environment",
    "stranger",
]


class RemoteError(GymhostError):
    """The running gymhost could not be asked, or refused."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Where it is, and the control key for it."""

    url: str
    key: str | None
    named: bool
    """Whether a flag or GYMHOST_URL names it."""


class ServedTool(BaseModel):
    """A tool, as far as the commands use what a server says of it."""

    name: str
    schema_: JSONObject = Field(alias="inputSchema")


class ServedEnvironment(BaseModel):
    """An environment, as far as the commands use what a server says of it."""

    tools: list[ServedTool]


def chosen_remote(url: str | None, config: Path | None) -> Remote:
    """Return the one at `url`, else the one that `gymhost serve` would start here.

    Raises: typer.BadParameter: what was given is no URL; ConfigError: also where it is on another
    machine, and there is no key for it; ServeError: the key's file can't be read.
    """
    settings = load_settings(config)
    if not url and settings.port == 0:
        raise typer.BadParameter(
            "the configuration takes any free port, so say which it is: --url http://...",
            param_hint="--url",
        )
    address = _checked(url) if url else settings.url
    key = settings.keys[0].get_secret_value() if settings.keys else None
    if key is None and is_this_machine(httpx2.URL(address).host):
        key = find_kept_key()
    elif key is None:
        raise ConfigError(
            [
                f"{address} is not known to be this machine, and the key that is kept here is sent "
                f"nowhere else: set {VARIABLE}, or `keys` in the configuration, to that server's"
            ]
        )
    return Remote(address, key, named=bool(url))


def _checked(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
        usable = parsed.scheme in ("http", "https") and parsed.host and not parsed.userinfo
        if usable and not parsed.query and not parsed.fragment:
            return url.rstrip("/")
    except httpx2.InvalidURL:
        pass
    raise typer.BadParameter(
        f"{url!r} is no URL of a server, as http://127.0.0.1:8000 is", param_hint="--url"
    )


@asynccontextmanager
async def connected(
    remote: Remote, transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncGenerator[Client]:
    """Yield a client. What goes wrong in the block is said in one line.

    Raises: RemoteError.
    """
    try:
        async with Client(remote.url, remote.key, transport=transport) as client:
            yield client
    except ApiError as exc:
        raise RemoteError(_refusal(exc, remote)) from exc
    except httpx2.HTTPError as exc:
        raise RemoteError(_no_answer(exc, remote)) from exc
    # an answer of another form, a URL or header in it that can't be, one that is too deep to read
    except (ValidationError, httpx2.InvalidURL, UnicodeError, RecursionError) as exc:
        raise stranger(remote) from exc


async def environment(client: Client, name: str) -> ServedEnvironment:
    """Return what is served under a name.

    Raises: ValidationError: something else than gymhost answers; ApiError.
    """
    return ServedEnvironment.model_validate(await client.environment(name))


def stranger(remote: Remote) -> RemoteError:
    """Return the error of a server whose answers gymhost does not give."""
    return RemoteError(f"what answers at {remote.url} is no gymhost")


def _refusal(error: ApiError, remote: Remote) -> str:
    if error.failure_kind is None:
        text = " ".join(str(error).split())
        return f"what answers at {remote.url} is no gymhost: {text[:100]}"
    if error.failure_kind == "unauthorized":
        sent = "does not take the control key" if remote.key else "needs its control key"
        return (
            f"{remote.url} {sent}: set {VARIABLE} to the one that it printed when it started, or "
            "that `gymhost key` shows for the user who started it"
        )
    score = error.problem.get("unmasked_reward")
    return str(error) if score is None else f"{error} It would have scored {score}."


def _no_answer(error: httpx2.HTTPError, remote: Remote) -> str:
    where = _where(error, remote)
    reason = " ".join(str(error).split()) or type(error).__name__
    if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return (
            f"TLS with {where} failed: {reason}. Check https:// or http://, and for a certificate "
            "of your own set SSL_CERT_FILE to its authority's"
        )
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return (
            f"no gymhost answers at {where} ({reason}): start one with `gymhost serve`, or say "
            "where it is with --url"
        )
    if isinstance(error, httpx2.TimeoutException):
        return f"{where} did not answer in time"
    return f"what answers at {where} broke off, or is no gymhost: {reason}"


def _where(error: httpx2.HTTPError, remote: Remote) -> str:
    """The MCP endpoint has a URL of its own, which the server names."""
    try:
        url = error.request.url
    except RuntimeError:  # it has none
        return remote.url
    return str(url.copy_with(raw_path=b"/")).rstrip("/")


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
