"""The command line: what it says when something is wrong, where its configuration comes from, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fdrtd
import pytest
import urllib3
from cli import running
from harness import BINARY, Node, own_address, until

KEY = re.compile(r"[a-z2-7]{52}")


def run(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FDRTD_")}
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, env=clean | env, cwd=cwd, timeout=60)


def refused(*arguments: str, status: int = 1, words: tuple[str, ...], cwd: Path | None = None, **env: str) -> None:
    ended = run(*arguments, cwd=cwd, **env)
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == ""
    for word in words:
        assert word in ended.stderr
    assert "panicked" not in ended.stderr
    assert "Error {" not in ended.stderr, "for people, not for programmers"


def serve(directory: Path, *flags: str, **env: str) -> Node:
    """A node with nothing but these flags (and a port of its own, unless it is among them)."""
    return Node(directory, 0, command=[str(BINARY), "serve", *flags], **env)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


# --- Help and mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["serve", "demo", "identity"]),
        (["-h"], ["serve", "demo", "identity"]),
        (["help", "serve"], ["--policy"]),
        (
            ["serve", "--help"],
            [
                *["--config", "--listen", "--base-path", "--public-url", "--data-dir", "--ephemeral", "--policy"],
                *["--cors-origin", "--trust", "--allow-plain-http", "--allow-peer-address", "--log", "--log-format"],
                *["FDRTD_CONFIG", "FDRTD_LISTEN", "FDRTD_POLICY", "teaching", "127.0.0.1:55500"],
            ],
        ),
        (["demo", "--help"], ["--port", "55500", "--log"]),
        (["identity", "--help"], ["--data-dir", "--json"]),
        (["--version"], ["fdrtd 0."]),
    ],
)
def test_help(arguments: list[str], words: list[str]) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    for word in words:
        assert word in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("Usage",)),
        (["srve"], ("srve", "serve")),
        (["serve", "--polcy=teaching"], ("--polcy", "--policy")),
        (["serve", "--policy=lenient"], ("lenient", "teaching, standard, strict")),
        (["serve", "--policy"], ("--policy",)),
        (["serve", "--listen=here"], ("--listen", "here")),
        (["serve", "--listen=127.0.0.1"], ("--listen", "127.0.0.1")),
        (["serve", "--listen=127.0.0.1:70000"], ("--listen", "70000")),
        (["serve", "--public-url=ftp://x"], ("--public-url", "https://")),
        (["serve", "--public-url=https://a.example,nonsense"], ("--public-url", "nonsense", "https://")),
        (["serve", "--trust=maybe"], ("maybe", "tofu, pinned")),
        (["serve", "--log-format=xml"], ("xml", "text, json")),
        (["serve", "--ephemeral=maybe"], ("--ephemeral", "maybe")),
        (["serve", "surplus"], ("surplus",)),
        (["demo", "--port=99999"], ("--port", "65535")),
        (["demo", "--policy=strict"], ("--policy",)),
        (["identity", "--jsn"], ("--jsn", "--json")),
    ],
)
def test_bad_arguments(arguments: list[str], words: tuple[str, ...], tmp_path: Path) -> None:
    refused(*arguments, status=2, words=words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FDRTD_POLICY", "lenient", ("--policy", "teaching, standard, strict")),
        ("FDRTD_LISTEN", "here", ("--listen", "here")),
        ("FDRTD_EPHEMERAL", "maybe", ("--ephemeral", "maybe")),
    ],
)
def test_bad_environment(name: str, value: str, words: tuple[str, ...], tmp_path: Path) -> None:
    refused("serve", status=2, words=words, cwd=tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('listen = "127.0.0.1:0"\nlistn = 1\n', ("fdrtd.toml", "line 2", "`listn`", "`listen`")),
        ("[limits]\nbodies = 3\n", ("fdrtd.toml", "line 2", "`bodies`", "`body_bytes`")),
        ('[[peers]]\nurl = "https://a.example"\nkye = "x"\n', ("`kye`", "`key`")),
        ('[[peers]]\nurl = "https://a.example"\nkey = "x"\n', ("line 3",)),
        ('policy = "lenient"\n', ("line 1", "`lenient`", "`teaching`")),
        ("listen = 5\n", ("line 1",)),
        ('public_url = ["nonsense"]\n', ("line 1", "https://")),
        ("ephemeral = \n", ("line 1",)),
        ("nonsense", ("line 1",)),
        ('base_path = "/a/../b"\nephemeral = true\n', ("base_path", "/public1")),
        ('base_path = "/a b"\nephemeral = true\n', ("base_path", "/public1")),
        ("ephemeral = true\n[limits]\njson_depth = 0\n", ("limits.json_depth", "1 to 100")),
        ("ephemeral = true\n[limits]\njson_depth = 101\n", ("limits.json_depth", "1 to 100")),
        ("ephemeral = true\n[limits]\ntime_to_live = 0.0\n", ("limits.time_to_live", "0.1")),
        ("ephemeral = true\n[limits]\ntime_to_live = nan\n", ("limits.time_to_live", "0.1")),
        ("ephemeral = true\n[limits]\ntime_to_live = 1e300\n", ("limits.time_to_live", "315360000")),
        ('ephemeral = true\nlog = "a=b=c"\n', ("log is something like info",)),
    ],
)
def test_bad_configuration(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "fdrtd.toml").write_text(text)
    refused("serve", "--config=fdrtd.toml", "--listen=127.0.0.1:0", words=words, cwd=tmp_path)


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    refused("serve", "--config=none.toml", words=("none.toml", "No such file"), cwd=tmp_path)
    refused("serve", words=("none.toml", "No such file"), cwd=tmp_path, FDRTD_CONFIG="none.toml")


def test_the_example_configuration_is_usable(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "docs" / "fdrtd.example.toml"
    node = serve(tmp_path, f"--config={example}", "--listen=127.0.0.1:0", f"--data-dir={tmp_path / 'data'}")
    try:
        assert "(policy standard)" in "".join(node.output)
        assert node.stop() == 0
    finally:
        node.kill()


def test_the_port_is_taken(tmp_path: Path, busy_port: int) -> None:
    taken = f"port {busy_port} is taken by another program"
    words = (taken, "choose another port with --listen")
    refused("serve", "--ephemeral", f"--listen=127.0.0.1:{busy_port}", words=words, cwd=tmp_path)
    refused("demo", f"--port={busy_port}", words=(taken, "choose another port with --port"), cwd=tmp_path)


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    for command, flag in (("serve", "--listen=192.0.2.7:5"), ("demo", "--host=192.0.2.7")):
        words = ("this machine has no address 192.0.2.7", f"with {flag.split('=')[0]} (0.0.0.0 stands for all")
        refused(command, flag, words=words, cwd=tmp_path)


def test_beyond_this_machine_it_warns(tmp_path: Path) -> None:
    node = serve(tmp_path, "--ephemeral", "--listen=0.0.0.0:0", "--anonymous=yes")
    try:
        until(lambda: "whoever reaches 0.0.0.0" in node.logged(), "the warning")
        port = node.url.split(":")[2].split("/")[0]
        hint = re.compile(rf"others may reach it as http://\S+:{port}; set --public-url if that is right")
        if own_address() is not None:
            until(lambda: hint.search("".join(node.output)), "the hint")
    finally:
        node.kill()
    node = serve(tmp_path / "loopback", "--ephemeral", "--listen=127.0.0.1:0")
    assert node.stop() == 0
    assert "whoever reaches" not in node.logged()
    assert "others may reach it" not in "".join(node.output)


def test_where_it_listens_for_programs(tmp_path: Path) -> None:
    """One line of JSON and nothing else, under which the node can be called."""
    with running("serve", "--json", "--ephemeral", "--listen=127.0.0.1:0", "--public-url=https://a.example/x") as one:
        told = json.loads(one.line(lambda _: True, "out"))
        identity = urllib3.request("GET", f"{told['url']}/identity").json()
        assert told == {
            "url": told["url"],
            "fingerprint": identity["fingerprint"],
            "policy": "standard",
            "public_url": ["https://a.example/x"],
            "others_may_use": None,
        }
        one.interrupt()
        assert len(one.end().out.splitlines()) == 1
    with running(
        "serve", "--json", "--ephemeral", "--listen=0.0.0.0:0", "--base-path=/public1", "--anonymous=yes"
    ) as open_to_all:
        told = json.loads(open_to_all.line(lambda _: True, "out"))
        port = told["url"].split(":")[2].split("/")[0]
        address = own_address()
        assert told["others_may_use"] == (address and f"http://{address}:{port}/public1")
    ca_file = tmp_path / "ca.pem"
    with running("demo", "--json", "--port=0", "--tls", f"--ca-file={ca_file}") as demo:
        told = json.loads(demo.line(lambda _: True, "out"))
        assert told["ca_file"] == str(ca_file)
        assert [node["url"][-8:] for node in told["nodes"]] == ["/public1", "/public2", "/public3"]
        with urllib3.PoolManager(ca_certs=str(ca_file)) as pool:
            for node in told["nodes"]:
                found = pool.request("GET", f"{node['url']}/identity").json()
                assert (node["fingerprint"], node["policy"]) == (found["fingerprint"], "teaching")
        demo.interrupt()
        assert len(demo.end().out.splitlines()) == 1


# --- Where the configuration comes from -------------------------------------------------------------------------------


def described(node: Node) -> tuple[str, str]:
    """Path and policy, as printed."""
    found = re.search(r"listens on http://[^/]+(\S*) \(policy (\w+)\)", "".join(node.output))
    assert found
    return found[1], found[2]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([], ("", "standard")),
        (["file"], ("/file", "strict")),
        (["env"], ("/env", "teaching")),
        (["flag"], ("/flag", "standard")),
        (["file", "env"], ("/env", "teaching")),
        (["file", "flag"], ("/flag", "standard")),
        (["env", "flag"], ("/flag", "standard")),
        (["file", "env", "flag"], ("/flag", "standard")),
    ],
)
@pytest.mark.parametrize("named_by", ["flag", "env"])
def test_flags_win_over_environment_over_file(
    tmp_path: Path, sources: list[str], expected: tuple[str, str], named_by: str
) -> None:
    config = tmp_path / "fdrtd.toml"
    file = 'base_path = "/file"\npolicy = "strict"\n' if "file" in sources else ""
    config.write_text(f'ephemeral = true\nlisten = "127.0.0.1:0"\n{file}')
    env = {"FDRTD_BASE_PATH": "/env", "FDRTD_POLICY": "teaching"} if "env" in sources else {}
    flags = ["--base-path=/flag", "--policy=standard"] if "flag" in sources else []
    if named_by == "flag":
        flags.append(f"--config={config}")
    else:
        env["FDRTD_CONFIG"] = str(config)
    node = serve(tmp_path, *flags, **env)
    try:
        assert described(node) == expected
        assert urllib3.request("GET", f"{node.url}/healthz").status == 200
    finally:
        node.kill()


@pytest.mark.parametrize(
    ("file", "env", "flags", "kept"),
    [
        ("", {}, [], True),
        ("ephemeral = true", {}, [], False),
        ("ephemeral = true", {"FDRTD_EPHEMERAL": "false"}, [], True),
        ("ephemeral = true", {"FDRTD_EPHEMERAL": "0"}, [], True),
        ("", {"FDRTD_EPHEMERAL": "1"}, [], False),
        ("", {"FDRTD_EPHEMERAL": "true"}, [], False),
        ("", {"FDRTD_EPHEMERAL": "false"}, ["--ephemeral"], False),
        ("", {"FDRTD_EPHEMERAL": "true"}, ["--ephemeral=false"], True),
    ],
)
def test_switches(tmp_path: Path, file: str, env: dict[str, str], flags: list[str], kept: bool) -> None:
    config = tmp_path / "fdrtd.toml"
    config.write_text(file)
    data = tmp_path / "data"
    node = serve(tmp_path, f"--config={config}", "--listen=127.0.0.1:0", f"--data-dir={data}", *flags, **env)
    try:
        assert data.exists() == kept
        assert not kept or stat.S_IMODE(data.stat().st_mode) == 0o700
    finally:
        node.kill()


def test_lists_in_the_environment(tmp_path: Path) -> None:
    origins = ["https://a.example", "https://b.example"]
    node = serve(tmp_path, "--ephemeral", "--listen=127.0.0.1:0", FDRTD_CORS_ORIGIN=",".join(origins))
    try:
        for origin in origins:
            answer = urllib3.request("GET", node.url, headers={"Origin": origin})
            assert answer.headers["Access-Control-Allow-Origin"] == origin
    finally:
        node.kill()


@pytest.mark.parametrize("given", ["/a/b", "a/b", "//a//b//", "/a/b/"])
def test_base_paths_have_one_form(tmp_path: Path, given: str) -> None:
    node = serve(tmp_path, "--ephemeral", "--listen=127.0.0.1:0", f"--base-path={given}")
    try:
        assert described(node)[0] == "/a/b"
        assert node.api().list_microservices()
    finally:
        node.kill()


def test_logs_for_programs(tmp_path: Path) -> None:
    node = serve(tmp_path, "--ephemeral", "--listen=127.0.0.1:0", "--log-format=json", "--policy=teaching")
    network = {"nodes": [node.url, "http://127.0.0.1:9/nobody"], "myself": 0}
    node.api().select_microservice(protocol="Simon").create(microprotocol="SecureSum", network=network).cancel()
    assert node.stop() == 0
    lines = [json.loads(line) for line in node.logged().splitlines()]
    assert all(line.keys() >= {"timestamp", "level", "fields"} for line in lines)
    ended = [line["fields"] for line in lines if line["fields"]["message"] == "task failed"]
    assert [fields["code"] for fields in ended] == ["CANCELLED"]


# --- identity ---------------------------------------------------------------------------------------------------------


def test_identity(tmp_path: Path) -> None:
    data = str(tmp_path / "deep" / "data")
    made = run("identity", f"--data-dir={data}")
    assert (made.returncode, made.stderr) == (0, "")
    shown = {line[:12].strip(): line[12:].strip() for line in made.stdout.splitlines()}
    assert shown.keys() == {"key", "fingerprint", "in digits"}
    assert re.fullmatch(r"(\d{5} ){7}\d{5}", shown["in digits"])
    assert KEY.fullmatch(shown["key"])
    assert shown["fingerprint"].replace("-", "") == shown["key"][:16]
    files = list(Path(data).iterdir())
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * len(files)
    assert stat.S_IMODE(Path(data).stat().st_mode) == 0o700

    again = run("identity", "--json", FDRTD_DATA_DIR=data)
    assert again.returncode == 0
    document = json.loads(again.stdout)
    assert document.keys() == {"protocol", "version", "key", "fingerprint", "spoken", "noise", "certificate"}
    assert document["spoken"] == shown["in digits"]
    assert (document["key"], document["fingerprint"]) == (shown["key"], shown["fingerprint"])
    assert run("identity", f"--data-dir={data}").stdout == made.stdout

    # It is what the node says, before and after a restart.
    node = serve(tmp_path, "--listen={listen}", f"--data-dir={data}")
    try:
        for _ in range(2):
            assert node.fingerprint == shown["fingerprint"]
            assert urllib3.request("GET", f"{node.url}/identity").json() == document
            assert json.loads(run("identity", f"--data-dir={data}", "--json").stdout) == document
            node.restart()
    finally:
        node.kill()
    for file in Path(data).iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, f"{file.name} may be read by others"


def test_two_directories_are_two_nodes(tmp_path: Path) -> None:
    first, second = (run("identity", f"--data-dir={tmp_path / name}").stdout for name in "ab")
    assert first != second


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    assert run("identity", f"--data-dir={tmp_path}").returncode == 0
    key = tmp_path / "identity.key"
    key.chmod(mode)
    words = (str(key), f"mode {mode:o}", "chmod 600")
    refused("identity", f"--data-dir={tmp_path}", words=words)
    refused("serve", f"--data-dir={tmp_path}", "--listen=127.0.0.1:0", words=words)
    key.chmod(0o600)
    assert run("identity", f"--data-dir={tmp_path}").returncode == 0


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 31, b"x" * 33])
def test_a_damaged_key_is_refused(tmp_path: Path, content: bytes) -> None:
    key = tmp_path / "identity.key"
    key.write_bytes(content)
    key.chmod(0o600)
    refused("identity", f"--data-dir={tmp_path}", words=(str(key),))
    refused("serve", f"--data-dir={tmp_path}", "--listen=127.0.0.1:0", words=(str(key),))
    assert key.read_bytes() == content, "never overwritten"


@pytest.mark.parametrize("command", [["identity"], ["serve", "--listen=127.0.0.1:0"]])
def test_a_data_directory_that_cannot_be(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").write_text("")
    data = tmp_path / "file" / "data"
    refused(*command, f"--data-dir={data}", words=(f"the data directory {data} cannot be made",))


# --- Start and end ----------------------------------------------------------------------------------------------------


def test_one_process_for_one_data_directory(tmp_path: Path) -> None:
    data = f"--data-dir={tmp_path / 'data'}"
    node = serve(tmp_path, "--listen=127.0.0.1:0", data)
    try:
        refused("serve", "--listen=127.0.0.1:0", data, words=(str(tmp_path / "data"), "another"))
        assert node.api().list_microservices(), "the first one is not disturbed"
        assert node.stop() == 0
        # And also after a crash the directory is free.
        for end in (node.kill, node.stop):
            node.start()
            end()
    finally:
        node.kill()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("timeout", [None, 50.0])
def test_it_ends_while_somebody_waits(shared: list[Node], tmp_path: Path, how: signal.Signals, timeout: Any) -> None:
    node = Node(tmp_path, 0, "--log=info")
    task = (
        node.api()
        .select_microservice(protocol="Simon")
        .create(microprotocol="SecureSum", network={"nodes": [node.url, shared[1].url], "myself": 0})
    )
    # Raw, because the client would ask again.
    call = {"handle": task["handle"], "callback": task["callback"], "function": "result"}
    call["parameters"] = {} if timeout is None else {"timeout": timeout}
    body = json.dumps(call).encode()
    head = f"POST {node.base_path} HTTP/1.1\r\nHost: {node.listen}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    host, port = node.listen.split(":")
    waiting = socket.create_connection((host, int(port)), timeout=60)
    waiting.sendall(head.encode())
    # With this line the node says that it is reading the request, so it will not overlook it.
    assert waiting.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
    waiting.sendall(body)
    task.progress()
    assert node.process is not None
    node.process.send_signal(how)
    assert node.process.wait(timeout=60) == 0
    answer = http.client.HTTPResponse(waiting)
    answer.begin()
    assert answer.status == 204
    assert "has not joined yet" in str(answer.getheader("Fdrtd-Waiting"))
    waiting.close()
    assert "some requests were still waiting" not in node.logged()
    assert "panicked" not in node.logged()


def test_the_client_is_told(shared: list[Node], tmp_path: Path) -> None:
    node = Node(tmp_path, 0)
    task = (
        node.api()
        .select_microservice(protocol="Simon")
        .create(microprotocol="SecureSum", network={"nodes": [node.url, shared[1].url], "myself": 0})
    )
    errors = []

    def wait() -> None:
        try:
            task.result()
        except fdrtd.Error as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert node.stop() == 0
    thread.join()
    assert [type(error) for error in errors] == [fdrtd.ConnectionFailed]
    # The task waits in the storage, and goes on.
    node.start()
    try:
        assert task.progress()["state"] in ("created", "joining")
        task.delete()
    finally:
        node.kill()


def test_it_ends_without_its_output_being_read(tmp_path: Path) -> None:
    # As under a supervisor that has closed the pipe.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FDRTD_")}
    command = [str(BINARY), "serve", "--ephemeral", "--listen=127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "panicked" not in errors
