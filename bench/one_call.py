"""Whole computations through one `compute` call, as clients see them: each party's client is a process of its own.

Needs the release build: `make bench` makes it and runs this after the other figures. `--few` leaves out the large data.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fdrtd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
os.environ.setdefault("FDRTD_TEST_PROFILE", "release")

from harness import Node, urls_of  # noqa: E402

RUNS = 200
WARM_UP = 20
# Seconds until the others wait at their nodes, at the least and at the most: the figure is about what comes after the
# last call, not about who is first. Each time another one, or what a node does a moment after a call would always meet
# the same part of the next one.
PAUSE = (0.005, 0.015)
ROWS = 100
MANY = 1_000_000

COLOURS = ["red", "green", "blue", "yellow"]
ARMS = ["treated", "control"]


def numbers(source: random.Random) -> Any:
    return round(source.gauss(40, 15), 3)


def pairs(source: random.Random) -> Any:
    x = round(source.gauss(40, 15), 3)
    return [x, round(2 * x + source.gauss(0, 5), 3)]


def colours(source: random.Random) -> Any:
    return source.choice(COLOURS)


def cells(source: random.Random) -> Any:
    return [source.choice(ARMS), source.choice(COLOURS)]


Row = Callable[[random.Random], Any]
# Microprotocol, one row of data, parameters, and the milliseconds that we want at the most.
Computation = tuple[str, Row, dict[str, Any], int]
COMPUTATIONS: list[Computation] = [
    ("SecureSum", numbers, {}, 3),
    ("StatisticsUnivariate", numbers, {}, 20),
    ("StatisticsBivariate", pairs, {}, 10),
    ("StatisticsFrequency", colours, {"categories": COLOURS}, 10),
    ("StatisticsContingency", cells, {"categories": {"rows": ARMS, "columns": COLOURS}}, 10),
]


class Client:
    """One party's client, in a process that waits to be told what to do."""

    def __init__(self, urls: list[str], myself: int) -> None:
        self.urls = urls
        self.myself = myself
        api = fdrtd.Api(fdrtd.HttpInterface(urls[myself], timeout=600), progress=False)
        self.api = api
        self.interface = api._interface
        self.handle = api.select_microservice(protocol="Simon")
        self.representation = api.create(protocol="Simon")
        self.data: Any = None
        self.connection = http.client.HTTPConnection(urlsplit(urls[myself]).netloc)

    def plain(self, arguments: dict[str, Any]) -> Any:
        """The same call without our client: one request, as any program makes it."""
        body = json.dumps(
            {"handle": self.handle["handle"], "function": "compute", "parameters": {"data": self.data, **arguments}}
        )
        path = urlsplit(self.urls[self.myself]).path
        self.connection.request("POST", f"{path}/", body, {"Content-Type": "application/json"})
        return json.loads(self.connection.getresponse().read())

    def prepare(self, row: Row, count: int, uploaded: bool) -> None:
        source = random.Random(self.myself)
        data = [row(source) for _ in range(count)]
        storage = self.api.select_microservice(microservice="KeyValueStorage")
        self.data = storage.create(value=data) if uploaded else data

    def call(self, way: str, arguments: dict[str, Any]) -> tuple[float, float]:
        """When it was called, and when the result was there."""
        arguments["network"] = {"nodes": self.urls, "myself": self.myself}
        begin = time.perf_counter()
        if way == "a plain request":
            result = self.plain(arguments)
        elif way == "handle":
            result = self.handle.compute(data=self.data, **arguments)
        elif way == "representation":
            result = self.api.download(self.representation.compute(data=self.data, **arguments))
        else:
            result = fdrtd.compute(data=self.data, interface=self.interface, **arguments)
        end = time.perf_counter()
        assert result["inputs"] == len(self.urls)
        return begin, end


def serve(pipe: Connection, urls: list[str], myself: int) -> None:
    client = Client(urls, myself)
    pipe.send("ready")
    # Until the other end is closed.
    with contextlib.suppress(EOFError):
        while True:
            name, arguments = pipe.recv()
            pipe.send(getattr(client, name)(*arguments))


