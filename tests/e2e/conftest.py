"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Node, nodes


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Node]]:
    """Three nodes of this test's own."""
    with nodes(tmp_path) as started:
        yield started


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three nodes that many tests share; tests must not stop them."""
    with nodes(tmp_path_factory.mktemp("shared")) as started:
        yield started
