"""`Simon.compute`: a whole computation in one call, over raw HTTP, on both faces."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from access import ask
from harness import DURATIONS, Node, nodes, stopping_node, until, urls_of
from test_handles import Answer, Wire
from test_representations import Face, none, tasks_of

SHORT = DURATIONS | {"join": 1}
OPEN = ("created", "joining", "joined", "running")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(80) as executor:
        yield executor


class Party:
    """One party of computations: its node, its place, a client."""

    def __init__(self, node: Node, urls: list[str], myself: int, credentials: str | None = None) -> None:
        self.node = node
        self.face = Face(node, credentials)
        self.network: dict[str, Any] = {"nodes": urls, "myself": myself}
        self.method = self.face.attribute(self.face.create(protocol="Simon"), "compute").value()["uuid"]

    def asked(self, data: Any, uuid: str | None = None, **more: Any) -> dict[str, Any]:
        network = self.network if uuid is None else self.network | {"uuid": uuid}
        known = {"microprotocol": "SecureSum", "durations": DURATIONS, "network": network, "data": data}
        return known | more

    def compute(self, data: Any, uuid: str | None = None, **more: Any) -> Answer:
        kwargs = self.asked(data, uuid, **more)
        return self.face.send("PATCH", f"/representation/{self.method}", {"args": [], "kwargs": kwargs})

    def result(self, data: Any, uuid: str | None = None, **more: Any) -> str:
        """The bytes of the result."""
        answer = self.compute(data, uuid, **more).value()
        return self.face.download(answer["uuid"]).text()

    def by_handle(self, data: Any, uuid: str | None = None, **more: Any) -> str:
        wire = Wire(self.node.url)
        text = wire.call(wire.handle("Simon"), "compute", self.asked(data, uuid, **more)).text()
        return f'{{"type":"object","object":{text}}}'

    def begin(self, data: Any, uuid: str | None = None, **more: Any) -> socket.socket:
        """Asks, and leaves it to the caller whether to wait for the answer."""
        place = urlsplit(self.node.url)
        connection = http.client.HTTPConnection(place.netloc, timeout=60)
        body = json.dumps({"args": [], "kwargs": self.asked(data, uuid, **more)})
        path = f"{place.path}/representation/{self.method}"
        connection.request("PATCH", path, body, {"Content-Type": "application/json"})
        assert connection.sock is not None
        return connection.sock

    def tasks(self) -> list[dict[str, Any]]:
        found = json.loads(ask(self.node, "GET", "/tasks", token=self.node.operator())[2])["tasks"]
        assert isinstance(found, list)
        return found

    def open(self) -> int:
        """Tasks that are not over."""
        return len([task for task in self.tasks() if task["state"] in OPEN])


def parties_of(started: list[Node]) -> list[Party]:
    return [Party(node, urls_of(started), index) for index, node in enumerate(started)]


@pytest.fixture(scope="module")
def parties(shared: list[Node]) -> list[Party]:
    return parties_of(shared)


def noted(node: Node) -> set[str]:
    """What its audit says was done there; it is read when all that came before is written."""
    found = json.loads(ask(node, "GET", "/audit?limit=1000", token=node.operator())[2])["entries"]
    return {entry["action"] for entry in found}


def whole(total: float, samples: int = 3) -> dict[str, Any]:
    return {"inputs": 3, "result": {"samples": samples, "sum": total}}


def object_of(text: str) -> Any:
    return json.loads(text)["object"]


def all_the_same(futures: list[Future[str]]) -> Any:
    """The one result of all, equal to the byte."""
    texts = {future.result(timeout=120) for future in futures}
    assert len(texts) == 1
    return object_of(texts.pop())


# --- It computes ----------------------------------------------------------------------------------------------------


def test_on_both_faces(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    for uuid, how in itertools.product((None, "", "both", "ü" * 300), itertools.product((False, True), repeat=3)):
        calls = [party.by_handle if handle else party.result for party, handle in zip(parties, how)]
        futures = [pool.submit(call, index + 0.5, uuid) for index, call in enumerate(calls)]
        assert all_the_same(futures) == whole(4.5)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_who_calls_first_makes_no_difference(
    parties: list[Party], pool: ThreadPoolExecutor, order: tuple[int, ...]
) -> None:
    futures = []
    for index in order:
        futures.append(pool.submit(parties[index].result, index, f"order {order}"))
        if len(futures) < 3:
            # The node has it when a call of the same input with no patience does not start another.
            waiting = parties[index].compute(index, f"order {order}", timeout=0.05)
            assert waiting.value() == {"type": "none"}
            assert waiting.header("fdrtd-waiting")
            assert not any(future.done() for future in futures)
    assert all_the_same(futures) == whole(3)


def asked_who_it_is(node: Node) -> int:
    lines = ask(node, "GET", "/metrics", token=node.operator())[2].decode().splitlines()
    found = [line for line in lines if line.startswith('fdrtd_http_requests_total{route="/identity"')]
    return sum(int(float(line.split()[-1])) for line in found)


def test_a_node_does_not_ask_itself_each_time(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    """Without a public URL it looks whether it is there, and believes that for a minute."""
    for number in range(6):
        futures = [pool.submit(party.result, number, "who") for party in parties]
        assert all_the_same(futures) == whole(3 * number)
        if number == 0:
            before = [asked_who_it_is(party.node) for party in parties]
    # Another minute may have begun.
    after = [asked_who_it_is(party.node) for party in parties]
    assert all(later <= earlier + 2 for earlier, later in zip(before, after)), (before, after)


def test_the_same_uuid_and_the_same_input_again(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    """Each call is a computation of its own once the one before was answered."""
    before = len(parties[0].tasks())
    for _ in range(10):
        futures = [pool.submit(party.result, 1, "again") for party in parties]
        assert all_the_same(futures) == whole(3)
    assert len(parties[0].tasks()) == before + 10
    # Nobody waits for the others' clients before beginning the next one.
    runs = [pool.submit(lambda each: [each.result(n, "again") for n in range(20)], party) for party in parties]
    texts = [[object_of(text) for text in run.result()] for run in runs]
    assert texts == [[whole(3 * n) for n in range(20)]] * 3


def test_many_at_once_do_not_mix(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    calls = [(party, number) for party in parties for number in range(20)]
    random.Random(6).shuffle(calls)
    futures = {
        (party.network["myself"], number): pool.submit(party.result, number * 10**index, f"parallel {number}")
        for party, number in calls
        for index in (int(str(party.network["myself"])),)
    }
    for number in range(20):
        assert all_the_same([futures[myself, number] for myself in range(3)]) == whole(111 * number)


def test_data_by_reference_and_parameters(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    data: list[Any] = [{"representation_uuid": parties[0].face.upload([0.25], one_way=True)}, [0.5, 1], []]
    more = {"microprotocol": "BasicSum", "parameters": {"digits_after": 2}}
    futures = [pool.submit(party.result, each, "more", **more) for party, each in zip(parties, data)]
    assert all_the_same(futures) == whole(1.75)
    # The same in other words: an alias, the parameters in full, positions.
    stored = Wire(parties[0].node.url).store("[1]")
    third = parties[2]

    def by_position() -> Any:
        network = third.network | {"uuid": "more"}
        return third.face.given(third.face.create(), "compute", "BasicSum", 3, network, {"digits_after": 2})

    spelled = {"parameters": {"digits_before": 18, "digits_after": 2}, "microprotocol": "SecureSum"}
    futures = [
        pool.submit(parties[0].by_handle, stored, "more", **more),
        pool.submit(parties[1].result, 2, "more", **spelled),
        pool.submit(by_position),
    ]
    assert [object_of(futures[0].result()), object_of(futures[1].result()), futures[2].result()] == [whole(6)] * 3


# --- Retries --------------------------------------------------------------------------------------------------------


def test_a_retry_joins_the_run_that_is_there(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    before = [len(party.tasks()) for party in parties]
    firsts = [pool.submit(party.result, 2, "retry") for party in parties[:2]]
    until(lambda: parties[0].open() == parties[1].open() == 1, "two have begun")
    retries = [pool.submit(party.result, 2, "retry") for party in parties[:2] for _ in range(3)]
    third = pool.submit(parties[2].result, 2, "retry")
    assert all_the_same([*firsts, *retries, third]) == whole(6)
    assert [len(party.tasks()) for party in parties] == [count + 1 for count in before]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_client_that_was_killed_comes_back(parties: list[Party], pool: ThreadPoolExecutor, killed: int) -> None:
    """Before the others are there: party 0's task goes on, the others\' waiting begins anew; both make one task."""
    before = [len(party.tasks()) for party in parties]
    uuid = f"killed {killed}"
    begun = parties[killed].begin(5, uuid)
    if killed == 0:
        until(lambda: parties[0].open() == 1, "it has begun")
    begun.close()
    futures = [pool.submit(party.result, 5, uuid) for party in parties]
    assert all_the_same(futures) == whole(15)
    assert [len(party.tasks()) for party in parties] == [count + 1 for count in before]


