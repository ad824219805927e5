"""Which nodes a node talks to: addresses that are not contacted, peers that are pinned and forgotten, and new keys."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fdrtd as client
import pytest
import urllib3
from cli import FAILED, OK, REFUSED, USAGE, fdrtd
from harness import BINARY, DURATIONS, Node, all_joined, cause_of, make_task, nodes, own_address, until


class Recorder:
    """A server inside the network that notes every connection, and answers nothing."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.bind((address, 0))
        self.socket.listen()
        self.address = address
        self.port = self.socket.getsockname()[1]
        self.seen: list[Any] = []
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self.socket.accept()
            except OSError:
                return
            self.seen.append(peer)
            connection.close()

    def untouched(self) -> bool:
        """Whether the first connection is one made now: they are taken in the order in which they come."""
        with socket.create_connection((self.address, self.port)) as own:
            until(lambda: own.getsockname() in self.seen, "the recorder takes a connection")
            return self.seen == [own.getsockname()]


@contextlib.contextmanager
def recorder(address: str) -> Iterator[Recorder]:
    made = Recorder(address)
    try:
        yield made
    finally:
        made.socket.shutdown(socket.SHUT_RDWR)
        made.socket.close()


def public_node(directory: Path, *flags: str) -> Node:
    """A node that others than this machine's users reach, so far as it knows."""
    return Node(directory, 0, "--allow-plain-http", "--ephemeral", "--anonymous=yes", *flags, listen="0.0.0.0:0")


@contextlib.contextmanager
def public(directory: Path, *flags: str) -> Iterator[Node]:
    node = public_node(directory, *flags)
    node.url = node.url.replace("0.0.0.0", "127.0.0.1")
    try:
        yield node
    finally:
        node.kill()


def token(node: Node) -> dict[str, str]:
    return {"Authorization": f"Bearer {(node.directory / 'data' / 'operator.token').read_text().strip()}"}


