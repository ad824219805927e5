"""TLS in the node itself: the tutorial over https, HTTP/2, changes of the certificate, what can be wrong with one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fdrtd
import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
import urllib3
from certificates import Authority, Pair
from cli import fdrtd as fdrtd_command
from cryptography import x509
from harness import BINARY, ROOT, Node, all_joined, make_task, nodes, until, urls_of
from test_docs import run_document

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}
VALUES = (10, 7, 14)
CA_VARIABLES = ("FDRTD_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three nodes with TLS that tests share."""
    flags = (*authority.issue("shared").flags, f"--peer-ca-file={authority.file}")
    with nodes(tmp_path_factory.mktemp("secure"), 3, *flags) as started:
        yield started


@pytest.fixture(autouse=True)
def trusting(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients trust the tests' authority, unless a test says otherwise."""
    for variable in CA_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FDRTD_CA_FILE", str(authority.file))


@contextlib.contextmanager
def ended(*started: Node) -> Iterator[None]:
    try:
        yield
    finally:
        for node in started:
            if node.process is not None and node.process.poll() is None:
                node.kill()


def add_up(started: list[Node]) -> None:
    tasks = make_task(started)
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    assert [task.result() for task in tasks] == [RESULT] * 3


def connect(node: Node, *protocols: str) -> ssl.SSLSocket:
    """A connection with a handshake, and nothing sent yet."""
    context = ssl.create_default_context(cafile=os.environ["FDRTD_CA_FILE"])
    if protocols:
        context.set_alpn_protocols(list(protocols))
    host, port = node.listen.rsplit(":", 1)
    host = host.strip("[]")
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=30), server_hostname=host)


def serial(node: Node) -> int:
    """Of the certificate that a new connection is shown."""
    with connect(node) as stream:
        shown = stream.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


# --- The tutorial -----------------------------------------------------------------------------------------------------


def test_the_tutorial(secure: list[Node]) -> None:
    assert all(node.url.startswith("https://127.0.0.1:") for node in secure)
    assert run_document((ROOT / "docs" / "tutorial.md").read_text(), urls_of(secure), "docs/tutorial.md") >= 3


def test_the_page_about_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "tls.md").read_text()
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    subprocess.run(["sh", "-eu", "-c", commands], check=True, capture_output=True, cwd=tmp_path, timeout=60)
    monkeypatch.setenv("FDRTD_CA_FILE", str(tmp_path / "our-ca.pem"))
    for flag in ("--tls-cert", "--tls-key", "--peer-ca-file"):
        assert flag in text
    files = {"--tls-cert": "node.pem", "--tls-key": "node.key", "--peer-ca-file": "our-ca.pem"}
    flags = [f"{flag}={tmp_path / file}" for flag, file in files.items()]
    with nodes(tmp_path, 3, *flags) as started:
        add_up(started)
        by_name = [node.url.replace("127.0.0.1", "localhost") for node in started]
        assert run_document((ROOT / "docs" / "tutorial.md").read_text(), by_name, "docs/tutorial.md") >= 3
        assert not any("WARN" in node.logged() for node in started)


def test_a_node_killed_in_the_middle(authority: Authority, tmp_path: Path) -> None:
    flags = (*authority.issue("killed").flags, f"--peer-ca-file={authority.file}")
    with nodes(tmp_path, 3, *flags) as started:
        tasks = make_task(started)
        until(lambda: all_joined(tasks[0]), "all have joined")
        for place in (0, 1):
            tasks[place].input(data=VALUES[place])
        started[1].restart()
        tasks[2].input(data=VALUES[2])
        assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3


