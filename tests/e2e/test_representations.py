"""The representations (generation 0.6) over raw HTTP: what the recording does not say."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from access import ask, token
from harness import DURATIONS, Node, all_joined, make_task, nodes, until, urls_of
from test_handles import NOBODY, Answer, Wire

HERE = "/representations"


class Face:
    """A client of this generation at one node: plain requests, as its Python client makes them."""

    def __init__(self, node: Node, credentials: str | None = None) -> None:
        self.node = node
        self.token = credentials
        self.local = threading.local()

    def send(self, method: str, path: str, body: Any = "{}") -> Answer:
        if not hasattr(self.local, "wire"):
            self.local.wire = Wire(self.node.url)
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        answer: Answer = self.local.wire.send(method, path, text, **headers)
        return answer

    def create(self, **identifiers: str) -> str:
        answer = self.send("POST", HERE, {"args": [], "kwargs": identifiers}).value()
        assert answer.keys() == {"type", "uuid"}
        return str(answer["uuid"])

    def attribute(self, uuid: str, name: str) -> Answer:
        return self.send("GET", f"/representation/{uuid}/{name}")

    def call(self, uuid: str, function: str, /, *args: Any, **kwargs: Any) -> Answer:
        method = self.attribute(uuid, function)
        if method.status != 200:
            return method
        path = f"/representation/{method.value()['uuid']}"
        return self.send("PATCH", path, {"args": list(args), "kwargs": kwargs})

    def made(self, uuid: str, function: str, /, *args: Any, **kwargs: Any) -> str:
        """The uuid of what a call gives."""
        return uuid_of(self.call(uuid, function, *args, **kwargs))

    def given(self, uuid: str, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """The value that a call gives, downloaded; None for none."""
        answer = self.call(uuid, function, *args, **kwargs).value()
        if answer == {"type": "none"}:
            return None
        return self.value(answer["uuid"])

    def value(self, uuid: str) -> Any:
        answer = self.download(uuid).value()
        assert answer.keys() == {"type", "object"}
        assert answer["type"] == "object"
        return answer["object"]

    def download(self, uuid: str) -> Answer:
        return self.send("GET", f"/representation/{uuid}")

    def upload(self, value: Any, **more: Any) -> str:
        return uuid_of(self.send("PUT", HERE, {"args": [value], "kwargs": more}))

    def release(self, uuid: str) -> Answer:
        return self.send("DELETE", f"/representation/{uuid}")


def uuid_of(answer: Answer) -> str:
    assert answer.value()["type"] == "uuid", answer
    return str(answer.value()["uuid"])


def none(answer: Answer) -> None:
    assert answer.value() == {"type": "none"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("representations"), 0)
    yield started
    started.kill()


@pytest.fixture
def face(node: Node) -> Face:
    return Face(node)


def objects(node: Node) -> int:
    status, _, body = ask(node, "GET", "/metrics")
    assert status == 200
    lines = [line for line in body.decode().splitlines() if line.startswith("fdrtd_objects ")]
    return int(float(lines[0].split()[1]))


# --- The catalogue --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [HERE, HERE + "/", "//representations//"])
def test_slashes_make_no_difference(face: Face, path: str) -> None:
    answer = face.send("GET", path).value()
    assert answer["type"] == "list"
    assert [service.get("microservice", "Simon") for service in answer["list"]] == [
        *("Simon", "Barrier", "Broadcast", "KeyValueStorage"),
    ]
    assert {service["version"] for service in answer["list"]} == {"0.6.0"}
    head = face.send("HEAD", path, None)
    assert (head.status, head.body) == (200, b"")


def test_each_generation_has_its_own_versions_and_both_namespaces(face: Face) -> None:
    for namespace in ("fdrtd", "federatedsecure"):
        one = face.create(namespace=namespace, microservice="Barrier")
        assert one == face.create(plugin="Sync", microservice="Barrier", version="0.6.0")
    refused = face.send("POST", HERE, {"kwargs": {"microservice": "Barrier", "version": "0.2.0"}})
    refused.problem(404, "SERVICE_UNKNOWN", "Barrier")
    listed = json.loads(ask(face.node, "GET")[2])
    assert {service["identifiers"]["version"] for service in listed} == {"0.2.0"}


def test_requests_are_good_for_their_connection(node: Node) -> None:
    """Requests without a need for a body have one, and the next ones come over the same connection."""
    place = urlsplit(node.url)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)
    connection.connect()
    own = connection.sock
    for method, path in [("GET", HERE), ("GET", f"/representation/{NOBODY}"), ("DELETE", f"/representation/{NOBODY}")]:
        for body in ("{}", "", "x" * 1000, None):
            connection.request(method, place.path + path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.read()
            assert answer.status in (200, 404)
            assert connection.sock is own
    connection.close()


def test_methods(face: Face) -> None:
    for method, path, allow in [
        ("DELETE", HERE, "GET, HEAD, POST, PUT, OPTIONS"),
        ("PUT", f"/representation/{NOBODY}", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("PATCH", f"/representation/{NOBODY}/create", "GET, HEAD, OPTIONS"),
    ]:
        answer = face.send(method, path)
        answer.problem(405, "METHOD_NOT_ALLOWED")
        assert answer.header("Allow") == allow
        assert face.send("OPTIONS", path, None).header("Allow") == allow
    face.send("GET", f"/representation/{NOBODY}/create/more").problem(404, "PATH_UNKNOWN")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"args": {}}', 400, "CALL_INVALID"),
        ('{"args": [1], "args": []}', 400, "CALL_INVALID"),
        ('{"args": ["x"]}', 422, "PARAMETER_UNKNOWN"),
        ('{"kwargs": {"a": 1, "a": 2}, "kwargs": {}}', 400, "CALL_INVALID"),
        ('"x"', 400, "WRONG_TYPE"),
        ("{" * 100_000, 400, None),
        ("[" * 100_000, 400, "NESTED_TOO_DEEP"),
        (b"\xff", 400, "NOT_UTF8"),
        (b'{"kwargs": {"a": "' + b"x" * 20_000 + b'"}}', 413, "BODY_TOO_LARGE"),
    ],
)
def test_unusable_bodies(face: Face, body: str | bytes, status: int, code: str | None) -> None:
    answer = face.send("POST", HERE, body)
    assert answer.status == status
    if code is not None:
        answer.problem(status, code)


def test_preflights_of_all_methods(tmp_path: Path) -> None:
    started = Node(tmp_path, 0, "--ephemeral", "--cors-origin=https://app.example")
    try:
        wire = Wire(started.url)
        for method, path in itertools.product(
            ("GET", "POST", "PUT", "PATCH", "DELETE"), (HERE, f"/representation/{NOBODY}")
        ):
            asked = {
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "content-type,authorization",
            }
            for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
                answer = wire.send("OPTIONS", path, Origin=origin, **asked)
                assert answer.status == 200
                assert (answer.header("Access-Control-Allow-Origin") == origin) == allowed
                assert method in answer.header("Access-Control-Allow-Methods").split(",")
                assert "content-type" in answer.header("Access-Control-Allow-Headers")
        # What changes something is not done for a stranger's page at all.
        nobody = f"/representation/{NOBODY}"
        for method, path in (("PUT", HERE), ("PATCH", nobody), ("DELETE", nobody)):
            refused = wire.send(method, path, '{"args": [1]}', Origin="https://evil.example")
            refused.problem(403, "ORIGIN_REFUSED")
        assert wire.send("PUT", HERE, '{"args": [1]}', Origin="https://app.example").status == 200
    finally:
        started.kill()


# --- Values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1180591620717411303424", "1e+300", "0.10", "-0", '"\\u0061"', "[ 1,2 ]", "null"])
def test_uploaded_text_comes_back_as_it_was(face: Face, text: str) -> None:
    uuid = uuid_of(face.send("PUT", HERE, f'{{"args": [{text}], "kwargs": {{}}}}'))
    assert face.download(uuid).text() == f'{{"type":"object","object":{text}}}'
    none(face.release(uuid))
    face.download(uuid).problem(404, "OBJECT_UNKNOWN")
    face.release(uuid).problem(404, "OBJECT_UNKNOWN")


def test_a_large_value_goes_up_and_down(face: Face) -> None:
    text = json.dumps(list(range(1_000_000)))
    uuid = uuid_of(face.send("PUT", HERE, f'{{"args": [{text}], "kwargs": {{}}}}'))
    assert face.download(uuid).text() == f'{{"type":"object","object":{text}}}'
    none(face.release(uuid))


def test_what_is_stored_one_way_is_for_tasks_only(face: Face) -> None:
    uuid = face.upload([1, 2], one_way=True)
    face.download(uuid).problem(403, "VALUE_ONE_WAY")
    storage = face.made(face.create(microservice="KeyValueStorage"), "create")
    reference = {"representation_uuid": uuid}
    face.call(storage, "store", key="x", value=reference).problem(403, "VALUE_ONE_WAY")
    broadcast = face.create(microservice="Broadcast")
    none(face.call(broadcast, "create", "one way"))
    face.call(broadcast, "send", "one way", message={"deep": [reference]}).problem(403, "VALUE_ONE_WAY")
    number = face.upload(4711, one_way=True)
    wanted = {"nodes": ["http://localhost:1/a", "http://localhost:1/b"], "myself": {"representation_uuid": number}}
    for other in ({"network": wanted}, {"parameters": {"digits_after": reference}}, {"policy": reference}):
        # Of what a computation takes, the data alone are shown to nobody.
        call = {"microprotocol": "SecureSum", "data": 1, "network": {"nodes": [], "myself": 0}, **other}
        refused = face.call(face.create(protocol="Simon"), "compute", **call)
        refused.problem(403, "VALUE_ONE_WAY")
        assert b"4711" not in refused.body
    task = open_task(face)
    none(face.call(task, "input", data=reference))
    none(face.release(task))
    none(face.release(uuid))


def test_a_value_is_the_same_object_on_both_faces(face: Face) -> None:
    wire = Wire(face.node.url)
    uuid = face.upload({"a": 0.10})
    kept = {"handle": wire.handle("KeyValueStorage"), "callback": {"storage": "default", "uuid": uuid}}
    assert wire.retrieve(kept).value() == {"a": 0.1}
    stored = wire.store("[7, 8]")
    assert face.value(stored["callback"]["uuid"]) == [7, 8]
    none(face.release(stored["callback"]["uuid"]))
    wire.retrieve(stored).problem(404, "OBJECT_UNKNOWN")


def test_references(face: Face) -> None:
    """In `kwargs` at any depth down to 8 and with nothing beside; never in `args`."""
    storage = face.made(face.create(microservice="KeyValueStorage"), "create", "references")
    uuid = face.upload("value")
    reference = {"representation_uuid": uuid}
    nested: Any = reference
    for _ in range(9):
        nested = [nested]
    beside = {"representation_uuid": uuid, "more": 1}
    for given, kept in [
        (reference, "value"),
        ({"a": [reference, 1]}, {"a": ["value", 1]}),
        (nested[0], [[[[[[[["value"]]]]]]]]),
        (nested, nested),
        (beside, beside),
        ({"handle": uuid, "callback": uuid}, {"handle": uuid, "callback": uuid}),
    ]:
        none(face.call(storage, "store", key=1, value=given))
        assert face.given(storage, "retrieve", key=1) == kept
    none(face.call(storage, "store", 1, reference))
    assert face.given(storage, "retrieve", 1) == reference
    # What was returned can be handed on as well.
    returned = face.made(storage, "exists", 1)
    none(face.call(storage, "store", key=2, value={"representation_uuid": returned}))
    assert face.given(storage, "retrieve", 2) is True
    for wrong, status, code in [
        (NOBODY, 404, "OBJECT_UNKNOWN"),
        (storage, 422, "REFERENCE_INVALID"),
        (face.attribute(storage, "store").value()["uuid"], 422, "REFERENCE_INVALID"),
        (5, 422, "REFERENCE_INVALID"),
    ]:
        face.call(storage, "store", key=3, value={"representation_uuid": wrong}).problem(status, code)


# --- The closed list ------------------------------------------------------------------------------------------------

INNER = ["_x", "__class__", "__dict__", "storages", "points", "keys", "format", "ljust", "tasks", "clear", "Create", ""]


def test_nothing_is_reachable_that_is_not_on_the_list(face: Face) -> None:
    storage = face.made(face.create(microservice="KeyValueStorage"), "create", "list")
    barrier = face.made(face.create(microservice="Barrier"), "create", "list")
    method = face.attribute(storage, "store").value()["uuid"]
    things = [storage, barrier, method, face.upload({"keys": 1}), face.upload("text"), open_task(face)]
    things += [face.create(**service) for service in ({}, {"microservice": "Barrier"}, {"plugin": "Util"})]
    for thing, name in itertools.product(things, [*INNER[:-1], "%5F", "create%00"]):
        face.attribute(thing, name).problem(403, "FUNCTION_NOT_PUBLIC", "attribute not public")
    face.attribute(storage, "create").problem(403, "FUNCTION_NOT_PUBLIC", "store, retrieve, exists, delete")
    face.attribute(method, "store").problem(403, "FUNCTION_NOT_PUBLIC")


def test_a_function_has_one_uuid_and_nothing_is_kept_for_it(face: Face) -> None:
    storage = face.made(face.create(microservice="KeyValueStorage"), "create", "methods")
    before = objects(face.node)
    ids = {name: face.attribute(storage, name).value()["uuid"] for name in ("store", "retrieve", "exists", "delete")}
    assert len({*ids.values(), storage}) == 5
    for _ in range(300):
        for name, uuid in ids.items():
            assert face.attribute(storage, name).value()["uuid"] == uuid
    none(face.release(ids["store"]))
    none(face.call(storage, "store", "k", 1))
    assert objects(face.node) == before + 1
    face.download(ids["store"]).problem(422, "NOT_A_VALUE", "function store")
    # Without its object there is no function.
    none(face.release(storage))
    face.send("PATCH", f"/representation/{ids['store']}").problem(404, "OBJECT_UNKNOWN")


def test_parameters_by_place_and_by_name(face: Face) -> None:
    storage = face.made(face.create(microservice="KeyValueStorage"), "create", "places")
    face.call(storage, "store", "k", 1, 2).problem(422, "PARAMETER_UNKNOWN", "key, value")
    face.call(storage, "store", "k", key="k").problem(422, "PARAMETER_DUPLICATE", "place", "name")
    face.call(storage, "store", "k").problem(422, "PARAMETER_MISSING", "value")
    face.call(storage, "store", ["k"], 1).problem(422, "WRONG_TYPE")
    none(face.call(storage, "store", "k", value=1))
    assert face.given(storage, "retrieve", "k") == 1


# --- KeyValueStorage, Barrier, Broadcast ----------------------------------------------------------------------------


def test_storages_are_found_by_their_names(face: Face) -> None:
    service = face.create(microservice="KeyValueStorage")
    default, other = face.made(service, "create"), face.made(service, "create", storage="other")
    assert default == face.made(service, "create", "default")
    assert other == face.made(service, "create", "other") != default
    none(face.call(default, "store", "k", "default"))
    none(face.call(other, "store", "k", "other"))
    # Keys are told apart by kind; a text is the same however it is written.
    none(face.call(other, "store", 1, "number"))
    none(face.call(other, "store", "1", "text"))
    assert [face.given(other, "retrieve", key) for key in ("k", 1, "1")] == ["other", "number", "text"]
    assert face.given(default, "retrieve", "k") == "default"
    assert [face.given(default, "exists", key) for key in ("k", 1)] == [True, False]
    # What was retrieved stays what it was.
    kept = face.made(other, "retrieve", "k")
    none(face.call(other, "store", "k", "new"))
    assert (face.value(kept), face.given(other, "retrieve", "k")) == ("other", "new")
    none(face.call(other, "store", "k", None))
    assert face.given(other, "retrieve", "k") is None
    assert face.given(other, "exists", "k") is True
    # A storage that is let go of keeps its values.
    none(face.release(other))
    face.attribute(other, "store").problem(404, "OBJECT_UNKNOWN")
    assert face.given(face.made(service, "create", "other"), "retrieve", 1) == "number"
    for key in ("k", 1, "1"):
        none(face.call(other, "delete", key))
        face.call(other, "delete", key).problem(404, "OBJECT_UNKNOWN", "no value under this key")
    face.call(service, "create", storage="x" * 256).problem(422, "VALUE_OUT_OF_RANGE")


def test_meeting_points_are_those_of_the_other_face(face: Face) -> None:
    wire = Wire(face.node.url)
    barrier = face.made(face.create(microservice="Barrier"), "create", uuid="both")
    handle = wire.handle("Barrier")
    point = wire.call(handle, "create", {"tokens": ["both"]}).json()["callback"]
    assert point == barrier
    none(face.call(barrier, "arrive", party=0))
    wire.call(handle, "arrive", {"party": 1}, point).nothing()
    assert face.given(barrier, "arrived") == wire.call(handle, "arrived", {}, point).value() == 2
    # Nobody's: who lets go of it leaves it to the others.
    none(face.release(barrier))
    assert face.given(barrier, "arrived") == 2
    broadcast = face.create(microservice="Broadcast")
    none(face.call(broadcast, "create", "both"))
    none(face.call(broadcast, "send", "both", {"n": 1e300}))
    there = wire.handle("Broadcast")
    found = wire.call(there, "create", {"tokens": ["both"]}).json()["callback"]
    assert wire.call(there, "receive", {}, found).value() == {"n": 1e300}
    none(face.call(broadcast, "delete", "both"))
    none(face.call(face.create(microservice="Barrier"), "delete", "both"))
    face.attribute(barrier, "arrive").problem(404, "OBJECT_UNKNOWN")


@pytest.mark.parametrize("handles", [False, True])
def test_waiting_at_meeting_points(face: Face, pool: ThreadPoolExecutor, handles: bool) -> None:
    wire = Wire(face.node.url)
    point = face.made(face.create(microservice="Barrier"), "create", "waiting")
    broadcast = face.create(microservice="Broadcast")
    none(face.call(broadcast, "create", "waiting"))

    def waits(function: str, **parameters: Any) -> Any:
        if not handles:
            return face.given(point, function, **parameters)
        return Wire(face.node.url).call(wire.handle("Barrier"), function, parameters, point).value()

    assert face.call(point, "wait", 1, timeout=0).header("fdrtd-waiting") == "0 of 1 parties have arrived"
    wire.call(wire.handle("Barrier"), "wait", {"count": 1, "timeout": 0}, point).nothing()
    for function, step in (("wait", "arrive"), ("wait_departed", "depart")):
        waiting = pool.submit(waits, function, count=2, timeout=60)
        for party in (0, 1):
            assert not waiting.done()
            none(face.call(point, step, party))
        assert waiting.result() == 2
        assert waits(function, count=1) == 2
    message = pool.submit(face.given, broadcast, "wait", "waiting", timeout=60)
    assert face.given(broadcast, "receive", "waiting") is None
    assert face.call(broadcast, "wait", "waiting", timeout=0).header("fdrtd-waiting")
    none(face.call(broadcast, "send", "waiting", [1]))
    assert message.result() == [1]
    # Who waits at a point that goes is told.
    waiting = pool.submit(lambda: face.call(point, "wait", 9, timeout=60))
    none(face.call(face.create(microservice="Barrier"), "delete", "waiting"))
    waiting.result().problem(404, "OBJECT_UNKNOWN")
    none(face.call(broadcast, "delete", "waiting"))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as executor:
        yield executor


# --- Whose it is, how much, how long --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node with callers of all roles, and one without a name."""
    directory = tmp_path_factory.mktemp("owners")
    config = directory / "fdrtd.toml"
    config.write_text("[limits]\nobjects_per_principal = 20\nobject_bytes_per_principal = 100000\n")
    data = directory / "node0" / "data"
    roles = {"anna": "analyst", "ben": "analyst", "olga": "owner", "vera": "viewer"}
    made = {name: token(data, name, role) for name, role in roles.items()}
    with nodes(directory, 1, "--anonymous=yes", f"--config={config}") as (started,):
        callers = {name: Face(started, made[name]) for name in made}
        callers["nobody"] = Face(started)
        yield callers


