"""Whatever breaks a limit is answered clearly while a computation of others goes on (docs/limits.md)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fdrtd
import pytest
from harness import DURATIONS, Node, make_task, nodes, until, urls_of

VALUES = (10, 7, 14)
RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}
# Nobody but the hostile clients of this file has this address; loopback is a whole network.
STRANGER = "127.0.0.2"
LIMITS = """
[limits]
body_bytes = 67108864
bodies_bytes = 67108864
json_string_bytes = 100000
json_values = 2000000
json_members = 50
connections_per_address = 20
header_time = 1.0
slowest = 2000
streams = 1
task_bytes = 262144
"""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three nodes; the first is the one that is attacked."""
    directory = tmp_path_factory.mktemp("limits")
    config = directory / "fdrtd.toml"
    config.write_text(LIMITS)
    with nodes(directory, 2, "--ephemeral") as others:
        attacked = Node(directory / "attacked", 2, "--ephemeral", f"--config={config}")
        try:
            yield [attacked, *others]
        finally:
            attacked.kill()


@contextlib.contextmanager
def others_work(started: list[Node]) -> Iterator[None]:
    """A task that is made before, and computed while what the body of `with` did is still going on."""
    tasks = make_task(started)
    yield
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3
    for task in tasks:
        task.delete()


def connect(node: Node, source: str = STRANGER, buffer: int | None = None) -> socket.socket:
    parts = urlsplit(node.url)
    stream = socket.socket()
    if buffer is not None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    stream.bind((source, 0))
    stream.settimeout(60)
    stream.connect((parts.hostname, parts.port))
    return stream


