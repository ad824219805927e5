"""What a node says of itself to those who watch it: figures for Prometheus, and whether it lives and can work."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import BINARY, Node, make_task, nodes
from prometheus_client.parser import text_string_to_metric_families

VALUES = (10, 7, 14)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with nodes(tmp_path_factory.mktemp("metrics")) as started:
        yield started


def ask(url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def families(node: Node) -> dict[str, Any]:
    """The figures, read by the parser of Prometheus' own client."""
    status, kind, text = ask(f"{node.url}/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in found}) == len(found)
    for family in found:
        assert family.type != "unknown"
        assert family.documentation.endswith(".")
        # In the text, all lines of a family follow its beginning; the parser tells others as families without a type.
        assert all(sample.name.startswith(family.name) for sample in family.samples)
    return {family.name: family for family in found}


def figure(node: Node, name: str, **labels: str) -> float:
    """The sum of all samples with these labels."""
    base = name.removesuffix("_total").removesuffix("_count")
    samples = families(node)[base].samples
    return float(sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items()))


def series(node: Node) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {(s.name, frozenset(s.labels.items())) for f in families(node).values() for s in f.samples}


def test_a_task_is_counted(own: list[Node]) -> None:
    tasks = make_task(own)
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    for task in tasks:
        task.result(timeout=60)
    cancelled = make_task(own)
    cancelled[0].cancel()
    for node in own:
        assert figure(node, "fdrtd_tasks_created_total", microprotocol="SecureSum") == 2
        assert figure(node, "fdrtd_tasks_done_total", microprotocol="SecureSum") == 1
        assert figure(node, "fdrtd_task_rounds_total", microprotocol="SecureSum") == 1
        assert figure(node, "fdrtd_tasks") == 2
        assert figure(node, "fdrtd_tasks", state="ended") >= 1
        assert figure(node, "fdrtd_peer_connections") == 2
        # By their short names, from the first connection on that was made after this node knew them.
        peers = {s.labels["peer"] for s in families(node)["fdrtd_peer_bytes_in"].samples}
        assert "other" in peers
        assert peers <= {"other", *(other.fingerprint for other in own if other is not node)}
        assert figure(node, "fdrtd_peer_bytes_in_total") > 1000
        assert figure(node, "fdrtd_storage_commit_seconds_count") > 0
        assert figure(node, "fdrtd_storage_bytes") > 0
        assert 1 << 20 < figure(node, "process_resident_memory_bytes") < 1 << 30
        assert figure(node, "process_open_fds") > 5
        assert figure(node, "fdrtd_http_requests_total", route="/", method="POST", status="2xx") >= 1
        assert figure(node, "fdrtd_http_request_seconds_count", route="/") >= 1
    assert figure(own[0], "fdrtd_tasks_failed_total", code="CANCELLED") == 1


def test_nobody_makes_the_number_of_series_grow(own: list[Node]) -> None:
    node = own[0]

    def strange(number: int) -> None:
        noise = "".join(random.choices("abcxyz{}%20", k=8))
        for path in (f"/tasks/{uuid.uuid4()}", f"/tasks/{noise}/events", f"/invitations/{number}", f"/{noise}"):
            ask(node.url + path)
        ask(node.url.rsplit("/", 1)[0] + f"/{noise}")
        ask(node.url, f"X{number}")
        ask(f"{node.url}/tasks/{noise}/cancel", "POST", b"")
        ask(node.url, "PUT", json.dumps({"microservice": f"secret-{noise}"}).encode())
        call = {"handle": str(uuid.uuid4()), "function": f"f{noise}", "parameters": {}}
        ask(node.url, "POST", json.dumps(call).encode())
        ask(node.url, "POST", noise.encode())

    for number in range(5):
        strange(number)
    before = series(node)
    for number in range(100, 130):
        strange(number)
    assert series(node) == before
    assert not any("secret" in value for _, labels in before for _, value in labels)
    assert figure(node, "fdrtd_refusals_total", code="PATH_UNKNOWN") >= 35
    assert figure(node, "fdrtd_http_requests_total", route="/tasks/{id}", status="4xx") >= 35
    assert figure(node, "fdrtd_http_requests_total", route="other") >= 35


def test_ready_is_more_than_alive(tmp_path: Path) -> None:
    """A full disk, made by a limit on the size of files: the node lives and says that it cannot work."""
    serve = [str(BINARY), "serve", "--base-path=/public1", f"--data-dir={tmp_path / 'data'}", "--listen={listen}"]
    # The signal would end it, where a full disk is an error of the write.
    node = Node(tmp_path, 0, command=["sh", "-c", 'trap "" XFSZ; exec "$@" 2>/dev/null', "sh", *serve])
    try:
        assert node.process is not None
        assert ask(f"{node.url}/readyz") == (200, "application/json", b'{"status":"ok"}\n')
        unlimited = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
        # A write that has succeeded counts for a second.
        while (found := ask(f"{node.url}/readyz"))[0] == 200:
            pass
        status, kind, body = found
        problem = json.loads(body)
        assert (status, kind, problem["code"]) == (503, "application/problem+json", "NOT_READY")
        assert "storage" in problem["message"]
        assert "disk" in problem["hint"]
        assert ask(f"{node.url}/healthz")[0] == 200
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, unlimited)
        while ask(f"{node.url}/readyz")[0] != 200:
            pass
        os.kill(node.process.pid, signal.SIGTERM)
        assert node.wait() == 0
    finally:
        node.kill()
