"""What can go wrong on the way to a node, in words."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urljoin, urlsplit

from fdrtd.errors import ConnectionFailed


def explain(error: Exception, url: str, connect_timeout: float | None, trusted: str) -> ConnectionFailed:
    """The exception for a failure of the transport. ``trusted``: where the trusted certificates are."""
    from urllib3 import exceptions as failures

    host = urlsplit(url).netloc
    message, code, hint = f"the connection to {host} failed", "CONNECTION_FAILED", "check the URL"
    if isinstance(error, failures.NameResolutionError):
        message, code = f"the host name in {url} is not known (DNS)", "DNS_FAILED"
        hint = "check the spelling of the host, and that this computer is in the right network"
    elif isinstance(error, failures.NewConnectionError):
        if isinstance(error.__cause__, ConnectionRefusedError):
            message, code = f"{host} refused the connection", "CONNECTION_REFUSED"
            hint = "is the node running, and is the port right?"
        else:
            message, code = f"{host} cannot be reached from here", "UNREACHABLE"
            hint = "check the network and the firewall between this computer and the node"
    elif isinstance(error, failures.ConnectTimeoutError):
        message, code = f"{host} did not accept a connection within {connect_timeout:g} s", "CONNECT_TIMEOUT"
        hint = "a firewall may be dropping packets: check host, port and firewall"
    elif isinstance(error, failures.ReadTimeoutError):
        message, code = f"{host} accepted the request and did not answer in time", "READ_TIMEOUT"
        hint = "the request may have taken effect; for more time give HttpInterface a longer timeout"
    elif isinstance(error, failures.SSLError):
        message, hint = _explain_tls(str(error), host, trusted)
        code = "TLS_FAILED"
    elif isinstance(error, failures.ProtocolError):
        message, code = f"{host} closed the connection without an answer", "CONNECTION_LOST"
        hint = "the request may have taken effect; if this comes every time: does the port speak TLS " + (
            "and HTTP/1.1?" if url.startswith("https:") else "(then write https://)?"
        )
    return ConnectionFailed(message, code=code, hint=hint, extra={"reason": str(error)})


def redirected(url: str, method: str, status: int, location: str) -> ConnectionFailed:
    """The exception for a redirect, which says what to write instead."""
    own = urlsplit(url)
    message = f"{own.netloc} redirects to {{}}, and redirects are never followed"
    if method != "GET":
        message += (
            f": this kind ({status}) would turn the {method} into a GET and drop the data"
            if status in (301, 302, 303)
            else ": the data would go to an address that you did not write"
        )
    try:
        target = urlsplit(urljoin(url, location))
        place = f"{target.scheme}://{target.hostname or ''}" + (f":{target.port}" if target.port else "")
    except ValueError:
        target, place = own, ""
    if not location or not place.isprintable() or "://" not in place:
        place, hint = "another place", "write the final URL of the node, with its path, in HttpInterface(…)"
    else:
        hint = _what_to_write(own, target, place)
    return ConnectionFailed(message.format(place), code="REDIRECTED", status=status, hint=hint)


def _what_to_write(own: SplitResult, target: SplitResult, place: str) -> str:
    same_path = target.path.strip("/") == own.path.strip("/")
    path = _harmless(target.path)
    if own.scheme == "http" and target.scheme == "https" and target.hostname == own.hostname:
        if same_path:
            return f"write {place}{own.path} in HttpInterface(…)"
        return f"write {place}, and the node's path there, in HttpInterface(…)"
    if (target.scheme, target.netloc) == (own.scheme, own.netloc):
        if same_path:
            return "the proxy before the node wants the path with or without its last slash: let it take both"
        there = f" ({path})" if path else ""
        return f"the node is not under {own.path}, or wants a log-in: write the final path{there} in the URL"
    there = f", {place}{path}," if path else ", with its path,"
    return f"if you trust {place}, write the final URL{there} in HttpInterface(…)"


def _harmless(path: str) -> str:
    """A path fit to be shown. Others may hold anything: a session, a token."""
    return path if re.fullmatch(r"(/[A-Za-z0-9._~-]{0,16}){1,4}", path) else ""


def _explain_tls(text: str, host: str, trusted: str) -> tuple[str, str]:
    """Message and hint for a TLS failure; OpenSSL tells the kinds apart by text only."""
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "RECORD_LAYER_FAILURE" in text:
        message = f"{host} does not speak TLS on this port"
        return message, "if the node serves plain HTTP there, write http:// in the URL"
    message = f"the TLS certificate of {host} was not accepted"
    if "not yet valid" in text:
        return f"{message}: it is not valid yet", "check the clocks of this computer and of the node"
    if "expired" in text:
        return f"{message}: it has expired", "it must be renewed at the node or its proxy"
    if "ostname mismatch" in text or "IP address mismatch" in text or "doesn't match" in text:
        return f"{message}: it is for another host", "use the host name that the certificate was made for"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            f"{message}: it is not signed by a known authority ({trusted})",
            "name the authority's PEM file in HttpInterface(ca_file=…) or in the variable FDRTD_CA_FILE",
        )
    return f"TLS with {host} failed", "the node or its proxy may require another TLS version"