def test_an_answer_that_nobody_took_is_kept(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    """All end, one's client is not there any more: it asks again, and the others are not needed for that."""
    before = len(parties[0].tasks())
    begun = parties[0].begin(7, "lost")
    until(lambda: parties[0].open() == 1, "it has begun")
    begun.close()
    others = [pool.submit(party.result, 7, "lost") for party in parties[1:]]
    assert all_the_same(others) == whole(21)
    until(lambda: parties[0].open() == 0, "it has ended")
    assert object_of(parties[0].result(7, "lost")) == whole(21)
    assert len(parties[0].tasks()) == before + 1
    # Now it was answered.
    futures = [pool.submit(party.result, 7, "lost") for party in parties]
    assert all_the_same(futures) == whole(21)
    assert len(parties[0].tasks()) == before + 2


def test_what_is_being_computed_is_not_replaced(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """Its caller has gone and a party has fallen over in the middle: until that is known, another input is too late."""
    with nodes(tmp_path, 2) as started, contextlib.ExitStack() as ends:
        third = stopping_node(tmp_path / "third", 2, "data")
        ends.callback(third.kill)
        parties = parties_of([*started, third])
        durations = DURATIONS | {"silence": 30}
        gone = parties[0].begin(1, "middle", durations=durations)
        for party in parties[1:]:
            pool.submit(party.compute, 1, "middle", durations=durations)
        until(lambda: [task["state"] for task in parties[0].tasks()] == ["running"], "it computes")
        gone.close()
        for _ in range(20):
            parties[0].compute(2, "middle", durations=durations).problem(409, "BUSY", "another input")


def test_what_was_deleted_is_given_to_nobody(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    """Its answer was not taken; its owner has deleted the task, so the same call is another computation."""
    node = parties[0].node
    owner = Party(node, parties[0].network["nodes"], 0, node.operator())
    before = {task["task"] for task in owner.tasks()}
    none(owner.compute(7, "deleted", timeout=0))
    assert all_the_same([pool.submit(party.result, 7, "deleted") for party in parties[1:]]) == whole(21)
    until(lambda: owner.open() == 0, "it has ended")
    [task] = {task["task"] for task in owner.tasks()} - before
    made = owner.face.made(owner.face.create(protocol="Simon"), "get_task", task_id=task)
    none(owner.face.release(made))
    answer = owner.compute(7, "deleted", timeout=0.5)
    none(answer)
    assert "the others call compute" in answer.header("fdrtd-waiting")
    [new] = {task["task"] for task in owner.tasks()} - before
    assert new != task
    assert ask(node, "POST", f"/tasks/{new}/cancel", token=node.operator())[0] == 204


def test_another_input(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    first = pool.submit(parties[0].compute, 1, "another")
    until(lambda: parties[0].open() == 1, "it has begun")

    # It is there a moment before whoever asks is told which it is.
    def named() -> dict[str, Any] | None:
        problem = parties[0].compute(2, "another").problem(409, "BUSY", "another input")
        return problem if "task" in problem else None

    problem = until(named, "the task has its name")
    # Nor is it a retry under other rules: the result would not be one that they allow.
    parties[0].compute(1, "another", policy={"min_samples_own": 2}).problem(409, "BUSY", "another policy")
    [task] = [task["task"] for task in parties[0].tasks() if task["state"] == "created"]
    assert problem["task"] == task
    # It can be ended, by those who have a name.
    assert ask(parties[0].node, "POST", f"/tasks/{task}/cancel", token=parties[0].node.operator())[0] == 204
    assert first.result().problem(409, "TASK_FAILED")["cause"]["code"] == "CANCELLED"
    # Or left: who comes after a caller that has gone takes its place, as long as nothing was computed.
    begun = parties[0].begin(3, "another")
    until(lambda: parties[0].open() == 1, "it has begun")
    begun.close()
    until(lambda: parties[0].compute(4, "another", timeout=0).status == 200 or None, "the caller is gone")
    futures = [pool.submit(party.result, 4, "another") for party in parties]
    assert all_the_same(futures) == whole(12)


def test_patience(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    """Whoever does not want to wait asks again."""
    for index, words in ((1, "party 0 at"), (0, "the others call compute")):
        waiting = parties[index].compute(1, "patience", timeout=0.05)
        none(waiting)
        assert words in waiting.header("fdrtd-waiting")
        wire = Wire(parties[index].node.url)
        answer = wire.call(wire.handle("Simon"), "compute", parties[index].asked(1, "patience", timeout=0.05))
        answer.nothing()
        assert words in answer.header("fdrtd-waiting")
    futures = [pool.submit(party.result, 1, "patience") for party in parties]
    assert all_the_same(futures) == whole(3)


def test_a_restarted_node_goes_on(three: list[Node], pool: ThreadPoolExecutor) -> None:
    parties = parties_of(three)
    first = parties[0].begin(1, "restart")
    until(lambda: "task.input" in noted(three[0]), "it is on the disk")
    three[0].restart()
    first.close()
    parties[0] = Party(three[0], urls_of(three), 0)
    assert parties[0].open() == 1
    futures = [pool.submit(party.result, 1, "restart") for party in parties]
    assert all_the_same(futures) == whole(3)
    assert [len(party.tasks()) for party in parties] == [1, 1, 1]


# --- It ends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"parameters": {"digits_after": 3}}, "the parameters differ"),
        ({"microprotocol": "MinimumMaximum"}, "the microprotocols differ"),
        ({"uuid": "another"}, "the uuids of the networks differ"),
    ],
)
def test_who_wants_something_else_is_told(
    parties: list[Party], pool: ThreadPoolExecutor, changed: dict[str, Any], words: str
) -> None:
    wanted: dict[str, Any] = {"uuid": f"differs {words}"}
    calls = [
        pool.submit(
            party.compute, 1, durations=SHORT if index else DURATIONS, **wanted | (changed if index == 1 else {})
        )
        for index, party in enumerate(parties)
        if index != 2
    ]
    problem = calls[1].result().problem(409, "TASK_FAILED", "party 0", words, "all parties call compute with the same")
    assert problem["cause"] == problem["cause"] | {"code": "EXPIRED", "stage": "join", "missing": [0]}
    # So is party 0, of those who have not come; the right call is not too late meanwhile.
    futures = [pool.submit(party.result, 1, **wanted) for party in parties[1:]]
    assert all_the_same(futures) == whole(3)
    assert calls[0].result().value()["type"] == "uuid"


def test_nobody_comes(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    calls = [pool.submit(party.compute, 1, f"alone {index}", durations=SHORT) for index, party in enumerate(parties)]
    for index, call in enumerate(calls):
        cause = call.result().problem(409, "TASK_FAILED", "all parties call compute with the same")["cause"]
        assert (cause["code"], cause["stage"]) == ("EXPIRED", "join")
        assert cause["missing"] == ([0] if index else [1, 2])
    # A failure is answered once; then it begins anew.
    assert [party.open() for party in parties] == [0, 0, 0]


def test_what_one_party_does_wrong_ends_it_for_all(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    data: list[Any] = [[1, 2], {"vectors": [[1, 2]]}, [3]]
    calls = [pool.submit(party.compute, each, "shapes") for party, each in zip(parties, data)]
    causes = [call.result().problem(409, "TASK_FAILED")["cause"] for call in calls]
    assert {cause["code"] for cause in causes} == {"SHAPES_DIFFER"}
    assert [party.open() for party in parties] == [0, 0, 0]
    futures = [pool.submit(party.result, 1, "shapes") for party in parties]
    assert all_the_same(futures) == whole(3)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_full_storage_ends_it_for_all(tmp_path: Path, pool: ThreadPoolExecutor, victim: int) -> None:
    """The others may have been told that its input is there; nothing of it has left."""
    config = tmp_path / "config"
    config.write_text('[storage]\nmax_bytes = 100000\nsync = "process"\n')
    with nodes(tmp_path, 2, f"--config={config}") as started:
        parties = parties_of(started)
        storage = started[victim].api().select_microservice(microservice="KeyValueStorage")
        kept = [storage.create(value="x" * 30_000) for _ in range(3)]
        for _ in range(5):
            other = pool.submit(parties[1 - victim].compute, 1, "full")
            if victim == 1:
                until(lambda: parties[0].open() == 1, "party 0 waits")
            parties[victim].compute([1] * 20_000, "full").problem(507, "STORAGE_FULL")
            assert parties[victim].tasks() == []
            if victim == 1:
                problem = other.result().problem(409, "TASK_FAILED")
                assert problem["cause"] == problem["cause"] | {"code": "NO_ROOM", "party": 1}
        kept.pop().delete()
        futures = [pool.submit(party.result, 1, "full") for party in parties]
        assert all_the_same(futures)["result"] == {"samples": 2, "sum": 2}


def test_orders_of_nodes_differ(parties: list[Party], pool: ThreadPoolExecutor) -> None:
    turned = {"nodes": [*parties[0].network["nodes"]][::-1], "myself": 1, "uuid": "order"}
    first = pool.submit(parties[0].compute, 1, "order", durations=SHORT)
    second = pool.submit(parties[1].compute, 1, network=turned, durations=SHORT)
    first.result().problem(409, "TASK_FAILED")
    second.result().problem(409, "TASK_FAILED", "the orders of the nodes differ", "party 0")


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"data": ["x"]}, 422, "INPUT_REFUSED"),
        ({"data": None}, 422, "INPUT_REFUSED"),
        ({"data": 1e300}, 422, "INPUT_REFUSED"),
        ({"microprotocol": "SecureSumm"}, 422, "MICROPROTOCOL_UNKNOWN"),
        ({"parameters": {"digits": 1}}, 422, "PARAMETERS_UNUSABLE"),
        ({"durations": {"join": 0}}, 422, "DURATIONS_UNUSABLE"),
        ({"policy": "careless"}, 422, "POLICY_UNUSABLE"),
        ({"policy": "strict"}, 403, None),
        ({"parties": 3}, 422, "PARAMETER_UNKNOWN"),
        ({"source": 1}, 422, "PARAMETER_DUPLICATE"),
        ({"network": {"nodes": [], "myself": 0}}, 422, "NETWORK_SIZE"),
        ({"network": {"uuid": 5}}, 422, "NETWORK_MALFORMED"),
        ({"network": {"uuid": "x" * 1025}}, 422, "NETWORK_MALFORMED"),
        ({"network": {"myself": 3}}, 422, "MYSELF_OUT_OF_RANGE"),
        ({"network": {"myself": 2}}, 422, "MYSELF_NOT_THIS_NODE"),
        ({"data": {"representation_uuid": "x"}}, 404, "OBJECT_UNKNOWN"),
    ],
)
def test_what_can_be_known_is_told_at_once(parties: list[Party], more: Any, status: int, code: str | None) -> None:
    def there() -> set[str]:
        """What is open or pending: of the tests before, some may be there until it expires."""
        pending = {str(each["task"]) for party in parties for each in party.node.invitations()}
        return pending | {str(task["task"]) for party in parties for task in party.tasks() if task["state"] in OPEN}

    before = there()
    for party in parties[:2]:
        asked: dict[str, Any] = {"data": 1, "uuid": "at once"} | more
        if "network" in asked:
            asked["network"] = party.network | {"uuid": "at once"} | asked["network"]
        answer = party.compute(**asked)
        if code is None:
            assert answer.status == status
        else:
            answer.problem(status, code)
    assert there() <= before


def test_a_stranger_with_party_0s_word_is_not_party_0(
    three: list[Node], tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    """It knows all that was agreed on, and says that it is at party 0's URL; it has another key."""
    urls = urls_of(three)
    impostor = Node(tmp_path / "impostor", 0, f"--public-url={urls[0]}")
    try:
        liar = Party(impostor, urls, 0)
        false = pool.submit(liar.compute, 1000, "stranger", durations=DURATIONS | {"join": 5})
        until(lambda: three[1].invitations(), "the others have heard of it")
        parties = parties_of(three)
        joining = [pool.submit(party.result, 1, "stranger") for party in parties[1:]]
        for index in (1, 2):
            none(parties[index].compute(1, "stranger", timeout=0.5))
        assert all_the_same([*joining, pool.submit(parties[0].result, 1, "stranger")]) == whole(3)
        assert false.result().problem(409, "TASK_FAILED")
    finally:
        impostor.kill()


# --- What stays -----------------------------------------------------------------------------------------------------


def test_results_that_were_taken_make_room(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    config = tmp_path / "fdrtd.toml"
    config.write_text("[limits]\ntasks = 4\ntasks_per_principal = 3\n")
    with nodes(tmp_path, 3, f"--config={config}") as started:
        parties = parties_of(started)
        for number in range(12):
            futures = [pool.submit(party.result, number) for party in parties]
            assert all_the_same(futures) == whole(3 * number)
            assert all(len(party.tasks()) <= 3 for party in parties)
        # Open ones do not.
        waiting = [pool.submit(parties[0].compute, 1, f"open {number}") for number in range(3)]
        until(lambda: parties[0].open() == 3, "there is no room")
        parties[0].compute(1, "one more").problem(429, "QUOTA")
        started[0].kill()
        for future in waiting:
            assert future.exception() is not None


def test_waiting_leaves_nothing_behind(parties: list[Party]) -> None:
    """Who waits for party 0 and hangs up has left no task, no invitation and no room."""
    before = tasks_of(parties[1].node)
    for number in range(50):
        parties[1].begin([number], f"left {number}").close()
    for number in range(5):
        none(parties[1].compute([number], f"left {number}", timeout=0))
    assert tasks_of(parties[1].node) == before
