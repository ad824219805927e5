"""compute() against a node that is played: what is asked of it, in which order, and what is given up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from conftest import Reply, Request, Server, problem

import fdrtd
from fdrtd import _api, _compute, _core

NODES = ["https://a.example/node/", "https://b.example/node/"]
RESULT = {"inputs": 2, "result": {"samples": 2, "sum": 3}}
ENTRY = {"task": "7f3", "microprotocol": "SecureSum", "nodes": NODES}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (_api, _compute, _core):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Simon:
    """The node. ``answers`` has for each function the replies to come; the last one stays."""

    def __init__(self, server: Server) -> None:
        task = Reply(201, '{"handle": "simon", "callback": "task"}')
        self.answers: dict[str, list[Reply]] = {
            "create": [task],
            "join": [task],
            "input": [Reply(204)],
            "result": [Reply(200, json.dumps(RESULT))],
            "invitations": [Reply(200, json.dumps([ENTRY]))],
            "progress": [Reply(200, json.dumps({"microprotocol": "SecureSum"}))],
            "cancel": [Reply(204)],
        }
        self.calls: list[tuple[str, Any]] = []
        server.respond = self.respond

    def respond(self, request: Request) -> Reply:
        if request.method == "PUT":
            return Reply(202, '"simon"')
        function, parameters = request.json["function"], request.json["parameters"]
        self.calls.append((function, parameters))
        replies = self.answers[function]
        return replies.pop(0) if len(replies) > 1 else replies[0]

    @property
    def functions(self) -> list[str]:
        return [function for function, _ in self.calls]


@pytest.fixture
def simon(server: Server) -> Simon:
    return Simon(server)


def network(myself: int) -> dict[str, object]:
    return {"nodes": NODES, "myself": myself}


def test_the_first_party_creates(simon: Simon, interface: fdrtd.HttpInterface) -> None:
    options: Any = {"parameters": {"digits_after": 3}, "durations": {"join": 5}}
    result = fdrtd.compute("SecureSum", [1, 2], network(0), **options, timeout=9, interface=interface)
    assert result == RESULT
    assert type(result) is fdrtd.Result
    assert simon.calls == [
        ("create", {"microprotocol": "SecureSum", "network": network(0), **options}),
        ("input", {"data": [1, 2]}),
        ("result", {"timeout": 9.0}),
    ]


def test_the_others_join_the_newest_that_is_the_same(
    simon: Simon, interface: fdrtd.HttpInterface, clock: Clock
) -> None:
    other = {**ENTRY, "task": "8a1", "differs": "the parameters"}
    newer = {**ENTRY, "task": "9b2"}
    simon.answers["invitations"] = [
        Reply(200, "[]"),
        Reply(200, json.dumps([other])),
        Reply(200, json.dumps([newer, ENTRY])),
    ]
    assert fdrtd.compute("SecureSum", 1, network(1), interface=interface) == RESULT
    asked = {"microprotocol": "SecureSum", "network": network(1), "timeout": 10.0}
    assert simon.calls == [
        *[("invitations", asked)] * 3,
        ("join", {"invitation": newer, "network": network(1)}),
        ("input", {"data": 1}),
        ("result", {}),
    ]
    assert clock.now == 1001.0  # a node that answers at once is not asked at once again


def test_a_task_that_another_call_took_is_left_to_it(simon: Simon, interface: fdrtd.HttpInterface) -> None:
    simon.answers["join"].insert(0, problem(409, code="MYSELF_TAKEN", message="taken"))
    assert fdrtd.compute("SecureSum", 1, network(1), interface=interface) == RESULT
    assert simon.functions == ["invitations", "join", "invitations", "join", "input", "result"]
    simon.answers["join"] = [problem(422, code="KEYS_DIFFER", message="keys differ")]
    with pytest.raises(fdrtd.InputError):
        fdrtd.compute("SecureSum", 1, network(1), interface=interface)


@pytest.mark.parametrize("myself", [0, 1])
def test_time_runs_out(simon: Simon, interface: fdrtd.HttpInterface, myself: int) -> None:
    simon.answers["invitations"] = [Reply(200, json.dumps([{**ENTRY, "differs": "the parameters"}]))]
    simon.answers["result"] = [Reply(204, headers={"Fdrtd-Waiting": "party 1 has not joined yet"})]
    with pytest.raises(fdrtd.NotReady) as caught:
        fdrtd.compute("SecureSum", 1, network(myself), timeout=3, interface=interface)
    error = caught.value
    assert error.message.startswith("no result after 3 s: party ")
    if myself == 0:
        assert "party 1 has not joined yet — the task — the task was cancelled" in str(error)
        assert simon.functions[-1] == "cancel"
    else:
        assert error.waiting == (
            "party 0 at https://a.example/node/ has not created this task yet "
            "(there is one with the same nodes, but the parameters differ)"
        )
        assert "nothing was joined" in str(error)
        assert set(simon.functions) == {"invitations"}


def test_without_a_limit_the_durations_are_the_limit(
    simon: Simon, interface: fdrtd.HttpInterface, clock: Clock
) -> None:
    simon.answers["invitations"] = [Reply(200, "[]")]
    with pytest.raises(fdrtd.NotReady, match="no result after 20 s"):
        fdrtd.compute("SecureSum", 1, network(1), durations={"join": 20}, interface=interface)
    assert 1020 <= clock.now < 1021


@pytest.mark.parametrize("function", ["input", "result"])
def test_what_goes_wrong_cancels_the_task(
    simon: Simon, interface: fdrtd.HttpInterface, function: str
) -> None:
    simon.answers[function] = [problem(422, code="INPUT_REFUSED", message="too large")]
    # That the node does not take the cancellation hides nothing.
    simon.answers["cancel"] = [problem(500, code="INTERNAL", message="failed")]
    with pytest.raises(fdrtd.InputError, match="too large"):
        fdrtd.compute("SecureSum", 1, network(0), interface=interface)
    assert simon.functions[-1] == "cancel"


def test_a_failed_task_needs_no_cancelling(simon: Simon, interface: fdrtd.HttpInterface) -> None:
    simon.answers["result"] = [problem(409, code="TASK_FAILED", message="no", cause={"code": "CANCELLED"})]
    with pytest.raises(fdrtd.TaskFailed):
        fdrtd.compute("SecureSum", 1, network(0), interface=interface)
    assert simon.functions == ["create", "input", "result"]


def test_a_wrong_value_costs_nobody_a_task(simon: Simon, interface: fdrtd.HttpInterface) -> None:
    with pytest.raises(fdrtd.InputError, match=r"data\[1\] is NaN"):
        fdrtd.compute("SecureSum", [1, float("nan")], network(0), interface=interface)
    assert simon.calls == []


def test_a_cancelled_await_cancels_the_task(simon: Simon, interface: fdrtd.HttpInterface) -> None:
    simon.answers["result"] = [Reply(204, headers={"Fdrtd-Waiting": "x"})]

    async def work() -> None:
        call = asyncio.ensure_future(fdrtd.aio_compute("SecureSum", 1, network(0), interface=interface))
        while "result" not in simon.functions:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(work())
    assert simon.functions[-1] == "cancel"


@pytest.mark.parametrize("form", ["object", "text", "link"])
def test_an_invitation_to_something_else_gets_no_input(
    simon: Simon, interface: fdrtd.HttpInterface, form: str
) -> None:
    invitation: Any = {"object": ENTRY, "text": json.dumps(ENTRY), "link": "fdrtd:abc"}[form]
    for name in (None, "SecureSum", "BasicSum"):
        assert fdrtd.compute(name, data=1, invitation=invitation, interface=interface) == RESULT
    simon.calls.clear()
    with pytest.raises(fdrtd.CallError, match="is to compute SecureSum, not SetIntersection"):
        fdrtd.compute("SetIntersection", data=1, invitation=invitation, interface=interface)
    assert simon.functions == (["join", "progress", "cancel"] if form == "link" else [])


def test_unusable_calls(simon: Simon, interface: fdrtd.HttpInterface) -> None:
    compute: Any = fdrtd.compute
    calls: list[tuple[dict[str, Any], str]] = [
        ({}, "needs microprotocol, or an invitation"),
        ({"microprotocol": "SecureSum", "data": 1}, "needs network, or an invitation"),
        ({"data": 1, "invitation": ENTRY}, "which node is yours"),
        ({"data": 1, "invitation": ENTRY, "parameters": {}}, "leave them out"),
        ({"data": 1, "invitation": ENTRY, "interface": 5}, "takes an HttpInterface or a URL, not int"),
        ({"microprotocol": "S", "network": {"nodes": NODES, "myself": 2}}, "place in it"),
        ({"microprotocol": "S", "network": {"nodes": NODES}}, "place in it"),
        ({"microprotocol": "S", "network": {"nodes": NODES, "myself": "0"}}, "place in it"),
        ({"microprotocol": "S", "network": network(0), "timeout": -1}, "0 or more"),
    ]
    for arguments, says in calls:
        with pytest.raises(fdrtd.Error, match=says) as caught:
            compute(**arguments)
        assert caught.value.side == "call"
        assert caught.value.hint
    assert simon.calls == []
