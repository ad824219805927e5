"""The handle API over raw HTTP: every status and shape of generation 0.2, and what is better than there.

Where the recorded node of that generation answered with an empty 500, ours says what is wrong, as problem+json.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fdrtd
import pytest
import urllib3
from harness import Node, make_task, until, urls_of

JSON = "application/json"
ALLOW = {"OPTIONS", "PUT", "POST", "GET", "HEAD"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NOBODY = "00000000-0000-0000-0000-000000000000"
TITLES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Entity",
    426: "Upgrade Required",
    429: "Too Many Requests",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}

# The catalogue in its order, as recorded; Simon is ours.
SERVICES: list[tuple[dict[str, str], list[str]]] = [
    (
        {"namespace": "fdrtd", "plugin": "Util", "version": "0.2.0", "microservice": "KeyValueStorage"},
        ["create", "store", "retrieve", "exists", "delete"],
    ),
    (
        {"namespace": "fdrtd", "plugin": "Sync", "version": "0.2.0", "microservice": "Barrier"},
        ["create", "arrive", "arrived", "depart", "departed", "reset", "delete", "wait", "wait_departed"],
    ),
    (
        {"namespace": "fdrtd", "plugin": "Sync", "version": "0.2.0", "microservice": "Broadcast"},
        ["create", "send", "receive", "delete", "wait"],
    ),
    (
        {
            "namespace": "fdrtd",
            "plugin": "Simon",
            "version": "0.2.0",
            "microservice": "Simon",
            "protocol": "Simon",
        },
        [
            *["create", "join", "create_task", "join_task", "compute", "get_task", "invitations"],
            *["invite", "input", "start", "result", "progress", "receipt", "cancel", "delete"],
        ],
    ),
]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """A header's value, however its name is written; "" if there is none."""
        return ", ".join(value for key, value in self.headers.items() if key.lower() == name.lower())

    def json(self) -> Any:
        assert self.header("Content-Type") == JSON
        assert self.body.endswith(b"\n")
        return json.loads(self.body)

    def value(self) -> Any:
        assert self.status == 200, self.body
        return self.json()

    def text(self) -> str:
        """The body of a value, as it came."""
        assert self.status == 200, self.body
        return self.body.decode().removesuffix("\n")

    def nothing(self) -> None:
        assert (self.status, self.body) == (204, b"")

    def problem(self, status: int, code: str, *words: str) -> dict[str, Any]:
        """Checks an error: status, code, and words of its message or hint."""
        assert self.status == status, self.body
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["code"] == code
        for word in words:
            assert word in f"{problem['message']} {problem['hint']}"
        return problem


