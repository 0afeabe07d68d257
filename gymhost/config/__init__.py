"""What an operator decides: a file, variables and flags, and the settings that they make."""

from __future__ import annotations

from gymhost.config.environment import EnvironmentConfig
from gymhost.config.problems import ConfigError
from gymhost.config.settings import AgentSettings, Settings
from gymhost.config.sources import Configuration, load_configuration, load_settings

__all__ = [
    "AgentSettings",
    "ConfigError",
    "Configuration",
    "EnvironmentConfig",
    "Settings",
    "load_configuration",
    "load_settings",
]
