from __future__ import annotations

import copy
import inspect
import json
import pickle
import pprint

import pytest
from conftest import Reply, Server

import fdrtd

SERVICE = "914dfb33-ee96-47f0-bc23-58ae6c697d17"
OBJECT = {"storage": "default", "uuid": "c12add2e-53aa-461b-ab2e-99fafb70979f"}

REMOTE_NAMES = sorted(
    {name for name in (*dir(dict), *dir(list), *dir(str), *dir(object)) if not name.startswith("_")}
    | {"handle", "callback", "api", "url", "name", "self", "result_", "import", "tolist", "mro", "create"}
)


@pytest.fixture
def service(api: fdrtd.Api, server: Server) -> fdrtd.Handle:
    server.script(Reply(202, json.dumps(SERVICE)))
    handle = api.select_microservice(microservice="KeyValueStorage")
    server.requests.clear()
    return handle


@pytest.fixture
def stored(service: fdrtd.Handle, server: Server) -> fdrtd.Handle:
    server.script(Reply(201, json.dumps({"handle": SERVICE, "callback": OBJECT})))
    handle = service.create(value={"a": [1, 2.5, "x", None, True]})
    assert isinstance(handle, fdrtd.Handle)
    server.requests.clear()
    return handle


@pytest.mark.parametrize("name", REMOTE_NAMES)
def test_every_name_is_a_remote_function(stored: fdrtd.Handle, server: Server, name: str) -> None:
    server.script(Reply(200, '"done"'))
    assert getattr(stored, name)(key=1, self=2, function=3, handle=4, name=5) == "done"
    assert server.requests[0].json == {
        "handle": SERVICE,
        "function": name,
        "parameters": {"key": 1, "self": 2, "function": 3, "handle": 4, "name": 5},
        "callback": OBJECT,
    }


def test_the_class_hides_no_name() -> None:
    assert [name for name in dir(fdrtd.Handle) if not name.startswith("_")] == []


def test_parts_and_dict_form(stored: fdrtd.Handle, service: fdrtd.Handle) -> None:
    assert stored["handle"] == SERVICE
    assert stored["callback"] == OBJECT
    assert service["callback"] is None
    assert "handle" in stored
    assert "callback" in stored
    assert "value" not in stored
    assert list(stored) == ["handle", "callback"]
    with pytest.raises(KeyError):
        stored["value"]
    assert fdrtd.to_dict(stored) == {"handle": SERVICE, "callback": OBJECT}
    assert json.loads(json.dumps([stored], default=fdrtd.to_dict)) == [fdrtd.to_dict(stored)]
    with pytest.raises(TypeError):
        fdrtd.to_dict({})  # type: ignore[arg-type]


def test_a_handle_cannot_be_changed(stored: fdrtd.Handle) -> None:
    with pytest.raises(AttributeError):
        stored.value = 1
    with pytest.raises(AttributeError):
        del stored.value
    stored["callback"]["uuid"] = "other"
    assert stored["callback"] == OBJECT


def test_a_handle_travels_inside_parameters(
    stored: fdrtd.Handle, service: fdrtd.Handle, server: Server
) -> None:
    server.script(Reply(204))
    assert service.input(source=stored, more=[{"deep": stored}, service]) is None
    reference = {"handle": SERVICE, "callback": OBJECT}
    assert server.requests[0].json["parameters"] == {
        "source": reference,
        "more": [{"deep": reference}, {"handle": SERVICE, "callback": None}],
    }
    assert "callback" not in server.requests[0].json


def test_looking_at_a_handle_calls_nothing(stored: fdrtd.Handle, server: Server) -> None:
    assert copy.copy(stored) == stored
    assert copy.deepcopy([stored]) == [stored]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(stored, protocol)) == stored
    inspect.getmembers(stored)
    inspect.isfunction(stored)
    inspect.isawaitable(stored)
    assert inspect.getdoc(stored)
    assert not callable(stored)
    assert not hasattr(stored, "__array__")
    assert not hasattr(stored, "_repr_html_")
    assert not hasattr(stored, "_ipython_canary_method_should_not_exist_")
    with pytest.raises(AttributeError, match="_private"):
        _ = stored._private
    (
        repr(stored),
        str(stored),
        pprint.pformat(stored),
        repr(stored.create),
        dir(stored),
        hash(stored),
        bool(stored),
    )
    assert stored.create.__name__ == "create"
    assert inspect.signature(stored.create)
    assert server.requests == []