def open_task(face: Face) -> str:
    network = {"nodes": [face.node.url, "http://127.0.0.1:9/nobody"], "myself": 0}
    simon = face.create(protocol="Simon")
    return face.made(simon, "create_task", microprotocol="SecureSum", network=network, durations=DURATIONS)


def test_what_is_anothers_is_not_there(owners: Any) -> None:
    anna = owners["anna"]
    storage = anna.made(anna.create(microservice="KeyValueStorage"), "create", "annas")
    none(anna.call(storage, "store", "k", 4711))
    things = {
        "value": anna.upload(4711),
        "storage": storage,
        "returned": anna.made(storage, "retrieve", "k"),
        "task": open_task(anna),
    }
    things["method"] = anna.attribute(storage, "retrieve").value()["uuid"]
    for name, (what, uuid) in itertools.product(("ben", "olga", "nobody"), things.items()):
        stranger = owners[name]
        for method, path in [
            ("GET", ""),
            ("DELETE", ""),
            ("PATCH", ""),
            *(("GET", f"/{function}") for function in ("retrieve", "result", "delete", "_x")),
        ]:
            refused = stranger.send(method, f"/representation/{uuid}{path}")
            unknown = stranger.send(method, f"/representation/{NOBODY}{path}")
            assert (refused.status, refused.body) == (unknown.status, unknown.body), (name, what, method, path)
            refused.problem(404, "OBJECT_UNKNOWN")
        own = stranger.made(stranger.create(microservice="KeyValueStorage"), "create", "own")
        reference = {"representation_uuid": uuid}
        stranger.call(own, "store", key="k", value=reference).problem(404, "OBJECT_UNKNOWN")
        # The same name is another storage.
        assert stranger.given(own, "exists", "k") is False
        assert stranger.made(stranger.create(microservice="KeyValueStorage"), "create", "annas") != storage
    assert anna.value(things["value"]) == anna.value(things["returned"]) == 4711
    for uuid in things.values():
        assert owners["vera"].download(uuid).problem(403, "ROLE_REFUSED")
    assert owners["vera"].send("GET", HERE).status == 200
    owners["vera"].send("PUT", HERE, '{"args": [1]}').problem(403, "ROLE_REFUSED")


