"""What `gymhost rollout` does: find the agent and the tasks, play them, and say what came out."""

from __future__ import annotations

import dataclasses
import gc
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from textwrap import shorten

import anyio
import typer

import gymhost
from gymhost.agents.base import Agent
from gymhost.agents.find import BUILT_IN, UnknownAgent, find_agent
from gymhost.cli.by_hand import check_environment
from gymhost.cli.embedded import embedded
from gymhost.cli.interrupts import INTERRUPTED
from gymhost.cli.logs import configure_logging
from gymhost.cli.output import line, note
from gymhost.cli.remote import Remote, chosen_remote, connected
from gymhost.cli.settings import create_host
from gymhost.client import ApiError, Client
from gymhost.config import AgentSettings, ConfigError, Configuration, load_configuration
from gymhost.config.mask import Mask
from gymhost.config.text import plain, secrets_in
from gymhost.errors import GymhostError, PluginLoadError
from gymhost.host import Host
from gymhost.instances import instantiate
from gymhost.lean_http import lean_transport
from gymhost.models import JSONObject
from gymhost.plugin_records import describe
from gymhost.rollouts import progress
from gymhost.rollouts.attempt import Attempts
from gymhost.rollouts.inputs import InputError, materialized, rows_of_file, rows_of_tasks
from gymhost.rollouts.mcp_config import McpConfigError, StaticServers, read_servers
from gymhost.rollouts.patience import Patience
from gymhost.rollouts.records import RecordRefused, Records, open_records
from gymhost.rollouts.runner import Plan, Runner, Tally
from gymhost.server import Backend

__all__ = ["Wanted", "rollout"]

TOLD = 300  # characters of a failure: its row has all of it


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    name: str
    agent: str
    input: Path | None
    dataset: str | None
    output: Path
    attempts: int
    limit: int | None
    timeout: float
    resume: bool
    url: str | None
    config: Path | None
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An agent, ready to work, and what it must not tell."""

    agent: Agent
    servers: StaticServers
    secrets: list[str]


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
    host = _host(wanted, loaded)
    chosen = _agent(wanted, loaded, host)
    rows = _rows(wanted, loaded, host)
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


def _host(wanted: Wanted, loaded: Configuration) -> Host | None:
    """Return a host of what is installed here, where something of it is needed."""
    own_tasks = wanted.input is None and wanted.dataset is None
    if wanted.url and not own_tasks and _type(wanted, loaded)[0] in BUILT_IN:
        return None
    return create_host(loaded.settings, store="memory://" if wanted.url else loaded.settings.store)


def _type(wanted: Wanted, loaded: Configuration) -> tuple[str, AgentSettings]:
    settings = loaded.settings.agents.get(wanted.agent, AgentSettings())
    return settings.type or wanted.agent, settings


def _agent(wanted: Wanted, loaded: Configuration, host: Host | None) -> _Chosen:
    kind, settings = _type(wanted, loaded)
    try:
        factory = find_agent(kind, host.agents if host is not None else {})
        agent: Agent = instantiate(factory, settings.options)
        servers = read_servers(plain(settings.mcp_config))
    except UnknownAgent as exc:
        configured = ", ".join(sorted(loaded.settings.agents))
        more = f", and in the configuration: {configured}" if configured else ""
        raise ConfigError([f"{exc}{more}"]) from exc
    except (PluginLoadError, McpConfigError) as exc:
        raise ConfigError([f"the agent {wanted.agent!r}: {describe(exc)}"]) from exc
    # a file has no `${NAME}`: what is secret in it has a name that says so
    inline = settings.mcp_config if isinstance(settings.mcp_config, dict) else servers
    secrets = [*secrets_in(settings.options), *secrets_in(inline)]
    return _Chosen(agent, StaticServers(servers), secrets)


def _rows(wanted: Wanted, loaded: Configuration, host: Host | None) -> Iterator[JSONObject]:
    path = wanted.input
    if wanted.dataset is not None:
        path = _dataset(wanted, loaded)
    if path is not None:
        return rows_of_file(path, wanted.limit)
    assert host is not None
    if wanted.name not in host.mounts:
        reasons = [each.reason for each in host.records if each.name == wanted.name]
        known = f"installed here: {', '.join(sorted(host.mounts)) or 'none'}"
        why = (reasons[0] if reasons else None) or known
        if wanted.url:
            why += ". To play tasks at --url, name them with --input"
        raise ConfigError([f"no environment is named {wanted.name!r}: {why}"])
    return _own_rows(wanted, host)


def _own_rows(wanted: Wanted, host: Host) -> Iterator[JSONObject]:
    found = False
    try:
        for row in rows_of_tasks(
            wanted.name, host.mounts[wanted.name].instance.tasks(), wanted.limit
        ):
            found = True
            yield row
    except InputError:
        raise
    except (Exception, SystemExit) as exc:
        # the author's code
        raise InputError(f"the tasks of {wanted.name} can't be read: {describe(exc)}") from exc
    if not found:
        raise InputError(f"{wanted.name} has no tasks of its own: name some with --input")


def _dataset(wanted: Wanted, loaded: Configuration) -> Path:
    """Return a dataset's file: beside the configuration, where its path is relative."""
    environment = loaded.settings.environments.get(wanted.name)
    datasets = environment.datasets if environment is not None else {}
    if wanted.dataset not in datasets:
        known = ", ".join(sorted(datasets)) or "none"
        told = f"{wanted.name} has no dataset {wanted.dataset!r} in the configuration"
        raise ConfigError([f"{told}. Known: {known}"])
    folder = Path(loaded.document.name).parent if loaded.document is not None else Path()
    return folder / datasets[wanted.dataset]


async def _main(
    wanted: Wanted,
    records: Records,
    chosen: _Chosen,
    host: Host | None,
    remote: Remote | None,
    backend: Backend,
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
        gc.collect()
        gc.freeze()
        try:
            await _play(runner)
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


async def _play(runner: Runner) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        failure: GymhostError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_obey, signals, runner)
            async with _progress(runner):
                try:
                    await runner.run()
                except GymhostError as exc:  # raised below, and not in a group
                    failure = exc
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure


async def _obey(signals: AsyncIterator[signal.Signals], runner: Runner) -> None:
    async for _ in signals:
        if runner.interrupted:
            note("ending the attempts that run")
        else:
            note("stopping: the attempts that run may end; Ctrl-C again ends them now")
        runner.stop()


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