class Wire:
    """Raw HTTP to one node. Checks of every answer what holds for all: an error is never empty."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False, timeout=60)

    def send(
        self,
        method: str,
        path: str = "",
        body: str | bytes | None = None,
        kind: str | None = JSON,
        **headers: str,
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and kind is not None:
            sent["Content-Type"] = kind
        data = body.encode() if isinstance(body, str) else body
        got = self.pool.request(method, self.url + path, body=data, headers=sent)
        answer = Answer(got.status, got.headers, got.data)
        if answer.status >= 400 and method != "HEAD":
            check_problem(answer)
        return answer

    def select(self, **identifiers: Any) -> Answer:
        return self.send("PUT", body=json.dumps(identifiers))

    def handle(self, microservice: str) -> str:
        answer = self.select(microservice=microservice)
        assert answer.status == 202
        handle = answer.json()
        assert isinstance(handle, str)
        return handle

    def call(self, handle: str, function: str, parameters: Any = None, callback: Any = None) -> Answer:
        call = {"handle": handle, "function": function, "parameters": {} if parameters is None else parameters}
        if callback is not None:
            call["callback"] = callback
        return self.send("POST", body=json.dumps(call))

    def store(self, text: str) -> dict[str, Any]:
        """Stores a value given as JSON text; the object as it may stand in parameters."""
        handle = self.handle("KeyValueStorage")
        body = f'{{"handle": "{handle}", "function": "create", "parameters": {{"value": {text}}}}}'
        answer = self.send("POST", body=body)
        assert answer.status == 201, answer.body
        stored: dict[str, Any] = answer.json()
        return stored

    def retrieve(self, stored: dict[str, Any]) -> Answer:
        return self.call(stored["handle"], "retrieve", {}, stored["callback"])


def check_problem(answer: Answer) -> None:
    assert answer.header("Content-Type") == "application/problem+json"
    problem = json.loads(answer.body)
    assert problem["status"] == answer.status
    assert re.fullmatch(r"[A-Z0-9_]+", problem["code"])
    assert problem["message"]
    assert problem["hint"]
    assert problem["detail"] == problem["message"]
    assert problem["title"] == TITLES[answer.status]
    assert problem["type"] == "about:blank"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("handles"), 0, "--ephemeral")
    yield started
    started.kill()


@pytest.fixture
def wire(node: Node) -> Wire:
    return Wire(node.url)


# --- The catalogue --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, "{}"])
def test_list(wire: Wire, body: str | None) -> None:
    answer = wire.send("GET", body=body)
    assert answer.status == 200
    assert answer.json() == [{"identifiers": identifiers, "public": public} for identifiers, public in SERVICES]
    assert "accept" in answer.headers["Vary"].lower()


@pytest.mark.parametrize("path", ["", "/", "//"])
def test_head_is_get_without_its_body(wire: Wire, path: str) -> None:
    head, get = wire.send("HEAD", path), wire.send("GET", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == JSON
    assert int(head.headers["Content-Length"]) == len(get.body)


def first_with(wanted: Mapping[str, str]) -> str:
    """What a node has to select, by the definition: the first service with all the pairs."""
    for identifiers, _ in SERVICES:
        if wanted.items() <= identifiers.items():
            return identifiers["microservice"]
    raise AssertionError(wanted)


def test_select_by_any_subset(wire: Wire) -> None:
    handles = {identifiers["microservice"]: wire.handle(identifiers["microservice"]) for identifiers, _ in SERVICES}
    assert len(set(handles.values())) == len(SERVICES)
    for identifiers, _ in SERVICES:
        for size in range(len(identifiers) + 1):
            for names in itertools.combinations(identifiers, size):
                wanted = {name: identifiers[name] for name in names}
                answer = wire.select(**wanted)
                assert answer.status == 202
                assert answer.json() == handles[first_with(wanted)], wanted


@pytest.mark.parametrize("namespace", ["fdrtd", "federatedsecure"])
def test_both_namespaces_select_the_same(wire: Wire, namespace: str) -> None:
    for identifiers, _ in SERVICES:
        answer = wire.select(**{**identifiers, "namespace": namespace})
        assert answer.status == 202
        assert answer.json() == wire.handle(identifiers["microservice"])


@pytest.mark.parametrize(
    "wanted",
    [
        {"microservice": "Nonexistent"},
        {"microservice": "KeyValueStorage", "plugin": "Sync"},
        {"microservice": "KeyValueStorage", "version": "0.6.0"},
        {"namespace": "other"},
        {"colour": "red"},
        {"microservice": 5},
        {"microservice": None},
    ],
)
def test_select_unknown(wire: Wire, wanted: dict[str, Any]) -> None:
    wire.select(**wanted).problem(404, "SERVICE_UNKNOWN", "microservice not available", "list_microservices")


def test_handles_are_the_nodes_own_and_survive_a_restart(tmp_path: Path, wire: Wire) -> None:
    node = Node(tmp_path, 0)
    try:
        before = Wire(node.url).handle("KeyValueStorage")
        stored = Wire(node.url).store("[0.10, 1e300]")
        assert before != wire.handle("KeyValueStorage")
        node.restart()
        assert Wire(node.url).handle("KeyValueStorage") == before
        assert Wire(node.url).retrieve(stored).text() == "[0.10, 1e300]"
    finally:
        node.kill()


# --- KeyValueStorage, call by call as recorded ----------------------------------------------------------------------


def test_key_value_storage(wire: Wire) -> None:
    kv = wire.handle("KeyValueStorage")
    created = wire.call(kv, "create", {"value": {"a": [1, 2.5, "x", None, True]}})
    assert created.status == 201
    stored = created.json()
    assert stored.keys() == {"handle", "callback"}
    assert stored["handle"] == kv
    assert stored["callback"].keys() == {"storage", "uuid"}
    assert stored["callback"]["storage"] == "default"
    assert UUID.fullmatch(stored["callback"]["uuid"])
    callback = stored["callback"]
    assert wire.call(kv, "retrieve", {}, callback).value() == {"a": [1, 2.5, "x", None, True]}
    assert wire.call(kv, "exists", {}, callback).value() is True
    wire.call(kv, "store", {"value": [1, 2, 3]}, callback).nothing()
    assert wire.call(kv, "retrieve", {}, callback).value() == [1, 2, 3]
    wire.call(kv, "delete", {}, callback).nothing()
    assert wire.call(kv, "exists", {}, callback).value() is False
    for function, parameters in [("retrieve", {}), ("delete", {}), ("store", {"value": 1})]:
        wire.call(kv, function, parameters, callback).problem(404, "OBJECT_UNKNOWN", "no such object")


@pytest.mark.parametrize("value", ["text", 42, 4.5, True, False, 0, "", [], {}, -7, "ünïcode \u2028 \U0001f600"])
def test_values_return_as_they_were(wire: Wire, value: Any) -> None:
    answer = wire.retrieve(wire.store(json.dumps(value)))
    assert answer.value() == value
    assert type(answer.value()) is type(value)


def test_null_returns_as_nothing(wire: Wire) -> None:
    stored = wire.store("null")
    wire.retrieve(stored).nothing()
    assert wire.call(stored["handle"], "exists", {}, stored["callback"]).value() is True


@pytest.mark.parametrize(
    "text",
    [
        str(2**70),
        "1e300",
        "0.10",
        "-0",
        "1E+2",
        "[1180591620717411303424, 1e300, 0.10, 12345678901234567890.12345678901234567890]",
        '{"b": 1.0, "a": 2e-400, "b2": "\\u00e9"}',
    ],
)
def test_numbers_keep_their_text(wire: Wire, text: str) -> None:
    assert wire.retrieve(wire.store(text)).text() == text


def test_a_named_storage(wire: Wire) -> None:
    kv = wire.handle("KeyValueStorage")
    created = wire.call(kv, "create", {"value": 1, "storage": "other"})
    assert created.status == 201
    callback = created.json()["callback"]
    assert callback["storage"] == "other"
    assert wire.call(kv, "retrieve", {}, callback).value() == 1
    # The storage is part of the name.
    elsewhere = {**callback, "storage": "default"}
    assert wire.call(kv, "exists", {}, elsewhere).value() is False
    wire.call(kv, "retrieve", {}, elsewhere).problem(404, "OBJECT_UNKNOWN")
    wire.call(kv, "create", {"value": 1, "storage": 5}).problem(422, "WRONG_TYPE", "storage", "a string")
    wire.call(kv, "create", {"value": 1, "storage": "x" * 256}).problem(422, "VALUE_OUT_OF_RANGE", "255")


@pytest.mark.parametrize(
    ("function", "parameters", "callback", "status", "code", "word"),
    [
        ("create", {}, None, 422, "PARAMETER_MISSING", '"value"'),
        ("create", {"valeu": 1}, None, 422, "PARAMETER_MISSING", "did you mean value"),
        ("create", {"value": 1, "foo": 2}, None, 422, "PARAMETER_UNKNOWN", "value, storage"),
        ("create", {"value": 1, "storag": "x"}, None, 422, "PARAMETER_UNKNOWN", 'did you mean "storage"'),
        ("retrieve", {}, None, 422, "CALLBACK_MISSING", "call create"),
        ("retrieve", {}, "text", 422, "CALLBACK_INVALID", '"uuid"'),
        ("retrieve", {}, {}, 422, "CALLBACK_INVALID", '"storage"'),
        ("retrieve", {}, {"uuid": 1, "storage": "default"}, 422, "CALLBACK_INVALID", "strings"),
        ("retrieve", {}, {"uuid": "zzz", "storage": "default"}, 404, "OBJECT_UNKNOWN", "no such object"),
        ("retrieve", {}, {"uuid": "zzz", "storage": "zzz"}, 404, "OBJECT_UNKNOWN", "no such object"),
        ("retrieve", {}, {"uuid": NOBODY, "storage": "default"}, 404, "OBJECT_UNKNOWN", "no such object"),
        ("retrieve", {"value": 1}, {"uuid": NOBODY, "storage": "default"}, 422, "PARAMETER_UNKNOWN", "takes none"),
        ("store", {}, {"uuid": NOBODY, "storage": "default"}, 422, "PARAMETER_MISSING", '"value"'),
        ("frobnicate", {}, None, 403, "FUNCTION_NOT_PUBLIC", "function not public"),
        ("callback", {"callback": "x"}, None, 403, "FUNCTION_NOT_PUBLIC", "create, store, retrieve"),
        ("__init__", {}, None, 403, "FUNCTION_NOT_PUBLIC", "create, store, retrieve"),
        ("", {}, None, 403, "FUNCTION_NOT_PUBLIC", "create, store, retrieve"),
    ],
)
def test_key_value_storage_refuses(
    wire: Wire, function: str, parameters: Any, callback: Any, status: int, code: str, word: str
) -> None:
    wire.call(wire.handle("KeyValueStorage"), function, parameters, callback).problem(status, code, word)


# --- Barrier and Broadcast, call by call as recorded ----------------------------------------------------------------


def test_barrier(wire: Wire) -> None:
    barrier = wire.handle("Barrier")
    point = "21835283-d94e-5026-8922-16a4115f89a8"
    for _ in range(2):
        created = wire.call(barrier, "create", {"tokens": ["t1", "t2"]})
        assert created.status == 201
        assert created.json() == {"handle": barrier, "callback": point}
    created = wire.call(barrier, "create", {"tokens": None})
    assert created.json()["callback"] == "adb18b15-6fcb-5ca4-b626-8554745ccb3e"

    def count(function: str) -> Any:
        return wire.call(barrier, function, {}, point).value()

    assert (count("arrived"), count("departed")) == (0, 0)
    wire.call(barrier, "arrive", {"party": "alice"}, point).nothing()
    assert count("arrived") == 1
    wire.call(barrier, "arrive", {"party": "alice"}, point).nothing()
    assert count("arrived") == 1
    wire.call(barrier, "arrive", {"party": 2}, point).nothing()
    assert count("arrived") == 2
    wire.call(barrier, "arrive", {"party": [2]}, point).problem(422, "WRONG_TYPE", "party", "a list")
    wire.call(barrier, "depart", {"party": "alice"}, point).nothing()
    assert (count("arrived"), count("departed")) == (2, 1)
    wire.call(barrier, "create", {"tokens": ["t1", "t2"]})
    assert count("arrived") == 2, "to create it again changes nothing"
    wire.call(barrier, "reset", {}, point).nothing()
    assert (count("arrived"), count("departed")) == (0, 1)
    wire.call(barrier, "delete", {}, point).nothing()
    for function in ("arrived", "departed", "reset", "delete"):
        wire.call(barrier, function, {}, point).problem(404, "OBJECT_UNKNOWN")
    for function in ("arrive", "depart"):
        wire.call(barrier, function, {"party": "alice"}, point).problem(404, "OBJECT_UNKNOWN")


def test_broadcast(wire: Wire) -> None:
    broadcast = wire.handle("Broadcast")
    point = "a469b12b-f66a-5c02-9c34-83876fbca8de"
    created = wire.call(broadcast, "create", {"tokens": ["t1", "t2"]})
    assert created.status == 201
    assert created.json() == {"handle": broadcast, "callback": point}
    created = wire.call(broadcast, "create", {"tokens": []})
    assert created.json()["callback"] == "167b7737-4063-5230-b4d2-582b124db0b5"
    wire.call(broadcast, "receive", {}, point).nothing()
    wire.call(broadcast, "send", {"message": {"hello": [1, 2]}}, point).nothing()
    assert wire.call(broadcast, "receive", {}, point).value() == {"hello": [1, 2]}
    wire.call(broadcast, "send", {"message": "two"}, point).nothing()
    assert wire.call(broadcast, "receive", {}, point).value() == "two"
    assert wire.call(broadcast, "receive", {}, point).value() == "two", "reading leaves it there"
    wire.call(broadcast, "send", {"message": "x" * (1 << 20)}, point).problem(413, "BODY_TOO_LARGE", "1048576")
    assert wire.call(broadcast, "receive", {}, point).value() == "two"
    wire.call(broadcast, "delete", {}, point).nothing()
    wire.call(broadcast, "receive", {}, point).nothing()
    wire.call(broadcast, "delete", {}, point).problem(404, "OBJECT_UNKNOWN")
    wire.call(broadcast, "send", {"message": 1}, point).problem(404, "OBJECT_UNKNOWN")


@pytest.mark.parametrize("service", ["Barrier", "Broadcast"])
@pytest.mark.parametrize(
    ("function", "parameters", "callback", "status", "code"),
    [
        ("create", {}, None, 422, "PARAMETER_MISSING"),
        ("create", {"tokens": [1]}, None, 422, "VALUE_OUT_OF_RANGE"),
        ("create", {"tokens": "t1"}, None, 422, "WRONG_TYPE"),
        ("create", {"tokens": [], "more": 1}, None, 422, "PARAMETER_UNKNOWN"),
        ("delete", {}, None, 422, "CALLBACK_MISSING"),
        ("delete", {}, {"uuid": NOBODY}, 422, "CALLBACK_INVALID"),
        ("delete", {}, NOBODY, 404, "OBJECT_UNKNOWN"),
        ("delete", {}, "zzz", 404, "OBJECT_UNKNOWN"),
        ("retrieve", {}, None, 403, "FUNCTION_NOT_PUBLIC"),
    ],
)
def test_meeting_points_refuse(
    wire: Wire, service: str, function: str, parameters: Any, callback: Any, status: int, code: str
) -> None:
    wire.call(wire.handle(service), function, parameters, callback).problem(status, code)


def test_two_services_share_no_points(wire: Wire) -> None:
    names = {
        wire.call(wire.handle(service), "create", {"tokens": ["same"]}).json()["callback"]
        for service in ("Barrier", "Broadcast")
    }
    assert len(names) == 2


# --- Calls that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("handle", [NOBODY, "nonsense", ""])
def test_unknown_handle(wire: Wire, handle: str) -> None:
    wire.call(handle, "retrieve").problem(404, "HANDLE_UNKNOWN", "microservice not available")


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ('{"function": "create", "parameters": {}}', "CALL_INVALID", "'handle' is missing"),
        ('{"handle": "HANDLE", "parameters": {}}', "CALL_INVALID", "'function' is missing"),
        ('{"handle": "HANDLE", "function": "create"}', "CALL_INVALID", "'parameters' is missing"),
        ('{"handle": 5, "function": "create", "parameters": {}}', "CALL_INVALID", "'handle' of the call is not a"),
        ('{"handle": "HANDLE", "function": 5, "parameters": {}}', "CALL_INVALID", "'function' of the call is not a"),
        ('{"handle": "HANDLE", "function": "create", "parameters": null}', "CALL_INVALID", "not an object"),
        ('{"handle": "HANDLE", "function": "create", "parameters": []}', "CALL_INVALID", "not an object"),
        (
            '{"handle": "HANDLE", "function": "delete", "parameters": {}, "callback": 5}',
            "CALL_INVALID",
            "'callback' of the call is not a string or an object",
        ),
        ('{"handle": ', "JSON_INVALID", "byte"),
        ("nonsense", "JSON_INVALID", "byte 0"),
        ('{"handle": "HANDLE"} {}', "JSON_INVALID", "byte"),
        ("[]", "WRONG_TYPE", "object"),
        ("null", "WRONG_TYPE", "object"),
        ("", "BODY_EMPTY", "empty"),
        (" \n", "BODY_EMPTY", "empty"),
        ('{"handle":"HANDLE","function":"create","parameters":{"value":NaN}}', "NOT_A_NUMBER", "NaN"),
        ('{"handle":"HANDLE","function":"create","parameters":{"value":[1,Infinity]}}', "NOT_A_NUMBER", "byte"),
        ('{"handle":"HANDLE","function":"create","parameters":{"value":[-Infinity]}}', "NOT_A_NUMBER", "byte"),
        ('{"handle":"HANDLE","function":"create","parameters":{"value":01}}', "JSON_INVALID", "byte"),
        ('{"handle":"HANDLE","function":"create","parameters":{"value":1,}}', "JSON_INVALID", "byte"),
    ],
)
def test_unreadable_calls(wire: Wire, body: str, code: str, word: str) -> None:
    body = body.replace("HANDLE", wire.handle("KeyValueStorage"))
    wire.send("POST", body=body).problem(400, code, word)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"a" 1}', "JSON_INVALID"),
        ("[]", "IDENTIFIERS_INVALID"),
        ("null", "IDENTIFIERS_INVALID"),
        ("", "BODY_EMPTY"),
        ('{"microservice": NaN}', "NOT_A_NUMBER"),
    ],
)
def test_unreadable_identifiers(wire: Wire, body: str, code: str) -> None:
    wire.send("PUT", body=body).problem(400, code)


def test_not_utf8(wire: Wire) -> None:
    assert wire.send("POST", body=b'{"handle": "\xff"}').problem(400, "NOT_UTF8")["at"] == 12


def test_members_that_nobody_knows_are_ignored(wire: Wire) -> None:
    kv = wire.handle("KeyValueStorage")
    body = {"handle": kv, "function": "create", "parameters": {"value": 1}, "extra": 1, "callback": None}
    assert wire.send("POST", body=json.dumps(body)).status == 201


def test_a_parameter_twice(wire: Wire) -> None:
    kv = wire.handle("KeyValueStorage")
    body = f'{{"handle": "{kv}", "function": "create", "parameters": {{"value": 1, "val\\u0075e": 2}}}}'
    wire.send("POST", body=body).problem(422, "PARAMETER_DUPLICATE", '"value"')


def test_too_many_parameters_and_members(wire: Wire) -> None:
    kv = wire.handle("KeyValueStorage")
    wire.call(kv, "create", {f"p{i}": 1 for i in range(65)}).problem(422, "PARAMETER_UNKNOWN", "64")
    wire.call(kv, "create", {f"p{i}": 1 for i in range(1001)}).problem(413, "BODY_TOO_LARGE", "1000")


@pytest.mark.parametrize(
    ("kind", "usable"),
    [
        (None, False),
        ("text/plain", False),
        ("application/jsonp", False),
        ("application/x-www-form-urlencoded", False),
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("Application/JSON", True),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_content_type(wire: Wire, method: str, kind: str | None, usable: bool) -> None:
    call = {"handle": wire.handle("KeyValueStorage"), "function": "create", "parameters": {"value": 1}}
    answer = wire.send(method, body="{}" if method == "PUT" else json.dumps(call), kind=kind)
    if usable:
        assert answer.status == (202 if method == "PUT" else 201)
    else:
        answer.problem(415, "CONTENT_TYPE", "application/json")


# --- Limits ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with narrow limits."""
    directory = tmp_path_factory.mktemp("small")
    config = directory / "fdrtd.toml"
    config.write_text(
        "ephemeral = true\n[limits]\nbody_bytes = 2000\nobjects = 3\nobject_bytes = 1500\ntasks = 1\njson_depth = 20\n"
    )
    started = Node(directory, 0, f"--config={config}")
    yield started
    started.kill()


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "[" * 100_000, '{"a":' * 100_000])
def test_deep_nesting(wire: Wire, text: str) -> None:
    kv = wire.handle("KeyValueStorage")
    body = f'{{"handle": "{kv}", "function": "create", "parameters": {{"value": {text}}}}}'
    wire.send("POST", body=body).problem(400, "NESTED_TOO_DEEP", "64")
    wire.send("PUT", body=text).problem(400, "NESTED_TOO_DEEP", "64")
    assert wire.send("GET", "/healthz").value() == {"status": "ok"}


