from __future__ import annotations

import os
import pickle
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import DROP, Reply, Request, Server

import fdrtd
from fdrtd import _http


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


@pytest.fixture
def closed_port() -> Iterator[int]:
    # Bound and never listening: nobody else can take the port, and connections are refused.
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://localhost:8080", "http://localhost:8080/"),
        ("http://localhost:8080/", "http://localhost:8080/"),
        (" https://Node.example.org/public1 ", "https://Node.example.org/public1/"),
        ("https://node.example.org//a//b///", "https://node.example.org/a/b/"),
        ("HTTP://[::1]:80/x", "http://[::1]:80/x/"),
    ],
)
def test_urls_have_one_form(url: str, normal: str) -> None:
    assert fdrtd.HttpInterface(url).url == normal


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:8080", "did you mean http://localhost:8080"),
        ("node.example.org/public1", "did you mean http://node.example.org/public1"),
        ("ftp://node.example.org", "starts with http:// or https://"),
        ("fdrtd:abc", "starts with http:// or https://"),
        ("", "starts with http:// or https://"),
        ("http://", "no host"),
        ("http://:80/", "no host"),
        ("http://host:99999/", "usable host or port"),
        ("http://host:port/", "usable host or port"),
        ("http://[::1/", "usable host or port"),
        ("http://host/a b", "blanks"),
        ("http://host/\r\nX: y", "blanks"),
        ("http://host/?x=1", r"no \? or # part"),
        ("http://host/#x", r"no \? or # part"),
        (None, "not NoneType"),
    ],
)
def test_unusable_urls(url: Any, says: str) -> None:
    with pytest.raises(fdrtd.InputError, match=says):
        fdrtd.HttpInterface(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@host/",
        "user:hunter2@host/public1",
        "https://user:hunter2@host:port/",
        "https://user:hunter2@ho\u2100t/",
        "ftp://user:hunter2@host",
    ],
)
def test_credentials_have_no_place_in_a_url(url: str) -> None:
    with pytest.raises(fdrtd.InputError, match="token=") as caught:
        fdrtd.HttpInterface(url)
    assert "hunter2" not in str(caught.value)


def test_what_stands_for_a_port_is_not_shown() -> None:
    with pytest.raises(fdrtd.InputError) as caught:
        fdrtd.HttpInterface("http://user:hunter2")
    assert "hunter2" not in str(caught.value)


def test_no_limit_may_be_written_as_infinity(server: Server) -> None:
    server.script(Reply(200, "[]"))
    with fdrtd.HttpInterface(server.url, timeout=float("inf")) as interface:
        assert interface.read_timeout is None
        assert interface.request("GET").status == 200


@pytest.mark.parametrize("timeout", [0, -1, True, "5", (1, 2, 3), (1, 0), [1, 2]])
def test_unusable_timeouts(timeout: Any) -> None:
    with pytest.raises(fdrtd.InputError, match="timeout"):
        fdrtd.HttpInterface("http://localhost", timeout=timeout)


def test_headers_and_token(server: Server) -> None:
    with fdrtd.HttpInterface(server.url, token="s3cret", headers={"X-Site": "a"}) as interface:
        server.script(Reply(200, "[]"))
        interface.request("GET")
        assert "s3cret" not in repr(interface)
    sent = server.requests[0].headers
    assert (sent["Authorization"], sent["X-Site"]) == ("Bearer s3cret", "a")
    assert sent["User-Agent"] == f"fdrtd-python/{fdrtd.__version__}"
    for bad in ("s3cret\n", "s3cr\u00e9t", "a\r\nX: y"):
        with pytest.raises(fdrtd.InputError) as caught:
            fdrtd.HttpInterface(server.url, token=bad)
        assert "s3cr" not in str(caught.value)