def test_proxies_of_the_environment_get_nothing(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as trap:

        def catch() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = trap.accept()
                    caught.append(caller.recv(1024))
                    caller.close()

        threading.Thread(target=catch, daemon=True).start()
        address = f"http://127.0.0.1:{trap.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        env = {spelling: address for name in names for spelling in (name, name.lower())}
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        trusting = f"--peer-ca-file={authority.file}"
        flags = (*authority.issue("proxies").flags, trusting)
        with nodes(tmp_path / "https", 2, *flags) as secured, nodes(tmp_path / "http", 1, trusting) as plain:
            started = [*secured, *plain]
            add_up(started)
            # Nor from the command line, neither of its own nor of the nodes that it asks.
            ca_file = str(authority.file)
            for node in started:
                assert fdrtd_command("task", "ls", "--node", node.url, FDRTD_CA_FILE=ca_file).status == 0
            assert fdrtd_command("doctor", *urls_of(started), FDRTD_CA_FILE=ca_file).status == 0
        # It would have caught something.
        assert caught == []
        socket.create_connection(trap.getsockname()).close()
        until(lambda: caught == [b""], "the trap works")


# --- What clients trust -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [*CA_VARIABLES, "ca_file"])
def test_a_client_is_told_whom_to_trust(
    source: str, secure: list[Node], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FDRTD_CA_FILE")
    url = secure[0].url
    with pytest.raises(fdrtd.ConnectionFailed, match="not signed by a known authority") as refused:
        fdrtd.Api(fdrtd.HttpInterface(url)).list_microservices()
    assert refused.value.code == "TLS_FAILED"
    assert "ca_file" in str(refused.value)
    assert "FDRTD_CA_FILE" in str(refused.value)
    if source == "ca_file":
        interface = fdrtd.HttpInterface(url, ca_file=authority.file)
    else:
        monkeypatch.setenv(source, str(authority.file))
        interface = fdrtd.HttpInterface(url)
    assert fdrtd.Api(interface).list_microservices()


def test_not_verifying_is_possible_and_has_to_be_asked_for(secure: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FDRTD_CA_FILE")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert fdrtd.Api(fdrtd.HttpInterface(secure[0].url, verify=False)).list_microservices()
    assert any("nverified" in str(each.message) or "verif" in str(each.message) for each in told)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("expired", "it has expired"),
        ("wrong name", "it is for another host"),
        ("other authority", "not signed by a known authority"),
    ],
)
def test_a_client_refuses_a_bad_certificate(fault: str, words: str, authority: Authority, tmp_path: Path) -> None:
    with ended(node := Node(tmp_path, 0, "--ephemeral", *bad_pair(fault, authority, tmp_path).flags)):
        with pytest.raises(fdrtd.ConnectionFailed, match=words) as refused:
            node.api().list_microservices()
        assert refused.value.code == "TLS_FAILED"


def bad_pair(fault: str, authority: Authority, directory: Path) -> Pair:
    if fault == "expired":
        return authority.issue("expired", begin=-20, end=-10)
    if fault == "wrong name":
        return authority.issue("elsewhere", hosts=("elsewhere.example",))
    if fault == "not valid yet":
        return authority.issue("tomorrow", begin=1)
    assert fault == "other authority"
    return Authority(directory, "other").issue("unknown")


# --- What nodes trust -------------------------------------------------------------------------------------------------


def waiting_text(node: Node, other: str) -> str:
    """What a task at `node` says about the way to `other`."""
    network = {"nodes": [node.url, other], "myself": 0}
    task = node.api().select_microservice(protocol="Simon").create(microprotocol="SecureSum", network=network)
    why = until(lambda: layer(task), "the layer is told")
    task.delete()
    return str(why)


def layer(task: Any) -> str | None:
    why = next(entry["why"] for entry in task.progress()["waiting_for"] if entry["party"] == 1)
    return why if "(TLS)" in why else None


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("expired", ("its certificate has expired", "tls.cert_file")),
        ("not valid yet", ("its certificate is not valid yet", "clocks")),
        ("wrong name", ("its certificate is for another host", "host name that the certificate was made for")),
        ("other authority", ("not signed by an authority that this node trusts", "peer_ca_file", "FDRTD_PEER_CA_FILE")),
        ("self-signed", ("its certificate is self-signed", "peer_ca_file", "docs/tls.md")),
    ],
)
def test_a_node_refuses_a_bad_certificate(
    fault: str, words: tuple[str, ...], secure: list[Node], authority: Authority, tmp_path: Path
) -> None:
    if fault == "self-signed":
        flags: tuple[str, ...] = (f"--tls-cert={authority.file}", f"--tls-key={authority.key_file}")
    else:
        flags = bad_pair(fault, authority, tmp_path).flags
    with ended(other := Node(tmp_path / "node", 0, "--ephemeral", *flags)):
        why = waiting_text(secure[0], other.url)
        for word in words:
            assert word in why
        if fault == "self-signed":
            until(lambda: "certificate of an authority itself" in other.logged(), "the other one's log says it as well")