def test_the_limit_of_nesting_is_exact(wire: Wire) -> None:
    # The body and its parameters are two levels around the value.
    inner = "[" * 62 + "]" * 62
    assert wire.retrieve(wire.store(inner)).text() == inner
    kv = wire.handle("KeyValueStorage")
    body = f'{{"handle": "{kv}", "function": "create", "parameters": {{"value": [{inner}]}}}}'
    wire.send("POST", body=body).problem(400, "NESTED_TOO_DEEP", "64")


def test_nesting_can_be_configured(small: Node) -> None:
    text = "[" * 21 + "]" * 21
    Wire(small.url).send("PUT", body=text).problem(400, "NESTED_TOO_DEEP", "20")
    Wire(small.url).send("PUT", body=text[1:-1]).problem(400, "IDENTIFIERS_INVALID")


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_large_body_is_refused_before_it_is_sent(small: Node, method: str) -> None:
    # Nothing of the body is sent at all: the announcement is enough.
    parts = urlsplit(small.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.putrequest(method, parts.path)
    connection.putheader("Content-Type", JSON)
    connection.putheader("Content-Length", "1000000000000")
    connection.endheaders()
    got = connection.getresponse()
    answer = Answer(got.status, dict(got.getheaders()), got.read())
    connection.close()
    check_problem(answer)
    answer.problem(413, "BODY_TOO_LARGE", "2000", "body_bytes")


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_large_body_of_unknown_length(small: Node, method: str) -> None:
    # Chunks without an end: the node answers as soon as the limit is passed.
    parts = urlsplit(small.url)
    host, port = parts.netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"{method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {JSON}\r\n"
        chunk = b"3e8\r\n" + b" " * 1000 + b"\r\n"
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3)
        got = http.client.HTTPResponse(connection)
        got.begin()
        answer = Answer(got.status, dict(got.getheaders()), got.read())
    check_problem(answer)
    answer.problem(413, "BODY_TOO_LARGE", "2000", "body_bytes")