def test_an_unpickled_handle_works(stored: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(200, "true"))
    other = pickle.loads(pickle.dumps(stored))
    assert other.exists() is True
    other._api._interface.close()


def test_equality_is_by_content(api: fdrtd.Api, stored: fdrtd.Handle) -> None:
    twin = fdrtd.Handle(api, SERVICE, dict(reversed(OBJECT.items())))
    assert twin == stored
    assert hash(twin) == hash(stored)
    assert len({twin, stored}) == 1
    assert fdrtd.Handle(api, SERVICE) != stored
    assert fdrtd.Handle(api, "other", OBJECT) != stored
    assert stored != fdrtd.to_dict(stored)


def test_repr_shows_no_capability(stored: fdrtd.Handle, service: fdrtd.Handle) -> None:
    assert repr(service) == "<fdrtd.Handle KeyValueStorage 914dfb33…>"
    assert repr(stored) == "<fdrtd.Handle KeyValueStorage object 914dfb33…>"
    assert SERVICE not in repr(stored.create)
    assert OBJECT["uuid"][:4] not in repr(stored)


def test_dir_knows_what_a_listing_told(api: fdrtd.Api, stored: fdrtd.Handle, server: Server) -> None:
    assert "retrieve" not in dir(stored)
    listing = [
        {"identifiers": {"microservice": "Barrier", "namespace": "fdrtd"}, "public": ["arrive"]},
        {
            "identifiers": {"microservice": "KeyValueStorage", "namespace": "fdrtd"},
            "public": ["create", "retrieve"],
        },
    ]
    server.script(Reply(200, json.dumps(listing)))
    assert api.list_microservices() == listing
    assert {"create", "retrieve"} <= set(dir(stored))
    assert "arrive" not in dir(stored)


def test_arguments_go_by_name(service: fdrtd.Handle, server: Server) -> None:
    with pytest.raises(TypeError) as caught:
        service.create(123456)
    assert str(caught.value) == (
        "create() was given an argument without a name — your call — "
        "write create(value=10) (ARGUMENTS_BY_NAME)"
    )
    assert server.requests == []


@pytest.mark.parametrize(
    ("service", "function", "example"),
    [
        ("KeyValueStorage", "store", "write store(value=10) "),
        ("Simon", "create", 'write create(microprotocol="SecureSum", network=network) '),
        ("Simon", "join", "write join(invitation=invitation, network=network) "),
        ("Simon", "input", "write input(data=[1, 2, 3]) or input(source=handle) "),
        ("Simon", "result", "write result(timeout=10) "),
        ("Broadcast", "send", "write send(message=10) "),
        ("?", "create", "write create(value=10) "),
        ("?", "frobnicate", "write frobnicate(name=value): arguments go by name "),
    ],
)
@pytest.mark.parametrize("argument", ["a secret", 123456, 0.125])
def test_the_right_call_is_shown_and_the_wrong_argument_is_not(
    api: fdrtd.Api, server: Server, service: str, function: str, example: str, argument: object
) -> None:
    handle = fdrtd.Handle(api, SERVICE, OBJECT, {"microservice": service})
    with pytest.raises(fdrtd.CallError) as caught:
        getattr(handle, function)(argument, argument)
    assert example in str(caught.value)
    assert "was given arguments without a name" in str(caught.value)
    assert str(argument) not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize("function", ["select_microservice", "has_capabilities"])
@pytest.mark.parametrize(
    ("argument", "example"),
    [
        ("Simon", '(protocol="Simon")'),
        ("Barrier", '(microservice="Barrier")'),
        ("s3cret", '(microservice="KeyValueStorage")'),
        ({"protocol": "Simon"}, '(microservice="KeyValueStorage")'),
    ],
)
def test_services_are_selected_by_name(
    api: fdrtd.Api, server: Server, function: str, argument: object, example: str
) -> None:
    with pytest.raises(fdrtd.CallError) as caught:
        getattr(api, function)(argument)
    assert f"write {function}{example}" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert server.requests == []
