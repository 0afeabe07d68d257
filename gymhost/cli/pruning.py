"""Forgetting old sessions: a running host's, or those of a store that no host has open."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
import typer
from pydantic import BaseModel

from gymhost.cli.output import line
from gymhost.cli.record import Recorded
from gymhost.cli.remote import Remote, chosen_remote, connected
from gymhost.cli.spans import local
from gymhost.client import Client
from gymhost.errors import ServeError, StoreError
from gymhost.limits import Limits
from gymhost.stores import SessionStore, open_store
from gymhost.stores.sqlite import SqliteStore, parse_url

__all__ = ["Source", "check_that_it_can_be_asked", "chosen_source", "prune"]

Source = Remote | SessionStore

ABANDONED = timedelta(seconds=Limits().total_seconds)


def chosen_source(store: str | None, url: str | None, config: Path | None) -> Source:
    """Return where the sessions are.

    Raises: typer.BadParameter: what was given is no store on disk, or no URL; ConfigError;
    ServeError: the store is not there.
    """
    if store is None:
        return chosen_remote(url, config)
    try:
        found = open_store(store)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--store") from exc
    if not found.durable:
        raise typer.BadParameter(
            f"{store!r} is gone with its process: ask the running host", param_hint="--store"
        )
    if isinstance(found, SqliteStore) and not (file := parse_url(store).path).exists():
        raise ServeError(f"there is no session store {file}")  # opening it would make one
    return found


def check_that_it_can_be_asked() -> None:
    """Refuse to wait for an answer that nobody gives.

    Raises: typer.BadParameter.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise typer.BadParameter("there is nobody to ask: say --yes or --dry-run")


class Old(NamedTuple):
    """How many sessions there are to forget."""

    ended: int
    abandoned: int = 0
    """They live, in environments that are not served."""


class Prunable(Protocol):
    """Where old sessions can be counted and forgotten."""

    async def count(self, before: datetime, environment: str | None) -> Old:
        """Return how many there are to forget."""
        ...

    async def prune(self, before: datetime, environment: str | None) -> int:
        """Forget them, and return how many they were."""
        ...


async def prune(
    source: Source, before: datetime, environment: str | None, yes: bool, dry_run: bool
) -> None:
    """Forget the sessions that ended before a time; with `dry_run`, none; without `yes`, ask.

    Raises: RemoteError, ServeError; typer.Abort: the answer was no.
    """
    async with _opened(source) as sessions:
        if not yes:
            old = await sessions.count(before, environment)
            what = f"{_sessions(old.ended)} ended before {local(before)}"
            if old.abandoned:
                what += f", {old.abandoned} left open by environments that are not served"
            if dry_run:
                line(what)
                return
            # in a thread: Ctrl-C ends the command, whatever it waits for
            ask = partial(typer.confirm, f"{what}. Forget them?", abort=True, err=True)
            await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
        line(f"{_sessions(await sessions.prune(before, environment))} forgotten")


def _sessions(number: int) -> str:
    return "1 session" if number == 1 else f"{number} sessions"


@asynccontextmanager
async def _opened(source: Source) -> AsyncGenerator[Prunable]:
    if isinstance(source, Remote):
        async with connected(source) as client:
            yield _OfHost(client)
        return
    try:
        await source.open()
        try:
            yield _OfStore(source)
        finally:
            await source.aclose()
    except StoreError as exc:
        raise ServeError(str(exc)) from exc


class _Named(BaseModel):
    name: str


class _Served(BaseModel):
    environments: list[_Named]


class _OfHost:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def count(self, before: datetime, environment: str | None) -> Old:
        known = _Served.model_validate(await self._client.environments())
        served = {each.name for each in known.environments}
        abandoned_before = min(before, datetime.now(UTC) - ABANDONED)
        ended = abandoned = 0
        # what ended before then was created before then
        async for each in self._client.sessions(environment=environment, until=before):
            row = Recorded.model_validate(each)
            if row.ended_at is not None:
                ended += row.ended_at < before
            elif row.environment not in served:
                abandoned += (row.used_at or row.created_at) < abandoned_before
        return Old(ended, abandoned)

    async def prune(self, before: datetime, environment: str | None) -> int:
        return await self._client.prune(before, environment=environment)


class _OfStore:
    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def count(self, before: datetime, environment: str | None) -> Old:
        number, cursor = 0, None
        seconds = before.timestamp()
        while True:
            page = await self._store.list(
                environment=environment, until=seconds, cursor=cursor, limit=1000
            )
            number += sum(row.ended_at is not None and row.ended_at < seconds for row in page.rows)
            cursor = page.cursor
            if cursor is None:
                return Old(number)

    async def prune(self, before: datetime, environment: str | None) -> int:
        return await self._store.prune(before.timestamp(), environment=environment)