def test_tasks_are_found_by_their_owner_only(owners: Any) -> None:
    anna, ben, nobody = owners["anna"], owners["ben"], owners["nobody"]
    task = open_task(anna)
    invitation = anna.given(task, "invite")
    assert invitation["task_id"] == invitation["task"] != task
    simons = {face: face.create(protocol="Simon") for face in (anna, ben, nobody)}
    assert anna.made(simons[anna], "get_task", task_id=invitation["task_id"]) == task
    for stranger in (ben, nobody, owners["olga"]):
        none(stranger.call(stranger.create(), "get_task", invitation["task_id"]))
        none(stranger.call(stranger.create(), "get_task", task))
    # Everybody without a name is the same caller: the id that all parties know is no key.
    own = open_task(nobody)
    known = nobody.given(own, "invite")["task_id"]
    none(nobody.call(simons[nobody], "get_task", known))
    assert nobody.made(simons[nobody], "get_task", own) == own
    for each, caller in ((task, anna), (own, nobody)):
        none(caller.release(each))
        none(caller.call(caller.create(), "get_task", known))
        caller.attribute(each, "progress").problem(404, "OBJECT_UNKNOWN")


def test_quotas_are_those_of_stored_values(owners: Any) -> None:
    ben = owners["ben"]
    storage = ben.made(ben.create(microservice="KeyValueStorage"), "create", "quota")
    kept: list[str] = []
    while (answer := ben.send("PUT", HERE, {"args": [1]})).status == 200:
        kept.append(uuid_of(answer))
    assert answer.problem(429, "QUOTA")["exceeds"] == "objects_per_principal"
    assert 10 < len(kept) < 20
    ben.call(storage, "store", "k", 1).problem(429, "QUOTA")
    ben.call(ben.create(microservice="KeyValueStorage"), "create", "more").problem(429, "QUOTA")
    none(ben.release(kept.pop()))
    none(ben.call(storage, "store", "k", 1))
    # What is there already is replaced.
    none(ben.call(storage, "store", "k", 2))
    # What functions return is no reason to refuse anything: the oldest goes.
    returned = [ben.made(storage, "retrieve", "k") for _ in range(30)]
    ben.download(returned[0]).problem(404, "OBJECT_UNKNOWN")
    assert [ben.value(uuid) for uuid in returned[-20:]] == [2] * 20
    for uuid in kept:
        none(ben.release(uuid))
    large = "x" * 60_000
    first = ben.upload(large)
    answer = ben.send("PUT", HERE, {"args": [large]})
    assert answer.problem(429, "QUOTA")["exceeds"] == "object_bytes_per_principal"
    none(ben.release(first))


