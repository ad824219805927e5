"""The tutorial, word for word, against three stand-ins for nodes that add in the clear."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Reply, Request, Server, problem

import fdrtd


class FakeNodes:
    """Answers as nodes do, at as many path prefixes as there are parties, and knows only the tutorial."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.parties = 0

    def respond(self, request: Request) -> Reply:
        if request.method == "PUT":
            return Reply(202, json.dumps("/".join(["service", *request.json.values()])))
        call = request.json
        service, function, parameters = call["handle"], call["function"], call["parameters"]
        if service == "service/KeyValueStorage":
            return self.storage(function, parameters, call.get("callback"), request.path)
        return self.simon(function, parameters, request.path)

    def storage(self, function: str, parameters: Any, callback: Any, path: str) -> Reply:
        if function == "create":
            key = f"{path}#{len(self.values)}"
            self.values[key] = parameters["value"]
            callback = {"storage": "default", "uuid": key}
            return Reply(201, json.dumps({"handle": "service/KeyValueStorage", "callback": callback}))
        del self.values[callback["uuid"]]
        return Reply(204)

    def simon(self, function: str, parameters: Any, path: str) -> Reply:
        if function in ("create", "join"):
            self.parties = len(parameters["network"]["nodes"])
            return Reply(201, json.dumps({"handle": "service/Simon", "callback": path}))
        if function == "invite":
            return Reply(200, json.dumps({"task": "7f3", "microprotocol": "BasicSum"}))
        if function == "input":
            self.inputs[path] = self.values[parameters["source"]["callback"]["uuid"]]
            return Reply(204)
        if function != "result":
            return problem(403, code="NOT_PUBLIC", message=f"{function} is not public")
        if len(self.inputs) < self.parties:
            return Reply(204, headers={"Fdrtd-Waiting": "waiting for inputs"})
        result = {"samples": len(self.inputs), "sum": sum(self.inputs.values())}
        return Reply(200, json.dumps({"inputs": len(self.inputs), "result": result}))


def test_tutorial(server: Server) -> None:
    fake = FakeNodes()
    server.respond = fake.respond
    nodes = [f"{server.url}/public{number}" for number in (1, 2, 3)]

    network_A = {"nodes": nodes, "myself": 0}  # noqa: N806
    network_B = {"nodes": nodes, "myself": 1}  # noqa: N806
    network_C = {"nodes": nodes, "myself": 2}  # noqa: N806
    api_A = fdrtd.Api(fdrtd.HttpInterface(nodes[0]))  # noqa: N806
    api_B = fdrtd.Api(fdrtd.HttpInterface(nodes[1]))  # noqa: N806
    api_C = fdrtd.Api(fdrtd.HttpInterface(nodes[2]))  # noqa: N806
    protocol_A = api_A.select_microservice(protocol="Simon")  # noqa: N806
    protocol_B = api_B.select_microservice(protocol="Simon")  # noqa: N806
    protocol_C = api_C.select_microservice(protocol="Simon")  # noqa: N806
    task_A = protocol_A.create(microprotocol="BasicSum", network=network_A)  # noqa: N806
    invitation = task_A.invite()
    task_B = protocol_B.join(invitation=invitation, network=network_B)  # noqa: N806
    task_C = protocol_C.join(invitation=invitation, network=network_C)  # noqa: N806
    kvstorage_A = api_A.select_microservice(microservice="KeyValueStorage")  # noqa: N806
    kvstorage_B = api_B.select_microservice(microservice="KeyValueStorage")  # noqa: N806
    kvstorage_C = api_C.select_microservice(microservice="KeyValueStorage")  # noqa: N806
    data_A = kvstorage_A.create(value=10)  # noqa: N806
    data_B = kvstorage_B.create(value=9)  # noqa: N806
    data_C = kvstorage_C.create(value=12)  # noqa: N806
    task_A.input(source=data_A)
    task_B.input(source=data_B)
    with pytest.raises(fdrtd.NotReady, match="waiting for inputs"):
        task_A.result(timeout=0)
    task_C.input(source=data_C)
    for task in (task_A, task_B, task_C):
        assert task.result() == {"inputs": 3, "result": {"samples": 3, "sum": 31}}
    for data in (data_A, data_B, data_C):
        data.delete()
    assert fake.values == {}
    for api in (api_A, api_B, api_C):
        api._interface.close()
