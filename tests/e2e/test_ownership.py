"""What belongs to one caller does not exist for another: every service function, by handle and by task id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from access import ask, operator, refusal, token
from harness import DURATIONS, Node, nodes

UNKNOWN = "11111111-2222-4333-8444-555555555555"
# What somebody else gets for an object of this service's function: the same as for none ("hidden"), or it is a meeting
# point ("shared"), or it needs no object ("own": what it makes or gives is the caller's). A function without a line
# here fails the test.
DECIDED = {
    ("KeyValueStorage", "create"): "own",
    ("KeyValueStorage", "store"): "hidden",
    ("KeyValueStorage", "retrieve"): "hidden",
    ("KeyValueStorage", "exists"): "hidden",
    ("KeyValueStorage", "delete"): "hidden",
    ("Barrier", "create"): "shared",
    ("Barrier", "arrive"): "shared",
    ("Barrier", "arrived"): "shared",
    ("Barrier", "depart"): "shared",
    ("Barrier", "departed"): "shared",
    ("Barrier", "reset"): "shared",
    ("Barrier", "delete"): "shared",
    ("Barrier", "wait"): "shared",
    ("Barrier", "wait_departed"): "shared",
    ("Broadcast", "create"): "shared",
    ("Broadcast", "send"): "shared",
    ("Broadcast", "receive"): "shared",
    ("Broadcast", "delete"): "shared",
    ("Broadcast", "wait"): "shared",
    ("Simon", "create"): "own",
    ("Simon", "join"): "own",
    ("Simon", "create_task"): "own",
    ("Simon", "join_task"): "own",
    ("Simon", "compute"): "own",
    ("Simon", "get_task"): "own",
    ("Simon", "invitations"): "own",
    ("Simon", "invite"): "hidden",
    ("Simon", "input"): "hidden",
    ("Simon", "start"): "hidden",
    ("Simon", "result"): "hidden",
    ("Simon", "progress"): "hidden",
    ("Simon", "receipt"): "hidden",
    ("Simon", "cancel"): "hidden",
    ("Simon", "delete"): "hidden",
}
PARAMETERS = {
    "store": {"value": 5},
    "arrive": {"party": 1},
    "depart": {"party": 1},
    "send": {"message": "x"},
    "input": {"data": 1},
    "result": {"timeout": 0},
}


class Caller:
    """Somebody at a node, with or without a token."""

    def __init__(self, node: Node, credentials: str | None) -> None:
        self.node = node
        self.token = credentials

    def ask(self, method: str, page: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
        return ask(self.node, method, page, body, token=self.token)

    def service(self, name: str) -> str:
        status, _, body = self.ask("PUT", "", {"microservice": name})
        assert status == 202, body
        return str(json.loads(body))

    def call(
        self, service: str, function: str, parameters: Any, callback: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        body = {"handle": self.service(service), "function": function, "parameters": parameters}
        return self.ask("POST", "", body | ({} if callback is None else {"callback": callback}))

    def make(self, service: str, parameters: Any) -> Any:
        status, _, body = self.call(service, "create", parameters)
        assert status == 201, body
        return json.loads(body)["callback"]


def network(node: Node) -> dict[str, Any]:
    return {"nodes": [node.url, "http://127.0.0.1:9/nobody"], "myself": 0}


def task_of(caller: Caller) -> tuple[str, str]:
    """The object's id and the task's."""
    parameters = {"microprotocol": "SecureSum", "network": network(caller.node), "durations": DURATIONS}
    made = caller.make("Simon", parameters)
    status, _, body = caller.call("Simon", "invite", {}, made)
    assert status == 200
    return str(made), str(json.loads(body)["task"])


@pytest.fixture
def node(tmp_path: Path) -> Any:
    data = tmp_path / "node0" / "data"
    made = {name: token(data, name, role) for name, role in (("anna", "analyst"), ("ben", "analyst"))}
    made |= {name: token(data, name, role) for name, role in (("vera", "viewer"), ("olga", "owner"))}
    with nodes(tmp_path, 1, "--anonymous=yes") as (started,):
        callers = {name: Caller(started, made[name]) for name in made}
        callers["operator"] = Caller(started, operator(started))
        callers["nobody"] = Caller(started, None)
        started.callers = callers  # type: ignore[attr-defined]
        yield started


def same(one: tuple[int, dict[str, str], bytes], other: tuple[int, dict[str, str], bytes]) -> bool:
    """To the letter, the time of day aside."""
    return one[0] == other[0] and one[2] == other[2] and set(one[1]) == set(other[1])


def test_every_function_of_every_service_is_decided_and_hides_what_is_anothers(node: Any) -> None:
    anna = node.callers["anna"]
    catalogue = json.loads(anna.ask("GET", "")[2])
    functions = {(each["identifiers"]["microservice"], name) for each in catalogue for name in each["public"]}
    assert functions == set(DECIDED)
    value = anna.make("KeyValueStorage", {"value": 4711})
    made, identifier = task_of(anna)
    objects: dict[str, tuple[Any, Any]] = {
        "KeyValueStorage": (value, {"storage": "default", "uuid": UNKNOWN}),
        "Simon": (made, UNKNOWN),
    }
    for (service, function), decided in DECIDED.items():
        if decided != "hidden":
            continue
        for name in ("ben", "olga", "operator", "nobody"):
            stranger = node.callers[name]
            hers, none = (
                stranger.call(service, function, PARAMETERS.get(function, {}), callback)
                for callback in objects[service]
            )
            assert same(hers, none), (service, function, name, hers, none)
            if function != "exists":
                assert refusal(hers) == (404, "OBJECT_UNKNOWN")
        if service == "Simon":
            by_task = node.callers["ben"].call(service, function, PARAMETERS.get(function, {}), identifier)
            assert refusal(by_task) == (404, "OBJECT_UNKNOWN")
        viewer = node.callers["vera"].call(service, function, {}, objects[service][0])
        assert refusal(viewer) == (403, "ROLE_REFUSED")
    # It is all still there.
    assert anna.call("KeyValueStorage", "retrieve", {}, value)[2].strip() == b"4711"
    assert json.loads(anna.call("Simon", "progress", {}, made)[2])["task"] == identifier


def test_anothers_value_is_no_input(node: Any) -> None:
    anna, ben = node.callers["anna"], node.callers["ben"]
    hers = {"handle": anna.service("KeyValueStorage"), "callback": anna.make("KeyValueStorage", {"value": 4711})}
    none = {"handle": hers["handle"], "callback": {"storage": "default", "uuid": UNKNOWN}}
    made, _ = task_of(ben)
    for service, function, name, callback in (
        ("Simon", "input", "source", made),
        ("KeyValueStorage", "create", "value", None),
        ("Broadcast", "send", "message", ben.make("Broadcast", {"tokens": ["x"]})),
    ):
        answers = [ben.call(service, function, {name: {"deep": reference}}, callback) for reference in (hers, none)]
        answers += [ben.call(service, function, {name: reference}, callback) for reference in (hers, none)]
        assert refusal(answers[0]) == (404, "OBJECT_UNKNOWN")
        assert all(same(answer, answers[0]) for answer in answers), answers


def test_one_way_is_one_way(node: Any) -> None:
    anna = node.callers["anna"]
    callback = anna.make("KeyValueStorage", {"value": 4711, "one_way": True})
    reference = {"handle": anna.service("KeyValueStorage"), "callback": callback}
    refused = (403, "VALUE_ONE_WAY")
    assert refusal(anna.call("KeyValueStorage", "retrieve", {}, callback)) == refused
    point = anna.make("Broadcast", {"tokens": ["x"]})
    barrier = anna.make("Barrier", {"tokens": ["x"]})
    wanted = network(node) | {"myself": reference}
    for service, function, parameters, at in (
        ("KeyValueStorage", "create", {"value": reference}, None),
        ("KeyValueStorage", "create", {"value": [{"x": reference}]}, None),
        ("KeyValueStorage", "store", {"value": reference}, anna.make("KeyValueStorage", {"value": 1})),
        ("Broadcast", "send", {"message": reference}, point),
        ("Barrier", "arrive", {"party": reference}, barrier),
        ("Simon", "create", {"microprotocol": "SecureSum", "network": network(node), "parameters": reference}, None),
        ("Simon", "create", {"microprotocol": reference, "network": network(node)}, None),
        ("Simon", "invitations", {"microprotocol": reference}, None),
        ("Simon", "compute", {"microprotocol": reference, "data": 1, "network": network(node)}, None),
        ("Simon", "compute", {"microprotocol": "SecureSum", "data": 1, "network": wanted}, None),
    ):
        answer = anna.call(service, function, parameters, at)
        assert refusal(answer) == refused, (service, function, answer)
        assert b"4711" not in answer[2]
    made, _ = task_of(anna)
    assert anna.call("Simon", "input", {"source": reference}, made)[0] == 204
    assert b"4711" not in anna.call("Simon", "progress", {}, made)[2]
    assert anna.call("KeyValueStorage", "store", {"value": 4712}, callback)[0] == 204
    assert refusal(anna.call("KeyValueStorage", "retrieve", {}, callback)) == refused
    assert refusal(node.callers["ben"].call("KeyValueStorage", "retrieve", {}, callback)) == (404, "OBJECT_UNKNOWN")
    assert anna.call("KeyValueStorage", "delete", {}, callback)[0] == 204


def test_who_sees_a_task_and_who_ends_it(node: Any) -> None:
    made, identifier = task_of(node.callers["anna"])
    theirs, anonymous = task_of(node.callers["nobody"])
    pages = ("", "/events")
    listed = {
        name: {task["task"] for task in json.loads(caller.ask("GET", "/tasks")[2])["tasks"]}
        for name, caller in node.callers.items()
    }
    everything = {identifier, anonymous}
    assert listed == {
        "anna": {identifier},
        "ben": set(),
        "nobody": set(),
        "vera": everything,
        "olga": everything,
        "operator": everything,
    }
    for page in pages:
        for name, caller in node.callers.items():
            sees = name in ("anna", "vera", "olga", "operator")
            assert caller.ask("HEAD", f"/tasks/{identifier}{page}")[0] == (200 if sees else 404), (name, page)
            # By its object's id a task is its owner's only.
            assert caller.ask("HEAD", f"/tasks/{made}{page}")[0] == (200 if name == "anna" else 404), (name, page)
        assert node.callers["nobody"].ask("HEAD", f"/tasks/{theirs}{page}")[0] == 200
        assert node.callers["nobody"].ask("HEAD", f"/tasks/{anonymous}{page}")[0] == 404
    for name in ("ben", "nobody"):
        stranger = node.callers[name]
        none = stranger.ask("POST", f"/tasks/{UNKNOWN}/cancel")
        for key in (identifier, made):
            answer = stranger.ask("POST", f"/tasks/{key}/cancel")
            assert refusal(answer) == (404, "TASK_UNKNOWN")
            assert same(answer, none)
    assert refusal(node.callers["vera"].ask("POST", f"/tasks/{identifier}/cancel")) == (403, "ROLE_REFUSED")
    assert node.callers["anna"].ask("POST", f"/tasks/{identifier}/cancel")[0] == 204
    assert node.callers["olga"].ask("POST", f"/tasks/{anonymous}/cancel")[0] == 204
    _, again = task_of(node.callers["ben"])
    assert node.callers["operator"].ask("POST", f"/tasks/{again}/cancel")[0] == 204


def test_meeting_points_are_for_all_who_may_meet(node: Any) -> None:
    anna, ben = node.callers["anna"], node.callers["ben"]
    point = anna.make("Broadcast", {"tokens": ["a", "b"]})
    assert anna.call("Broadcast", "send", {"message": "hello"}, point)[0] == 204
    assert ben.make("Broadcast", {"tokens": ["a", "b"]}) == point
    assert ben.call("Broadcast", "receive", {}, point)[2].strip() == b'"hello"'
    assert node.callers["nobody"].call("Broadcast", "receive", {}, point)[2].strip() == b'"hello"'
    assert refusal(node.callers["vera"].ask("POST", "", {})) == (403, "ROLE_REFUSED")


def test_each_has_a_share_of_the_room(tmp_path: Path) -> None:
    config = tmp_path / "fdrtd.toml"
    shares = ("tasks", "objects", "points")
    config.write_text("[limits]\n" + "".join(f"{name}_per_principal = 2\n" for name in shares))
    data = tmp_path / "node0" / "data"
    made = [token(data, name, "analyst") for name in ("anna", "ben")]
    with nodes(tmp_path, 1, f"--config={config}") as (node,):
        anna, ben = (Caller(node, credentials) for credentials in made)
        task = {"microprotocol": "SecureSum", "network": network(node)}
        for service, parameters in (
            ("KeyValueStorage", [{"value": number} for number in range(3)]),
            ("Barrier", [{"tokens": [str(number)]} for number in range(3)]),
            ("Broadcast", [{"tokens": [str(number)]} for number in range(3)]),
            ("Simon", [task] * 3),
        ):
            first = [anna.make(service, each) for each in parameters[:2]][0]
            refused = anna.call(service, "create", parameters[2])
            assert refusal(refused) == (429, "QUOTA"), service
            assert b"caller" in refused[2]
            ben.make(service, parameters[2])
            assert anna.call(service, "delete", {}, first)[0] == 204
            anna.make(service, parameters[0])
        metrics = ask(node, page="/metrics", token=operator(node))[2].decode()
        for name, hits in (("tasks", 1), ("objects", 1), ("points", 2)):
            assert f'fdrtd_limit_hits_total{{limit="{name}_per_principal"}} {hits}\n' in metrics


def test_an_anonymous_caller_finds_only_what_it_can_describe(tmp_path: Path) -> None:
    with nodes(tmp_path, 2) as (first, second):
        whole: dict[str, Any] = {
            "microprotocol": "SecureSum",
            "network": {"nodes": [first.url, second.url], "myself": 0},
        }
        Caller(first, None).make("Simon", whole)
        anybody = Caller(second, None)
        found = whole | {"network": {**whole["network"], "myself": 1}}
        status, _, body = anybody.call("Simon", "invitations", found | {"timeout": 30})
        assert status == 200
        assert len(json.loads(body)) == 1
        for less in ({}, {"microprotocol": "SecureSum"}, {"network": found["network"]}):
            assert json.loads(anybody.call("Simon", "invitations", less)[2]) == []
        near = found | {"parameters": {"digits_after": 3}}
        (other,) = json.loads(anybody.call("Simon", "invitations", near)[2])
        assert set(other) == {"microprotocol", "nodes", "differs"}
        assert json.loads(anybody.ask("GET", "/tasks")[2]) == {"tasks": [], "invitations": []}
        known = Caller(second, operator(second))
        assert len(json.loads(known.call("Simon", "invitations", {})[2])) == 1
        assert len(json.loads(known.ask("GET", "/tasks")[2])["invitations"]) == 1
