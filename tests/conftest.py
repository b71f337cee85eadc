"""One profile for all property tests: no deadline (the machine is shared), and the same examples every time in CI."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "relay",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)
settings.load_profile("relay")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is thorough runs only where it is asked for by its name."""
    if "thorough" not in config.getoption("markexpr"):
        items[:] = [item for item in items if item.get_closest_marker("thorough") is None]
