"""End-to-end figures over three processes and loopback. Prints medians and what they are compared with.

Needs the release build: `make bench` makes it and runs this.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fdrtd
import urllib3

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
os.environ.setdefault("FDRTD_TEST_PROFILE", "release")

from certificates import Authority  # noqa: E402
from harness import Node, make_task, nodes, urls_of  # noqa: E402

RUNS = 200
POOL = urllib3.PoolManager(maxsize=8)


def milliseconds(values: list[float]) -> str:
    low, *_, high = (quantile * 1e3 for quantile in statistics.quantiles(values, n=20))
    return f"median {statistics.median(values) * 1e3:.2f} ms (5 % {low:.2f}, 95 % {high:.2f})"


def call(node: Node, body: dict[str, Any]) -> tuple[int, bytes]:
    """One call over a connection of its own pool, its answer not decoded: the figure is about the nodes."""
    answer = POOL.request(
        "POST", node.url, body=json.dumps(body), headers={"Content-Type": "application/json"}, timeout=120
    )
    return answer.status, answer.data


def last_input_to_result(
    started: list[Node],
    data: Any,
    microprotocol: str = "SecureSum",
    parameters: dict[str, Any] | None = None,
    urls: list[str] | None = None,
) -> float:
    """From the last party's `input` until all callers have their result in hand. The data are stored before.

    `data` is everybody's, or a function of the party.
    """
    tasks = make_task(started, urls, microprotocol=microprotocol, parameters=parameters)
    storages = [node.api().select_microservice(microservice="KeyValueStorage") for node in started]
    values = [storage.create(value=data(place) if callable(data) else data) for place, storage in enumerate(storages)]
    for task, value in zip(tasks[:-1], values):
        task.input(source=value)
    ends = [0.0] * len(tasks)
    waiting = threading.Barrier(len(tasks) + 1)

    def wait(place: int) -> None:
        waiting.wait()
        task = fdrtd.to_dict(tasks[place])
        status = 204
        while status == 204:
            status, _ = call(started[place], {**task, "function": "result", "parameters": {"timeout": 60}})
        assert status == 200
        ends[place] = time.perf_counter()

    threads = [threading.Thread(target=wait, args=(place,)) for place in range(len(tasks))]
    for thread in threads:
        thread.start()
    waiting.wait()
    # Until all three wait in result(): the figure is about the nodes, not about who asks first.
    time.sleep(0.02)
    begin = time.perf_counter()
    tasks[-1].input(source=values[-1])
    for thread in threads:
        thread.join()
    for handle in tasks + values:
        handle.delete()
    return max(ends) - begin


def tutorial(started: list[Node], apis: list[fdrtd.Api]) -> float:
    """The whole tutorial, with the connections of the client kept."""
    begin = time.perf_counter()
    urls = urls_of(started)
    simons = [api.select_microservice(protocol="Simon") for api in apis]
    tasks = [simons[0].create(microprotocol="BasicSum", network={"nodes": urls, "myself": 0})]
    invitation = tasks[0].invite()
    for place in (1, 2):
        tasks.append(simons[place].join(invitation=invitation, network={"nodes": urls, "myself": place}))
    values = [api.select_microservice(microservice="KeyValueStorage").create(value=7) for api in apis]
    for task, value in zip(tasks, values):
        task.input(source=value)
    for task in tasks:
        assert task.result()["result"]["sum"] == 21
    for value in values:
        value.delete()
    return time.perf_counter() - begin


def cpu_seconds(started: list[Node]) -> float:
    """User and system time of all nodes so far."""
    total = 0
    for node in started:
        assert node.process is not None
        fields = Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def over_tls() -> list[float]:
    """The tutorial with TLS between client and nodes and between nodes."""
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(Path(directory))
        flags = (*authority.issue("node").flags, f"--peer-ca-file={authority.file}")
        with nodes(Path(directory), 3, *flags) as started:
            apis = [fdrtd.Api(fdrtd.HttpInterface(node.url, ca_file=authority.file)) for node in started]
            for _ in range(20):
                tutorial(started, apis)
            return [tutorial(started, apis) for _ in range(RUNS)]


def importing() -> list[float]:
    """`import fdrtd` in a new interpreter, without the start of the interpreter itself."""
    code = "import time; begin = time.perf_counter(); import fdrtd; print(time.perf_counter() - begin)"
    command = [sys.executable, "-c", code]
    return [float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(20)]


def ratio(these: list[float], those: list[float]) -> float:
    return statistics.median(these) / statistics.median(those)


def numbers(count: int) -> Callable[[int], list[float]]:
    """As many for each party, different ones."""

    def of(place: int) -> list[float]:
        source = random.Random(place)
        return [round(source.gauss(40, 15), 3) for _ in range(count)]

    return of


COMPARISONS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("MinimumMaximum of 100 numbers", "MinimumMaximum", numbers(100), {}),
    ("SecureMedian of 100 numbers", "SecureMedian", numbers(100), {}),
    ("quartiles of 100 numbers", "Quantiles", numbers(100), {"probabilities": [0.25, 0.5, 0.75]}),
    ("sum of 100 numbers, at least 10 samples", "SecureSum", numbers(100), {"min_samples": 10}),
    (
        "histogram of 1000 bins, at least 5 a bin",
        "Histogram",
        numbers(10_000),
        {"edges": {"from": 0, "to": 1000, "step": 1}, "min_cell": 5},
    ),
    ("Benchmark", "Benchmark", lambda place: 10 + place, {}),
    ("SecureMedian of 10^6 numbers", "SecureMedian", numbers(1_000_000), {}),
]


LINK = 0.028
"""Seconds from one node to another and back."""


class Link(threading.Thread):
    """Forwards connections to a node; whatever goes through comes half of :data:`LINK` later."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        host, port = urllib3.util.parse_url(node.url).netloc.split(":")  # type: ignore[union-attr]
        self.target = (host, int(port))
        self.path = urllib3.util.parse_url(node.url).path
        self.ready = threading.Event()
        self.start()
        self.ready.wait()

    def run(self) -> None:
        asyncio.run(self.serve())

    async def serve(self) -> None:
        server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{self.path}"
        self.ready.set()
        await server.serve_forever()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(*self.target)
        await asyncio.gather(self.pipe(reader, forth), self.pipe(back, writer))

    async def pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(1 << 16):
            loop.call_later(LINK / 2, writer.write, data)
        loop.call_later(LINK / 2, writer.close)


