"""The settings: what each is, its default, and its variable, flag and key in the file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    create_model,
)

from gymhost.config.environment import EnvironmentConfig, check_name
from gymhost.config.text import Text, secrets_in
from gymhost.control_key import is_usable
from gymhost.errors import PluginLoadError
from gymhost.limits import Limits
from gymhost.stores import open_store

__all__ = ["TABLE", "AgentSettings", "EnvironmentSettings", "LimitsSettings", "Setting", "Settings"]


@dataclass(frozen=True, slots=True)
class Given:
    """How a setting is given outside the file: by a variable and, if it has a help, by a flag."""

    variable: str
    help: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table."""

    name: str
    variable: str
    help: str | None
    type: Any
    metadata: tuple[Any, ...]
    default: Any

    @property
    def flag(self) -> str | None:
        """The flag, for one that has a help."""
        return None if self.help is None else f"--{self.name.replace('_', '-')}"


TRUTHS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def _convert(value: Any, pattern: str, kind: type[int] | type[float]) -> Any:
    if isinstance(value, Text) and re.fullmatch(pattern, value):
        return kind(value)
    return value


_T = TypeVar("_T")

# Text of the file is text; from a variable or a reference, it becomes what the setting is.
Whole = Annotated[int, BeforeValidator(lambda value: _convert(value, "[+-]?[0-9]{1,99}", int))]
Number = Annotated[
    float,
    BeforeValidator(
        lambda value: _convert(value, r"[+-]?([0-9]+\.?|[0-9]*\.[0-9]+)([eE][+-]?[0-9]+)?", float)
    ),
    Field(allow_inf_nan=False),
]
Truth = Annotated[
    bool,
    BeforeValidator(
        lambda value: TRUTHS.get(value.lower(), value) if isinstance(value, Text) else value
    ),
]
Listed = Annotated[tuple[_T, ...], Field(strict=False)]
"""A list of the file; strict mode would take tuples alone."""


def _public_url(url: str | None) -> str | None:
    if url is None:
        return None
    if not _is_http(url):
        raise ValueError("must be an http:// or https:// URL, as in https://gym.example")
    if set(url) & set("?#@"):
        raise ValueError("must have no user, no query and no fragment: clients append a path")
    return url.rstrip("/")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port of letters, half of an IPv6 address
        return False
    return named and re.fullmatch("[!-~]+", url) is not None


def _store(url: str) -> str:
    try:
        open_store(url)
    except ValueError:  # whose text has the URL, and a URL may have a password
        raise ValueError(
            "must be the URL of a session store: memory://, or sqlite:///path.db, with "
            "?synchronous=full where it is to survive a power cut"
        ) from None
    return url


def _key(key: SecretStr) -> SecretStr:
    stripped = key.get_secret_value().strip()
    if not is_usable(stripped):
        raise ValueError(
            "can't be sent in a header, which takes ASCII letters, digits and punctuation, and "
            "no spaces"
        )
    return SecretStr(stripped)


def _name(name: str) -> str:
    try:
        check_name(name)
    except PluginLoadError as exc:
        raise ValueError(str(exc)) from None
    return name


class _Body(BaseModel):
    # hide_input: should one of pydantic's errors get out, then without a secret
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, defer_build=True
    )


def _limits() -> type[_Body]:
    """Return the model of `limits:`: the fields of `Limits`, of the types that they have there."""
    kinds: dict[type, Any] = {int: Whole, float: Number}
    defaults = Limits()
    rows = {
        field.name: (
            Annotated[kinds[type(getattr(defaults, field.name))], Field(gt=0)],
            getattr(defaults, field.name),
        )
        for field in dataclasses.fields(Limits)
    }
    model: type[_Body] = create_model("LimitsSettings", __base__=_Body, **rows)  # type: ignore[call-overload]
    return model


if TYPE_CHECKING:
    LimitsSettings = _Body
else:
    LimitsSettings = _limits()


def _none_to(empty: type) -> BeforeValidator:
    """`weather:`, with nothing under it, is an empty body."""
    return BeforeValidator(lambda value: empty() if value is None else value)


class EnvironmentSettings(_Body):
    """One entry of `environments:`."""

    plugin: str | None = None
    config: Annotated[dict[str, Any], _none_to(dict)] = Field(default_factory=dict, repr=False)
    limits: Annotated[LimitsSettings, _none_to(dict)] = Field(default_factory=LimitsSettings)
    on_failure: Literal["error", "report"] = "error"
    datasets: Annotated[
        dict[Annotated[str, AfterValidator(_name)], Annotated[str, Field(min_length=1)]],
        _none_to(dict),
    ] = Field(default_factory=dict)

    def environment_config(self) -> EnvironmentConfig:
        """Return what the host takes."""
        return EnvironmentConfig(
            self.plugin, self.config, Limits(**self.limits.model_dump()), self.on_failure
        )


