"""A small real HTTP server whose answers the tests write down beforehand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import fdrtd


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    status: int
    body: bytes | str | None = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


DROP = Reply(0)  # closes the connection without an answer

Responder = Callable[[Request], Reply]


class Server:
    """Answers with the scripted replies in turn, or with what ``respond`` says; keeps all requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self.respond: Responder = lambda request: self.replies.pop(0)
        self.connections = 0
        self.release = threading.Event()  # set at the end, for handlers that keep a client waiting
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(self.command, self.path, dict(self.headers.items()), body)
                server.requests.append(request)
                reply = server.respond(request)
                if reply is DROP:
                    self.close_connection = True
                    return
                data = (reply.body or b"") if not isinstance(reply.body, str) else reply.body.encode()
                self.send_response(reply.status)
                if reply.content_type:
                    self.send_header("Content-Type", reply.content_type)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if reply.status != 204:
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.block_on_close = False
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def script(self, *replies: Reply) -> None:
        self.replies.extend(replies)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture
def interface(server: Server) -> Iterator[fdrtd.HttpInterface]:
    with fdrtd.HttpInterface(server.url, timeout=20) as interface:
        yield interface


@pytest.fixture
def api(interface: fdrtd.HttpInterface) -> fdrtd.Api:
    return fdrtd.Api(interface)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FDRTD_CA_FILE", "FDRTD_TOKEN", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    # Tests that are run with a terminal behave as those without.
    monkeypatch.setenv("FDRTD_PROGRESS", "0")


def problem(status: int, **members: Any) -> Reply:
    body = {"type": "about:blank", "status": status, **members}
    return Reply(status, json.dumps(body), content_type="application/problem+json")