def far_apart() -> None:
    """Nodes that reach each other over a slow link only: rounds are all that counts."""
    with tempfile.TemporaryDirectory() as directory, nodes(Path(directory), 3) as started:
        urls = [Link(node).url for node in started]
        for microprotocol in ("SecureSum", "MinimumMaximum", "SecureMedian"):
            last_input_to_result(started, numbers(100), microprotocol, urls=urls)
            times = [last_input_to_result(started, numbers(100), microprotocol, urls=urls) for _ in range(5)]
            rounds = make_task(started, urls, microprotocol=microprotocol)[0].progress()["rounds"]
            print(
                f"{microprotocol}, {LINK * 1e3:.0f} ms between nodes and back, {rounds} rounds: {milliseconds(times)}"
            )


def comparisons(started: list[Node]) -> None:
    """With base transfers that are there: the first run makes them."""
    for name, microprotocol, data, parameters in COMPARISONS:
        many = "10^6" in name
        for _ in range(1 if many else 5):
            last_input_to_result(started, data, microprotocol, parameters)
        times = [last_input_to_result(started, data, microprotocol, parameters) for _ in range(3 if many else 50)]
        print(f"{name}: {milliseconds(times)}")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, nodes(Path(directory), 3) as started:
        apis = [node.api() for node in started]
        for _ in range(20):
            last_input_to_result(started, 1)
        times = [last_input_to_result(started, 1) for _ in range(RUNS)]
        print(f"last input to the result at all three: {milliseconds(times)}")
        before = cpu_seconds(started)
        times = [tutorial(started, apis) for _ in range(RUNS)]
        server = (cpu_seconds(started) - before) / RUNS
        print(f"whole tutorial, seen by the client: {milliseconds(times)}")
        print(f"whole tutorial, CPU time of the three nodes: {server * 1e3:.1f} ms")
        encrypted = over_tls()
        print(f"whole tutorial over https: {milliseconds(encrypted)}, ratio {ratio(encrypted, times):.2f}")
        data = {"vectors": [[1.25] * 1_000_000]}
        times = [last_input_to_result(started, data) for _ in range(7)]
        print(f"vectors of 10^6 numbers: {milliseconds(times)}")
        comparisons(started)
        far_apart()
        print(f"import fdrtd: {milliseconds(importing())}")


if __name__ == "__main__":
    main()
