from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from conftest import Reply, Server, problem

import fdrtd

SECRET = 987654321
SIDES = {
    "call": "your call",
    "way": "the way to your node",
    "node": "your node",
    "policy": "your node's policy",
    "peer": "another node",
    "task": "the task",
}


@pytest.fixture
def task(api: fdrtd.Api) -> fdrtd.Handle:
    return fdrtd.Handle(api, "914dfb33", {"task": "7f3"})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, fdrtd.InputError),
        (401, fdrtd.Forbidden),
        (403, fdrtd.Forbidden),
        (404, fdrtd.NotFound),
        (409, fdrtd.WrongState),
        (413, fdrtd.InputError),
        (415, fdrtd.InputError),
        (418, fdrtd.Error),
        (422, fdrtd.InputError),
        (429, fdrtd.TooManyRequests),
        (500, fdrtd.NodeError),
        (502, fdrtd.Unavailable),
        (503, fdrtd.Unavailable),
        (504, fdrtd.Unavailable),
        (507, fdrtd.NodeError),
    ],
)
@pytest.mark.parametrize("form", ["problem", "JSON string", "empty"])
def test_every_status_has_its_class(
    task: fdrtd.Handle, server: Server, status: int, kind: type[fdrtd.Error], form: str
) -> None:
    if form == "problem":
        server.script(problem(status, code="SOME_CODE", message="what", hint="do this", party=1, at=[3]))
    elif form == "JSON string":
        server.script(Reply(status, '"function not public: frobnicate"\n'))
    else:
        server.script(Reply(status))
    with pytest.raises(fdrtd.Error) as caught:
        task.store(value=SECRET)
    error = caught.value
    assert error.status == status
    assert error.code
    if form == "problem":
        assert type(error) is kind
        assert (error.code, error.message, error.hint, error.party) == ("SOME_CODE", "what", "do this", 1)
        assert error.extra == {"party": 1, "at": [3]}
        side = f" — {SIDES[error.side]}" if error.side else ""
        assert str(error) == f"what{side} — do this (SOME_CODE)"
    elif form == "JSON string":
        assert type(error) is kind
        assert error.message == "function not public: frobnicate"
    elif status == 404:
        assert type(error) is fdrtd.ConnectionFailed
        assert error.code == "NOT_A_NODE"
    else:
        assert type(error) is kind
    assert str(SECRET) not in str(error)
    assert str(SECRET) not in repr(error)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (fdrtd.InputError, ValueError),
        (fdrtd.NotFound, LookupError),
        (fdrtd.NotReady, TimeoutError),
        (fdrtd.CallError, TypeError),
        (fdrtd.TaskFailed, fdrtd.WrongState),
    ],
)
def test_the_tree(kind: type[fdrtd.Error], builtin: type[Exception]) -> None:
    assert issubclass(kind, fdrtd.Error)
    assert issubclass(kind, builtin)


def test_a_failed_task_is_told_by_its_cause(task: fdrtd.Handle, server: Server) -> None:
    server.script(
        problem(409, code="ALREADY_STARTED", message="it has started", hint="pass a list"),
        problem(409, code="EXPIRED", message="nobody came", cause={"code": "NOT_JOINED"}),
    )
    with pytest.raises(fdrtd.WrongState) as caught:
        task.input(data=1)
    assert type(caught.value) is fdrtd.WrongState
    with pytest.raises(fdrtd.TaskFailed) as failed:
        task.input(data=1)
    assert failed.value.cause == {"code": "NOT_JOINED"}


def test_recorded_problem_of_an_older_server(task: fdrtd.Handle, server: Server) -> None:
    detail = "None is not of type 'object' - 'parameters'"
    body = {"detail": detail, "status": 400, "title": "Bad Request", "type": "about:blank"}
    server.script(Reply(400, json.dumps(body, indent=2) + "\n", content_type="application/problem+json"))
    with pytest.raises(fdrtd.InputError) as caught:
        task.create()
    assert (caught.value.message, caught.value.code) == (detail, "BAD_REQUEST")


