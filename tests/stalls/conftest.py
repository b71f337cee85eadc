"""One relay for all stall tests of a worker of pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stalls.harness import Stage, relay_stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with relay_stage(tmp_path_factory.mktemp("stalls")) as one:
        yield one