def test_a_body_of_just_the_limit(small: Node) -> None:
    wire = Wire(small.url)
    assert wire.send("PUT", body="{}".ljust(2000)).status == 202
    wire.send("PUT", body="{}".ljust(2001)).problem(413, "BODY_TOO_LARGE")


def test_too_many_objects(small: Node) -> None:
    wire = Wire(small.url)
    kv = wire.handle("KeyValueStorage")
    stored = [wire.store(str(number)) for number in range(3)]
    wire.call(kv, "create", {"value": 3}).problem(429, "QUOTA", "3 objects", "delete")
    wire.call(kv, "delete", {}, stored.pop()["callback"]).nothing()
    stored.append(wire.store("3"))
    wire.call(kv, "store", {"value": "x" * 1600}, stored[0]["callback"]).problem(429, "QUOTA", "1500 bytes")
    assert [wire.retrieve(one).value() for one in stored] == [0, 1, 3], "a refused value replaces nothing"
    for one in stored:
        wire.call(kv, "delete", {}, one["callback"]).nothing()
    wire.call(kv, "create", {"value": "x" * 1600}).problem(429, "QUOTA", "1500 bytes")
    assert wire.retrieve(wire.store("4")).value() == 4


def test_too_many_tasks(small: Node) -> None:
    simon = small.api().select_microservice(protocol="Simon")
    network = {"nodes": [small.url, "http://127.0.0.1:9/nobody"], "myself": 0}
    task = simon.create(microprotocol="SecureSum", network=network)
    with pytest.raises(fdrtd.TooManyRequests) as refused:
        simon.create(microprotocol="SecureSum", network=network)
    assert (refused.value.code, refused.value.status) == ("QUOTA", 429)
    assert "1 tasks" in refused.value.message
    task.delete()
    simon.create(microprotocol="SecureSum", network=network).delete()