class AgentSettings(_Body):
    """One entry of `agents:`."""

    type: str | None = None
    options: Annotated[dict[str, Any], _none_to(dict)] = Field(default_factory=dict, repr=False)
    mcp_config: dict[str, Any] | str | None = Field(default=None, repr=False)


class Settings(_Body):
    """What an operator decides. Each field is a key of the file.

    A new setting is a line here: `Given` names its variable and, with a help text, its flag.
    """

    host: Annotated[str, Field(min_length=1), Given("GYMHOST_HOST", "The address to serve on.")] = (
        "127.0.0.1"
    )
    port: Annotated[
        Whole, Field(ge=0, le=65535), Given("GYMHOST_PORT", "The port; 0 takes any that is free.")
    ] = 8000
    backend: Annotated[Literal["asyncio", "trio"], Given("GYMHOST_BACKEND", "The event loop.")] = (
        "asyncio"
    )
    server: Annotated[
        Literal["hypercorn", "uvicorn"],
        Given("GYMHOST_SERVER", "The HTTP server; uvicorn wants asyncio and gymhost[uvicorn]."),
    ] = "hypercorn"
    public_url: Annotated[
        str | None,
        AfterValidator(_public_url),
        Given("GYMHOST_PUBLIC_URL", "Where clients reach the server, if not by its address."),
    ] = None
    keys: Annotated[
        Listed[Annotated[SecretStr, AfterValidator(_key)]],
        _none_to(list),
        Given("GYMHOST_API_KEY"),
    ] = ()
    store: Annotated[
        str, AfterValidator(_store), Given("GYMHOST_STORE", "Where sessions are kept.")
    ] = Field(default="memory://", repr=False)
    keep_trajectories: Annotated[
        Truth,
        Given("GYMHOST_KEEP_TRAJECTORIES", "Keep what each verify has scored, in the record."),
    ] = False
    log_format: Annotated[
        Literal["text", "json"], Given("GYMHOST_LOG_FORMAT", "The format of the log.")
    ] = "text"
    grace: Annotated[
        Number,
        Field(ge=0),
        Given("GYMHOST_GRACE", "Seconds that running requests get to end in a stop."),
    ] = 10.0
    strict: Annotated[Truth, Given("GYMHOST_STRICT", "Do not start where a plugin fails.")] = False
    mcp_allowed_hosts: Annotated[Listed[str], _none_to(list)] = ()
    environments: Annotated[
        dict[
            Annotated[str, AfterValidator(_name)],
            Annotated[EnvironmentSettings, _none_to(dict)],
        ],
        _none_to(dict),
    ] = Field(default_factory=dict)
    agents: Annotated[
        dict[Annotated[str, AfterValidator(_name)], Annotated[AgentSettings, _none_to(dict)]],
        _none_to(dict),
    ] = Field(default_factory=dict)
    only: Truth = False
    extensions: Annotated[dict[str, Annotated[dict[str, Any], _none_to(dict)]], _none_to(dict)] = (
        Field(default_factory=dict, repr=False)
    )
    blocked: Annotated[Listed[str], _none_to(list)] = ()

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server.

        Not `public_url`: what is in front of the server need not pass the control plane on.
        """
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def secrets(self) -> Iterator[str]:
        """Yield what nobody is to read in a log: keys, secret options, the store's password."""
        for key in self.keys:
            yield key.get_secret_value()
        for environment in self.environments.values():
            yield from secrets_in(environment.config)
        for agent in self.agents.values():
            yield from secrets_in(agent.options)
            yield from secrets_in(agent.mcp_config)
        for options in self.extensions.values():
            yield from secrets_in(options)
        password = urlsplit(self.store).password
        if password:
            yield password
            yield unquote(password)

    def environment_configs(self) -> dict[str, EnvironmentConfig]:
        """Return what the host takes."""
        return {name: each.environment_config() for name, each in self.environments.items()}


def _table() -> dict[str, Setting]:
    rows = {}
    for name, field in Settings.model_fields.items():
        for given in field.metadata:
            if isinstance(given, Given):
                rows[name] = Setting(
                    name,
                    given.variable,
                    given.help,
                    field.annotation,
                    tuple(field.metadata),
                    field.default,
                )
    return rows


TABLE = _table()
"""The settings that are given outside the file, too, by their names."""
