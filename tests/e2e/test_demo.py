"""`fdrtd demo`: three nodes in one process that share nothing but the port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fdrtd
import pytest
import urllib3
from harness import BINARY, ROOT, Node, cause_of, make_task, own_address
from test_docs import run_document

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}


def three_urls(demo: Node) -> list[str]:
    return [demo.url.replace("/public1", f"/public{place}") for place in (1, 2, 3)]


def apis(demo: Node) -> list[fdrtd.Api]:
    return [demo.api(url) for url in three_urls(demo)]


def page(url: str, name: str) -> Any:
    return urllib3.request("GET", f"{url}/{name}").json()


class Place:
    """One of the demo's nodes, as `make_task` wants them."""

    def __init__(self, url: str) -> None:
        self.url = url

    def api(self) -> fdrtd.Api:
        return fdrtd.Api(fdrtd.HttpInterface(self.url))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("demo"), 0, command=[str(BINARY), "demo", "--port=0"])
    yield started
    started.kill()


def test_the_tutorial(demo: Node) -> None:
    nodes = three_urls(demo)
    simons = [api.select_microservice(protocol="Simon") for api in apis(demo)]
    networks = [{"nodes": nodes, "myself": place} for place in range(3)]
    tasks = [simons[0].create(microprotocol="BasicSum", network=networks[0])]
    invitation = tasks[0].invite()
    tasks += [simons[place].join(invitation=invitation, network=networks[place]) for place in (1, 2)]
    for api, task, value in zip(apis(demo), tasks, (10, 7, 14)):
        data = api.select_microservice(microservice="KeyValueStorage").create(value=value)
        task.input(source=data)
        data.delete()
    assert [task.result() for task in tasks] == [RESULT] * 3


@pytest.mark.parametrize("flags", [[], ["--tls"]])
def test_what_it_prints_can_be_pasted(flags: list[str], tmp_path: Path) -> None:
    command = [str(BINARY), "demo", "--port=0", *flags]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=env)
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if sum("listens on" in line for line in lines) == 3:
                break
        announced = [found[1] for line in lines if (found := re.search(r"listens on (\S+) \(policy teaching\)", line))]
        assert [url.rsplit("/", 1)[1] for url in announced] == ["public1", "public2", "public3"]
        assert all(url.startswith("https://" if flags else "http://") for url in announced)
        namespace: dict[str, Any] = {}
        exec("".join(line[4:] for line in lines if line.startswith("    ")), namespace)
        assert namespace["nodes"] == announced
        assert namespace["fdrtd"] is fdrtd
        for name, url in zip("ABC", announced):
            assert namespace[f"api_{name}"].list_microservices()
            assert repr(namespace[f"api_{name}"]).count(url)
        exported = [found[1] for line in lines if (found := re.fullmatch(r" *export FDRTD_CA_FILE='(.*)'\n", line))]
        if flags:
            assert exported == [namespace["ca_file"]]
            assert Path(exported[0]).is_relative_to(tmp_path)
            written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
            assert written.count("BEGIN CERTIFICATE") == 1
            assert "PRIVATE" not in written
        else:
            assert exported == []
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert list(tmp_path.iterdir()) == [], "nothing is kept"
    finally:
        process.kill()
        process.wait()


def demo_with(directory: Path, *flags: str) -> Node:
    return Node(directory, 0, command=[str(BINARY), "demo", "--port=0", *flags])


def add_up(demo: Node) -> None:
    places: Any = [Place(url) for url in three_urls(demo)]
    tasks = make_task(places)
    for task, value in zip(tasks, (10, 7, 14)):
        task.input(data=value)
    assert [task.result() for task in tasks] == [RESULT] * 3


