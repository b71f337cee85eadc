"""Settings: one table of rows, from which reading, checking, defaults, error messages and the README's table are made.

    table    the rows, and the README's table made of them
    values   the frozen dataclasses that the rest of the relay sees
    readers  one function a type of row: from a TOML value to ours, or a complaint
    globs    names matched against globs
    loader   file, flags and environment put together and checked against each other

Source: design.md §3 "Configuration", decisions 13, 16, 17, 21, 28, 30, 31, 40. Values are checked once, here, and are
frozen from then on; whoever reads a setting later never has to doubt it.
"""

from relay.config.globs import Glob
from relay.config.loader import load
from relay.config.readers import ConfigError
from relay.config.table import DIALECTS, ENVIRONMENT_UPSTREAMS, MAPPED_NAMES, markdown_table
from relay.config.values import (
    Network,
    PromptSettings,
    Secret,
    ServerSettings,
    Settings,
    StoreSettings,
    UpstreamSettings,
    data_directory,
    is_loopback,
    vendor,
)

__all__ = [
    "DIALECTS",
    "ENVIRONMENT_UPSTREAMS",
    "MAPPED_NAMES",
    "ConfigError",
    "Glob",
    "Network",
    "PromptSettings",
    "Secret",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "UpstreamSettings",
    "data_directory",
    "is_loopback",
    "load",
    "markdown_table",
    "vendor",
]