def test_hundreds_of_objects_that_are_released_leave_nothing(face: Face) -> None:
    service = face.create(microservice="KeyValueStorage")
    before = objects(face.node)
    made: list[str] = []
    for number in range(100):
        made.append(storage := face.made(service, "create", f"storage {number}"))
        made.append(face.upload(number))
        none(face.call(storage, "store", "k", number))
        made.append(face.made(storage, "retrieve", "k"))
        made.append(face.made(storage, "exists", "k"))
        none(face.call(storage, "delete", "k"))
    assert objects(face.node) == before + len(made)
    for uuid in made:
        none(face.release(uuid))
    assert objects(face.node) == before


def test_what_survives_a_restart(tmp_path: Path) -> None:
    started = Node(tmp_path, 0)
    try:
        face = Face(started)
        service = face.create(microservice="KeyValueStorage")
        storage = face.made(service, "create", "kept")
        method = face.attribute(storage, "retrieve").value()["uuid"]
        none(face.call(storage, "store", "k", 2**70))
        value, task = face.upload([0.10]), open_task(face)
        task_method = face.attribute(task, "progress").value()["uuid"]
        secret = face.upload(1, one_way=True)
        started.restart()
        face = Face(started)
        assert face.create(microservice="KeyValueStorage") == service
        assert face.download(value).text() == '{"type":"object","object":[0.1]}'
        assert face.value(uuid_of(face.send("PATCH", f"/representation/{method}", {"args": ["k"]}))) == 2**70
        assert face.value(uuid_of(face.send("PATCH", f"/representation/{task_method}")))["state"] == "created"
        face.download(secret).problem(403, "VALUE_ONE_WAY")
        none(face.call(storage, "delete", "k"))
        for each in (storage, value, secret, task):
            none(face.release(each))
        started.restart()
        for each in (storage, value, secret, task):
            Face(started).download(each).problem(404, "OBJECT_UNKNOWN")
    finally:
        started.kill()


