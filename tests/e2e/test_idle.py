"""What a node costs that does nothing, and one that waits."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fdrtd
import pytest
from harness import Node, has_input, make_task, nodes, until, urls_of
from test_handles import Answer, Wire

MEMORY = 25_000_000
SECONDS = 5
# Of processor time, while it waits for so long. Machines differ, and a busy wait would use all of it.
PROCESSOR = 0.1


@pytest.fixture
def own(tmp_path: Path) -> Iterator[list[Node]]:
    with nodes(tmp_path) as started:
        yield started


def resident(node: Node) -> int:
    assert node.process is not None
    (line,) = (line for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines() if "VmRSS" in line)
    return int(line.split()[1]) * 1024


def processor(node: Node) -> float:
    """Seconds of processor time, its own and the system's."""
    assert node.process is not None
    # The second field is the name in brackets, which may hold anything.
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_node_is_small_and_waiting_costs_nothing(own: list[Node]) -> None:
    for node in own:
        assert resident(node) < MEMORY, node.url
    # Everything that there is to wait for: peers that never join, an input, a result, an event, an invitation,
    # the first party of a computation in one call, others at a meeting point.
    simons = [node.api().select_microservice(protocol="Simon") for node in own]
    nowhere = ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]
    simons[0].create(microprotocol="SecureSum", network={"nodes": [own[0].url, *nowhere], "myself": 0})
    tasks = make_task(own)
    tasks[0].input(data=1)
    until(lambda: has_input(tasks[1], 0), "the input is announced")
    events = urllib.request.urlopen(f"{own[0].url}/tasks/{tasks[0]['callback']}/events", timeout=60)
    assert events.readline() == b"event: progress\n"

    def wait_for_result() -> None:
        with pytest.raises(fdrtd.TaskFailed):
            tasks[1].result(timeout=60)

    def wait_for_invitation() -> None:
        network = {"nodes": urls_of(own)[::-1], "myself": 0}
        simons[2].invitations(microprotocol="SecureSum", network=network, timeout=2 * SECONDS)

    def call(service: str, function: str, parameters: dict[str, Any], callback: Any = None) -> Answer:
        wire = Wire(own[2].url)
        return wire.call(wire.handle(service), function, parameters, callback)

    def wait_for_party_0() -> None:
        asked = {"microprotocol": "SecureSum", "data": 1, "timeout": 2 * SECONDS}
        call("Simon", "compute", asked | {"network": {"nodes": urls_of(own)[1:], "myself": 1}}).nothing()

    def wait_at_a_barrier() -> None:
        point = call("Barrier", "create", {"tokens": ["idle"]}).json()["callback"]
        call("Barrier", "wait", {"count": 1, "timeout": 2 * SECONDS}, point).nothing()

    targets = (wait_for_result, wait_for_invitation, wait_for_party_0, wait_at_a_barrier)
    waiting = [threading.Thread(target=target) for target in targets]
    for thread in waiting:
        thread.start()
    before = [processor(node) for node in own]
    with pytest.raises(fdrtd.NotReady):
        tasks[0].result(timeout=SECONDS)
    used = [after - earlier for after, earlier in zip(map(processor, own), before)]
    assert all(thread.is_alive() for thread in waiting)
    assert max(used) < PROCESSOR, used
    for node in own:
        assert resident(node) < MEMORY, node.url
    tasks[0].cancel()
    for thread in waiting:
        thread.join()
    events.close()
