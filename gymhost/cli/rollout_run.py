"""What `gymhost rollout` does: play an agent's attempts, obey signals, and say what came out."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from shlex import join
from textwrap import shorten

import anyio
import typer

import gymhost
from gymhost.cli.by_hand import check_environment
from gymhost.cli.embedded import embedded
from gymhost.cli.interrupts import INTERRUPTED
from gymhost.cli.output import line, note
from gymhost.cli.remote import Remote, chosen_remote, connected
from gymhost.cli.rollout_parts import Chosen, Wanted, agent_of, host_of, rows_of
from gymhost.client import ApiError, Client
from gymhost.collecting import leave_loaded_out
from gymhost.config import ConfigError, load_configuration
from gymhost.config.mask import Mask
from gymhost.host import Host
from gymhost.lean_http import lean_transport
from gymhost.logs import configure_logging
from gymhost.rollouts import progress
from gymhost.rollouts.attempt import Attempts
from gymhost.rollouts.inputs import InputError, materialized
from gymhost.rollouts.patience import Patience
from gymhost.rollouts.records import RecordRefused, Records, open_records
from gymhost.rollouts.runner import Runner, Tally
from gymhost.server import Backend

__all__ = ["rollout"]

TOLD = 300  # characters of a failure: its row has all of it


def rollout(wanted: Wanted) -> None:
    """Play, and print what came out.

    Raises: typer.Exit; ConfigError: nothing was started; GymhostError: it could not go on.
    """
    check_environment(wanted.name)
    if wanted.input is not None and wanted.dataset is not None:
        raise typer.BadParameter("give --input or --dataset, not both", param_hint="--dataset")
    loaded = load_configuration(wanted.config)
    mask = Mask(loaded.settings.secrets())
    configure_logging(loaded.settings.log_format, level="WARNING", mask=mask)
    wanted = dataclasses.replace(
        wanted, plan=dataclasses.replace(wanted.plan, grace=loaded.settings.grace)
    )
    host = host_of(wanted, loaded)
    chosen = agent_of(wanted, loaded, host)
    rows = rows_of(wanted, loaded, host)
    remote = chosen_remote(wanted.url, wanted.config) if wanted.url else None
    lines = materialized(rows, wanted.attempts, wanted.agent)
    header = {"environment": wanted.name, "agent": wanted.agent, "attempts": wanted.attempts}
    with ExitStack() as stack:
        opened = open_records(
            wanted.output, lines, attempts=wanted.attempts, header=header, resume=wanted.resume
        )
        try:
            records = stack.enter_context(opened)
        except (InputError, RecordRefused) as exc:
            raise ConfigError([str(exc)]) from exc
        backend = loaded.settings.backend
        status = anyio.run(_main, wanted, records, chosen, host, remote, backend, backend=backend)
    if status:
        raise typer.Exit(status)


async def _main(
    wanted: Wanted,
    records: Records,
    chosen: Chosen,
    host: Host | None,
    remote: Remote | None,
    backend: Backend,
) -> int:
    """Play, with an eye on signals till all is closed: asyncio's own way with Ctrl-C would cancel
    what closes, too, and then wait for it for ever.
    """
    failure: Exception | None = None
    status = INTERRUPTED
    everything = anyio.CancelScope()
    stopping = _Stopping(everything)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stopping.obey, signals)
            try:
                with everything:
                    status = await _serve_and_play(
                        wanted, records, chosen, host, remote, backend, stopping
                    )
            except Exception as exc:  # noqa: BLE001 - raised below, and not in a group
                failure = exc
            tasks.cancel_scope.cancel()
    if stopping.stopped:  # and all that is left to do is to leave
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if failure is not None:
        raise failure
    return status


class _Stopping:
    """What a signal stops: before the run everything, during the run that, and then nothing."""

    def __init__(self, everything: anyio.CancelScope) -> None:
        self._everything = everything
        self._runner: Runner | None = None
        self._over = False
        self.stopped = False

    async def obey(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for _ in signals:
            self.stopped = True
            if self._runner is None:
                self._everything.cancel()
            elif not self._over:
                if self._runner.interrupted:
                    note("ending the attempts that run")
                else:
                    note("stopping: the attempts that run may end; Ctrl-C again ends them now")
                self._runner.stop()

    @contextmanager
    def of(self, runner: Runner) -> Generator[None]:
        """Stop this runner, for as long as the block runs."""
        self._runner = runner
        try:
            yield
        finally:
            self._over = True


async def _serve_and_play(
    wanted: Wanted,
    records: Records,
    chosen: Chosen,
    host: Host | None,
    remote: Remote | None,
    backend: Backend,
    stopping: _Stopping,
) -> int:
    async with AsyncExitStack() as stack:
        if remote is None:
            assert host is not None
            remote = await stack.enter_async_context(embedded(host, backend=backend))
        client = await stack.enter_async_context(connected(remote, lean_transport(remote.url)))
        versions = await _versions(client, wanted.name)
        agent = chosen.agent
        if isinstance(agent, AbstractAsyncContextManager):
            await stack.enter_async_context(agent)
        attempts = Attempts(
            client,
            wanted.name,
            agent,
            wanted.agent,
            records,
            patience=Patience(remote.url),
            timeout=wanted.timeout,
            servers=chosen.servers,
            versions=versions,
            secrets=[*chosen.secrets, remote.key or ""],
        )
        runner = Runner(records, attempts, wanted.plan)
        # what was imported stays: to look through it again and again is a tenth of the work
        leave_loaded_out()
        try:
            with stopping.of(runner):
                async with _progress(runner):
                    await runner.run()
        finally:
            _report(runner.tally(), attempts.told, records, wanted)
    return _status(runner)


async def _versions(client: Client, name: str) -> dict[str, str]:
    """Return the versions of what plays; also, whether the environment is there at all."""
    try:
        served = await client.environment(name)
    except ApiError as exc:
        if exc.failure_kind in ("unknown_environment", "environment_error"):
            raise ConfigError([str(exc.problem.get("detail"))]) from exc
        raise
    versions = {"gymhost": gymhost.__version__}
    if served.get("version"):
        versions[name] = str(served["version"])
    return versions


@asynccontextmanager
async def _progress(runner: Runner) -> AsyncGenerator[None]:
    terminal = sys.stderr is not None and sys.stderr.isatty()
    shown = progress.display(runner.tally) if terminal else progress.lines(runner.tally, note)
    async with shown:
        yield


def _report(tally: Tally, told: Mapping[str, str], records: Records, wanted: Wanted) -> None:
    missing = tally.total - tally.scored - sum(tally.failed.values())
    line(f"{tally.scored} of {tally.total} scored, {progress.describe(tally)}")
    line(f"rollouts  {records.files.output}")
    if sum(tally.failed.values()):
        line(f"failures  {records.files.failures}")
    line(f"inputs    {records.files.inputs}")
    for kind in tally.failed:
        if kind in told:
            note(f"{kind}: {shorten(told[kind], TOLD)}")
    if tally.failed or missing:
        note(f"resume with: {join(_resuming(sys.argv[1:], wanted))}")


def _resuming(arguments: list[str], wanted: Wanted) -> list[str]:
    more = [] if wanted.resume else ["--resume"]
    return ["gymhost", *arguments, *more]


def _status(runner: Runner) -> int:
    tally = runner.tally()
    if runner.interrupted and tally.scored < tally.total:
        return INTERRUPTED
    return 0 if tally.scored == tally.total else 1
