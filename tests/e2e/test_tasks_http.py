"""The pages about tasks over raw HTTP: progress, events, cancel; and who may do what."""

from __future__ import annotations

import http.client
import json
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from harness import DURATIONS, Node, make_task, nodes, until, urls_of

NOBODY = "00000000-0000-0000-0000-000000000000"
STREAMS = 64


def send(node: Node, method: str, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request(method, f"{node.url}{path}", headers=headers, retries=False)


def problem(answer: urllib3.BaseHTTPResponse, status: int, code: str, side: str, *words: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(answer.data)
    assert (answer.status, body["code"], body["side"]) == (status, code, side), body
    assert answer.headers["Content-Type"] == "application/problem+json"
    for word in words:
        assert word in body["message"] + " — " + body["hint"]
    return body


def create(node: Node, urls: list[str]) -> Any:
    simon = node.api().select_microservice(protocol="Simon")
    return simon.create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS)


def ids(task: Any) -> list[str]:
    """The task's id, which all parties know, and the object's, which its owner knows."""
    return [task.progress()["task"], task["callback"]]


def token(node: Node) -> str:
    return (node.directory / "data" / "operator.token").read_text().strip()


def as_operator(node: Node) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(node)}"}


class Events:
    """A stream of events, read as it comes."""

    def __init__(self, node: Node, id_: str) -> None:
        parts = urlsplit(node.url)
        # Not a pool's: closing it closes the connection.
        self.connection = http.client.HTTPConnection(parts.netloc, timeout=60)
        self.connection.request("GET", f"{parts.path}/tasks/{id_}/events")
        self.response = self.connection.getresponse()

    def next(self) -> Any:
        """The next event's data; None at the end."""
        name = data = None
        while line := self.response.readline().decode():
            line = line.rstrip("\n")
            if not line and data is not None:
                assert name == "progress"
                return json.loads(data)
            field, _, value = line.partition(":")
            if field == "event":
                name = value.strip()
            elif field == "data":
                data = value.strip()
        return None

    def rest(self) -> list[Any]:
        return list(iter(self.next, None))

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@contextmanager
def watching(node: Node, id_: str) -> Iterator[Events]:
    events = Events(node, id_)
    try:
        yield events
    finally:
        events.close()


def steady(progress: dict[str, Any]) -> dict[str, Any]:
    """Without the time, and the receipt, which is signed after the end."""
    return {key: value for key, value in progress.items() if key not in ("seconds_left", "receipt")}