def test_time_to_live(tmp_path: Path) -> None:
    config = tmp_path / "fdrtd.toml"
    config.write_text("[limits]\ntime_to_live = 1.0\n")
    started = Node(tmp_path, 0, "--ephemeral", f"--config={config}")
    try:
        face = Face(started)
        storage = face.made(face.create(microservice="KeyValueStorage"), "create")
        none(face.call(storage, "store", "k", 1))
        face.upload(1)
        face.made(storage, "exists", "k")
        until(lambda: objects(started) == 0, "everything has expired")
        face.attribute(storage, "store").problem(404, "OBJECT_UNKNOWN")
    finally:
        started.kill()


# --- Simon ----------------------------------------------------------------------------------------------------------


def test_tasks_step_by_step(shared: list[Node], pool: ThreadPoolExecutor) -> None:
    """Created here, joined there on the other face too, started, its result held for until it is there."""
    faces = [Face(node) for node in shared]
    simons = [face.create(protocol="Simon") for face in faces]
    urls = urls_of(shared)
    first = faces[0].made(
        simons[0], "create_task", "SecureSum", {"nodes": urls, "myself": 0}, {"digits_after": 3}, durations=DURATIONS
    )
    invitation = faces[0].given(first, "invite")
    second = faces[1].made(simons[1], "join_task", invitation=invitation, network={"nodes": urls, "myself": 1})
    api = shared[2].api()
    third = api.select_microservice(protocol="Simon").join(invitation=invitation["link"])
    faces[0].call(first, "result").problem(409, "NOT_STARTED", "start()")
    faces[0].call(first, "start").problem(409, "NO_INPUT")
    faces[0].call(first, "input", data=["x"]).problem(422, "INPUT_REFUSED")
    for value in (1.5, 2):
        none(faces[0].call(first, "input", [value]))
    none(faces[1].call(second, "input", data={"representation_uuid": faces[1].upload([10])}))
    none(faces[0].call(first, "start"))
    held = pool.submit(faces[0].given, first, "result")
    none(faces[1].call(second, "start"))
    assert faces[1].call(second, "result", timeout=0).header("fdrtd-waiting")
    assert not held.done()
    third.input(data=[100])
    expected = {"inputs": 3, "result": {"samples": 4, "sum": 113.5}}
    assert held.result() == faces[1].given(second, "result") == expected
    assert third.result(timeout=60) == expected
    assert faces[0].given(first, "progress")["state"] == "done"
    assert faces[0].given(first, "receipt")["salt"]
    # One object on both faces.
    wire = Wire(shared[0].url)
    assert wire.call(wire.handle("Simon"), "progress", {}, first).value()["state"] == "done"
    for face, task in ((faces[0], first), (faces[1], second)):
        none(face.release(task))
        face.call(task, "result").problem(404, "OBJECT_UNKNOWN")


