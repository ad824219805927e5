"""AsyncApi: the same names, many calls at once, and cancelling."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
from conftest import Reply, Request, Server, problem

import fdrtd
from fdrtd import _aio, _core

WAITING = {"Fdrtd-Waiting": "party 1 has not joined yet"}
SERVICE = "914dfb33-ee96-47f0-bc23-58ae6c697d17"
PUBLIC = sorted(name for name in vars(fdrtd.Api) if not name.startswith("_"))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


class Holding:
    """A node that holds requests for results until their input has come, or their time is over."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.inputs: set[str] = set()
        self.held = 0
        self.closing = False

    def respond(self, request: Request) -> Reply:
        call = request.json
        if call["function"] == "input":
            with self.changed:
                self.inputs.add(call["callback"])
                self.changed.notify_all()
            return Reply(204)
        with self.changed:
            self.held += 1
            self.changed.notify_all()
            self.changed.wait_for(
                lambda: call["callback"] in self.inputs or self.closing, call["parameters"]["timeout"]
            )
            self.held -= 1
            if call["callback"] not in self.inputs:
                return Reply(204, headers=WAITING)
        return Reply(200, json.dumps({"inputs": 1, "result": call["callback"]}))

    def wait_until_held(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.held >= count, 60)


@pytest.fixture
def holding(server: Server) -> Holding:
    holding = Holding()
    server.respond = holding.respond
    return holding


def test_the_same_names() -> None:
    handles = ["call_microservice", "has_capabilities", "list_microservices", "select_microservice"]
    assert sorted([*handles, "create", "download", "list", "release", "upload"]) == PUBLIC
    assert set(PUBLIC) <= set(vars(fdrtd.AsyncApi))


def test_the_same_answers(server: Server) -> None:
    async def work() -> None:
        async with fdrtd.AsyncApi(fdrtd.HttpInterface(server.url)) as api:
            server.script(
                Reply(200, "[]"),
                Reply(202, json.dumps(SERVICE)),
                problem(404, code="SERVICE_UNKNOWN", message="no"),
                Reply(201, json.dumps({"handle": SERVICE, "callback": "7f3"})),
                Reply(204, headers=WAITING),
                Reply(200, '{"inputs": 3, "result": 31}'),
                problem(422, code="INPUT_REFUSED", message="no"),
                Reply(204, headers=WAITING),
            )
            assert await api.list_microservices() == []
            simon = await api.select_microservice(protocol="Simon")
            assert not await api.has_capabilities(protocol="Simno")
            task = await simon.create(microprotocol="SecureSum")
            assert fdrtd.to_dict(task) == {"handle": SERVICE, "callback": "7f3"}
            result = await task.result()
            assert type(result) is fdrtd.Result
            with pytest.raises(fdrtd.InputError):
                await task.input(data=1)
            with pytest.raises(fdrtd.NotReady, match="party 1 has not joined yet"):
                await task.result(timeout=0)
            with pytest.raises(fdrtd.CallError, match="write input"):
                await task.input(1)

    run(work())
    assert server.requests[4].json["parameters"] == {"timeout": _core.LOOK}


def test_more_results_than_threads_do_not_keep_an_input_waiting(server: Server, holding: Holding) -> None:
    count = 3 * _aio.WAITERS

    async def work() -> list[Any]:
        async with fdrtd.AsyncApi(fdrtd.HttpInterface(server.url)) as api:
            tasks = [fdrtd.Handle(api, SERVICE, str(number)) for number in range(count)]
            results = [asyncio.ensure_future(task.result()) for task in tasks]
            await asyncio.to_thread(holding.wait_until_held, _aio.WAITERS)
            # All threads for waiting are taken; inputs have their own.
            await asyncio.gather(*(task.input(data=1) for task in tasks))
            return await asyncio.gather(*results)

    assert [result["result"] for result in run(work())] == [str(number) for number in range(count)]
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("fdrtd-")}
    assert len(names) <= _aio.CALLERS + _aio.WAITERS


def test_cancelling_returns_at_once_and_breaks_nothing(server: Server, holding: Holding) -> None:
    async def work() -> None:
        async with fdrtd.AsyncApi(fdrtd.HttpInterface(server.url)) as api:
            task = fdrtd.Handle(api, SERVICE, "7f3")
            result = asyncio.ensure_future(task.result())
            await asyncio.to_thread(holding.wait_until_held, 1)
            result.cancel()
            with pytest.raises(asyncio.CancelledError):
                await result
            # Nobody has answered yet: the request is still held, and its thread with it.
            assert holding.held == 1
            await task.input(data=1)
            assert (await task.result())["result"] == "7f3"
            assert api._held == 0

    run(work())


def test_an_api_outlives_its_event_loop(server: Server) -> None:
    server.respond = lambda request: Reply(200, "[]")
    api = fdrtd.AsyncApi(fdrtd.HttpInterface(server.url))
    for _ in range(2):
        assert run(api.list_microservices()) == []
    twin = pickle.loads(pickle.dumps(fdrtd.Handle(api, SERVICE)))
    assert run(twin._api.list_microservices()) == []
    run(api.close())
    run(twin._api.close())
    assert run(api.list_microservices()) == []
    run(api.close())


def test_what_is_no_interface_is_refused() -> None:
    with pytest.raises(fdrtd.CallError, match=r"write fdrtd\.AsyncApi\(fdrtd\.HttpInterface\(url\)\)"):
        fdrtd.AsyncApi("http://localhost")  # type: ignore[arg-type]