def problem(response: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    return response.status, response.json()["code"]


def refusal(simon: Any, *urls: str, myself: int = 0) -> client.Error:
    with pytest.raises(client.Error) as refused:
        simon.create(microprotocol="SecureSum", network={"nodes": list(urls), "myself": myself}, durations=DURATIONS)
    return refused.value


def test_urls_in_tasks_do_not_lead_into_the_network_behind_the_node(tmp_path: Path) -> None:
    own = own_address()
    with public(tmp_path) as node, recorder("127.0.0.1") as local, recorder("::1") as local6:
        simon = node.api().select_microservice(protocol="Simon")
        port, port6 = local.port, local6.port
        attempts = [
            f"http://127.0.0.1:{port}",
            f"http://localhost:{port}",
            f"http://127.8.8.8:{port}",
            f"http://[::ffff:127.0.0.1]:{port}",
            f"http://[::127.0.0.1]:{port}",
            f"http://[64:ff9b::127.0.0.1]:{port}",
            f"http://[::1]:{port6}",
            f"http://0.0.0.0:{port}",
            f"http://[::]:{port6}",
            "http://169.254.169.254/latest/meta-data",
            "http://[fd00:ec2::254]/latest",
            "http://10.0.0.1",
            "http://192.168.0.1/admin",
            "http://100.64.0.1",
            "http://224.0.0.1",
            "http://255.255.255.255",
        ]
        if own is not None and own.startswith(("10.", "192.168.", "172.")):
            attempts.append(f"http://{own}:{port}")
        for url in attempts:
            # The other party, and oneself: both are asked for their keys.
            # Lists that mix this machine with others are refused before.
            codes = set()
            for other in ("http://127.0.0.1:9/x", "http://192.0.2.1/x"):
                for myself, urls in ((0, (url, other)), (1, (other, url))):
                    codes.add(refusal(simon, *urls, myself=myself).code)
            assert codes & {"MYSELF_UNREACHABLE", "PEER_ADDRESS_REFUSED"}, (url, codes)
            assert codes <= {"MYSELF_UNREACHABLE", "PEER_ADDRESS_REFUSED", "NODE_URL_LOOPBACK"}, (url, codes)
            probe = urllib3.request("POST", f"{node.url}/probe", json={"url": url}).json()
            assert (probe["error"]["layer"], probe["error"]["code"]) == ("policy", "PEER_ADDRESS_REFUSED"), (url, probe)
        # What numbers can be written for: these are no host names at all.
        for host in ("0x7f.1", "2130706433", "0177.0.0.1", "127.1", "0x7f000001", "localhost.", "127.0.0.1."):
            assert refusal(simon, f"http://{host}:{port}", "http://192.0.2.1").code == "NODE_URL_UNUSABLE"
        # Links and invitations are URLs of strangers as well.
        key = "a" * 52
        with pytest.raises(client.Error) as refused_link:
            simon.join(invitation=f"fdrtd:http://127.0.0.1:{port}#{key}.{key}")
        assert refused_link.value.code == "PEER_ADDRESS_REFUSED"
        assert local.untouched()
        assert local6.untouched()


def test_a_visitor_would_be_noticed(tmp_path: Path) -> None:
    """The test above can fail: where it is allowed, the node does go there."""
    with public(tmp_path, "--allow-peer-address=loopback") as node, recorder("127.0.0.1") as local:
        url = f"http://127.0.0.1:{local.port}"
        assert urllib3.request("POST", f"{node.url}/probe", json={"url": url}).json()["error"]["layer"] != "policy"
        assert not local.untouched()


def test_what_is_refused_is_told_by_its_kind_with_the_remedy(tmp_path: Path) -> None:
    known_as = ("http://node.invalid/public1", "http://127.0.0.1:9/x")
    with public(tmp_path, *(f"--public-url={url}" for url in known_as)) as node:
        simon = node.api().select_microservice(protocol="Simon")
        for url, kind, remedy in [
            ("http://localhost:9", "own machine", "--allow-peer-address loopback"),
            ("http://10.1.2.3", "a private address", "--allow-peer-address private"),
            ("http://100.64.1.1", "shared", '["shared"]'),
            ("http://169.254.169.254", "credentials", "allow_peer_addresses"),
        ]:
            refused = refusal(simon, known_as["localhost" in url], url)
            assert refused.code == "PEER_ADDRESS_REFUSED"
            assert kind in str(refused), refused
            assert remedy in str(refused), refused


def test_allowed_addresses_are_contacted(tmp_path: Path) -> None:
    for index, flags in enumerate((["--allow-peer-address=loopback"], ["--allow-peer-address=10.0.0.0/8,127.0.0.0/8"])):
        with nodes(tmp_path / str(index), 1) as (other,), public(tmp_path / f"open{index}", *flags) as node:
            task, _ = make_task([node, other], [node.url, other.url])
            until(partial(all_joined, task), "both have joined")
    refused = fdrtd("serve", "--allow-peer-address=everything", "--ephemeral")
    refused.says("loopback, private, shared", status=USAGE)


def pinned_by_digits(node: Node, other: Node) -> None:
    shown = fdrtd("identity", "--json", f"--data-dir={other.directory / 'data'}").json()
    digits = "-".join(shown["spoken"].split())
    data = f"--data-dir={node.directory / 'data'}"
    ended = fdrtd("peers", "pin", other.url, f"--fingerprint={digits}", f"--node={node.url}", data)
    assert ended.status == OK, ended.err
    assert shown["key"] in ended.out
    assert shown["spoken"] in ended.out


def test_pinned_peers_and_nobody_else(tmp_path: Path) -> None:
    with nodes(tmp_path, 3, "--trust=pinned", "--public-url=http://127.0.0.1:9/nowhere") as started:
        a, b, c = started
        # A stranger that knows where the node is, and a node that does not know the stranger.
        open_node = Node(tmp_path / "open", 3)
        try:
            simon = open_node.api().select_microservice(protocol="Simon")
            urls = [open_node.url, a.url]
            simon.create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS)
            refused = until(lambda: "incoming connection refused" in a.logged(), "the refusal is in the log")
            assert refused
            metrics = urllib3.request("GET", f"{a.url}/metrics").data.decode()
            count = next(line for line in metrics.splitlines() if line.startswith("fdrtd_peer_refused_total "))
            assert int(count.split()[1]) >= 1
            assert not urllib3.request("GET", f"{a.url}/tasks").json()["invitations"]
        finally:
            open_node.kill()
        told = refusal(a.api().select_microservice(protocol="Simon"), "http://127.0.0.1:9/nowhere", b.url)
        assert told.code == "PEER_NOT_PINNED"
        for node in started:
            for other in started:
                if node is not other:
                    pinned_by_digits(node, other)
        listed = fdrtd("peers", "list", "--json", f"--node={a.url}", f"--data-dir={a.directory / 'data'}").json()
        assert [peer["url"] for peer in listed["peers"]] == sorted([b.url, c.url])
        assert {peer["known"] for peer in listed["peers"]} == {"pinned"}
        assert listed["trust"] == "pinned"
        for node in started:
            node.restart()
        listed = fdrtd("peers", "list", f"--node={a.url}", f"--data-dir={a.directory / 'data'}")
        assert listed.out.count("pinned by command at 2") == 2, listed.out
        found = urllib3.request("POST", f"{a.url}/probe", json={"url": b.url}).json()
        assert found["ok"], found
        data = f"--data-dir={a.directory / 'data'}"
        assert fdrtd("peers", "forget", b.url, f"--node={a.url}", data).status == OK
        fdrtd("peers", "forget", b.url, f"--node={a.url}", data).says("PEER_UNKNOWN", status=REFUSED)
        found = urllib3.request("POST", f"{a.url}/probe", json={"url": b.url}).json()
        assert found["error"]["code"] == "PEER_NOT_PINNED"