def test_http_and_https_confused(secure: list[Node], shared: list[Node]) -> None:
    wrong = secure[1].url.replace("https://", "http://")
    why = waiting_text(secure[0], wrong)
    assert "it speaks TLS on this port" in why
    assert "write https://" in why
    why = waiting_text(secure[0], shared[0].url.replace("http://", "https://"))
    assert "it does not speak TLS on this port" in why
    assert "write http://" in why
    with pytest.raises(fdrtd.Error, match="this port speaks TLS") as refused:
        fdrtd.Api(fdrtd.HttpInterface(wrong)).list_microservices()
    assert refused.value.code == "TLS_EXPECTED"
    assert "write https://" in str(refused.value)
    # Also with a body that takes a while.
    answer = urllib3.request("POST", wrong, body=b"x" * (4 << 20), headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "TLS_EXPECTED"


# --- HTTP/2 -----------------------------------------------------------------------------------------------------------


class Http2:
    """A connection that speaks HTTP/2 and nothing else."""

    def __init__(self, node: Node) -> None:
        self.stream = connect(node, "h2", "http/1.1")
        assert self.stream.selected_alpn_protocol() == "h2"
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.state.initiate_connection()
        self.send()
        self.authority = node.listen

    def send(self) -> None:
        if data := self.state.data_to_send():
            self.stream.sendall(data)

    def ask(self, method: str, path: str, **headers: str) -> int:
        fields = {":method": method, ":path": path, ":scheme": "https", ":authority": self.authority, **headers}
        number = int(self.state.get_next_available_stream_id())
        self.state.send_headers(number, list(fields.items()), end_stream=True)
        return number

    def events(self) -> Iterator[Any]:
        """All that happens until the other end closes."""
        with contextlib.suppress(ConnectionError):
            while data := self.stream.recv(65536):
                found = self.state.receive_data(data)
                self.send()
                yield from found

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        number = self.ask("GET", path, **headers)
        self.send()
        status, body = 0, b""
        for event in self.events():
            if getattr(event, "stream_id", None) != number:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                status = int(dict(event.headers)[b":status"])
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.StreamEnded):
                return status, body
        raise AssertionError("no answer")


def test_http2_is_spoken(secure: list[Node]) -> None:
    node = secure[0]
    client = Http2(node)
    for _ in range(3):
        status, body = client.get(f"{node.base_path}/identity")
        assert status == 200
        assert json.loads(body) == json.loads(page(node, "identity"))
    assert client.get("/nowhere")[0] == 404
    # The connection between nodes is HTTP/1.1's.
    assert client.get(f"{node.base_path}/peer")[0] == 426
    for offered, chosen in (((), None), (("http/1.1",), "http/1.1"), (("http/1.1", "h2"), "h2")):
        with connect(node, *offered) as stream:
            assert stream.selected_alpn_protocol() == chosen


def page(node: Node, name: str) -> str:
    with urllib3.PoolManager(ca_certs=os.environ["FDRTD_CA_FILE"]) as pool:
        answer = pool.request("GET", f"{node.url}/{name}")
        assert answer.status == 200
        return answer.data.decode()


def test_a_page_under_another_name_is_refused_over_http2(secure: list[Node]) -> None:
    node = secure[0]
    client = Http2(node)
    client.authority = "evil.example"
    for headers in ({}, {"host": "127.0.0.1"}):
        try:
            status, body = client.get(f"{node.base_path}/identity", **headers)
        except h2.exceptions.ProtocolError:
            # The library does not even send two different names.
            assert headers
            continue
        assert status == 403
        assert json.loads(body)["code"] == "HOST_UNKNOWN"


