"""From an answer that is not a success to the exception that says what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from fdrtd import _json
from fdrtd._http import Answer
from fdrtd.errors import (
    ConnectionFailed,
    Error,
    Forbidden,
    InputError,
    NodeError,
    NotFound,
    TaskFailed,
    TooManyRequests,
    Unavailable,
    WrongState,
)

MAX_TEXT = 2000

_CLASSES: dict[int, type[Error]] = {
    400: InputError,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: WrongState,
    413: InputError,
    415: InputError,
    422: InputError,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
# Used when the answer itself says nothing: message, code, hint.
_DEFAULTS: dict[int, tuple[str, str, str]] = {
    400: ("the request was not understood", "BAD_REQUEST", "check the names and types of the arguments"),
    401: ("the node wants credentials", "UNAUTHORIZED", "give HttpInterface token=…, or set FDRTD_TOKEN"),
    403: ("access was denied", "FORBIDDEN", "check the function's name and your credentials"),
    413: (
        "the request is too large",
        "TOO_LARGE",
        "a proxy before the node limits it: raise that (nginx: client_max_body_size), or give less at once",
    ),
    429: ("the node gets too many requests", "TOO_MANY_REQUESTS", "wait a little and try again"),
    500: (
        "the node failed without saying why",
        "NODE_ERROR",
        "the node's log may tell; check the arguments too",
    ),
    502: (
        "the proxy got no usable answer from the node",
        "BAD_GATEWAY",
        "is the node running, and does the proxy pass on to its port?",
    ),
    503: ("the node is not available", "UNAVAILABLE", "try again later"),
    504: (
        "the proxy did not wait for the node's answer",
        "GATEWAY_TIMEOUT",
        "raise the proxy's read timeout above 60 s (nginx: proxy_read_timeout)",
    ),
}
# The statuses with which servers that are no nodes (or not at this path) meet our requests.
_STRANGERS = frozenset({404, 405, 410, 501})
_OWN_MEMBERS = frozenset({"type", "title", "status", "code", "message", "hint", "detail", "side"})


def error_from(answer: Answer, url: str) -> Error:
    """Returns the exception for an answer of status 400 and above."""
    problem = _problem(answer)
    if answer.status in _STRANGERS and problem is None:
        return not_a_node(answer, url)
    if answer.status == 400 and _wants_tls(answer, url):
        return ConnectionFailed(
            f"{url} speaks TLS on this port",
            code="TLS_FAILED",
            status=400,
            hint="write https:// instead of http:// in the URL",
        )
    problem = problem or {}
    if problem.get("code") == "PATH_UNKNOWN":
        # A node's process, but no node under this path: it names the right ones.
        wrong = not_a_node(answer, url)
        wrong.hint = one_line(problem.get("hint")) or wrong.hint
        return wrong
    message, code, hint = _DEFAULTS.get(
        answer.status, (f"the node answered with status {answer.status}", f"HTTP_{answer.status}", None)
    )
    told = (
        one_line(problem.get("message")) or one_line(problem.get("detail")) or one_line(problem.get("title"))
    )
    if told:
        # What the node says about the cause makes our general advice superfluous.
        message, hint = told, None
    extra = {key: value for key, value in problem.items() if key not in _OWN_MEMBERS}
    if "retry-after" in answer.headers:
        extra.setdefault("retry_after", answer.headers["retry-after"])
    kind = _CLASSES.get(answer.status, NodeError if answer.status >= 500 else Error)
    if kind is WrongState and "cause" in problem:
        kind = TaskFailed
    return kind(
        message,
        code=one_line(problem.get("code")) or code,
        hint=one_line(problem.get("hint")) or hint,
        status=answer.status,
        side=one_line(problem.get("side")),
        extra=extra,
    )


def _wants_tls(answer: Answer, url: str) -> bool:
    """Whether a server (nginx, Go's, Apache's) says that plain HTTP came to its port for TLS."""
    told = re.search(
        rb"(?i)plain HTTP request|HTTP request to an? HTTPS|plain HTTP to an SSL", answer.body[:4096]
    )
    return url.startswith("http:") and told is not None


def not_a_node(answer: Answer, url: str) -> ConnectionFailed:
    """What answers under this URL does not speak our language."""
    return ConnectionFailed(
        f"a server answers at {url}, but not as a node does (status {answer.status})",
        code="NOT_A_NODE",
        status=answer.status,
        hint="check the path in the URL, for example /public1, and the port",
    )


def unusable(answer: Answer, url: str) -> ConnectionFailed:
    """What answers speaks nearly our language."""
    return ConnectionFailed(
        f"the answer of {url} (status {answer.status}) has not the form it should have",
        code="ANSWER_UNUSABLE",
        status=answer.status,
        hint="node and client may be of different versions",
    )


def waiting_text(headers: Mapping[str, str]) -> str | None:
    """Returns what a node says it is waiting for, or None if it does not."""
    text = headers.get("Fdrtd-Waiting")
    if text is None:
        return None
    # Header bytes reach us as Latin-1; nodes write UTF-8 (host names, party names).
    with contextlib.suppress(UnicodeError):
        text = text.encode("latin-1").decode("utf-8")
    return one_line(text) or ""


def one_line(value: Any) -> str | None:
    """Returns text of a server fit for a terminal: one line, no control characters, not endless."""
    if not isinstance(value, str):
        return None
    line = re.sub(r"\s+", " ", value).strip()
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line
    )
    return line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}…"


def _problem(answer: Answer) -> Mapping[str, Any] | None:
    """Reads an error body: problem+json, or what older servers sent (a JSON string, plain text, nothing).

    Returns None if it does not come from a node, as far as that can be told.
    """
    content_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        body = _json.decode(answer.body) if "json" in content_type else None
    except ValueError:
        body = None
    if isinstance(body, str):
        return {"message": body}
    if isinstance(body, dict):
        # Web frameworks write problems, too, for paths they do not know; those carry no code.
        return body if "code" in body or answer.status not in _STRANGERS else None
    if answer.status not in _STRANGERS and content_type == "text/plain":
        return {"message": answer.body[: 4 * MAX_TEXT].decode("utf-8", "replace").strip()}
    return None
