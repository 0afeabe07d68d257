"""What `gymhost rollout` plays with: the agent, the tasks and the host that it was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gymhost.agents.base import Agent
from gymhost.agents.find import BUILT_IN, UnknownAgent, find_agent
from gymhost.asgi import create_host
from gymhost.config import AgentSettings, ConfigError, Configuration
from gymhost.config.text import plain, secrets_in
from gymhost.errors import PluginLoadError
from gymhost.host import Host
from gymhost.instances import instantiate
from gymhost.models import JSONObject
from gymhost.plugin_records import describe
from gymhost.rollouts.inputs import InputError, rows_of_file, rows_of_tasks
from gymhost.rollouts.mcp_config import McpConfigError, StaticServers, read_servers
from gymhost.rollouts.runner import Plan

__all__ = ["Chosen", "Wanted", "agent_of", "host_of", "rows_of"]


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
class Chosen:
    """An agent, ready to work, and what it must not tell."""

    agent: Agent
    servers: StaticServers
    secrets: list[str]


def host_of(wanted: Wanted, loaded: Configuration) -> Host | None:
    """Return a host of what is installed here, where something of it is needed."""
    own_tasks = wanted.input is None and wanted.dataset is None
    if wanted.url and not own_tasks and _type(wanted, loaded)[0] in BUILT_IN:
        return None
    return create_host(loaded.settings, store="memory://" if wanted.url else loaded.settings.store)


def _type(wanted: Wanted, loaded: Configuration) -> tuple[str, AgentSettings]:
    settings = loaded.settings.agents.get(wanted.agent, AgentSettings())
    return settings.type or wanted.agent, settings


def agent_of(wanted: Wanted, loaded: Configuration, host: Host | None) -> Chosen:
    """Return the agent, made with its options. `host` knows those of plugins.

    Raises: ConfigError.
    """
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
    return Chosen(agent, StaticServers(servers), secrets)


def rows_of(wanted: Wanted, loaded: Configuration, host: Host | None) -> Iterator[JSONObject]:
    """Return the tasks as rows. `host` has the environment's own.

    Raises: ConfigError; InputError, while they are read.
    """
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