def test_the_token_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(**arguments: Any) -> str | None:
        with fdrtd.HttpInterface(server.url, **arguments) as interface:
            server.script(Reply(200, "[]"))
            interface.request("GET")
            assert "s3cret" not in repr(interface)
        found = {name.lower(): value for name, value in server.requests[-1].headers.items()}
        return found.get("authorization")

    assert sent() is None
    monkeypatch.setenv("FDRTD_TOKEN", " s3cret\n")
    assert sent() == "Bearer s3cret"
    assert sent(token="other") == "Bearer other"
    assert sent(headers={"authorization": "Basic eA=="}) == "Basic eA=="
    monkeypatch.setenv("FDRTD_TOKEN", "")
    assert sent() is None
    monkeypatch.setenv("FDRTD_TOKEN", "s3cr\u00e9t")
    with pytest.raises(fdrtd.InputError) as caught:
        fdrtd.HttpInterface(server.url)
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize("given", ["argument", "environment", "header"])
def test_a_token_in_clear_is_warned_of(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {}
    if given == "argument":
        arguments["token"] = "s3cret"
    elif given == "header":
        arguments["headers"] = {"Authorization": "Basic s3cret"}
    else:
        monkeypatch.setenv("FDRTD_TOKEN", "s3cret")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for url in ("https://node.example", "http://localhost:5", "http://127.0.0.9/x", "http://[::1]:5"):
            fdrtd.HttpInterface(url, **arguments)
    for url in ("http://node.example", "http://10.0.0.1", "http://localhost.example"):
        with pytest.warns(fdrtd.InsecureWarning, match="unencrypted") as caught:
            fdrtd.HttpInterface(url, **arguments)
        assert "s3cret" not in str(caught[0].message)
        assert caught[0].filename == __file__


def test_the_path_prefix_is_kept(server: Server) -> None:
    with fdrtd.HttpInterface(f"{server.url}/public1") as interface:
        server.script(Reply(200, "[]"))
        interface.request("GET")
    assert server.requests[0].path == "/public1/"


def test_connections_are_kept_and_closed(server: Server) -> None:
    interface = fdrtd.HttpInterface(server.url)
    server.script(*[Reply(200, "[]")] * 4)
    for _ in range(3):
        interface.request("GET")
    assert server.connections == 1
    interface.close()
    interface.close()
    interface.request("GET")
    assert server.connections == 2
    interface.close()


def test_an_interface_can_be_pickled(server: Server) -> None:
    with fdrtd.HttpInterface(server.url, token="t") as interface:
        server.script(Reply(200, "[]"), Reply(200, "[]"))
        interface.request("GET")
        with pickle.loads(pickle.dumps(interface)) as twin:
            assert twin.request("GET").status == 200
    assert server.requests[1].headers["Authorization"] == "Bearer t"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_opens_its_own_connection(server: Server, interface: fdrtd.HttpInterface) -> None:
    server.respond = lambda request: Reply(200, "[]")
    interface.request("GET")
    code = (
        "import os, sys, fdrtd\n"
        "interface = fdrtd.HttpInterface(sys.argv[1])\n"
        "interface.request('GET')\n"
        "child = os.fork()\n"
        "interface.request('GET')\n"
        "if child == 0: os._exit(0)\n"
        "_, status = os.waitpid(child, 0)\n"
        "sys.exit(status)\n"
    )
    before = server.connections
    environment = {**os.environ, "PYTHONPATH": str(Path(fdrtd.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, server.url], check=True, timeout=60, env=environment)
    assert server.connections == before + 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "place", "hint"),
    [
        ("https://127.0.0.1:84/public1", "https://127.0.0.1:84", "write https://127.0.0.1:84/public1/ in"),
        ("https://127.0.0.1/", "https://127.0.0.1", "write https://127.0.0.1, and the node's path there, in"),
        ("/node/", "http://127.0.0.1:", "not under /public1/, or wants a log-in: write the final path (/"),
        ("/login?next=hunter2", "http://127.0.0.1:", "write the final path (/login) in the URL"),
        ("/hunter2" * 9, "http://127.0.0.1:", "write the final path in the URL"),
        ("/public1", "http://127.0.0.1:", "with or without its last slash"),
        ("https://other.example.org:8443/x?token=hunter2", "https://other.example.org:8443",
         "write the final URL, https://other.example.org:8443/x, in"),
        ("https://user:hunter2@evil.example/", "https://evil.example", "if you trust https://evil.example, "),
        ("http://[bad", "another place", "write the final URL of the node"),
        ("", "another place", "write the final URL of the node"),
    ],
)  # fmt: skip
def test_redirects_are_refused(server: Server, status: int, location: str, place: str, hint: str) -> None:
    server.respond = lambda request: Reply(status, headers={"Location": location})
    with fdrtd.HttpInterface(f"{server.url}/public1") as interface:
        for method in ("POST", "PUT", "GET"):
            with pytest.raises(fdrtd.ConnectionFailed) as caught:
                interface.request(method, '{"private": 10}')
            text = str(caught.value)
            assert (caught.value.code, caught.value.side) == ("REDIRECTED", "way")
            assert f"redirects to {place}" in text
            assert "redirects are never followed" in text
            assert hint in text
            assert "hunter2" not in text
            assert (f"would turn the {method} into a GET and drop the data" in text) == (
                method != "GET" and status < 304
            )
            assert ("an address that you did not write" in text) == (method != "GET" and status > 304)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"]
)
def test_proxy_variables_are_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch, closed_port: int, name: str
) -> None:
    monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    server.script(Reply(200, "[]"))
    with fdrtd.HttpInterface(server.url) as interface:
        assert interface.request("GET").body == b"[]"