def test_requests_that_are_taken_back_at_once(secure: list[Node]) -> None:
    node = secure[0]
    client = Http2(node)
    # In one piece: the node has them all before it looks at the first.
    for _ in range(100):
        client.state.reset_stream(client.ask("GET", f"{node.base_path}/identity"))
    client.send()
    ends = [event for event in client.events() if isinstance(event, h2.events.ConnectionTerminated)]
    assert [event.error_code for event in ends] == [h2.errors.ErrorCodes.ENHANCE_YOUR_CALM]
    assert Http2(node).get(f"{node.base_path}/identity")[0] == 200


def test_too_many_requests_at_once_and_too_long_headers(secure: list[Node]) -> None:
    node = secure[0]
    client = Http2(node)
    assert client.get(f"{node.base_path}/identity")[0] == 200
    assert client.state.remote_settings.max_concurrent_streams == 32
    assert client.state.remote_settings.max_header_list_size == 16384
    status, _ = client.get(f"{node.base_path}/identity", long="x" * 20_000)
    assert status == 431
    assert Http2(node).get(f"{node.base_path}/identity")[0] == 200


# --- Another certificate ----------------------------------------------------------------------------------------------


def watching(directory: Path, pair: Pair, seconds: float) -> Node:
    """A node that looks at its files so often."""
    config = directory / "fdrtd.toml"
    config.write_text(
        f'ephemeral = true\n[tls]\ncert_file = "{pair.cert}"\nkey_file = "{pair.key}"\nreload_interval = {seconds}\n'
    )
    return Node(directory, 0, f"--config={config}")


def test_a_new_certificate_at_sighup(authority: Authority, tmp_path: Path) -> None:
    pair, new = authority.issue("first"), authority.issue("second")
    with ended(node := watching(tmp_path, pair, 86400)):
        context = ssl.create_default_context(cafile=authority.file)
        kept = http.client.HTTPSConnection(node.listen, context=context, timeout=30)
        assert ask(kept, node) == 200
        under = kept.sock
        assert serial(node) == pair.serial
        pair.replace(new)
        hang_up(node)
        until(lambda: serial(node) == new.serial, "the new certificate")
        # The old connection goes on, and is the very same.
        assert ask(kept, node) == 200
        assert kept.sock is under
        assert node.logged().count("the certificate was read anew") == 1
        assert expires(node) == int(new.end.timestamp())


def ask(connection: http.client.HTTPSConnection, node: Node) -> int:
    connection.request("GET", f"{node.base_path}/identity")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def hang_up(node: Node) -> None:
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)


def expires(node: Node) -> int:
    found = re.search(r"^fdrtd_tls_certificate_expires_seconds (\d+)$", page(node, "metrics"), re.MULTILINE)
    assert found
    return int(found[1])


def test_new_files_are_seen_and_bad_ones_change_nothing(authority: Authority, tmp_path: Path) -> None:
    pair, new, third = (authority.issue(name) for name in ("seen", "renewed", "third"))
    with ended(node := watching(tmp_path, pair, 0.1)):
        assert serial(node) == pair.serial
        pair.replace(new)
        until(lambda: serial(node) == new.serial, "the new certificate")
        # Half of a change: certificate and key are of two pairs.
        pair.cert.write_bytes(third.cert.read_bytes())
        until(lambda: "does not belong" in node.logged(), "the log says what is wrong")
        assert serial(node) == new.serial
        assert "the old certificate stays" in node.logged()
        pair.key.write_bytes(third.key.read_bytes())
        until(lambda: serial(node) == third.serial, "the whole change")
        for text, words in (("", "there is no certificate"), (None, "there is no such file")):
            if text is None:
                pair.cert.unlink()
            else:
                pair.cert.write_text(text)
            until(lambda words=words: words in node.logged(), words)  # type: ignore[misc]
            assert serial(node) == third.serial
        hang_up(node)
        until(lambda: node.logged().count("there is no such file") == 2, "asked for, and told again")
        assert node.api().list_microservices()
        assert node.stop() == 0


