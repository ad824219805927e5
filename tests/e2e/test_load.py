"""Many tasks at once, what they cost, and that nothing of them stays."""

from __future__ import annotations

import http.client
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fdrtd
import pytest
from harness import DURATIONS, OPERATOR, Node, all_joined, has_input, make_task, nodes, signed, until, urls_of

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}
VALUES = (10, 7, 14)
MANY = 100
PEERS = 2
# SecureSum has one round; the closing digest follows.
DATA_MESSAGES = PEERS * (1 + 1)
# To each peer: a Hello as soon as its key is known, when nothing else is known of it; another one that answers the
# peer's, which for the same reason says that it has not heard of this node; Ready; the data messages; the
# receipt's signature.
MESSAGES = PEERS * (2 + 1 + 1) + DATA_MESSAGES


def metric(node: Node, name: str) -> int:
    """A figure of /metrics, all its labels together."""
    host, path = node.url.removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", f"/{path}/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = [line for line in text.splitlines() if line.split(" ")[0].split("{")[0] == name]
    assert found, name
    return sum(int(line.split()[-1]) for line in found)


def simon(node: Node) -> Any:
    return node.api().select_microservice(protocol="Simon")


def storage(node: Node) -> Any:
    return node.api().select_microservice(microservice="KeyValueStorage")


def at_once(work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """What `work` gives for each item, done by many threads in random order; results in the order of the items."""
    order = random.sample(range(len(items)), len(items))
    with ThreadPoolExecutor(16) as pool:
        running = {index: pool.submit(work, items[index]) for index in order}
        return [running[index].result() for index in range(len(items))]


def configured(directory: Path, text: str) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "fdrtd.toml"
    config.write_text(text)
    return f"--config={config}"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[list[Node]]:
    """Three nodes whose figures nobody else changes."""
    with nodes(tmp_path, 3, "--ephemeral", OPERATOR) as started:
        yield started


def test_many_tasks_at_once(own: list[Node]) -> None:
    urls = urls_of(own)
    simons = [simon(node) for node in own]

    def create(_: int) -> Any:
        return simons[0].create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS)

    def join(whom: tuple[int, Any]) -> Any:
        party, invitation = whom
        return simons[party].join(invitation=invitation, network={"nodes": urls, "myself": party})

    first = at_once(create, list(range(MANY)))
    invitations = at_once(lambda task: task.invite(), first)
    joined = at_once(join, [(party, invitation) for party in (1, 2) for invitation in invitations])
    tasks = [first, joined[:MANY], joined[MANY:]]
    # Task number i adds i, 1000 * i and 1000000 * i.
    inputs = [(tasks[party][i], 1000**party * i) for party in range(3) for i in range(MANY)]
    at_once(lambda given: given[0].input(data=given[1]), inputs)
    everything = [(i, tasks[party][i]) for party in range(3) for i in range(MANY)]
    results = at_once(lambda which: which[1].result(timeout=60), everything)
    assert results == [{"inputs": 3, "result": {"samples": 3, "sum": 1001001 * i}} for i, _ in everything]

    at_once(lambda which: until(partial(signed, which[1]), "all have signed"), everything)
    assert at_once(lambda which: which[1].progress()["messages"]["data"], everything) == [DATA_MESSAGES] * 3 * MANY
    for node in own:
        assert metric(node, "fdrtd_task_messages_total") == MESSAGES * MANY
        assert metric(node, "fdrtd_tasks_done_total") == MANY
        # However many tasks there are, each pair of nodes has one connection.
        assert metric(node, "fdrtd_peer_connections") == PEERS
        assert metric(node, "fdrtd_tasks") == MANY
        assert node.invitations() == []
    at_once(lambda which: which[1].delete(), everything)
    for node in own:
        assert metric(node, "fdrtd_tasks") == 0
    with pytest.raises(fdrtd.NotFound):
        tasks[0][0].progress()


def test_messages_of_one_task(own: list[Node]) -> None:
    """The same for the first task, for which connections must be made, and for later ones."""
    for count in range(1, 4):
        tasks = make_task(own)
        for task, value in zip(tasks, VALUES):
            task.input(data=value)
        assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3
        assert [task.progress()["messages"]["data"] for task in tasks] == [DATA_MESSAGES] * 3
        for task in tasks:
            until(partial(signed, task), "all have signed")
        assert [metric(node, "fdrtd_task_messages_total") for node in own] == [MESSAGES * count] * 3


def nothing_is_left(node: Node) -> bool:
    return metric(node, "fdrtd_tasks") == metric(node, "fdrtd_objects") == len(node.invitations()) == 0


def test_time_to_live(tmp_path: Path) -> None:
    """Whatever is not deleted goes by itself: ended tasks, values, meeting points, invitations."""
    config = configured(tmp_path, "[limits]\ntime_to_live = 1\n")
    durations: dict[str, float] = {**DURATIONS, "join": 2}
    with nodes(tmp_path, 3, config) as started:
        urls = urls_of(started)
        values, tasks = [], []
        for index in range(10):
            values += [storage(node).create(value=index) for node in started]
            tasks.append(make_task(started, durations=durations))
            for task, value in zip(tasks[-1], VALUES):
                task.input(data=value)
        # This one is never joined, and another one waits for its input too long.
        simon(started[0]).create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=durations)
        make_task(started, durations={**durations, "input": 2})
        for node in started:
            for name in ("Barrier", "Broadcast"):
                node.api().select_microservice(microservice=name).create(tokens=["here"])
        assert [task.result(timeout=60) for task in tasks[-1]] == [RESULT] * 3
        assert metric(started[0], "fdrtd_tasks") > 0
        for node in started:
            until(partial(nothing_is_left, node), "everything is gone")
        for handle in (values[0], tasks[0][0]):
            with pytest.raises(fdrtd.NotFound):
                (handle.retrieve if handle is values[0] else handle.progress)()
        # Not even a restart brings anything back.
        for node in started:
            assert node.stop() == 0
            node.start()
            assert nothing_is_left(node)