# --- Objects as parameters ------------------------------------------------------------------------------------------


def test_an_object_stands_for_its_value(wire: Wire) -> None:
    stored = wire.store("[0.10, 1180591620717411303424]")
    kv = stored["handle"]
    for value, text in [
        (stored, "[0.10, 1180591620717411303424]"),
        ([1, stored], "[1, [0.10, 1180591620717411303424]]"),
        ({"a": {"b": [stored]}}, '{"a": {"b": [[0.10, 1180591620717411303424]]}}'),
    ]:
        made = wire.call(kv, "create", {"value": value})
        assert made.status == 201, made.body
        assert wire.retrieve(made.json()).text() == text
    # In any other service's parameters, too.
    broadcast = wire.handle("Broadcast")
    point = wire.call(broadcast, "create", {"tokens": ["references"]}).json()["callback"]
    wire.call(broadcast, "send", {"message": {"data": stored}}, point).nothing()
    assert wire.call(broadcast, "receive", {}, point).text() == '{"data": [0.10, 1180591620717411303424]}'
    # It is a copy.
    wire.call(kv, "delete", {}, stored["callback"]).nothing()
    assert wire.call(broadcast, "receive", {}, point).text() == '{"data": [0.10, 1180591620717411303424]}'


@pytest.mark.parametrize("wrap", ["list", "object"])
def test_objects_are_found_to_depth_eight_and_not_deeper(wire: Wire, wrap: str) -> None:
    stored = wire.store("7")

    def nested(inner: Any, depth: int) -> Any:
        for _ in range(depth):
            inner = [inner] if wrap == "list" else {"a": inner}
        return inner

    for depth in range(11):
        made = wire.call(stored["handle"], "create", {"value": nested(stored, depth)})
        assert made.status == 201
        expected = nested(7 if depth <= 8 else stored, depth)
        assert wire.retrieve(made.json()).value() == expected, depth


def test_what_only_looks_like_an_object_is_a_value(wire: Wire) -> None:
    stored = wire.store("7")
    for value in [
        {**stored, "more": 1},
        {"handle": stored["handle"]},
        {"callback": stored["callback"]},
        json.dumps(stored),
    ]:
        made = wire.call(stored["handle"], "create", {"value": value})
        assert made.status == 201
        assert wire.retrieve(made.json()).value() == value


