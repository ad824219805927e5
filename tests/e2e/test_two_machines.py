"""docs/two-laptops.md typed at two machines: network namespaces, each with an address of its own, and a cable."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import BINARY, ROOT
from transcript import Transcript

ADDRESSES = {"anna": "192.168.1.5", "ben": "192.168.1.6"}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="making machines takes root and iproute2"
)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[dict[str, list[str]]]:
    """How to run a command at Anna's and at Ben's machine."""
    names = {who: f"fdrtd-{os.getpid()}-{who}" for who in ADDRESSES}
    try:
        for name in names.values():
            ip("netns", "add", name)
        cable = {who: f"f{os.getpid() % 10**8}{who[0]}" for who in names}
        anna, ben = cable.values()
        ip("link", "add", anna, "netns", names["anna"], "type", "veth", "peer", "name", ben, "netns", names["ben"])
        for who, name in names.items():
            ip("-n", name, "address", "add", f"{ADDRESSES[who]}/24", "dev", cable[who])
            ip("-n", name, "link", "set", cable[who], "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield {who: ["ip", "netns", "exec", name] for who, name in names.items()}
    finally:
        for name in names.values():
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "delete", name)


def test_two_laptops(machines: dict[str, list[str]], tmp_path: Path) -> None:
    text = (ROOT / "docs" / "two-laptops.md").read_text()
    env = {**os.environ, "PATH": f"{BINARY.parent}:{os.environ['PATH']}"}
    env = {name: value for name, value in env.items() if not name.startswith("FDRTD_")}
    with Transcript(tmp_path, env, machines=machines) as transcript:
        assert transcript.run(text) >= 5