def ticks(node: Node) -> int:
    """Processor time that the process has used, in ticks of the system's clock."""
    assert node.process is not None
    # The second field is the name in brackets, which may hold anything.
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_waiting_costs_nothing(own: list[Node]) -> None:
    tasks = [make_task(own) for _ in range(MANY)]
    for some in tasks:
        some[0].input(data=1)
        some[1].input(data=2)
    for some in tasks:
        until(partial(all_joined, some[0]), "all have joined")
        until(partial(has_input, some[2], 1), "the inputs are announced")

    def wait(task: Any) -> None:
        with pytest.raises(fdrtd.TaskFailed):
            task.result(timeout=60)

    waiting = [threading.Thread(target=wait, args=(some[0],)) for some in tasks[:20]]
    for thread in waiting:
        thread.start()
    before = [ticks(node) for node in own]
    with pytest.raises(fdrtd.NotReady) as not_ready:
        tasks[-1][0].result(timeout=3)
    used = [after - earlier for after, earlier in zip(map(ticks, own), before)]
    assert not_ready.value.waiting is not None
    assert "party 2" in not_ready.value.waiting
    assert all(thread.is_alive() for thread in waiting)
    # A busy wait would have used three times as much; honest waiting uses some hundredths.
    assert max(used) < 1 * os.sysconf("SC_CLK_TCK")
    for some in tasks[:20]:
        some[0].cancel()
    for thread in waiting:
        thread.join()


def test_too_many_tasks_and_values(tmp_path: Path) -> None:
    config = configured(tmp_path, "[limits]\ntasks = 3\nobjects = 3\n")
    with nodes(tmp_path, 3, "--ephemeral", config) as started:
        tasks = [make_task(started) for _ in range(3)]
        network = {"nodes": urls_of(started), "myself": 0}
        with pytest.raises(fdrtd.TooManyRequests) as refused:
            simon(started[0]).create(microprotocol="SecureSum", network=network)
        assert (refused.value.status, refused.value.code) == (429, "QUOTA")
        values = [storage(started[0]).create(value=index) for index in range(3)]
        with pytest.raises(fdrtd.TooManyRequests) as refused:
            storage(started[0]).create(value=3)
        assert (refused.value.status, refused.value.code) == (429, "QUOTA")
        # What is there can be used, and what is deleted makes room; who joins needs room, too.
        tasks[0][0].delete()
        first = simon(started[0]).create(microprotocol="SecureSum", network=network, durations=DURATIONS)
        with pytest.raises(fdrtd.TooManyRequests) as refused:
            simon(started[1]).join(invitation=first.invite(), network={**network, "myself": 1})
        assert (refused.value.status, refused.value.code) == (429, "QUOTA")
        values[0].delete()
        storage(started[0]).create(value=4)
        for task, value in zip(tasks[1], VALUES):
            task.input(data=value)
        assert [task.result(timeout=60) for task in tasks[1]] == [RESULT] * 3


def test_too_many_invitations(tmp_path: Path) -> None:
    """A node keeps a few of them; tasks whose invitation it dropped can be joined all the same."""
    limited = configured(tmp_path, "[limits]\ninvitations = 5\ninvitations_per_peer = 3\n")
    with nodes(tmp_path, 2, "--ephemeral") as started:
        last = Node(tmp_path / "last", 2, "--ephemeral", OPERATOR, limited)
        try:
            everybody = [*started, last]
            urls = urls_of(everybody)
            # The same list in another order, so that each of the two is a first party.
            networks = [[urls[0], urls[1], urls[2]], [urls[1], urls[0], urls[2]]]
            created: list[list[Any]] = [[], []]
            for index, (kept, dropped) in enumerate([(3, 7), (5, 15)]):
                for _ in range(10):
                    network = {"nodes": networks[index], "myself": 0}
                    created[index].append(
                        simon(started[index]).create(microprotocol="SecureSum", network=network, durations=DURATIONS)
                    )
                until(partial(has_dropped, last, dropped), "the others are dropped")
                assert len(last.invitations()) == kept
            known = {invitation["task"] for invitation in last.invitations()}
            both = [created[1][0], created[1][-1]]
            assert [task.invite()["task"] in known for task in both] == [True, False]
            for first in both:
                invitation = first.invite()
                join = [simon(node).join for node in (started[0], last)]
                network = {"nodes": networks[1]}
                tasks = [
                    first,
                    join[0](invitation=invitation, network={**network, "myself": 1}),
                    join[1](invitation=invitation, network={**network, "myself": 2}),
                ]
                for task, value in zip(tasks, VALUES):
                    task.input(data=value)
                assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3
        finally:
            last.kill()


def has_dropped(node: Node, count: int) -> bool:
    return node.logged().count("one more was dropped") == count