def test_plain_text_of_an_older_server(task: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(500, "out of order\n", content_type="text/plain; charset=utf-8"))
    with pytest.raises(fdrtd.NodeError) as caught:
        task.create()
    assert caught.value.message == "out of order"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404, "<html>404</html>", content_type="text/html"),
        Reply(404, "404 page not found\n", content_type="text/plain"),
        Reply(404),
        Reply(404, '{"error": "no route"}'),
        # Web frameworks write problems for paths they do not know.
        Reply(404, '{"title": "Not Found", "status": 404}', content_type="application/problem+json"),
        Reply(405, "<html>405</html>", content_type="text/html"),
        Reply(501, "<html>501</html>", content_type="text/html"),
        Reply(200, "<html>welcome</html>", content_type="text/html"),
        Reply(200, '"a text"'),
        Reply(200, "[" * 100_000),
    ],
)
def test_what_is_not_a_node(api: fdrtd.Api, server: Server, reply: Reply) -> None:
    server.script(reply, reply)
    with pytest.raises(fdrtd.ConnectionFailed) as caught:
        api.select_microservice(microservice="Simon")
    assert caught.value.code == "NOT_A_NODE"
    assert caught.value.status == reply.status
    assert "check the path in the URL" in str(caught.value)
    with pytest.raises(fdrtd.ConnectionFailed):
        api.list_microservices()


def test_pages_of_proxies_are_not_quoted(task: fdrtd.Handle, server: Server) -> None:
    page = "<html><h1>413 Request Entity Too Large</h1><script>x</script></html>"
    server.script(Reply(413, page, content_type="text/html"))
    with pytest.raises(fdrtd.InputError) as caught:
        task.create()
    assert "<" not in str(caught.value)
    assert caught.value.code == "TOO_LARGE"


def test_texts_of_servers_are_fit_for_a_terminal(task: fdrtd.Handle, server: Server) -> None:
    server.script(problem(400, code="A\x07B", message="a\x1b[31m\n b" + "x" * 9000, hint=["no", "text"]))
    with pytest.raises(fdrtd.InputError) as caught:
        task.create()
    assert caught.value.code == "A\ufffdB"
    assert caught.value.message.startswith("a\ufffd[31m bxxx")
    assert len(caught.value.message) <= 2001
    assert caught.value.hint is None


def test_retry_after(task: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(429, headers={"Retry-After": "7"}))
    with pytest.raises(fdrtd.TooManyRequests) as caught:
        task.create()
    assert caught.value.extra["retry_after"] == "7"


@pytest.mark.parametrize(
    "kind", [fdrtd.Error, fdrtd.InputError, fdrtd.NotReady, fdrtd.CallError, fdrtd.TaskFailed]
)
def test_exceptions_can_cross_processes(kind: type[fdrtd.Error]) -> None:
    members: dict[str, Any] = {"code": "C", "hint": "h", "status": 409, "extra": {"cause": 1, "waiting": "w"}}
    error = pickle.loads(pickle.dumps(kind("message", **members, side="peer")))
    assert type(error) is kind
    assert str(error) == "message — another node — h (C)"
    assert (error.status, error.extra) == (409, members["extra"])


def test_the_text_of_an_error() -> None:
    assert str(fdrtd.Error("m")) == "m"
    assert str(fdrtd.Error("m", hint="h")) == "m — h"
    assert str(fdrtd.Error("m", code="C")) == "m (C)"
    assert str(fdrtd.Error("m", side="peer")) == "m — another node"
    assert str(fdrtd.InputError("m", hint="h", code="C")) == "m — your call — h (C)"
    assert str(fdrtd.InputError("m", side="policy")) == "m — your node's policy"


@pytest.mark.parametrize(("side", "text"), SIDES.items())
def test_the_node_tells_the_side(task: fdrtd.Handle, server: Server, side: str, text: str) -> None:
    server.script(problem(409, code="C", message="what", hint="do this", side=side))
    with pytest.raises(fdrtd.WrongState) as caught:
        task.create()
    assert (caught.value.side, caught.value.extra) == (side, {})
    assert str(caught.value) == f"what — {text} — do this (C)"


def test_a_side_that_nobody_knows_is_not_shown(task: fdrtd.Handle, server: Server) -> None:
    for side in ("elsewhere\x1b[31m", 5, None, ["call"]):
        server.script(problem(422, code="C", message="what", side=side))
        with pytest.raises(fdrtd.InputError) as caught:
            task.create()
        assert (caught.value.side, str(caught.value)) == ("call", "what — your call (C)")


def test_a_path_without_a_node_is_no_missing_service(api: fdrtd.Api, server: Server) -> None:
    problem = {
        "status": 404,
        "code": "PATH_UNKNOWN",
        "message": "there is nothing under this path",
        "hint": "the nodes here are under /public1; check the path of the URL",
    }
    server.script(Reply(404, json.dumps(problem), content_type="application/problem+json"))
    with pytest.raises(fdrtd.ConnectionFailed) as caught:
        api.has_capabilities(microservice="Simon")
    assert caught.value.code == "NOT_A_NODE"
    assert "/public1" in str(caught.value)