def test_a_key_is_shown_before_it_is_pinned(tmp_path: Path) -> None:
    with nodes(tmp_path, 2) as (a, b):
        to_a = (f"--node={a.url}", f"--data-dir={a.directory / 'data'}")
        own = fdrtd("identity", "--json", f"--data-dir={b.directory / 'data'}").json()
        shown = fdrtd("peers", "pin", b.url, *to_a)
        assert shown.status == FAILED
        assert own["spoken"] in shown.out
        assert f"--key {own['key']}" in shown.out
        assert fdrtd("peers", "list", *to_a).out == "no other node is known yet\n"
        fdrtd("peers", "pin", b.url, f"--key={own['fingerprint']}", *to_a).says("too short", status=USAGE)
        wrong = own["spoken"][:-1] + ("0" if own["spoken"][-1] != "0" else "1")
        fdrtd("peers", "pin", b.url, f"--fingerprint={wrong}", *to_a).says("PEER_KEY_CHANGED", status=REFUSED)
        fdrtd("peers", "pin", a.url, "--yes", *to_a).says("PEER_IS_MYSELF", status=REFUSED)
        assert fdrtd("peers", "pin", b.url, "--yes", *to_a).status == OK
        assert own["key"] in fdrtd("peers", "list", *to_a).out
        # Whoever is not the operator neither sees nor decides.
        fdrtd("peers", "list", f"--node={a.url}", f"--data-dir={tmp_path / 'none'}").says(
            "CREDENTIALS_MISSING", status=REFUSED
        )
        for method, path in (("GET", ""), ("DELETE", f"?url={b.url}")):
            assert problem(urllib3.request(method, f"{a.url}/peers{path}")) == (401, "CREDENTIALS_MISSING")
        asked = urllib3.request("POST", f"{a.url}/peers", json={"url": b.url})
        assert problem(asked) == (401, "CREDENTIALS_MISSING")
        for body, code in [
            ([], "CALL_INVALID"),
            ({}, "CALL_INVALID"),
            ({"url": 3}, "CALL_INVALID"),
            ({"url": b.url, "key": 3}, "CALL_INVALID"),
            ({"url": b.url, "kee": "x"}, "CALL_INVALID"),
            ({"url": "ftp://x"}, "NODE_URL_UNUSABLE"),
            ({"url": b.url, "key": "12345"}, "PEER_KEY_UNUSABLE"),
            ({"url": b.url, "key": own["fingerprint"]}, "PEER_KEY_UNUSABLE"),
        ]:
            answer = urllib3.request("POST", f"{a.url}/peers", json=body, headers=token(a))
            assert problem(answer)[1] == code, body
        assert problem(urllib3.request("DELETE", f"{a.url}/peers", headers=token(a)))[1] == "CALL_INVALID"