class Clients:
    """The clients of all parties."""

    def __init__(self, started: list[Node]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Any] = []
        for myself in range(len(started)):
            here, there = context.Pipe()
            context.Process(target=serve, args=(there, urls_of(started), myself), daemon=True).start()
            self.pipes.append(here)
        for pipe in self.pipes:
            pipe.recv()

    def prepare(self, row: Row, count: int, uploaded: bool = False) -> None:
        for pipe in self.pipes:
            pipe.send(("prepare", (row, count, uploaded)))
        for pipe in self.pipes:
            pipe.recv()

    def once(self, way: str, microprotocol: str, parameters: dict[str, Any], pause: float = 0.0) -> float:
        """From the last party's call until all parties' clients have the result in hand, in seconds."""
        job = ("call", (way, {"microprotocol": microprotocol, "parameters": parameters}))
        *others, last = self.pipes
        for pipe in others:
            pipe.send(job)
        time.sleep(pause)
        last.send(job)
        times = [pipe.recv() for pipe in self.pipes]
        return float(max(end for _, end in times) - max(begin for begin, _ in times))


def milliseconds(values: list[float]) -> str:
    low, *_, high = (quantile * 1e3 for quantile in statistics.quantiles(values, n=20))
    return f"median {statistics.median(values) * 1e3:.2f} ms (5 % {low:.2f}, 95 % {high:.2f})"


@contextlib.contextmanager
def clients_of(count: int, *flags: str) -> Iterator[Clients]:
    """As many nodes, which know their own URLs as those of operators do, and their clients."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = []
        for index in range(count):
            with socket.create_server(("127.0.0.1", 0)) as free:
                listen = f"127.0.0.1:{free.getsockname()[1]}"
            url = f"--public-url=http://{listen}/public{index + 1}"
            node = Node(directory / str(index), index, url, *flags, listen=listen)
            stack.callback(node.kill)
            started.append(node)
        yield Clients(started)


def few_rows(clients: Clients, computations: list[Computation], note: str = "") -> None:
    parties = len(clients.pipes)
    for microprotocol, row, parameters, wanted in computations:
        clients.prepare(row, ROWS)
        ways = (
            ["handle", "a plain request", "representation", "fdrtd.compute"]
            if microprotocol == "SecureSum"
            else ["handle"]
        )
        for way in ways:
            for _ in range(WARM_UP):
                clients.once(way, microprotocol, parameters)
            times = [clients.once(way, microprotocol, parameters, random.uniform(*PAUSE)) for _ in range(RUNS)]
            how = "" if way == "handle" else f" by {way}"
            what = f"{microprotocol}{how}, {parties} parties, {ROWS} rows each{note}"
            print(f"{what}: {milliseconds(times)}, wanted {wanted}", flush=True)


def many_rows(clients: Clients) -> None:
    parties = len(clients.pipes)
    for microprotocol, row, parameters, _ in COMPUTATIONS:
        for uploaded in (False, True):
            clients.prepare(row, MANY, uploaded)
            clients.once("handle", microprotocol, parameters)
            seconds = statistics.median(clients.once("handle", microprotocol, parameters) for _ in range(5))
            rate = parties * MANY / seconds / 1e6
            where = "uploaded before" if uploaded else "in the call"
            print(
                f"{microprotocol}, {parties} parties, 10^6 rows each, {where}: "
                f"{seconds:.2f} s, {rate:.2f} million rows a second",
                flush=True,
            )


def main() -> None:
    for count in (2, 3):
        with clients_of(count) as clients:
            few_rows(clients, COMPUTATIONS)
        # What the disk costs: a commit for the input and one for the result, each waited for.
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            config.write('[storage]\nsync = "process"\n')
            config.flush()
            with clients_of(count, f"--config={config.name}") as clients:
                few_rows(clients, COMPUTATIONS[:1], ', sync = "process"')
        with clients_of(count, "--ephemeral") as clients:
            few_rows(clients, COMPUTATIONS[:1], ", in memory")
        if "--few" not in sys.argv:
            with clients_of(count) as clients:
                many_rows(clients)


if __name__ == "__main__":
    main()