def test_the_tutorial_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca_file = tmp_path / "ca.pem"
    demo = demo_with(tmp_path, "--tls", f"--ca-file={ca_file}")
    try:
        monkeypatch.setenv("FDRTD_CA_FILE", str(ca_file))
        assert demo.url.startswith("https://127.0.0.1:")
        assert run_document((ROOT / "docs" / "tutorial.md").read_text(), three_urls(demo), "docs/tutorial.md") >= 3
        by_name = demo.url.replace("127.0.0.1", "localhost")
        assert demo.api(by_name).list_microservices()
    finally:
        demo.kill()
    # Its own file is written anew, others are not.
    first = ca_file.read_text()
    demo = demo_with(tmp_path, "--tls", f"--ca-file={ca_file}")
    try:
        assert ca_file.read_text() != first
        assert demo.api().list_microservices()
        assert demo.stop() == 0
    finally:
        demo.kill()
    ca_file.write_text(first.split("\n", 1)[1])
    with pytest.raises(AssertionError, match="not of an earlier demo"):
        demo_with(tmp_path / "again", "--tls", f"--ca-file={ca_file}")
    assert ca_file.read_text() == first.split("\n", 1)[1]


@pytest.mark.parametrize("flags", [[], ["--tls"]])
def test_others_may_use_it(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine is in no network")
    if flags:
        flags = [*flags, f"--ca-file={tmp_path / 'ca.pem'}"]
    demo = demo_with(tmp_path, "--host=0.0.0.0", *flags)
    try:
        if flags:
            monkeypatch.setenv("FDRTD_CA_FILE", str(tmp_path / "ca.pem"))
        assert demo.url.startswith(f"{'https' if flags else 'http'}://{address}:")
        port = demo.url.split(":")[2].split("/")[0]
        assert f"whoever reaches port {port} of this machine can use these nodes" in demo.logged()
        assert f"others may reach this machine as {address}; if that is wrong, give --public-url" in demo.logged()
        assert ("travels unencrypted" in demo.logged()) is not bool(flags)
        add_up(demo)
        if not flags:
            # Pages from elsewhere may not.
            origin = {"Origin": "http://page.example", "Content-Type": "application/json"}
            refused = urllib3.request("PUT", demo.url, body=b"{}", headers=origin)
            assert (refused.status, refused.json()["code"]) == (403, "ORIGIN_REFUSED")
            assert "Access-Control-Allow-Origin" not in refused.headers
    finally:
        demo.kill()


def test_it_is_known_as_it_is_told(tmp_path: Path) -> None:
    demo = demo_with(tmp_path, "--public-url=https://lesson.example/here/")
    try:
        base = "https://lesson.example/here"
        shown = re.findall(r"listens on (\S+)", "".join(demo.output))
        assert demo.url == f"{base}/public1"
        assert f'nodes = ["{base}/public1", "{base}/public2", "{base}/public3"]' in "".join(demo.output)
        assert shown[0] == f"{base}/public1"
        assert "others may reach this machine as" not in demo.logged()
        assert "can use these nodes" in demo.logged()
        assert "unencrypted" not in demo.logged()
    finally:
        demo.kill()


def test_where_it_cannot_be_known(tmp_path: Path) -> None:
    for flags, words in (
        (["--tls", "--public-url=http://lesson.example"], "with --tls the public URL begins with https://"),
        (["--public-url=lesson.example"], "must begin with https:// or http://"),
        (["--ca-file=x"], "--tls"),
        (["--host=lesson.example"], "--host"),
    ):
        ended = subprocess.run([BINARY, "demo", "--port=0", *flags], capture_output=True, text=True, cwd=tmp_path)
        assert ended.returncode != 0
        assert ended.stdout == ""
        assert words in ended.stderr


def test_each_node_has_its_own_identity(demo: Node) -> None:
    identities = [page(url, "identity") for url in three_urls(demo)]
    for member in ("key", "fingerprint", "noise", "certificate"):
        assert len({identity[member] for identity in identities}) == 3
    handles = [
        {api.select_microservice(microservice=name)["handle"] for name in ("KeyValueStorage", "Barrier", "Simon")}
        for api in apis(demo)
    ]
    assert len(set().union(*handles)) == 9


def test_values_of_one_are_unknown_at_another(demo: Node) -> None:
    here, there, _ = apis(demo)
    stored = here.select_microservice(microservice="KeyValueStorage").create(value="mine")
    other = there.select_microservice(microservice="KeyValueStorage")
    with pytest.raises(fdrtd.NotFound) as unknown:
        there.call_microservice(stored, "retrieve")
    assert unknown.value.code == "HANDLE_UNKNOWN"
    for function in ("retrieve", "delete"):
        with pytest.raises(fdrtd.NotFound) as unknown:
            there.call_microservice(other, function, callback=stored["callback"])
        assert unknown.value.code == "OBJECT_UNKNOWN"
    assert there.call_microservice(other, "exists", callback=stored["callback"]) is False
    with pytest.raises(fdrtd.NotFound):
        other.create(value=[stored])
    assert stored.retrieve() == "mine"


def test_meeting_points_are_each_nodes_own(demo: Node) -> None:
    here, there, _ = (api.select_microservice(microservice="Broadcast") for api in apis(demo))
    point, other = here.create(tokens=["here"]), there.create(tokens=["here"])
    assert point["callback"] == other["callback"], "named alike everywhere"
    point.send(message="hello")
    assert point.receive() == "hello"
    assert other.receive() is None
    barriers = [api.select_microservice(microservice="Barrier").create(tokens=["here"]) for api in apis(demo)]
    barriers[0].arrive(party="anna")
    assert [barrier.arrived() for barrier in barriers] == [1, 0, 0]


def test_tasks_are_each_nodes_own(demo: Node) -> None:
    urls = three_urls(demo)
    simons = [api.select_microservice(protocol="Simon") for api in apis(demo)]
    task = simons[0].create(microprotocol="SecureSum", network={"nodes": urls[:2], "myself": 0})
    found = [urllib3.request("GET", f"{url}/tasks/{task['callback']}").status for url in urls]
    assert found == [200, 404, 404]
    with pytest.raises(fdrtd.NotFound):
        apis(demo)[1].call_microservice(simons[1], "progress", callback=task["callback"])
    # Right next door, and yet another node.
    with pytest.raises(fdrtd.InputError) as wrong:
        simons[1].create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0})
    assert wrong.value.code == "MYSELF_NOT_THIS_NODE"
    assert "this node is nodes[1]" in str(wrong.value)
    task.delete()


