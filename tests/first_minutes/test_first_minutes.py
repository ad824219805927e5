"""The first fifteen minutes of a newcomer: the README's commands, typed in a fresh clone with an empty home directory.

Everything is installed and built as a newcomer's machine would, with a free port in place of the README's. What takes
minutes and says little is spared: the libraries that cargo has built for this tree before are used again. With
FDRTD_FROM_SCRATCH=1, as in `make test-long`, they are not.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, TARGET
from transcript import Transcript

# What a newcomer has that is not in a home directory: the tools themselves.
TOOLS = {"CARGO_HOME": Path.home() / ".cargo", "RUSTUP_HOME": Path.home() / ".rustup"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed, and what is about to be: the files as they are now."""
    directory = tmp_path_factory.mktemp("newcomer") / "fdrtd"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, directory], check=True)
    changed = subprocess.run(["git", "stash", "create"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    if commit := changed.strip():
        subprocess.run(["git", "fetch", "-q", ROOT, commit], cwd=directory, check=True)
        subprocess.run(["git", "checkout", "-q", "--detach", "FETCH_HEAD"], cwd=directory, check=True)
    if os.environ.get("FDRTD_FROM_SCRATCH") != "1":
        (directory / "target").symlink_to(TARGET.parent)
    return directory


def move_to_port(clone: Path, port: str) -> None:
    """The examples name the port of the README, which may be taken here."""
    for file in (clone / "docs/examples").iterdir():
        file.write_text(file.read_text().replace("55500", port))
    author = ["-c", "user.name=newcomer", "-c", "user.email=newcomer@example.org"]
    subprocess.run(["git", *author, "commit", "-qam", "Another port"], cwd=clone, check=True)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Only what a login gives."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TERM", "USER") if name in os.environ}
    # Where a machine has a mirror of its own, pip is told so outside of the home directory.
    mirrors = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "CARGO_", "RUSTUP_"))}
    mirrors.pop("CARGO_TARGET_DIR", None)
    tools = {name: os.environ.get(name, str(path)) for name, path in TOOLS.items()}
    return {**kept, **mirrors, **tools, "HOME": str(home)}


def test_the_readme(clone: Path, newcomer: dict[str, str]) -> None:
    readme = (clone / "README.md").read_text()
    port = str(free_port())
    newcomer["FDRTD_DEMO_PORT"] = port
    move_to_port(clone, port)
    with Transcript(clone, newcomer, {"55500": port}) as transcript:
        assert transcript.run(readme) >= 6
    leftovers = subprocess.run(["git", "status", "--short"], cwd=clone, check=True, capture_output=True, text=True)
    assert leftovers.stdout == "", "nothing is left lying about in the tree"