@pytest.mark.parametrize(("method", "attempts"), [("GET", 3), ("PUT", 3), ("POST", 1)])
def test_refused_connections(pauses: list[float], closed_port: int, method: str, attempts: int) -> None:
    interface = fdrtd.HttpInterface(f"http://127.0.0.1:{closed_port}")
    with pytest.raises(fdrtd.ConnectionFailed, match="refused the connection") as caught:
        interface.request(method, "{}")
    assert caught.value.code == "CONNECTION_REFUSED"
    assert len(pauses) == attempts - 1


def test_a_connection_that_comes_late(
    server: Server, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    interface = fdrtd.HttpInterface(f"http://127.0.0.1:{closed_port}")

    def node_comes_up(seconds: float) -> None:
        interface._url = f"{server.url}/"
        interface.close()

    monkeypatch.setattr(time, "sleep", node_comes_up)
    server.script(Reply(200, "[]"))
    assert interface.request("PUT", "{}").status == 200
    interface.close()


def test_another_thread_closes_in_between(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with fdrtd.HttpInterface(server.url) as interface:
        connections = interface._connections

        def closed_at_once() -> Any:
            monkeypatch.setattr(interface, "_connections", connections)
            pool = connections()
            interface.close()
            return pool

        monkeypatch.setattr(interface, "_connections", closed_at_once)
        server.script(Reply(200, "[]"))
        assert interface.request("POST", "{}").status == 200


def test_unknown_host(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(fdrtd.ConnectionFailed, match="DNS") as caught:
        fdrtd.HttpInterface("http://node.example.org").request("POST", "{}")
    assert caught.value.code == "DNS_FAILED"


def test_unreachable_and_slow_hosts(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    failure: Exception = OSError(113, "No route to host")

    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise failure

    monkeypatch.setattr("urllib3.util.connection.create_connection", fail)
    with pytest.raises(fdrtd.ConnectionFailed) as caught:
        fdrtd.HttpInterface("http://127.0.0.1:1").request("GET")
    assert caught.value.code == "UNREACHABLE"
    assert len(pauses) == 2
    failure = TimeoutError("timed out") if sys.version_info >= (3, 10) else socket.timeout("timed out")
    with pytest.raises(fdrtd.ConnectionFailed, match="within 10 s") as caught:
        fdrtd.HttpInterface("http://127.0.0.1:1").request("GET")
    assert caught.value.code == "CONNECT_TIMEOUT"
    assert len(pauses) == 2


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_what_was_sent_is_never_sent_again(
    server: Server, interface: fdrtd.HttpInterface, pauses: list[float], method: str
) -> None:
    server.respond = lambda request: DROP
    with pytest.raises(fdrtd.ConnectionFailed) as caught:
        interface.request(method, '{"private": 10}')
    assert caught.value.code == "CONNECTION_LOST"
    assert "private" not in str(caught.value)
    assert len(server.requests) == 1
    assert pauses == []


def test_a_connection_closed_while_idle_is_not_used(server: Server, interface: fdrtd.HttpInterface) -> None:
    server.respond = lambda request: Reply(200, "[]", headers={"Connection": "close"})
    for _ in range(3):
        assert interface.request("POST", "{}").status == 200
    assert server.connections == 3


def test_no_answer_in_time(server: Server) -> None:
    def hold(request: Request) -> Reply:
        server.release.wait(30)
        return DROP

    server.respond = hold
    with (
        fdrtd.HttpInterface(server.url, timeout=(5, 0.05)) as interface,
        pytest.raises(fdrtd.ConnectionFailed) as caught,
    ):
        interface.request("GET")
    assert caught.value.code == "READ_TIMEOUT"
    assert len(server.requests) == 1


def test_something_that_is_not_http(interface: fdrtd.HttpInterface) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(fdrtd.ConnectionFailed, match="then write https://"):
            fdrtd.HttpInterface(f"http://127.0.0.1:{listener.getsockname()[1]}").request("POST", "{}")
        thread.join()


def test_tls_to_a_plain_port(server: Server) -> None:
    with (
        fdrtd.HttpInterface(server.url.replace("http:", "https:")) as interface,
        pytest.raises(fdrtd.ConnectionFailed, match="write http:// in the URL") as caught,
    ):
        interface.request("GET")
    assert caught.value.code == "TLS_FAILED"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    path = tmp_path_factory.mktemp("tls") / "node.pem"
    key = path.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(path), "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    path.with_name("both.pem").write_text(path.read_text() + key.read_text())
    return path


@pytest.fixture
def tls_server(server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.with_name("both.pem"))
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    # Refused handshakes are what these tests are about; the server need not print them.
    monkeypatch.setattr(server.http, "handle_error", lambda request, client_address: None)
    server.url = server.url.replace("http://127.0.0.1", "https://localhost")
    server.respond = lambda request: Reply(200, "[]")
    return server


def test_certificates_are_verified(tls_server: Server, certificate: Path) -> None:
    with (
        fdrtd.HttpInterface(tls_server.url) as interface,
        pytest.raises(fdrtd.ConnectionFailed, match="FDRTD_CA_FILE") as caught,
    ):
        interface.request("GET")
    assert caught.value.code == "TLS_FAILED"
    with fdrtd.HttpInterface(tls_server.url, ca_file=certificate) as interface:
        assert interface.request("GET").status == 200
    by_number = tls_server.url.replace("localhost", "127.0.0.1")
    with (
        fdrtd.HttpInterface(by_number, ca_file=certificate) as interface,
        pytest.raises(fdrtd.ConnectionFailed, match="another host"),
    ):
        interface.request("GET")


def test_verification_can_be_turned_off_and_that_is_said_once(tls_server: Server) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fdrtd.HttpInterface(tls_server.url, verify=False) as interface:
            for _ in range(3):
                assert interface.request("GET").status == 200
    assert [warning.category for warning in caught] == [fdrtd.InsecureWarning]
    assert "localhost is not verified" in str(caught[0].message)
    assert caught[0].filename == __file__
    fdrtd.HttpInterface("http://localhost", verify=False)  # nothing to verify, nothing to warn of


def test_verify_may_be_a_file_as_in_requests(tls_server: Server, certificate: Path) -> None:
    with fdrtd.HttpInterface(tls_server.url, verify=str(certificate)) as interface:
        assert interface.request("GET").status == 200
    with pytest.raises(fdrtd.InputError, match="ca_file names '/does/not/exist.pem'"):
        fdrtd.HttpInterface(tls_server.url, verify="/does/not/exist.pem")
    with pytest.raises(fdrtd.InputError, match="give ca_file only"):
        fdrtd.HttpInterface(tls_server.url, verify=certificate, ca_file=certificate)
    for wrong in ("", None, 1):
        with pytest.raises(fdrtd.InputError, match="verify is True, False or a PEM file"):
            fdrtd.HttpInterface(tls_server.url, verify=wrong)  # type: ignore[arg-type]


def test_certificates_may_be_a_directory(tls_server: Server, certificate: Path, tmp_path: Path) -> None:
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(certificate)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy(certificate, tmp_path / f"{name}.0")
    with fdrtd.HttpInterface(tls_server.url, ca_file=tmp_path) as interface:
        assert interface.request("GET").status == 200


@pytest.mark.parametrize(
    "page",
    [
        "<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
        "Client sent an HTTP request to an HTTPS server.\n",
    ],
)
def test_plain_http_to_a_port_for_tls(server: Server, interface: fdrtd.HttpInterface, page: str) -> None:
    server.script(Reply(400, page, content_type="text/html"))
    with pytest.raises(fdrtd.ConnectionFailed, match="write https:// instead of http://") as caught:
        fdrtd.Api(interface).list_microservices()
    assert caught.value.code == "TLS_FAILED"


@pytest.mark.parametrize("variable", _http.CA_VARIABLES)
def test_certificates_from_the_environment(
    tls_server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(certificate))
    with fdrtd.HttpInterface(tls_server.url) as interface:
        assert interface.request("GET").status == 200
    monkeypatch.setenv(variable, "/does/not/exist.pem")
    with pytest.raises(fdrtd.InputError, match=f"{variable} names .*/does/not/exist.pem"):
        fdrtd.HttpInterface(tls_server.url)
    assert fdrtd.HttpInterface("http://localhost").url  # no TLS, no certificates


def test_the_most_specific_certificates_win(
    tls_server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("this is no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(rubbish))
    with (
        fdrtd.HttpInterface(tls_server.url) as interface,
        pytest.raises(fdrtd.ConnectionFailed, match="SSL_CERT_FILE") as caught,
    ):
        interface.request("GET")
    assert caught.value.code == "CA_FILE_UNUSABLE"
    monkeypatch.setenv("FDRTD_CA_FILE", str(certificate))
    with fdrtd.HttpInterface(tls_server.url) as interface:
        assert interface.request("GET").status == 200
