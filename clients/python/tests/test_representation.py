"""Representations: requests and answers of the newer API as recorded, and names that hide nothing."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
import pprint
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Reply, Server, problem
from test_api import Clock
from test_handle import REMOTE_NAMES

import fdrtd
from fdrtd import _api, _core

SERVICE = "3ebe5768-1a50-4d78-a1a5-44e3497fa073"
FUNCTION = "483af071-dd5d-4075-8b69-41653dad977b"
OBJECT = "e6a7944a-86b9-4aff-bdba-d196bbce952d"
VALUE = "d7f4d1b8-6809-48d6-9376-31d334f1dba3"
NONE = Reply(200, '{\n  "type": "none"\n}\n')


def uuid(text: str) -> Reply:
    return Reply(200, f'{{\n  "type": "uuid",\n  "uuid": "{text}"\n}}\n')


def value(text: str) -> Reply:
    return Reply(200, f'{{\n  "object": {text},\n  "type": "object"\n}}\n')


def sent(server: Server) -> Iterator[tuple[Any, ...]]:
    for request in server.requests:
        body = (request.body.decode(),) if request.body else ()
        yield request.method, request.path, *body
    server.requests.clear()


@pytest.fixture
def service(api: fdrtd.Api, server: Server) -> fdrtd.Representation:
    server.script(uuid(SERVICE))
    service = api.create(microservice="KeyValueStorage")
    server.requests.clear()
    return service


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (_api, _core):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def stored(api: fdrtd.Api) -> fdrtd.Representation:
    return fdrtd.Representation(api, VALUE)


# --- As recorded ----------------------------------------------------------------------------------------


def test_services(api: fdrtd.Api, server: Server) -> None:
    listing = [
        {"namespace": "federatedsecure", "protocol": "Simon", "version": "0.6.0"},
        {
            "microservice": "KeyValueStorage",
            "namespace": "federatedsecure",
            "plugin": "Util",
            "version": "0.6.0",
        },
    ]
    server.script(
        Reply(200, json.dumps({"list": listing, "type": "list"}, indent=2)),
        uuid(SERVICE),
        uuid(SERVICE),
        Reply(404, "\"root object not available: {'microservice': 'Nonexistent'}\"\n"),
    )
    assert api.list() == listing
    first = api.create(microservice="KeyValueStorage")
    again = api.create(**listing[1])
    assert first == again
    assert hash(first) == hash(again)
    with pytest.raises(fdrtd.NotFound, match="root object not available"):
        api.create(microservice="Nonexistent")
    assert list(sent(server)) == [
        ("GET", "/representations"),
        ("POST", "/representations", '{"args": [], "kwargs": {"microservice": "KeyValueStorage"}}'),
        (
            "POST",
            "/representations",
            '{"args": [], "kwargs": {"microservice": "KeyValueStorage", "namespace": "federatedsecure", '
            '"plugin": "Util", "version": "0.6.0"}}',
        ),
        ("POST", "/representations", '{"args": [], "kwargs": {"microservice": "Nonexistent"}}'),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "text",
        42,
        4.5,
        True,
        False,
        0,
        "",
        [],
        {},
        None,
        2**70,
        1e300,
        "\u00fc\u2028",
        {"a": [1, 2.5, "x", None, True]},
    ],
)
def test_values_go_there_and_back(api: fdrtd.Api, server: Server, text: Any) -> None:
    server.script(uuid(VALUE), value(json.dumps(text)), NONE)
    stored = api.upload(text)
    assert api.download(stored) == text
    assert api.release(stored) is None  # type: ignore[func-returns-value]
    assert list(sent(server)) == [
        ("PUT", "/representations", f'{{"args": [{json.dumps(text)}], "kwargs": {{}}}}'),
        ("GET", f"/representation/{VALUE}"),
        ("DELETE", f"/representation/{VALUE}"),
    ]


def test_a_call_looks_the_function_up_and_calls_it(service: fdrtd.Representation, server: Server) -> None:
    server.script(uuid(FUNCTION), uuid(OBJECT), uuid(FUNCTION), NONE)
    storage = service.create(storage="s1")
    assert fdrtd.to_dict(storage) == {"representation_uuid": OBJECT}
    assert storage.store(key="k", value=[1, 2]) is None
    assert list(sent(server)) == [
        ("GET", f"/representation/{SERVICE}/create"),
        ("PATCH", f"/representation/{FUNCTION}", '{"args": [], "kwargs": {"storage": "s1"}}'),
        ("GET", f"/representation/{OBJECT}/store"),
        ("PATCH", f"/representation/{FUNCTION}", '{"args": [], "kwargs": {"key": "k", "value": [1, 2]}}'),
    ]


def test_representations_are_given_by_name(
    service: fdrtd.Representation, stored: fdrtd.Representation, server: Server
) -> None:
    server.script(uuid(FUNCTION), NONE, uuid(FUNCTION), uuid(OBJECT))
    assert service.store(key="byref", value=stored) is None
    assert service.create("s2") == fdrtd.Representation(service._api, OBJECT)
    with pytest.raises(fdrtd.CallError, match="write name=representation"):
        service.store("byref2", stored)
    assert [request[2] for request in sent(server) if request[0] == "PATCH"] == [
        '{"args": [], "kwargs": {"key": "byref", "value": {"representation_uuid": "' + VALUE + '"}}}',
        '{"args": ["s2"], "kwargs": {}}',
    ]


def test_an_attribute_that_is_a_value(api: fdrtd.Api, service: fdrtd.Representation, server: Server) -> None:
    server.script(uuid(VALUE), value('{"default": {}}'))
    assert api.download(service.storages) == {"default": {}}
    assert list(sent(server)) == [
        ("GET", f"/representation/{SERVICE}/storages"),
        ("GET", f"/representation/{VALUE}"),
    ]


def test_a_whole_computation(api: fdrtd.Api, server: Server) -> None:
    result = '{"inputs": 3, "result": {"samples": 3, "sum": 31}}'
    server.script(uuid(SERVICE), uuid(FUNCTION), uuid(VALUE), value(result))
    network = {"nodes": ["https://a.example", "https://b.example"], "myself": 0, "uuid": "7"}
    simon = api.create(protocol="Simon")
    computed = api.download(simon.compute(microprotocol="SecureSum", data=[1, 2], network=network))
    assert computed == json.loads(result)
    assert type(computed) is fdrtd.Result
    # The node holds the call for so long, and is asked again then.
    parameters = {"microprotocol": "SecureSum", "data": [1, 2], "network": network, "timeout": 10.0}
    assert server.requests[2].json == {"args": [], "kwargs": parameters}


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (Reply(500, ""), fdrtd.NodeError, r"without saying why .* \(NODE_ERROR\)"),
        (Reply(403, '"attribute not public: _private"\n'), fdrtd.Forbidden, "attribute not public: _private"),
        (Reply(404, '"invalid identifier: representation_uuid = x"\n'), fdrtd.NotFound, "invalid identifier"),
        (Reply(501, '"not implemented / not available: Nope"\n'), fdrtd.NodeError, "not available: Nope"),
        (
            problem(409, code="TASK_FAILED", message="no", cause={"code": "X"}),
            fdrtd.TaskFailed,
            "TASK_FAILED",
        ),
        (problem(422, code="PARAMETER_UNKNOWN", message="no"), fdrtd.InputError, "PARAMETER_UNKNOWN"),
    ],
)
def test_failures_are_those_of_the_other_api(
    service: fdrtd.Representation, server: Server, reply: Reply, kind: type[fdrtd.Error], says: str
) -> None:
    server.script(uuid(FUNCTION), reply)
    with pytest.raises(kind, match=says):
        service.create(storage="s1")
    server.script(reply)
    with pytest.raises(kind, match=says):
        service._api.download(service)  # type: ignore[attr-defined]


WAITING = {"Fdrtd-Waiting": "party 1 has not joined yet"}
NOT_YET = Reply(200, '{"type": "none"}', headers=WAITING)


def test_a_call_that_the_node_holds_is_repeated_until_it_is_answered(
    api: fdrtd.Api, server: Server, clock: Clock
) -> None:
    simon = fdrtd.Representation(api, SERVICE)
    server.script(uuid(FUNCTION), NOT_YET, NOT_YET, uuid(VALUE))
    assert simon.compute(microprotocol="SecureSum", data=[1]) == fdrtd.Representation(api, VALUE)
    looked_up, *calls = sent(server)
    assert looked_up == ("GET", f"/representation/{SERVICE}/compute")
    parameters = '{"microprotocol": "SecureSum", "data": [1], "timeout": 10.0}'
    assert calls == [("PATCH", f"/representation/{FUNCTION}", f'{{"args": [], "kwargs": {parameters}}}')] * 3
    assert clock.pauses == [0.5, 0.5]


def test_a_limit_for_a_call_that_the_node_holds(api: fdrtd.Api, server: Server, clock: Clock) -> None:
    barrier = fdrtd.Representation(api, OBJECT)
    server.script(uuid(FUNCTION), NOT_YET)
    with pytest.raises(
        fdrtd.NotReady, match=r"no result after 0 s: party 1 .* — call wait\(\) again"
    ) as caught:
        barrier.wait(count=3, timeout=0)
    assert caught.value.waiting == WAITING["Fdrtd-Waiting"]
    assert server.requests[1].json["kwargs"] == {"count": 3, "timeout": 0.0}


# --- What a node does not say ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Reply(204),
        Reply(200, "[]"),
        Reply(200, '"uuid"'),
        Reply(200, '{"type": "uuid"}'),
        Reply(200, '{"type": "uuid", "uuid": 5}'),
        Reply(200, '{"type": "uuid", "uuid": "../peers"}'),
        Reply(200, '{"type": "list", "list": [1]}'),
        Reply(200, '{"uuid": "d7f4d1b8"}'),
    ],
)
def test_answers_without_the_form_they_should_have(api: fdrtd.Api, server: Server, answer: Reply) -> None:
    for ask in (lambda: api.create(protocol="Simon"), api.list, lambda: api.upload(1)):
        server.script(answer)
        with pytest.raises(fdrtd.ConnectionFailed) as caught:
            ask()
        assert caught.value.code == "ANSWER_UNUSABLE"


@pytest.mark.parametrize(
    "what", ["", "..", "a/b", "a?b", "a b", "%2e", 5, None, {}, {"representation_uuid": "/"}]
)
def test_what_stands_for_nothing_is_not_asked_for(api: fdrtd.Api, server: Server, what: Any) -> None:
    with pytest.raises(fdrtd.CallError, match="is no representation"):
        api.download(what)
    with pytest.raises(fdrtd.CallError, match="is no representation"):
        api.release(what)
    assert server.requests == []


def test_a_representation_that_was_kept(api: fdrtd.Api, stored: fdrtd.Representation, server: Server) -> None:
    kept = json.loads(json.dumps([stored], default=fdrtd.to_dict))
    assert kept == [{"representation_uuid": VALUE}]
    for what in (*kept, VALUE, stored):
        server.script(value("1"))
        assert api.download(what) == 1
    assert {request[1] for request in sent(server)} == {f"/representation/{VALUE}"}


# --- Names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted({*REMOTE_NAMES, "download", "upload", "release", "list", "uuid", "größe", "..", "a.b"})
)
def test_every_name_is_remote(stored: fdrtd.Representation, server: Server, name: str) -> None:
    server.script(uuid(FUNCTION), NONE)
    assert getattr(stored, name)(key=1, self=2, function=3, arguments=4, parameters=5) is None
    (_, path), (_, _, body) = sent(server)
    assert path == f"/representation/{VALUE}/" + name.replace("öß", "%C3%B6%C3%9F").replace(".", "%2E")
    assert json.loads(body)["kwargs"] == {"key": 1, "self": 2, "function": 3, "arguments": 4, "parameters": 5}


def test_the_class_hides_no_name() -> None:
    assert [name for name in dir(fdrtd.Representation) if not name.startswith("_")] == []


def test_looking_at_one_asks_nobody(stored: fdrtd.Representation, server: Server) -> None:
    assert copy.copy(stored) == stored
    assert copy.deepcopy([stored]) == [stored]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(stored, protocol)) == stored
    inspect.getmembers(stored)
    assert not callable(stored)
    assert not hasattr(stored, "_repr_html_")
    with pytest.raises(AttributeError, match="_private"):
        _ = stored._private
    with pytest.raises(AttributeError, match="a representation cannot be changed"):
        stored.value = 1
    with pytest.raises(AttributeError):
        del stored.value
    repr(stored), pprint.pformat(stored), dir(stored), hash(stored), bool(stored)
    assert list(stored) == ["representation_uuid"]
    assert "representation_uuid" in stored
    assert stored["representation_uuid"] == VALUE
    assert VALUE not in repr(stored)
    assert repr(stored.store).startswith("<remote attribute store of <fdrtd.Representation ")
    assert stored != fdrtd.Handle(stored._api, VALUE)
    assert server.requests == []


def test_a_service_says_what_it_is(service: fdrtd.Representation) -> None:
    assert repr(service) == "<fdrtd.Representation KeyValueStorage 3ebe5768…>"


def test_arguments_of_create_go_by_name(api: fdrtd.Api, server: Server) -> None:
    with pytest.raises(fdrtd.CallError, match=r'write create\(protocol="Simon"\)'):
        api.create("Simon")
    with pytest.raises(fdrtd.InputError, match=r"value\[1\] is NaN"):
        api.upload([1, float("nan")])
    assert server.requests == []


# --- With an event loop ---------------------------------------------------------------------------------


def test_the_same_to_be_awaited(server: Server) -> None:
    async def work() -> None:
        async with fdrtd.AsyncApi(fdrtd.HttpInterface(server.url)) as api:
            server.script(
                *(Reply(200, '{"type": "list", "list": []}'), uuid(SERVICE), uuid(FUNCTION), uuid(OBJECT)),
                *(uuid(VALUE), uuid(FUNCTION), NONE, value("[1, 2]"), NONE),
                problem(404, code="OBJECT_UNKNOWN", message="no"),
            )
            assert await api.list() == []
            service = await api.create(microservice="KeyValueStorage")
            storage = await service.create(storage="s1")
            stored = await api.upload([1, 2])
            assert await storage.store(key="k", value=stored) is None
            assert await api.download(stored) == [1, 2]
            await api.release(stored)
            with pytest.raises(fdrtd.NotFound):
                await api.release(stored)

    asyncio.run(asyncio.wait_for(work(), 60))
    assert [request[:2] for request in sent(server)] == [
        ("GET", "/representations"),
        ("POST", "/representations"),
        ("GET", f"/representation/{SERVICE}/create"),
        ("PATCH", f"/representation/{FUNCTION}"),
        ("PUT", "/representations"),
        ("GET", f"/representation/{OBJECT}/store"),
        ("PATCH", f"/representation/{FUNCTION}"),
        ("GET", f"/representation/{VALUE}"),
        ("DELETE", f"/representation/{VALUE}"),
        ("DELETE", f"/representation/{VALUE}"),
    ]