def test_objects_that_cannot_stand_for_a_value(wire: Wire, tmp_path: Path) -> None:
    stored = wire.store("7")
    kv = stored["handle"]

    def create(value: Any) -> Answer:
        return wire.call(kv, "create", {"value": value})

    unknown = {"handle": kv, "callback": {"storage": "default", "uuid": NOBODY}}
    create([unknown]).problem(404, "OBJECT_UNKNOWN")
    create({"handle": NOBODY, "callback": stored["callback"]}).problem(404, "HANDLE_UNKNOWN")
    create({"handle": 5, "callback": stored["callback"]}).problem(422, "REFERENCE_INVALID")
    create({"handle": kv, "callback": None}).problem(422, "CALLBACK_INVALID")
    point = wire.call(wire.handle("Barrier"), "create", {"tokens": []}).json()
    create(point).problem(422, "REFERENCE_INVALID", "KeyValueStorage")


def test_another_nodes_objects(wire: Wire, tmp_path: Path) -> None:
    node = Node(tmp_path, 1, "--ephemeral")
    try:
        foreign = Wire(node.url).store("7")
        kv = wire.handle("KeyValueStorage")
        wire.retrieve(foreign).problem(404, "HANDLE_UNKNOWN", "another node")
        wire.call(kv, "retrieve", {}, foreign["callback"]).problem(404, "OBJECT_UNKNOWN")
        wire.call(kv, "create", {"value": [foreign]}).problem(404, "HANDLE_UNKNOWN", "another node")
        own = {"handle": kv, "callback": foreign["callback"]}
        wire.call(kv, "create", {"value": [own]}).problem(404, "OBJECT_UNKNOWN")
        assert Wire(node.url).retrieve(foreign).value() == 7
    finally:
        node.kill()


# --- Methods, paths, CORS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods(wire: Wire, method: str) -> None:
    answer = wire.send(method, body="{}" if method == "PATCH" else None)
    answer.problem(405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["Allow"].split(", ")) == ALLOW


def test_options(wire: Wire) -> None:
    answer = wire.send("OPTIONS")
    assert (answer.status, answer.body) == (200, b"")
    assert set(answer.headers["Allow"].split(", ")) == ALLOW


PAGES = ["/tasks", "/identity", "/healthz", "/readyz", "/metrics", "/openapi.json", "/peer"]


@pytest.mark.parametrize("page", PAGES)
def test_options_and_other_methods_of_pages(wire: Wire, page: str) -> None:
    answer = wire.send("OPTIONS", page)
    assert (answer.status, answer.headers["Allow"]) == (200, "GET, HEAD, OPTIONS")
    for method in ("POST", "PUT", "DELETE"):
        answer = wire.send(method, page, body="{}")
        answer.problem(405, "METHOD_NOT_ALLOWED", "GET")
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
def test_unknown_path(node: Node, wire: Wire, method: str) -> None:
    body = "{}" if method in ("PUT", "POST") else None
    for path in ["/nonexistent", "/tasks/x/nonexistent", "x"]:
        wire.send(method, path, body=body).problem(404, "PATH_UNKNOWN", "/public1")
    root = Wire(node.url.removesuffix("/public1"))
    for path in ["", "/", "/public2", "/public11", "/Public1", "/public1/../public1/x"]:
        root.send(method, path, body=body).problem(404, "PATH_UNKNOWN", "/public1")


@pytest.mark.parametrize("prefix", ["/public1/", "/public1//", "//public1", "///public1//"])
def test_slashes(node: Node, wire: Wire, prefix: str) -> None:
    # Sent as written: clients tend to tidy paths up.
    host = node.url.split("/")[2]

    def send(method: str, path: str, body: str | None = None) -> Any:
        connection = http.client.HTTPConnection(host, timeout=60)
        headers = {"Content-Type": JSON} if body else {}
        connection.request(method, path, body=body, headers=headers)
        got = connection.getresponse()
        return got.status, json.loads(got.read())

    assert send("GET", prefix) == (200, wire.send("GET").json())
    handle = wire.handle("KeyValueStorage")
    assert send("PUT", prefix, "{}") == (202, handle)
    call = {"handle": handle, "function": "create", "parameters": {"value": 1}}
    assert send("POST", prefix, json.dumps(call))[0] == 201
    assert send("GET", f"{prefix}//healthz/") == (200, {"status": "ok"})


def preflight(wire: Wire, origin: str, method: str = "POST") -> Answer:
    return wire.send(
        "OPTIONS",
        Origin=origin,
        Access_Control_Request_Method=method,
        Access_Control_Request_Headers="content-type",
    )


def test_cors_of_configured_origins(tmp_path: Path) -> None:
    node = Node(tmp_path, 0, "--ephemeral", "--cors-origin=https://app.example,http://localhost:8080")
    try:
        wire = Wire(node.url)
        for origin in ("https://app.example", "http://localhost:8080"):
            for method in ("GET", "PUT", "POST"):
                answer = preflight(wire, origin, method)
                assert answer.status == 200
                assert answer.headers["Access-Control-Allow-Origin"] == origin
                assert method in answer.headers["Access-Control-Allow-Methods"].split(",")
                assert "content-type" in answer.headers["Access-Control-Allow-Headers"].lower().split(",")
                assert "Access-Control-Allow-Credentials" not in answer.headers
            answer = wire.send("GET", Origin=origin)
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert answer.headers["Access-Control-Expose-Headers"].lower() == "fdrtd-waiting,retry-after"
            vary = re.split(r",\s*", answer.header("Vary").lower())
            assert {"origin", "accept"} <= set(vary)
            # A page must be able to read why it was refused.
            answer = wire.send("POST", body="", Origin=origin)
            answer.problem(400, "BODY_EMPTY")
            assert answer.headers["Access-Control-Allow-Origin"] == origin
        for origin in ("https://evil.example", "https://app.example.evil", "null"):
            assert "Access-Control-Allow-Origin" not in preflight(wire, origin).headers
            assert "Access-Control-Allow-Origin" not in wire.send("GET", Origin=origin).headers
    finally:
        node.kill()


def test_cors_is_off_by_default(wire: Wire) -> None:
    for origin in ("https://app.example", "http://localhost:8080", "null"):
        assert "Access-Control-Allow-Origin" not in preflight(wire, origin).headers
        assert "Access-Control-Allow-Origin" not in wire.send("GET", Origin=origin).headers


