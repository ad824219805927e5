"""The first fifteen minutes of a newcomer: the README's commands, typed in a fresh clone with an empty home directory.

Everything is built and installed as a newcomer's machine would; only what cargo and pip have downloaded before is used
again. Ports are free ones instead of those of the README.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from harness import ROOT
from test_docs import BLOCK
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
    return directory


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
    with Transcript(clone, newcomer, {"55500": port}) as transcript:
        assert transcript.run(readme) >= 6
        # The nodes of `make demo` still run: what is written in Python is typed as well.
        code = "\n".join(block["code"] for block in BLOCK.finditer(readme)).replace("55500", port)
        assert "fdrtd" in code
        subprocess.run([clone / ".venv/bin/python", "-c", code], env=newcomer, check=True, cwd=newcomer["HOME"])
    leftovers = subprocess.run(["git", "status", "--short"], cwd=clone, check=True, capture_output=True, text=True)
    assert leftovers.stdout == "", "nothing is left lying about in the tree"