def head(node: Node, method: str = "POST", *headers: str, path: str = "") -> bytes:
    parts = urlsplit(node.url)
    lines = [f"{method} {parts.path}{path} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def answer(stream: socket.socket) -> tuple[int, Any]:
    """Status and body of the next answer."""
    reader = stream.makefile("rb")
    status = int(reader.readline().split()[1])
    length = 0
    while line := reader.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, json.loads(reader.read(length) or b"null")


def refused(given: tuple[int, Any], status: int, code: str, limit: str, most: int | None = None) -> None:
    found, problem = given
    assert (found, problem["code"], problem["exceeds"]) == (status, code, limit), given
    assert problem["message"]
    assert problem["hint"]
    if most is not None:
        assert problem["limit"] == most
        assert str(most) in problem["message"]


def post(node: Node, body: bytes) -> tuple[int, Any]:
    with connect(node) as stream:
        stream.sendall(head(node, "POST", "Content-Type: application/json", f"Content-Length: {len(body)}"))
        stream.sendall(body)
        return answer(stream)


def hits(node: Node, limit: str) -> int:
    with connect(node, "127.0.0.1") as stream:
        stream.sendall(head(node, "GET", "Connection: close", path="/metrics"))
        text = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
    found = re.search(rf'^fdrtd_limit_hits_total{{limit="{limit}"}} (\d+)$', text, re.MULTILINE)
    return int(found[1]) if found else 0


def memory(node: Node, what: str) -> int:
    """Of the process, in bytes: VmRSS now, VmHWM at most."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def create(node: Node, value: str) -> bytes:
    """A call that stores a JSON text."""
    with connect(node, "127.0.0.1") as stream:
        body = b'{"microservice": "KeyValueStorage"}'
        stream.sendall(head(node, "PUT", "Content-Type: application/json", f"Content-Length: {len(body)}") + body)
        status, handle = answer(stream)
    assert status == 202
    return f'{{"handle": "{handle}", "function": "create", "parameters": {{"value": {value}}}}}'.encode()


def test_memory_of_the_traps(three: list[Node]) -> None:
    """'A'.ljust(300000000), a body of 200 MB of unknown length, 100 000 brackets."""
    node = three[0]
    with others_work(three):
        with connect(node) as stream:
            stream.sendall(head(node, "POST", "Content-Type: application/json", "Content-Length: 300000100"))
            # Before a byte of it was sent.
            refused(answer(stream), 413, "BODY_TOO_LARGE", "body_bytes", 64 << 20)
        with connect(node) as stream:
            stream.sendall(head(node, "POST", "Content-Type: application/json", "Transfer-Encoding: chunked"))
            piece = b"%x\r\n" % (1 << 20) + b"A" * (1 << 20) + b"\r\n"
            for _ in range(200):
                stream.sendall(piece)
            refused(answer(stream), 413, "BODY_TOO_LARGE", "body_bytes", 64 << 20)
        for bracket in ("[", '{"a":'):
            refused(post(node, (bracket * 100_000).encode()), 400, "NESTED_TOO_DEEP", "json_depth", 64)
    assert memory(node, "VmHWM") < 300 << 20
    assert hits(node, "body_bytes") >= 2
    assert hits(node, "json_depth") >= 2


def test_the_shape_of_json(three: list[Node]) -> None:
    node = three[0]
    refusals = [
        ('"' + "x" * 100_000 + '"', "json_string_bytes", 100_000),
        # Twelve bytes each for two characters.
        ('"' + "\\ud83d\\ude00" * 10_000 + '"', "json_string_bytes", 100_000),
        ("[" + ",".join(["{}"] * 2_000_000) + "]", "json_values", 2_000_000),
        ("{" + ",".join(f'"{index}":0' for index in range(51)) + "}", "json_members", 50),
        # The same name again counts again.
        ("{" + ",".join(['"a":0'] * 51) + "}", "json_members", 50),
    ]
    with others_work(three):
        for text, limit, most in refusals:
            before = hits(node, limit)
            refused(post(node, create(node, text)), 413, "JSON_TOO_LARGE", limit, most)
            assert hits(node, limit) == before + 1


def test_numbers_of_any_size(three: list[Node]) -> None:
    """They are kept as text; whoever computes with them has a limit on digits."""
    node = three[0]
    with others_work(three):
        for number in ("1e999999999", "-1e-999999999", "9" * 1_000_000, "0." + "1" * 1_000_000):
            status, kept = post(node, create(node, number))
            assert status == 201
            body = json.dumps({**kept, "function": "retrieve", "parameters": {}}).encode()
            with connect(node) as stream:
                stream.sendall(head(node, "POST", "Content-Type: application/json", f"Content-Length: {len(body)}"))
                stream.sendall(body + head(node, "GET", "Connection: close", path="/healthz"))
                text = b"".join(iter(lambda: stream.recv(1 << 20), b""))
            assert number.encode() + b"\n" in text
            tasks = make_task(three)
            call = {**fdrtd.to_dict(tasks[0]), "function": "input", "parameters": {"source": kept}}
            status, problem = post(node, json.dumps(call).encode())
            # What is nearly nothing can be added; what has a million digits cannot.
            if number.startswith(("1e", "9")):
                assert (status, problem["code"]) == (422, "INPUT_REFUSED")
            else:
                assert status in (204, 422)
            for task in tasks:
                task.delete()


def test_a_member_of_a_call_stands_once(three: list[Node]) -> None:
    status, problem = post(three[0], create(three[0], "1").replace(b'"parameters"', b'"handle": "x", "parameters"'))
    assert (status, problem["code"]) == (400, "CALL_INVALID")
    assert "once" in problem["message"]


def test_bodies_that_are_announced_and_do_not_come(three: list[Node]) -> None:
    """They take no room, so a body that needs all of it is served at once; and they end when they are too slow."""
    node = three[0]
    with contextlib.ExitStack() as stack:
        with others_work(three):
            announced = head(node, "POST", "Content-Type: application/json", f"Content-Length: {64 << 20}")
            dripping = [stack.enter_context(connect(node)) for _ in range(8)]
            for stream in dripping:
                stream.sendall(announced + b"{")
            value = "[" + " " * (48 << 20) + "]"
            assert post(node, create(node, value))[0] == 201
        for stream in dripping:
            refused(answer(stream), 408, "BODY_TOO_SLOW", "slowest")
    assert hits(node, "slowest") >= 8


def test_slow_headers(three: list[Node]) -> None:
    node = three[0]
    with connect(node) as stream, others_work(three):
        stream.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        # No request, no answer: it is closed.
        assert stream.recv(1000) == b""
    assert hits(node, "header_time") >= 1


def test_readers_that_do_not_read(three: list[Node]) -> None:
    node = three[0]
    status, kept = post(node, create(node, "[" + " " * (40 << 20) + "]"))
    assert status == 201
    body = json.dumps({**kept, "function": "retrieve", "parameters": {}}).encode()
    before = hits(node, "slowest")
    resident = memory(node, "VmRSS")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(node, buffer=4096)) for _ in range(10)]
        with others_work(three):
            for stream in silent:
                stream.sendall(head(node, "POST", "Content-Type: application/json", f"Content-Length: {len(body)}"))
                stream.sendall(body)
                assert stream.recv(12) == b"HTTP/1.1 200"
            # They share the one value that is kept.
            assert memory(node, "VmRSS") < resident + (40 << 20)
        until(lambda: hits(node, "slowest") == before + 10, "all of them are left")
        for stream in silent:
            got = 12
            with contextlib.suppress(ConnectionResetError):
                # What was under way still comes, and then nothing.
                while part := stream.recv(1 << 20):
                    got += len(part)
            assert got < 40 << 20


def test_connections_of_one_address(three: list[Node]) -> None:
    node = three[0]
    with contextlib.ExitStack() as stack, others_work(three):
        kept = [stack.enter_context(connect(node)) for _ in range(20)]
        for stream in kept:
            stream.sendall(head(node, "GET", path="/healthz"))
            assert answer(stream)[0] == 200
        with connect(node) as one_more:
            refused(answer(one_more), 503, "CONNECTIONS_BUSY", "connections_per_address", 20)
    assert hits(node, "connections_per_address") >= 1


def test_streams_of_events(three: list[Node]) -> None:
    node = three[0]
    with others_work(three):
        task = make_task(three)[0]
        page = f"/tasks/{task['callback']}/events"
        with connect(node) as first, connect(node) as second:
            first.sendall(head(node, "GET", path=page))
            assert b"200 OK" in first.recv(65536)
            second.sendall(head(node, "GET", path=page))
            refused(answer(second), 503, "STREAMS_BUSY", "streams", 1)
    assert hits(node, "streams") == 1


def test_memory_of_a_task(three: list[Node]) -> None:
    node = three[0]
    with others_work(three):
        tasks = make_task(three)
        with pytest.raises(fdrtd.Error) as large:
            tasks[0].input(data={"vectors": [list(range(10_000))]})
        assert (large.value.status, large.value.code) == (413, "TASK_TOO_LARGE")
        assert "262144" in str(large.value)
        # The task waits for another input.
        for task, value in zip(tasks, VALUES):
            task.input(data=value)
        assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3
    assert hits(node, "task_bytes") == 1


def test_parties_of_a_task(tmp_path: Path, three: list[Node]) -> None:
    config = tmp_path / "fdrtd.toml"
    config.write_text("[limits]\nparties = 2\n")
    node = Node(tmp_path / "two", 5, "--ephemeral", f"--config={config}")
    try:
        simon = node.api().select_microservice(protocol="Simon")
        network = {"nodes": [node.url, *urls_of(three[:2])], "myself": 0}
        with pytest.raises(fdrtd.InputError) as refusal:
            simon.create(microprotocol="SecureSum", network=network, durations=DURATIONS)
        assert refusal.value.code == "NETWORK_SIZE"
        assert "at most 2" in str(refusal.value)
    finally:
        node.kill()


def test_frames_before_the_handshake_of_nodes(three: list[Node]) -> None:
    """A WebSocket that sends pings instead of its key is closed."""
    node = three[0]
    with connect(node) as stream, others_work(three):
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        ]
        stream.sendall(head(node, "GET", *upgrade, path="/peer"))
        assert b" 101 " in stream.recv(65536)
        for _ in range(20):
            stream.sendall(struct.pack("!BB4s", 0x89, 0x80, b"mask"))
        with contextlib.suppress(ConnectionError):
            while stream.recv(65536):
                pass