def test_the_end_is_told_once_however_often_it_looks(authority: Authority, tmp_path: Path) -> None:
    soon, later = authority.issue("near", end=6.5), authority.issue("nearer", end=0.5)
    with ended(node := watching(tmp_path, soon, 0.1)):
        # Half of a change is seen, so it has looked; and it looks again and again before the other half.
        for number in range(1, 4):
            soon.cert.write_text(f"no certificate {number}")
            until(lambda n=number: node.logged().count("cannot be used") == n, "a look")  # type: ignore[misc]
        assert node.logged().count("the certificate ends soon") == 1
        # A new certificate has an end of its own.
        soon.replace(later)
        until(lambda: serial(node) == later.serial, "the new certificate")
        until(lambda: node.logged().count("the certificate ends soon") == 2, "its end")
        assert "days=1" in node.logged()
        soon.cert.write_text("no certificate again")
        until(lambda: node.logged().count("cannot be used") == 4, "another look")
        assert node.logged().count("the certificate ends soon") == 2


def test_the_log_tells_the_end_and_what_is_odd(authority: Authority, tmp_path: Path) -> None:
    def said(name: str, pair: Pair, *flags: str) -> str:
        node = Node(tmp_path / name, 0, "--ephemeral", *pair.flags, *flags)
        with ended(node):
            if name != "expired":
                assert expires(node) == int(pair.end.timestamp())
            assert node.stop() == 0
            return node.logged()

    assert "certificate" not in said("fine", authority.issue("fine"))
    soon = authority.issue("soon", end=6.5)
    text = said("soon", soon)
    assert "the certificate ends soon" in text
    assert "days=7" in text
    assert soon.end.strftime("%Y-%m-%dT%H:%M:%SZ") in text
    assert str(soon.cert) in text
    assert text.count("ends soon") == 1
    text = said("expired", authority.issue("over", begin=-2, end=-1))
    assert "ERROR" in text
    assert "the certificate has expired" in text
    public = authority.issue("public", hosts=("127.0.0.1", "node.example"))
    assert "certificate" not in said("named", public, "--public-url=https://node.example/public1")
    assert "is not for the host" in said("misnamed", public, "--public-url=https://other.example/public1")
    public.key.chmod(0o644)
    text = said("readable", public)
    assert "can read the key" in text
    assert str(public.key) in text


# --- At the start -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_told_at_the_start(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue("good"), authority.issue("another")
    garbage, none = tmp_path / "garbage.pem", tmp_path / "none"
    garbage.write_bytes(bytes(range(256)))
    cases: list[tuple[list[str], list[str]]] = [
        ([f"--tls-cert={pair.cert}"], ["tls.cert_file and tls.key_file belong together", "--tls-key"]),
        ([f"--tls-key={pair.key}"], ["belong together"]),
        ([f"--tls-cert={none}", f"--tls-key={pair.key}"], [f"tls.cert_file ({none})", "no such file"]),
        ([f"--tls-cert={garbage}", f"--tls-key={pair.key}"], [f"tls.cert_file ({garbage})", "PEM"]),
        ([f"--tls-cert={pair.cert}", f"--tls-key={garbage}"], [f"tls.key_file ({garbage})", "PEM"]),
        ([f"--tls-cert={pair.cert}", f"--tls-key={tmp_path}"], [f"tls.key_file ({tmp_path})", "cannot be read"]),
        ([f"--tls-cert={pair.key}", f"--tls-key={pair.cert}"], [f"tls.cert_file ({pair.key})", "swapped"]),
        ([f"--tls-cert={pair.cert}", f"--tls-key={other.key}"], [f"tls.key_file ({other.key})", "does not belong"]),
    ]
    started = [
        subprocess.Popen(
            [BINARY, "serve", "--ephemeral", "--listen=127.0.0.1:0", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for flags, _ in cases
    ]
    for process, (_, words) in zip(started, cases):
        out, error = process.communicate(timeout=60)
        assert process.returncode == 1
        assert out == ""
        for word in words:
            assert word in error
        assert "panicked" not in error
        assert "PRIVATE KEY-----\nM" not in error
