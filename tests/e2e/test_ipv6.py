"""The tutorial over IPv6."""

from __future__ import annotations

import socket
from pathlib import Path

import fdrtd
import pytest
from certificates import Authority
from harness import BINARY, ROOT, Node, nodes, urls_of
from test_docs import run_document


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()


def test_the_tutorial_over_http(tmp_path: Path) -> None:
    with nodes(tmp_path, 3, "--ephemeral", listen="[::1]:0") as started:
        urls = urls_of(started)
        assert all(url.startswith("http://[::1]:") for url in urls)
        assert run_document(TUTORIAL, urls, "docs/tutorial.md") >= 3
        # However the address is written.
        for spelling in ("[0:0::1]", "[0000:0000:0000:0000:0000:0000:0000:0001]"):
            assert fdrtd.Api(fdrtd.HttpInterface(urls[0].replace("[::1]", spelling))).list_microservices()


def test_the_tutorial_over_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    flags = (*authority.issue("node", hosts=("::1",)).flags, f"--peer-ca-file={authority.file}")
    monkeypatch.setenv("FDRTD_CA_FILE", str(authority.file))
    with nodes(tmp_path, 3, "--ephemeral", *flags, listen="[::1]:0") as started:
        urls = urls_of(started)
        assert all(url.startswith("https://[::1]:") for url in urls)
        assert run_document(TUTORIAL, urls, "docs/tutorial.md") >= 3


@pytest.mark.parametrize("flags", [[], ["--tls"]])
def test_the_demo(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca_file = tmp_path / "ca.pem"
    if flags:
        flags = [*flags, f"--ca-file={ca_file}"]
        monkeypatch.setenv("FDRTD_CA_FILE", str(ca_file))
        # It has to be there when the client looks for it, and is written anew.
    node = Node(tmp_path, 0, command=[str(BINARY), "demo", "--port=0", "--host=::1", *flags])
    try:
        assert node.url.startswith("https://[::1]:" if flags else "http://[::1]:")
        urls = [node.url.replace("/public1", f"/public{place}") for place in (1, 2, 3)]
        assert run_document(TUTORIAL, urls, "docs/tutorial.md") >= 3
    finally:
        node.kill()