def test_they_are_reached_by_their_paths_only(demo: Node) -> None:
    base = demo.url.removesuffix("/public1")
    for path in ("", "/", "/public", "/public4", "/public11", "/public1/public2"):
        answer = urllib3.request("GET", base + path)
        assert answer.status == 404
        problem = answer.json()
        assert problem["code"] == "PATH_UNKNOWN"
        assert "/public1, /public2, /public3" in problem["hint"]


def test_pages_may_call_it(demo: Node) -> None:
    for url in three_urls(demo):
        answer = urllib3.request("GET", url, headers={"Origin": "http://localhost:8000"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_two_demos_side_by_side(demo: Node, tmp_path: Path) -> None:
    second = Node(tmp_path, 0, command=[str(BINARY), "demo", "--port=0"])
    try:
        # They are six nodes, and can compute with each other.
        places: Any = [Place(url) for url in (*three_urls(demo), *three_urls(second))]
        tasks = make_task(places)
        for place, task in enumerate(tasks):
            task.input(data=place)
        assert [task.result()["result"]["sum"] for task in tasks] == [15] * 6
    finally:
        second.kill()


def test_nothing_outlives_it(tmp_path: Path) -> None:
    command = [str(BINARY), "demo", "--port={port}"]
    first = Node(tmp_path, 0, command=[part.replace("{port}", "0") for part in command])
    key = page(first.url, "identity")["key"]
    stored = first.api().select_microservice(microservice="KeyValueStorage").create(value=1)
    assert first.stop() == 0
    port = first.url.split("/")[2].split(":")[1]
    second = Node(tmp_path, 0, command=[part.replace("{port}", port) for part in command])
    try:
        assert second.url == first.url
        assert page(second.url, "identity")["key"] != key
        with pytest.raises(fdrtd.NotFound):
            stored.retrieve()
    finally:
        second.kill()


def test_a_cancelled_task_names_the_neighbour(demo: Node) -> None:
    places: Any = [Place(url) for url in three_urls(demo)]
    tasks = make_task(places)
    tasks[2].cancel()
    for task in tasks:
        cause = cause_of(task)
        assert (cause["code"], cause["party"], cause["node"]) == ("CANCELLED", 2, three_urls(demo)[2])
