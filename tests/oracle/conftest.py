from __future__ import annotations

from collections.abc import Iterator

import pytest
from simulator import Simulator


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    """One process for all tests of a worker."""
    simulator = Simulator()
    yield simulator
    simulator.close()