def test_cors_for_all(tmp_path: Path) -> None:
    node = Node(tmp_path, 0, "--ephemeral", "--cors-origin=*")
    try:
        wire = Wire(node.url)
        assert preflight(wire, "https://app.example").headers["Access-Control-Allow-Origin"] == "*"
        assert wire.send("GET", Origin="null").headers["Access-Control-Allow-Origin"] == "*"
    finally:
        node.kill()


# --- Pages ----------------------------------------------------------------------------------------------------------


def test_health(wire: Wire) -> None:
    for page in ("/healthz", "/readyz"):
        assert wire.send("GET", page).value() == {"status": "ok"}
        assert wire.send("HEAD", page).status == 200


def test_identity(node: Node, wire: Wire) -> None:
    identity = wire.send("GET", "/identity").value()
    assert identity.keys() == {"protocol", "version", "key", "fingerprint", "spoken", "noise", "certificate"}
    assert identity["fingerprint"] == node.fingerprint
    assert identity["key"].startswith(identity["fingerprint"].replace("-", ""))


def test_the_peers_address_is_not_for_clients(wire: Wire) -> None:
    answer = wire.send("GET", "/peer")
    answer.problem(426, "PEER_UPGRADE", "WebSocket")
    assert answer.headers["Upgrade"] == "websocket"


def test_lists_and_metrics_hold_no_secrets(shared: list[Node]) -> None:
    marker = 918273645546372819
    wires = [Wire(node.url) for node in shared]
    tasks = make_task(shared)
    stored = [wire.store(str(marker)) for wire in wires]
    waiting = make_task(shared[:2])
    for task, one in zip(tasks, stored):
        task.input(source=one)
    results = [task.result() for task in tasks]
    assert results[0]["result"]["sum"] == 3 * marker

    for node, wire, task, one in zip(shared, wires, tasks, stored):
        listed = wire.send("GET", "/tasks", Authorization=f"Bearer {node.operator()}")
        mine = next(entry for entry in listed.value()["tasks"] if entry["task"] == tasks[0].progress()["task"])
        assert mine == {
            "task": task.progress()["task"],
            "microprotocol": "SecureSum",
            "state": "done",
            "party": task.progress()["party"],
            "parties": 3,
        }
        metrics = wire.send("GET", "/metrics")
        assert metrics.status == 200
        assert metrics.headers["Content-Type"].startswith("text/plain")
        assert re.search(rb'(?m)^fdrtd_tasks_done_total{microprotocol="SecureSum"} [1-9][0-9]*$', metrics.body)
        pages = [listed.body, metrics.body, wire.send("GET", "/identity").body, wire.send("GET").body]
        pages.append(node.logged().encode())
        pages.append(json.dumps([task.progress(), task.invite()]).encode())
        secrets = [task["callback"], one["callback"]["uuid"], str(marker), *(w["callback"] for w in waiting)]
        for page, secret in itertools.product(pages, secrets):
            assert secret.encode() not in page
    for task in waiting:
        task.delete()


def test_a_task_in_the_list_cannot_be_used_by_its_public_id(shared: list[Node]) -> None:
    task = make_task(shared[:2])[0]
    wire = Wire(shared[0].url)
    simon = wire.handle("Simon")
    public = task.progress()["task"]
    assert public != task["callback"]
    for function in ("progress", "result", "cancel", "delete", "input", "invite", "receipt"):
        parameters = {"data": 1} if function == "input" else {}
        wire.call(simon, function, parameters, public).problem(404, "OBJECT_UNKNOWN")
    assert wire.call(simon, "progress", {}, task["callback"]).value()["state"] in ("joining", "joined")
    task.delete()
    wire.call(simon, "progress", {}, task["callback"]).problem(404, "OBJECT_UNKNOWN")


# --- Simon on the wire ----------------------------------------------------------------------------------------------


def test_simon_on_the_wire(shared: list[Node]) -> None:
    wires = [Wire(node.url) for node in shared]
    simons = [wire.handle("Simon") for wire in wires]
    urls = urls_of(shared)
    made = wires[0].call(simons[0], "create", {"microprotocol": "BasicSum", "network": {"nodes": urls, "myself": 0}})
    assert made.status == 201
    assert made.json().keys() == {"handle", "callback"}
    assert made.json()["handle"] == simons[0]
    callbacks = [made.json()["callback"]]
    assert UUID.fullmatch(callbacks[0])
    invitation = wires[0].call(simons[0], "invite", {}, callbacks[0]).value()
    for index in (1, 2):
        network = {"nodes": urls, "myself": index}
        joined = wires[index].call(simons[index], "join", {"invitation": invitation, "network": network})
        assert joined.status == 201
        callbacks.append(joined.json()["callback"])
    waiting = wires[0].call(simons[0], "result", {"timeout": 0}, callbacks[0])
    waiting.nothing()
    assert "party 0 (this node)" in waiting.headers["Fdrtd-Waiting"]
    for wire, simon, callback, text in zip(wires, simons, callbacks, ("0.1", "0.2", "1180591620717411.303424")):
        wire.call(simon, "input", {"source": wire.store(text)}, callback).nothing()
    bodies = {
        wire.call(simon, "result", {}, callback).text() for wire, simon, callback in zip(wires, simons, callbacks)
    }
    assert bodies == {'{"inputs":3,"result":{"samples":3,"sum":1180591620717411.5}}'}, "equal to the byte"
    wires[0].call(simons[0], "input", {"data": 1}, callbacks[0]).problem(409, "TASK_FINISHED")
    for wire, simon, callback in zip(wires, simons, callbacks):
        wire.call(simon, "delete", {}, callback).nothing()
        wire.call(simon, "result", {}, callback).problem(404, "OBJECT_UNKNOWN")


