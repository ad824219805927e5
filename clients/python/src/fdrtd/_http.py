"""The way to a node: one connection pool, and the names of what can go wrong on it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union
from urllib.parse import SplitResult, urljoin, urlsplit

from fdrtd._version import __version__
from fdrtd.errors import ConnectionFailed, InputError

if TYPE_CHECKING:
    import ssl

    import urllib3

Timeout = Union[float, tuple[float, float], None]

# Connecting fails soon or never; an answer may take as long as a node may hold a call (60 s), and some.
DEFAULT_TIMEOUT = (10.0, 90.0)
# Pauses before connecting again, in seconds: enough for a node that is just being restarted.
RETRY_PAUSES = (0.2, 0.6)
# What certificate files are called in the environment, the most specific first.
CA_VARIABLES = ("FDRTD_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpInterface:
    """The address of a node and how to reach it. May be used from several threads at once.

    ``url`` is the node's base URL, with its path prefix if it has one. ``timeout`` is in seconds: one number,
    or ``(connect, read)``. Certificates are verified against ``ca_file``, else the file that
    ``FDRTD_CA_FILE``, ``SSL_CERT_FILE`` or ``REQUESTS_CA_BUNDLE`` names, else the system's; ``verify=False``
    turns this off.
    ``token`` is sent as a bearer token. Redirects are never followed and proxy variables of the environment
    never used: private data go to the address that is written here and to no other.

    Raises InputError if an argument cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        verify: bool = True,
        ca_file: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> None:
        parts = _parse_url(url)
        self._url = parts.geturl()
        self._connect_timeout, self._read_timeout = _parse_timeout(timeout)
        self._verify = verify
        self._ca_file, self._ca_source = _find_ca_file(ca_file) if parts.scheme == "https" else (None, None)
        self._headers = _parse_headers(headers, token)
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._pool_owner = 0

    @property
    def url(self) -> str:
        """The node's base URL, always with one slash at its end."""
        return self._url

    @property
    def read_timeout(self) -> float | None:
        """How long an answer may take, in seconds."""
        return self._read_timeout

    def request(self, method: str, body: str | None = None, *, read_timeout: float | None = None) -> Answer:
        """Sends one request to the base URL and returns the answer, whatever its status.

        Raises ConnectionFailed if there is none, or if it is a redirect. GET and PUT try again when no
        connection could be made; nothing that was sent is ever sent twice.
        """
        pauses = RETRY_PAUSES if method in ("GET", "PUT") else ()
        for pause in pauses:
            try:
                return self._request_once(method, body, read_timeout)
            except ConnectionFailed as failure:
                if failure.code not in ("CONNECTION_REFUSED", "DNS_FAILED", "UNREACHABLE"):
                    raise
            time.sleep(pause)
        return self._request_once(method, body, read_timeout)

    def close(self) -> None:
        """Closes the connections. A later request opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.clear()

    def __enter__(self) -> HttpInterface:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HttpInterface({self._url!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Connections and locks stay behind; a copy in another process opens its own.
        return {**self.__dict__, "_lock": None, "_pool": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _request_once(self, method: str, body: str | None, read_timeout: float | None) -> Answer:
        import urllib3

        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        timeout = urllib3.Timeout(connect=self._connect_timeout, read=read_timeout or self._read_timeout)
        try:
            response = self._connections().request(
                method,
                self._url,
                body=None if body is None else body.encode("ascii"),
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Not chained: the transport's long traceback says no more than its text, which is kept.
            raise self._explain(error) from None
        if 300 <= response.status < 400:
            raise self._redirected(response.status, response.headers.get("Location", ""))
        return Answer(response.status, response.headers, response.data)

    def _connections(self) -> urllib3.PoolManager:
        import urllib3

        with self._lock:
            # A forked child must not talk on its parent's sockets.
            if self._pool is None or self._pool_owner != os.getpid():
                context = self._tls_context() if self._url.startswith("https:") else None
                self._pool = urllib3.PoolManager(num_pools=1, maxsize=10, ssl_context=context)
                self._pool_owner = os.getpid()
            return self._pool

    def _tls_context(self) -> ssl.SSLContext:
        import ssl

        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ssl.SSLError):
            raise ConnectionFailed(
                f"the certificate file {self._ca_file!r} ({self._ca_source}) cannot be used",
                code="CA_FILE_UNUSABLE",
                hint="it must be readable and hold certificates in PEM form",
            ) from None
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _explain(self, error: Exception) -> ConnectionFailed:
        from urllib3 import exceptions as failures

        host = urlsplit(self._url).netloc
        message, code, hint = f"the connection to {host} failed", "CONNECTION_FAILED", "check the URL"
        if isinstance(error, failures.NameResolutionError):
            message, code = f"the host name in {self._url} is not known (DNS)", "DNS_FAILED"
            hint = "check the spelling of the host, and that this computer is in the right network"
        elif isinstance(error, failures.NewConnectionError):
            if isinstance(error.__cause__, ConnectionRefusedError):
                message, code = f"{host} refused the connection", "CONNECTION_REFUSED"
                hint = "is the node running, and is the port right?"
            else:
                message, code = f"{host} cannot be reached from here", "UNREACHABLE"
                hint = "check the network and the firewall between this computer and the node"
        elif isinstance(error, failures.ConnectTimeoutError):
            message = f"{host} did not accept a connection within {self._connect_timeout:g} s"
            code, hint = (
                "CONNECT_TIMEOUT",
                "a firewall may be dropping packets: check host, port and firewall",
            )
        elif isinstance(error, failures.ReadTimeoutError):
            message, code = f"{host} accepted the request and did not answer in time", "READ_TIMEOUT"
            hint = "the request may have taken effect; for more time give HttpInterface a longer timeout"
        elif isinstance(error, failures.SSLError):
            message, code, hint = self._explain_tls(str(error), host)
        elif isinstance(error, failures.ProtocolError):
            message, code = f"{host} closed the connection without an answer", "CONNECTION_LOST"
            hint = "the request may have taken effect; if this comes every time: does the port speak TLS " + (
                "and HTTP/1.1?" if self._url.startswith("https:") else "(then write https://)?"
            )
        return ConnectionFailed(message, code=code, hint=hint, extra={"reason": str(error)})

    def _explain_tls(self, text: str, host: str) -> tuple[str, str, str]:
        """Message, code and hint for a TLS failure; OpenSSL tells the kinds apart by text only."""
        if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "RECORD_LAYER_FAILURE" in text:
            message = f"{host} does not speak TLS on this port"
            return message, "TLS_FAILED", "if the node serves plain HTTP there, write http:// in the URL"
        message = f"the TLS certificate of {host} was not accepted"
        if "expired" in text:
            return f"{message}: it has expired", "TLS_FAILED", "it must be renewed at the node or its proxy"
        if "ostname mismatch" in text or "IP address mismatch" in text or "doesn't match" in text:
            hint = "use the host name that the certificate was made for"
            return f"{message}: it is for another host", "TLS_FAILED", hint
        if "CERTIFICATE_VERIFY_FAILED" in text:
            checked = f"{self._ca_source}: {self._ca_file}" if self._ca_file else "the system's certificates"
            return (
                f"{message}: it is not signed by a known authority ({checked})",
                "TLS_FAILED",
                "name the authority's PEM file in HttpInterface(ca_file=…) or in FDRTD_CA_FILE",
            )
        return (
            f"TLS with {host} failed",
            "TLS_FAILED",
            "the node or its proxy may require another TLS version",
        )

    def _redirected(self, status: int, location: str) -> ConnectionFailed:
        # The path and query of a Location may hold anything; the host is what a user needs to judge it.
        try:
            target = urlsplit(urljoin(self._url, location))
            host = f"{target.scheme}://{target.hostname or ''}" + (f":{target.port}" if target.port else "")
        except ValueError:
            host = ""
        if not location or not host.isprintable() or "://" not in host:
            host = "another place"
        return ConnectionFailed(
            f"{urlsplit(self._url).netloc} redirects to {host}, and redirects are not followed",
            code="REDIRECTED",
            status=status,
            hint=f"if you trust {host}, write the final URL, with its path, in HttpInterface(…)",
        )


def _parse_url(url: str) -> SplitResult:
    """Checks a node's URL and brings it to one form: one slash at the end, no doubled ones."""
    if not isinstance(url, str):
        raise InputError(f"the URL of a node is text, not {type(url).__name__}", code="URL_UNUSABLE")
    url = url.strip()
    example = "write it like https://node.example.org/public1"
    if any(character <= " " or not character.isprintable() for character in url):
        raise InputError("the URL has blanks or control characters in it", code="URL_UNUSABLE", hint=example)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(
            f"the URL has no usable host or port: {error}", code="URL_UNUSABLE", hint=example
        ) from None
    if "@" in parts.netloc:
        raise InputError(
            "the URL holds credentials",
            code="URL_UNUSABLE",
            hint="URLs end up in logs: give HttpInterface token=… or headers=… instead",
        )
    if parts.scheme not in ("http", "https"):
        if "://" not in url:
            example = f"did you mean http://{url} or https://{url} ?"
        raise InputError(
            "the URL of a node starts with http:// or https://", code="URL_UNUSABLE", hint=example
        )
    if not host:
        raise InputError("the URL has no host", code="URL_UNUSABLE", hint=example)
    if parts.query or parts.fragment:
        raise InputError(
            "the URL of a node has no ? or # part", code="URL_UNUSABLE", hint="give the base URL of the node"
        )
    segments = [segment for segment in parts.path.split("/") if segment]
    path = "/".join(["", *segments, ""])
    return SplitResult(parts.scheme, parts.netloc, path, "", "")


