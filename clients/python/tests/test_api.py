from __future__ import annotations

import json
import threading
from decimal import Decimal
from typing import Any

import pytest
from conftest import Reply, Request, Server, problem

import fdrtd
from fdrtd import _api, _core

SERVICE = "914dfb33-ee96-47f0-bc23-58ae6c697d17"
WAITING = {"Fdrtd-Waiting": "party 2 (https://c.example/public3): it joined, no input yet"}
RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}


@pytest.fixture
def task(api: fdrtd.Api) -> fdrtd.Handle:
    return fdrtd.Handle(api, SERVICE, {"task": "7f3"}, {"protocol": "Simon"})


class Clock:
    """Stands for the module ``time``: only requests that say so, and pauses, let time pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_api, "time", clock)
    monkeypatch.setattr(_core, "time", clock)
    return clock


def test_recorded_listing(api: fdrtd.Api, server: Server) -> None:
    listing = [
        {"identifiers": {"microservice": "Barrier", "version": "0.2.0"}, "public": ["create", "arrive"]}
    ]
    server.script(Reply(200, json.dumps(listing, indent=2) + "\n"))
    assert api.list_microservices() == listing
    request = server.requests[0]
    assert (request.method, request.path, request.body) == ("GET", "/", b"")
    assert "text/html" not in request.headers["Accept"]


def test_select(api: fdrtd.Api, server: Server) -> None:
    server.script(Reply(202, f'"{SERVICE}"\n'))
    handle = api.select_microservice(namespace="fdrtd", microservice="KeyValueStorage")
    assert fdrtd.to_dict(handle) == {"handle": SERVICE, "callback": None}
    request = server.requests[0]
    assert (request.method, request.headers["Content-Type"]) == ("PUT", "application/json")
    assert request.json == {"namespace": "fdrtd", "microservice": "KeyValueStorage"}


def test_has_capabilities(api: fdrtd.Api, server: Server) -> None:
    server.script(
        Reply(202, f'"{SERVICE}"\n'),
        Reply(404, "\"microservice not available: {'microservice': 'Nonexistent'}\"\n"),
        problem(404, code="SERVICE_UNKNOWN", message="no such service"),
        problem(503, code="STARTING", message="the node is starting"),
        Reply(404, "<html>not here</html>", content_type="text/html"),
    )
    assert api.has_capabilities(microservice="KeyValueStorage") is True
    assert api.has_capabilities(microservice="Nonexistent") is False
    assert api.has_capabilities(microservice="Nonexistent") is False
    with pytest.raises(fdrtd.Unavailable):
        api.has_capabilities(microservice="Nonexistent")
    with pytest.raises(fdrtd.ConnectionFailed):
        api.has_capabilities(microservice="Nonexistent")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            '{\n  "a": [\n    1,\n    2.5,\n    "x",\n    null,\n    true\n  ]\n}\n',
            {"a": [1, 2.5, "x", None, True]},
        ),
        ("true\n", True),
        ("0\n", 0),
        ('""\n', ""),
        ("null", None),
        ("1180591620717411303424", 2**70),
        ('{"handle": "x", "callback": null}', {"handle": "x", "callback": None}),
    ],
)
def test_values(task: fdrtd.Handle, server: Server, text: str, value: Any) -> None:
    server.script(Reply(200, text))
    assert task.retrieve() == value


def test_answers_that_are_handles(task: fdrtd.Handle, server: Server) -> None:
    server.script(
        Reply(201, '{"callback": "2183", "handle": "2ab6"}'),
        Reply(202, '"116c"'),
        Reply(204),
        Reply(201, "5"),
    )
    assert fdrtd.to_dict(task.create()) == {"handle": "2ab6", "callback": "2183"}
    assert fdrtd.to_dict(task.create()) == {"handle": "116c", "callback": None}
    assert task.store(value=1) is None
    with pytest.raises(fdrtd.ConnectionFailed, match="ANSWER_UNUSABLE"):
        task.create()


@pytest.mark.parametrize("form", ["handle", "dict", "text", "other callback"])
def test_call_microservice_takes_every_form(
    api: fdrtd.Api, task: fdrtd.Handle, server: Server, form: str
) -> None:
    server.script(Reply(200, "1"))
    callback: Any = {"task": "7f3"}
    if form == "handle":
        api.call_microservice(task, "progress")
    elif form == "dict":
        api.call_microservice(fdrtd.to_dict(task), "progress", {})
    elif form == "text":
        api.call_microservice(SERVICE, "progress", None, callback)
    else:
        callback = "9"
        api.call_microservice(task, "progress", callback="9")
    assert server.requests[0].json == {
        "handle": SERVICE,
        "function": "progress",
        "parameters": {},
        "callback": callback,
    }


def test_what_is_no_handle_is_refused(api: fdrtd.Api) -> None:
    for wrong in (5, {"callback": 1}, None):
        with pytest.raises(fdrtd.CallError):
            api.call_microservice(wrong, "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"fdrtd\.Api\(fdrtd\.HttpInterface\(url\)\)"):
        fdrtd.Api("http://localhost")  # type: ignore[arg-type]


def test_numbers_travel_exactly(task: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(204))
    task.store(value=[Decimal("0.10"), 2**70, Decimal("1E+2")])
    assert b'{"value": [0.10, 1180591620717411303424, 100]}' in server.requests[0].body


def test_nothing_is_sent_when_a_value_is_unusable(task: fdrtd.Handle, server: Server) -> None:
    with pytest.raises(fdrtd.InputError, match=r"value\[3\] is NaN"):
        task.create(value=[1, 2, 3, float("nan")])
    assert server.requests == []


def test_result_asks_until_it_comes(task: fdrtd.Handle, server: Server, clock: Clock) -> None:
    server.script(*[Reply(204, headers=WAITING)] * 3, Reply(200, json.dumps(RESULT)))
    assert task.result() == RESULT
    assert [request.json["parameters"] for request in server.requests] == [{}] * 4
    assert server.connections == 1
    assert clock.pauses == [0.5] * 3  # answered at once, so not asked at once again


def test_a_node_that_holds_the_request_is_asked_at_once(
    task: fdrtd.Handle, server: Server, clock: Clock
) -> None:
    def hold(request: Request) -> Reply:
        clock.now += 10
        return Reply(204, headers=WAITING) if len(server.requests) < 5 else Reply(200, "1")

    server.respond = hold
    assert task.result() == 1
    assert clock.pauses == []


def test_result_with_a_limit(task: fdrtd.Handle, server: Server, clock: Clock) -> None:
    def hold(request: Request) -> Reply:
        clock.now += request.json["parameters"]["timeout"]
        return Reply(204, headers=WAITING)

    server.respond = hold
    with pytest.raises(fdrtd.NotReady) as caught:
        task.result(timeout=25, detail="full")
    assert [request.json["parameters"] for request in server.requests] == [
        {"detail": "full", "timeout": 10.0},
        {"detail": "full", "timeout": 10.0},
        {"detail": "full", "timeout": 5.0},
    ]
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.waiting == WAITING["Fdrtd-Waiting"]
    assert WAITING["Fdrtd-Waiting"] in str(caught.value)
    assert caught.value.code == "NOT_READY"


def test_compute_at_the_node_is_one_request(task: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(200, json.dumps(RESULT)))
    result = task.compute(microprotocol="SecureSum", data=[1, 2], network={})
    assert result == RESULT
    assert type(result) is fdrtd.Result
    parameters = {"microprotocol": "SecureSum", "data": [1, 2], "network": {}, "timeout": 10.0}
    assert [request.json["parameters"] for request in server.requests] == [parameters]
    with pytest.raises(fdrtd.InputError, match=r"data\[1\] is NaN"):
        task.compute(microprotocol="SecureSum", data=[1, float("nan")], network={})
    assert len(server.requests) == 1


@pytest.mark.parametrize(("rows", "holds"), [(10, [0.5, 2.0, 2.0]), (20_000, [60.0, 60.0, 60.0])])
def test_large_data_are_not_sent_every_few_seconds(
    interface: fdrtd.HttpInterface, server: Server, clock: Clock, rows: int, holds: list[float]
) -> None:
    simon = fdrtd.Handle(fdrtd.Api(interface, progress=True), SERVICE)

    def hold(request: Request) -> Reply:
        clock.now += request.json["parameters"]["timeout"]
        return Reply(200, "1") if len(server.requests) == 3 else Reply(204, headers=WAITING)

    server.respond = hold
    assert simon.compute(microprotocol="SecureSum", data=[1.5] * rows, network={}) == 1
    assert [request.json["parameters"]["timeout"] for request in server.requests] == holds
    assert {len(request.json["parameters"]["data"]) for request in server.requests} == {rows}


def test_result_with_limit_zero_asks_once(task: fdrtd.Handle, server: Server, clock: Clock) -> None:
    server.script(Reply(204, headers={"Fdrtd-Waiting": "M\u00fcnchen \x1b[31m".encode().decode("latin-1")}))
    with pytest.raises(fdrtd.NotReady) as caught:
        task.result(timeout=0)
    assert caught.value.waiting == "München \ufffd[31m"
    assert [request.json["parameters"] for request in server.requests] == [{"timeout": 0.0}]
    assert clock.pauses == []


def test_a_limit_that_is_reached_in_a_pause_ends_after_one_more_look(
    task: fdrtd.Handle, server: Server, clock: Clock
) -> None:
    server.script(Reply(204, headers=WAITING), Reply(200, "1"))
    assert task.result(timeout=0.25) == 1
    assert clock.pauses == [0.25]
    assert server.requests[1].json["parameters"] == {"timeout": 0.0}


def test_the_read_timeout_exceeds_the_hold(
    task: fdrtd.Handle, server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    original = fdrtd.HttpInterface.request

    def request(
        self: fdrtd.HttpInterface, *args: Any, read_timeout: float | None = None, **options: Any
    ) -> Any:
        seen.append(read_timeout)
        return original(self, *args, read_timeout=read_timeout, **options)

    monkeypatch.setattr(fdrtd.HttpInterface, "request", request)
    server.script(*[Reply(200, "1")] * 3)
    task.result()
    task.result(timeout=30)
    task.retrieve()
    assert seen == [_core.POLL_CAP + _core.GRACE, _core.POLL + _core.GRACE, None]


def test_result_none_is_a_value(task: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(204))
    assert task.result() is None


def test_only_result_waits(task: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(204, headers=WAITING))
    assert task.progress(timeout=99) is None
    assert server.requests[0].json["parameters"] == {"timeout": 99}


@pytest.mark.parametrize("timeout", [-1, "5", True, float("nan"), [1]])
def test_unusable_limits(task: fdrtd.Handle, server: Server, timeout: Any) -> None:
    with pytest.raises(fdrtd.InputError):
        task.result(timeout=timeout)
    assert server.requests == []


def test_a_failed_task_says_why(task: fdrtd.Handle, server: Server, clock: Clock) -> None:
    server.script(
        Reply(204, headers=WAITING),
        problem(
            409,
            code="PEER_SILENT",
            message="party 2 has been silent for 30 s",
            hint="ask its operator",
            cause="PEER_SILENT",
            party=2,
        ),
    )
    with pytest.raises(fdrtd.TaskFailed) as caught:
        task.result()
    assert (caught.value.cause, caught.value.party) == ("PEER_SILENT", 2)
    assert str(caught.value) == (
        "party 2 has been silent for 30 s — the task — ask its operator (PEER_SILENT)"
    )


def test_threads_share_an_interface(task: fdrtd.Handle, server: Server) -> None:
    server.respond = lambda request: Reply(200, json.dumps(request.json["parameters"]["value"]))
    values: dict[int, list[int]] = {}

    def work(number: int) -> None:
        values[number] = [task.echo(value=number * 1000 + step) for step in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == {number: [number * 1000 + step for step in range(20)] for number in range(8)}
    assert server.connections <= 8