def test_a_failed_task_is_told_with_its_cause(shared: list[Node], pool: ThreadPoolExecutor) -> None:
    faces = [Face(node) for node in shared]
    tasks = [task["callback"] for task in make_task(shared)]
    held = [pool.submit(face.call, task, "result") for face, task in zip(faces, tasks)]
    none(faces[2].call(tasks[2], "cancel"))
    for waiting in held:
        problem = waiting.result().problem(409, "TASK_FAILED")
        assert (problem["cause"]["code"], problem["cause"]["party"]) == ("CANCELLED", 2)


def test_letting_go_of_an_open_task_ends_it_for_all(shared: list[Node]) -> None:
    tasks = make_task(shared)
    until(lambda: all(all_joined(task) for task in tasks), "all have joined")
    faces = [Face(node) for node in shared]
    none(faces[1].release(tasks[1]["callback"]))
    problem = faces[0].call(tasks[0]["callback"], "result").problem(409, "TASK_FAILED")
    assert (problem["cause"]["code"], problem["cause"]["party"]) == ("CANCELLED", 1)


def test_a_node_that_stops_says_so(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """An empty answer would be taken for a result."""
    with nodes(tmp_path, 1) as (started,):
        face = Face(started)
        task = open_task(face)
        none(face.call(task, "input", 1))
        none(face.call(task, "start"))
        held = pool.submit(face.call, task, "result")
        network = {"nodes": [started.url, "http://127.0.0.1:9/nobody"], "myself": 0}
        computed = pool.submit(face.call, face.create(), "compute", "SecureSum", 1, network)
        watcher = Face(started)
        until(lambda: tasks_of(started) == 2, "both tasks are there")
        assert watcher.given(task, "progress")["waiting_for"]
        assert started.stop() == 0
        for waiting in (held, computed):
            waiting.result().problem(503, "NOT_READY", "stopping")


def tasks_of(node: Node) -> int:
    """All that are kept there."""
    return len(json.loads(ask(node, "GET", "/tasks", token=node.operator())[2])["tasks"])
