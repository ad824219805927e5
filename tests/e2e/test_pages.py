"""Pages of the book that show commands: typed against nodes that run for the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import BINARY, ROOT, Node
from transcript import Transcript


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[str]:
    node = Node(tmp_path / "demo", 0, command=[str(BINARY), "demo", "--port=0"])
    yield node.url.removesuffix("/public1")
    node.kill()


@pytest.fixture
def tree(tmp_path: Path, demo: str) -> Path:
    """What a reader has before him, with the address of the demo that runs."""
    (tmp_path / "target/debug").mkdir(parents=True)
    (tmp_path / "target/debug/fdrtd").symlink_to(BINARY)
    (tmp_path / "docs/examples").mkdir(parents=True)
    for file in (ROOT / "docs/examples").iterdir():
        text = file.read_text().replace("http://127.0.0.1:55500", demo)
        (tmp_path / "docs/examples" / file.name).write_text(text)
    return tmp_path


def test_your_own_numbers(tree: Path, demo: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FDRTD_")}
    with Transcript(tree, env, {"http://127.0.0.1:55500": demo}) as transcript:
        assert transcript.run((ROOT / "docs/your-own-numbers.md").read_text()) == 6
