"""The way to a node: one connection pool, and the names of what can go wrong on it."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union
from urllib.parse import SplitResult, urlsplit

from fdrtd._failures import explain, redirected
from fdrtd._version import __version__
from fdrtd.errors import ConnectionFailed, InputError, InsecureWarning

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
    or ``(connect, read)``. Certificates are verified against the authorities in ``ca_file`` (a PEM file, or a
    directory as OpenSSL wants it), else in what ``FDRTD_CA_FILE``, ``SSL_CERT_FILE`` or
    ``REQUESTS_CA_BUNDLE`` names, else the system's. ``verify`` may also be that file; ``verify=False`` turns
    verification off, which gives an :class:`fdrtd.InsecureWarning`.
    ``token`` says who calls, as a bearer token; without it ``FDRTD_TOKEN`` does. One that travels over plain
    http to another machine gives an :class:`fdrtd.InsecureWarning`. Redirects are never followed and
    proxy variables of the environment never used: private data go to the address that is written here
    and to no other.

    Raises InputError if an argument cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        verify: bool | str | os.PathLike[str] = True,
        ca_file: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> None:
        parts = _parse_url(url)
        self._url, self._path = parts.geturl(), parts.path
        self._connect_timeout, self._read_timeout = _parse_timeout(timeout)
        self._verify, ca_file = _parse_verify(verify, ca_file)
        self._ca_file, self._ca_source = _find_ca_file(ca_file) if parts.scheme == "https" else (None, None)
        if not self._verify and parts.scheme == "https":
            # The host without the port, and not the token: warnings end up in logs.
            warnings.warn(
                f"the certificate of {parts.hostname} is not verified (verify=False): anybody on the way can "
                "read and change what is sent; give ca_file=… instead",
                InsecureWarning,
                stacklevel=2,
            )
        self._headers = _parse_headers(headers, _find_token(headers, token))
        if (
            parts.scheme == "http"
            and any(name.lower() == "authorization" for name in self._headers)
            and not _is_loopback(parts.hostname or "")
        ):
            warnings.warn(
                f"the credentials for {parts.hostname} travel unencrypted: "
                "anybody on the way can read and use them; use its https:// URL",
                InsecureWarning,
                stacklevel=2,
            )
        self._lock = threading.Lock()
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._pool_owner = 0

    @property
    def url(self) -> str:
        """The node's base URL, always with one slash at its end."""
        return self._url

    @property
    def read_timeout(self) -> float | None:
        """How long an answer may take, in seconds."""
        return self._read_timeout

    def request(
        self, method: str, body: str | None = None, *, path: str = "", read_timeout: float | None = None
    ) -> Answer:
        """Sends one request to the base URL, or a path below it, and returns the answer, whatever its status.

        ``read_timeout`` is how long this answer may take, in seconds; infinity is for no limit.
        Raises ConnectionFailed if there is none, or if it is a redirect. GET and PUT try again when no
        connection could be made; nothing that was sent is ever sent twice.
        """
        pauses = RETRY_PAUSES if method in ("GET", "PUT") else ()
        for pause in pauses:
            try:
                return self._request_once(method, body, path, read_timeout)
            except ConnectionFailed as failure:
                if failure.code not in ("CONNECTION_REFUSED", "DNS_FAILED", "UNREACHABLE"):
                    raise
            time.sleep(pause)
        return self._request_once(method, body, path, read_timeout)

    def close(self) -> None:
        """Closes the connections. A later request opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

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

    def _request_once(self, method: str, body: str | None, path: str, read_timeout: float | None) -> Answer:
        import urllib3

        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        read_timeout = read_timeout or self._read_timeout
        timeout = urllib3.Timeout(
            connect=self._connect_timeout, read=None if read_timeout == math.inf else read_timeout
        )
        try:
            response = self._connections().request(
                method,
                self._path + path,
                body=None if body is None else body.encode("ascii"),
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.ClosedPoolError:
            # Another thread has closed it before there was a connection: nothing was sent.
            return self._request_once(method, body, path, read_timeout)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Not chained: the transport's long traceback says no more than its text, which is kept.
            raise explain(error, self._url, self._connect_timeout, self._trusted) from None
        if 300 <= response.status < 400:
            raise redirected(self._url, method, response.status, response.headers.get("Location", ""))
        return Answer(response.status, response.headers, response.data)

    def _connections(self) -> urllib3.HTTPConnectionPool:
        import urllib3

        with self._lock:
            # A forked child must not talk on its parent's sockets.
            if self._pool is None or self._pool_owner != os.getpid():
                tls = {"ssl_context": self._tls_context()} if self._url.startswith("https:") else {}
                self._pool = urllib3.connection_from_url(self._url, maxsize=32, **tls)
                self._pool_owner = os.getpid()
            return self._pool

    @property
    def _trusted(self) -> str:
        """Where the trusted certificates are, for people."""
        return f"{self._ca_source}: {self._ca_file}" if self._ca_file else "the system's certificates"

    def _tls_context(self) -> ssl.SSLContext:
        import ssl

        try:
            directory = self._ca_file is not None and os.path.isdir(self._ca_file)
            context = ssl.create_default_context(
                cafile=None if directory else self._ca_file, capath=self._ca_file if directory else None
            )
        except (OSError, ssl.SSLError):
            raise ConnectionFailed(
                f"the certificate file {self._ca_file!r} ({self._ca_source}) cannot be used",
                code="CA_FILE_UNUSABLE",
                hint="it must be readable and hold certificates in PEM form",
            ) from None
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            # The library would warn at each request; we have said so once.
            from urllib3.exceptions import InsecureRequestWarning

            host = re.escape(urlsplit(self._url).hostname or "")
            warnings.filterwarnings("ignore", f".* to host '\\[?{host}\\]?'", InsecureRequestWarning)
        return context


def _parse_verify(
    verify: bool | str | os.PathLike[str], ca_file: str | os.PathLike[str] | None
) -> tuple[bool, str | os.PathLike[str] | None]:
    if isinstance(verify, bool):
        return verify, ca_file
    if not isinstance(verify, (str, os.PathLike)) or not os.fspath(verify):
        raise InputError(
            f"verify is True, False or a PEM file, not {type(verify).__name__}",
            code="VERIFY_UNUSABLE",
            hint="leave it out to verify against the system's certificates",
        )
    if ca_file is not None:
        raise InputError(
            "verify and ca_file both name certificates", code="VERIFY_UNUSABLE", hint="give ca_file only"
        )
    return True, verify


def _parse_url(url: str) -> SplitResult:
    """Checks a node's URL and brings it to one form: one slash at the end, no doubled ones."""
    if not isinstance(url, str):
        raise InputError(f"the URL of a node is text, not {type(url).__name__}", code="URL_UNUSABLE")
    url = url.strip()
    example = "write it like https://node.example.org/public1"
    # First of all, because the texts below repeat the URL.
    if "@" in re.split(r"[/?#]", url.partition("://")[2] or url, maxsplit=1)[0]:
        raise InputError(
            "the URL holds credentials",
            code="URL_UNUSABLE",
            hint="URLs end up in logs: give HttpInterface token=… or headers=… instead",
        )
    if any(character <= " " or not character.isprintable() for character in url):
        raise InputError("the URL has blanks or control characters in it", code="URL_UNUSABLE", hint=example)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InputError("the URL has no usable host or port", code="URL_UNUSABLE", hint=example) from None
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
    # The sockets know no infinity.
    return tuple(None if part == math.inf else part for part in both)  # type: ignore[return-value]


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


def _find_token(headers: Mapping[str, str] | None, token: str | None) -> str | None:
    """The token that was given, else that of the environment, unless the headers say who calls."""
    if token is not None or any(name.lower() == "authorization" for name in headers or ()):
        return token
    return os.environ.get("FDRTD_TOKEN", "").strip() or None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _find_ca_file(ca_file: str | os.PathLike[str] | None) -> tuple[str | None, str | None]:
    """Returns the file with the trusted certificates and who named it."""
    candidates = [("ca_file", os.fspath(ca_file) if ca_file is not None else "")]
    candidates += [(variable, os.environ.get(variable, "")) for variable in CA_VARIABLES]
    for source, path in candidates:
        if not path:
            continue
        if not os.path.exists(path):
            raise InputError(
                f"{source} names {path!r} for certificates, which does not exist",
                code="CA_FILE_UNUSABLE",
                hint=f"correct {source}, or leave it out to use the system's certificates",
            )
        return path, source
    return None, None
