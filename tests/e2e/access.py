"""Requests with credentials, for the end-to-end tests of who may do what."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from cli import OK, fdrtd
from harness import Node


def ask(
    node: Node, method: str = "GET", page: str = "", body: Any = None, *, token: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request."""
    host, path = node.url.removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(host, timeout=60)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    text = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        text = json.dumps(body)
    try:
        connection.request(method, f"/{path}{page}", text, headers)
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, named, answer.read()
    finally:
        connection.close()


def refusal(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """Status and code of a refusal in its proper form."""
    status, headers, body = answer
    assert headers["content-type"] == "application/problem+json", (status, body)
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["hint"]
    assert (status == 401) == (headers.get("www-authenticate") == "Bearer")
    return status, problem["code"]


def data_of(node: Node) -> Path:
    return node.directory / "data"


def token(data: Path, name: str, role: str, *more: str) -> str:
    """A new one, at the node that runs on that directory or for the next one that will."""
    made = fdrtd("token", "create", f"--name={name}", f"--role={role}", f"--data-dir={data}", *more)
    assert made.status == OK, made.err
    text = made.out.strip()
    assert text.startswith("fdrtd_")
    assert text not in made.err
    return text


def operator(node: Node) -> str:
    return (data_of(node) / "operator.token").read_text().strip()