def rotate(node: Node) -> dict[str, Any]:
    """Stops a node, gives it a new key, and starts it again."""
    fdrtd("identity", "rotate", f"--data-dir={node.directory / 'data'}").says("stop it first", status=FAILED)
    assert node.stop() == 0
    told: dict[str, Any] = fdrtd("identity", "rotate", "--json", f"--data-dir={node.directory / 'data'}").json()
    node.start()
    return told


def test_a_new_key_is_followed_and_the_old_one_is_worth_nothing(tmp_path: Path) -> None:
    with nodes(tmp_path, 3) as started:
        a, b, c = started
        tasks = make_task(started)
        for task, value in zip(tasks, (1, 2, 3), strict=True):
            task.input(data=value)
        assert [task.result(timeout=60) for task in tasks]
        # One more that waits while the key changes.
        waiting = make_task(started)
        until(lambda: all(all_joined(task) for task in waiting), "all have joined")
        old_files = {name: (c.directory / "data" / name).read_bytes() for name in ("identity.key",)}
        handle = tasks[2]
        told = rotate(c)
        for task in waiting:
            cause = cause_of(task)
            assert (cause["code"], cause["party"]) == ("KEY_ROTATED", 2), cause
        assert handle.result(timeout=60), "what was done before stays"
        # Everybody computes with it as before.
        tasks = make_task(started)
        for task, value in zip(tasks, (1, 2, 3), strict=True):
            task.input(data=value)
        assert [task.result(timeout=60) for task in tasks]
        for node in (a, b):
            listed = fdrtd(
                "peers", "list", "--json", f"--node={node.url}", f"--data-dir={node.directory / 'data'}"
            ).json()
            keys = {peer["url"]: peer["key"] for peer in listed["peers"]}
            assert keys[c.url] == told["key"]
            assert "the old one has signed it" in node.logged()
            node.restart()
        doctor = fdrtd("doctor", f"{c.url}#{told['old']}", a.url)
        assert doctor.status == OK, doctor.out
        assert "has succeeded the one you named" in doctor.out
        # Somebody has kept the old key: put back, it opens nothing, also after restarts.
        assert c.stop() == 0
        for name, content in old_files.items():
            (c.directory / "data" / name).write_bytes(content)
        c.start()
        for node in (a, b):
            told_off = refusal(node.api().select_microservice(protocol="Simon"), node.url, c.url)
            assert told_off.code == "PEER_KEY_CHANGED"
        # And makes no second successor that anybody takes.
        rotate(c)
        for node in (a, b):
            told_off = refusal(node.api().select_microservice(protocol="Simon"), node.url, c.url)
            assert told_off.code == "PEER_KEY_FORKED"
            assert "is in two hands" in node.logged()
        # The people decide.
        data = f"--data-dir={a.directory / 'data'}"
        assert fdrtd("peers", "pin", c.url, "--yes", f"--node={a.url}", data).status == OK
        make_task([a, c])


def test_a_rotation_that_is_killed_leaves_the_old_key_or_the_new_one(tmp_path: Path) -> None:
    data = f"--data-dir={tmp_path}"
    known = [fdrtd("identity", "--json", data).json()["key"]]
    draw = random.Random(4)
    for _ in range(12):
        rotation = subprocess.Popen([BINARY, "identity", "rotate", data], stdout=subprocess.PIPE, text=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            rotation.wait(timeout=draw.uniform(0, 0.03))
        rotation.send_signal(signal.SIGKILL)
        rotation.communicate()
        shown = fdrtd("identity", "--json", data)
        assert shown.status == OK, shown.err
        document = shown.json()
        if document["key"] != known[-1]:
            known.append(document["key"])
        # A rotation that was cut off may have pushed the oldest out.
        assert min(len(known) - 1, 7) <= len(document.get("chain", [])) <= 8
    assert fdrtd("identity", "rotate", data).status == OK
    assert {path.name for path in tmp_path.iterdir()} == {"identity.chain", "identity.key", "node.lock"}