def test_progress_by_either_id(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    for id_, who in zip(ids(task), (as_operator(shared[0]), {})):
        answer = send(shared[0], "GET", f"/tasks/{id_}", **who)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        shown = json.loads(answer.data)
        assert shown["task"] == ids(task)[0]
        assert shown.keys() == task.progress().keys()
        assert shown["state"] == "created"
        # What gives power over the task is nowhere to be read.
        assert task["callback"] not in answer.data.decode()
        head = send(shared[0], "HEAD", f"/tasks/{id_}", **who)
        assert (head.status, head.data) == (200, b"")
    task.delete()


@pytest.mark.parametrize("id_", [NOBODY, "x", "%00", "%2e%2e", "0" * 5000])
def test_tasks_that_are_not_there(shared: list[Node], id_: str) -> None:
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        answer = send(shared[0], method, f"/tasks/{id_}{path}")
        problem(answer, 404, "TASK_UNKNOWN", "call", "no task with this id", "another node's", shared[0].fingerprint)
    answer = send(shared[0], "GET", f"/invitations/{NOBODY}")
    problem(answer, 404, "TASK_UNKNOWN", "call", "no open task", "ask the inviting party")


def test_tasks_of_another_node(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    for id_ in ids(task):
        place = shared[1].url.removeprefix("http://")
        problem(
            send(shared[1], "GET", f"/tasks/{id_}"), 404, "TASK_UNKNOWN", "call", f"{shared[1].fingerprint} at {place}"
        )
    task.delete()


def test_methods(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    id_ = task["callback"]
    reading = "GET, HEAD, OPTIONS"
    for path, allowed, refused in (
        (f"/tasks/{id_}", reading, "POST"),
        (f"/tasks/{id_}/events", reading, "PUT"),
        (f"/invitations/{ids(task)[0]}", reading, "POST"),
        (f"/tasks/{id_}/cancel", "POST, OPTIONS", "GET"),
    ):
        answer = send(shared[0], "OPTIONS", path)
        assert (answer.status, answer.headers["Allow"], answer.data) == (200, allowed, b"")
        for method in (refused, "DELETE"):
            answer = send(shared[0], method, path)
            problem(answer, 405, "METHOD_NOT_ALLOWED", "call", allowed)
            assert answer.headers["Allow"] == allowed
        # Slashes at the end and doubled ones make no difference.
        assert send(shared[0], "OPTIONS", path.replace("/", "//") + "/").status == 200
    head = send(shared[0], "HEAD", f"/tasks/{id_}/events")
    assert (head.status, head.headers["Content-Type"]) == (200, "text/event-stream")
    assert task.progress()["state"] == "created", "none of this has ended it"
    task.delete()


def test_events_to_the_end(shared: list[Node]) -> None:
    tasks = make_task(shared)
    with watching(shared[0], tasks[0]["callback"]) as events, watching(shared[1], tasks[1]["callback"]) as others:
        headers = events.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-cache"
        assert headers["X-Accel-Buffering"] == "no"
        first = events.next()
        assert first["state"] in ("created", "joining", "joined")
        for task, value in zip(tasks, (10, 7, 14)):
            task.input(data=value)
        seen = [first, *events.rest()]
        states = [each["state"] for each in seen]
        assert states[-1] == "done"
        assert "done" not in states[:-1]
        assert steady(seen[-1]) == steady(tasks[0].progress())
        # Every event tells something new, and an input is never taken back.
        for before, after in zip(seen, seen[1:-1]):
            assert steady(before) != steady(after)
            assert all(a["input"] >= b["input"] for a, b in zip(after["parties"], before["parties"]))
        assert others.rest()[-1]["state"] == "done"
        # Neither numbers nor objects: what is private is not there.
        text = json.dumps(seen)
        assert all(task["callback"] not in text for task in tasks)
        assert '"sum"' not in text
    # Of what is over there is one event.
    with watching(shared[0], tasks[0]["callback"]) as events:
        assert [each["state"] for each in events.rest()] == ["done"]


def test_a_change_is_told_when_it_happens(shared: list[Node]) -> None:
    urls = urls_of(shared)[:2]
    task = create(shared[0], urls)
    with watching(shared[0], task["callback"]) as events:
        assert events.next()["state"] == "created"
        # Nobody reads a clock here: the stream itself wakes the test.
        joined = shared[1].api().select_microservice(protocol="Simon").join(invitation=task.invite())
        while (event := events.next())["state"] != "joined":
            assert event["state"] in ("created", "joining")
        task.input(data=1)
        while not (event := events.next())["parties"][0]["input"]:
            pass
        joined.cancel()
        seen = events.rest()
        assert seen[-1]["state"] == "cancelled"
        assert seen[-1]["cause"]["code"] == "CANCELLED"
        assert seen[-1]["cause"]["party"] == 1


def test_streams_end_with_a_deleted_task(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    with watching(shared[0], task["callback"]) as events:
        events.next()
        task.delete()
        assert events.rest()[-1]["state"] == "cancelled"


def test_streams_end_with_the_node(tmp_path: Path, shared: list[Node]) -> None:
    with nodes(tmp_path, 1, "--ephemeral") as (node,):
        task = create(node, [node.url, shared[1].url])
        with watching(node, task["callback"]) as events:
            assert events.next()["state"] == "created"
            ended: list[int] = []
            stopping = threading.Thread(target=lambda: ended.append(node.stop()))
            stopping.start()
            events.rest()
            stopping.join(timeout=60)
            assert ended == [0]
        assert "some requests were still waiting" not in node.logged()


def test_streams_are_bounded(tmp_path: Path, shared: list[Node]) -> None:
    with nodes(tmp_path, 1, "--ephemeral") as (node,), ExitStack() as open_:
        task = create(node, [node.url, shared[1].url])
        streams = [open_.enter_context(watching(node, task["callback"])) for _ in range(STREAMS)]
        for stream in streams:
            assert stream.next()
        path = f"/tasks/{task['callback']}"
        problem(
            send(node, "GET", f"{path}/events"),
            503,
            "STREAMS_BUSY",
            "node",
            "64 streams",
            "ask for the task's progress",
        )
        # Everything else goes on.
        assert send(node, "GET", path).status == 200
        assert send(node, "HEAD", f"{path}/events").status == 200
        # Who leaves makes room, at the latest when something is to be told.
        for stream in streams[:8]:
            stream.close()

        def has_room() -> bool:
            task_ = create(node, [node.url, shared[1].url])
            with watching(node, task_["callback"]) as stream:
                return stream.response.status == 200

        until(has_room, "a stream that was left makes room")
        task.cancel()
        for stream in streams[8:]:
            assert stream.rest()[-1]["state"] == "cancelled"


# --- Ending a task ----------------------------------------------------------------------------------------------------


def test_the_owner_ends_it(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    for _ in range(2):
        # Also what is over.
        answer = send(shared[0], "POST", f"/tasks/{task['callback']}/cancel")
        assert (answer.status, answer.data) == (204, b"")
        assert task.progress()["state"] == "cancelled"


def test_the_operator_ends_it(shared: list[Node]) -> None:
    node = shared[0]
    file = node.directory / "data" / "operator.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(token(node)) == 52
    for scheme in ("Bearer", "bearer"):
        task = create(node, urls_of(shared))
        answer = send(node, "POST", f"/tasks/{ids(task)[0]}/cancel", Authorization=f"{scheme} {token(node)}")
        assert answer.status == 204
        assert task.progress()["state"] == "cancelled"
    # Of results and ends there is a record; of the token there is none.
    assert token(node) not in node.logged()
    assert token(node) not in "".join(node.output)


def test_nobody_else_ends_it(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    path = f"/tasks/{ids(task)[0]}/cancel"
    right = token(shared[0])
    for each in (token(shared[1]), right[:-1], right + "a", "", right.upper()):
        answer = send(shared[0], "POST", path, Authorization=f"Bearer {each}")
        body = problem(answer, 401, "CREDENTIALS_REFUSED", "call")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert right not in json.dumps(body)
    # Who has none, or some for somebody else, finds no task by the id that everybody knows.
    for headers in ({}, {"Authorization": f"Basic {right}"}, {"Authorization": right}):
        problem(send(shared[0], "POST", path, **headers), 404, "TASK_UNKNOWN", "call", "object")
    # The token is that of the operator of this node, and good for nothing but its tasks.
    answer = send(shared[0], "POST", f"/tasks/{NOBODY}/cancel", Authorization=f"Bearer {right}")
    problem(answer, 404, "TASK_UNKNOWN", "call")
    assert task.progress()["state"] == "created"
    task.delete()


def test_pages_of_strangers_end_nothing(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    answer = send(shared[0], "POST", f"/tasks/{task['callback']}/cancel", Origin="https://evil.example")
    problem(answer, 403, "ORIGIN_REFUSED", "policy", "evil.example")
    answer = send(shared[0], "GET", f"/tasks/{task['callback']}/events", Host="evil.example")
    problem(answer, 403, "HOST_UNKNOWN", "policy", "evil.example")
    assert task.progress()["state"] == "created"
    task.delete()


def test_where_the_token_is(tmp_path: Path, shared: list[Node]) -> None:
    """It survives a restart, may be elsewhere, and a node without a directory has none that anybody could know."""
    elsewhere = tmp_path / "secrets" / "token"
    with nodes(tmp_path, 1, f"--operator-token-file={elsewhere}") as (node,):
        first = elsewhere.read_text()
        node.restart()
        assert elsewhere.read_text() == first
        assert not (node.directory / "data" / "operator.token").exists()
        task = create(node, [node.url, shared[1].url])
        path = f"/tasks/{ids(task)[0]}/cancel"
        assert send(node, "POST", path, Authorization=f"Bearer {first.strip()}").status == 204
    with nodes(tmp_path / "ephemeral", 1, "--ephemeral") as (node,):
        assert list(node.directory.rglob("*.token")) == []
        task = create(node, [node.url, shared[1].url])
        path = f"/tasks/{ids(task)[0]}/cancel"
        for guess in ("", "a" * 52):
            problem(send(node, "POST", path, Authorization=f"Bearer {guess}"), 401, "CREDENTIALS_REFUSED", "call")
        assert send(node, "POST", f"/tasks/{task['callback']}/cancel").status == 204


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a" * 52)
    file.chmod(0o644)
    with pytest.raises(AssertionError, match="did not start.*operator's token.*chmod 600"):
        Node(tmp_path, 0, f"--operator-token-file={file}")
    file.chmod(0o600)
    file.write_text("short")
    with pytest.raises(AssertionError, match="does not hold an operator's token"):
        Node(tmp_path, 0, f"--operator-token-file={file}")