def _parse_timeout(timeout: Timeout) -> tuple[float | None, float | None]:
    both = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    usable = len(both) == 2 and all(
        part is None or (isinstance(part, (int, float)) and not isinstance(part, bool) and part > 0)
        for part in both
    )
    if not usable:
        raise InputError(
            "timeout must be a positive number of seconds, or two of them: (connect, read)",
            code="TIMEOUT_UNUSABLE",
        )
    return both


def _parse_headers(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    result = {
        "Accept": "application/json, application/problem+json",
        "User-Agent": f"fdrtd-python/{__version__}",
    }
    result.update(headers or {})
    if token is not None:
        result["Authorization"] = f"Bearer {token}"
    for name, value in result.items():
        # Checked here because the HTTP library would print the value, a token perhaps, in its own error.
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise InputError(
                f"the value of the header {name!r} must be printable ASCII text on one line",
                code="HEADER_UNUSABLE",
                hint="does the token end with a line feed? Use token.strip()",
            )
    return result


def _find_ca_file(ca_file: str | os.PathLike[str] | None) -> tuple[str | None, str | None]:
    """Returns the file with the trusted certificates and who named it."""
    candidates = [("ca_file", os.fspath(ca_file) if ca_file is not None else "")]
    candidates += [(variable, os.environ.get(variable, "")) for variable in CA_VARIABLES]
    for source, path in candidates:
        if not path:
            continue
        if not os.path.isfile(path):
            raise InputError(
                f"{source} names the certificate file {path!r}, which does not exist",
                code="CA_FILE_UNUSABLE",
                hint=f"correct {source}, or leave it out to use the system's certificates",
            )
        return path, source
    return None, None