@pytest.mark.parametrize(
    ("function", "parameters", "callback", "status", "code"),
    [
        ("create", {}, None, 422, "PARAMETER_MISSING"),
        ("create", {"microprotocol": 5, "network": {}}, None, 422, "WRONG_TYPE"),
        ("create", {"microprotocol": "SecureSum", "network": {}, "nodes": []}, None, 422, "NETWORK_MALFORMED"),
        ("join", {"network": {}}, None, 422, "PARAMETER_MISSING"),
        ("invitations", {"x": 1}, None, 422, "PARAMETER_UNKNOWN"),
        ("result", {}, None, 422, "CALLBACK_MISSING"),
        ("result", {}, NOBODY, 404, "OBJECT_UNKNOWN"),
        ("result", {}, "zzz", 404, "OBJECT_UNKNOWN"),
        ("calculate", {}, None, 403, "FUNCTION_NOT_PUBLIC"),
    ],
)
def test_simon_refuses(wire: Wire, function: str, parameters: Any, callback: Any, status: int, code: str) -> None:
    wire.call(wire.handle("Simon"), function, parameters, callback).problem(status, code)


def test_parameters_of_a_tasks_functions(shared: list[Node]) -> None:
    task = make_task(shared[:2])[0]
    wire = Wire(shared[0].url)

    def call(function: str, **parameters: Any) -> Answer:
        return wire.call(task["handle"], function, parameters, task["callback"])

    call("result", timeout=-1).problem(422, "VALUE_OUT_OF_RANGE", "seconds")
    call("result", timeout="soon").problem(422, "WRONG_TYPE", "seconds")
    call("result", patience=1).problem(422, "PARAMETER_UNKNOWN", "timeout")
    call("input").problem(422, "PARAMETER_MISSING", "source or data")
    call("input", source=1, data=1).problem(422, "PARAMETER_DUPLICATE", "not both")
    call("input", data=1, more=1).problem(422, "PARAMETER_UNKNOWN", "more")
    for function in ("invite", "progress", "start", "cancel", "delete"):
        call(function, x=1).problem(422, "PARAMETER_UNKNOWN", "takes none")
    assert call("progress").value()["messages"] == {"data": 0}
    task.delete()


# --- The client -----------------------------------------------------------------------------------------------------


def test_arguments_go_by_name(node: Node) -> None:
    storage = node.api().select_microservice(microservice="KeyValueStorage")
    with pytest.raises(fdrtd.CallError) as refused:
        storage.create(10)
    assert refused.value.code == "ARGUMENTS_BY_NAME"
    assert "create(value=10)" in str(refused.value)


def test_the_clients_view_of_all_shapes(node: Node) -> None:
    api = node.api()
    assert api.list_microservices()[0] == {"identifiers": SERVICES[0][0], "public": SERVICES[0][1]}
    assert api.has_capabilities(microservice="Barrier") is True
    assert api.has_capabilities(microservice="Nonexistent") is False
    storage = api.select_microservice(microservice="KeyValueStorage")
    value = storage.create(value=2**70)
    assert value.retrieve() == 2**70
    assert fdrtd.to_dict(value) == {"handle": storage["handle"], "callback": value["callback"]}
    assert storage.create(value={"deep": [value]}).retrieve() == {"deep": [2**70]}
    value.store(value=None)
    assert value.retrieve() is None
    assert value.delete() is None
    with pytest.raises(fdrtd.NotFound, match="no such object"):
        value.retrieve()
    with pytest.raises(fdrtd.Forbidden, match="function not public"):
        value.frobnicate()
    with pytest.raises(fdrtd.InputError, match="value is NaN") as nan:
        storage.create(value=float("nan"))
    assert nan.value.status is None, "refused before anything is sent"


def test_errors_do_not_cost_the_connection(node: Node) -> None:
    # After each kind of refusal the next request on the same connection is answered.
    wire = Wire(node.url)
    kv = wire.handle("KeyValueStorage")
    for _ in range(3):
        assert wire.send("GET", "/nonexistent").status == 404
        assert wire.send("DELETE").status == 405
        assert wire.send("POST", body="{}", kind="text/plain").status == 415
        assert wire.send("POST", body="nonsense").status == 400
        assert wire.call(kv, "frobnicate").status == 403
        assert wire.call(kv, "create").status == 422
    host = wire.pool.connection_from_url(node.url)
    assert host.num_connections == 1


@pytest.mark.parametrize(
    ("method", "path", "kind", "size", "status"),
    [
        ("POST", "/nonexistent", JSON, 1000, 404),
        ("PUT", "", "text/plain", 1000, 415),
        ("DELETE", "", JSON, 1000, 405),
        ("POST", "", JSON, 5000, 413),
        ("GET", "", JSON, 1000, 200),
    ],
)
def test_a_body_that_is_not_read_does_not_cost_the_connection(
    small: Node, method: str, path: str, kind: str, size: int, status: int
) -> None:
    # A node that closes before all is sent makes clients see a broken network instead of the answer.
    parts = urlsplit(small.url)
    host, port = parts.netloc.split(":")
    head = f"{method} {parts.path}{path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {kind}\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for _ in range(2):
            connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
            got = http.client.HTTPResponse(connection)
            got.begin()
            assert (got.status, bool(got.read())) == (status, True)
            assert not got.will_close
            # The answer is there; the body comes only now.
            connection.sendall(b" " * size)


def test_a_far_too_large_value_is_refused_with_its_reason(small: Node) -> None:
    # More than fits into the buffers between: the client still sends when the answer is there.
    storage = small.api().select_microservice(microservice="KeyValueStorage")
    for _ in range(3):
        with pytest.raises(fdrtd.InputError) as refused:
            storage.create(value="x" * 20_000_000)
        assert (refused.value.status, refused.value.code) == (413, "BODY_TOO_LARGE")


def test_expired_values_are_gone(tmp_path: Path) -> None:
    config = tmp_path / "fdrtd.toml"
    config.write_text("ephemeral = true\n[limits]\ntime_to_live = 1.0\n")
    node = Node(tmp_path, 0, f"--config={config}")
    try:
        wire = Wire(node.url)
        stored = wire.store("7")
        until(lambda: wire.retrieve(stored).status == 404, "the value expires")
        wire.retrieve(stored).problem(404, "OBJECT_UNKNOWN", "expired")
        objects = re.compile(rb"(?m)^fdrtd_objects 0$")
        until(lambda: objects.search(wire.send("GET", "/metrics").body), "the expired value is not kept")
    finally:
        node.kill()
