"""Web servers in this process that stand in front of a node, or where one should be."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from certificates import Pair

# What a proxy that knows nothing of WebSockets does not pass on.
HOP_BY_HOP = ("connection", "upgrade", "keep-alive", "transfer-encoding", "te", "host", "content-length")

Answers = dict[str, tuple[int, bytes]]


class Handler(BaseHTTPRequestHandler):
    """Gives the prepared answers, and passes everything else on without upgrades."""

    server: Front
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _answer(self) -> None:
        self.server.asked.append({name.lower() for name in self.headers})
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        page = self.path.removeprefix(urlsplit(self.server.url).path)
        kind = "application/json"
        if page in self.server.answers:
            status, text = self.server.answers[page]
        elif self.server.target is None:
            status, text = 404, b"nothing here"
        else:
            status, text, kind = self._pass_on(self.server.target, body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _pass_on(self, target: str, body: bytes) -> tuple[int, bytes, str]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        connection = http.client.HTTPConnection(urlsplit(target).netloc, timeout=30)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get("Content-Type", "text/plain")


class Front(ThreadingHTTPServer):
    """One such server; `url` has the path of the node behind it."""

    daemon_threads = True

    def __init__(self, target: str | None, answers: Answers, pair: Pair | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = target
        self.answers = answers
        # The names of the headers of each request, in lower case.
        self.asked: list[set[str]] = []
        scheme = "http"
        if pair is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.cert, pair.key)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}{urlsplit(target or '').path}"

    def handle_error(self, *_: object) -> None:
        """Clients that go away are no errors here."""


@contextlib.contextmanager
def front(target: str | None = None, answers: Answers | None = None, pair: Pair | None = None) -> Iterator[Front]:
    """A server with prepared answers by page; the rest comes from `target`, if there is one."""
    server = Front(target, answers or {}, pair)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
