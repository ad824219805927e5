"""What becomes of a task when nodes fall over, connections break, and nodes come late or come back."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fdrtd
import pytest
from harness import (
    BINARY,
    DURATIONS,
    OPERATOR,
    Node,
    all_joined,
    cause_of,
    has_input,
    make_task,
    nodes,
    stopping_node,
    until,
    urls_of,
)
from proxy import Proxy, proxies

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}
VALUES = (10, 7, 14)
# Its data message has about 3 MB, far more than sockets hold.
LENGTH = 200_000
# A message of the stages before the data has less than 4 KiB, so a stall after this many bytes is in the data.
IN_DATA = 100_000
# Of the text about a key that has changed.
ANOTHER = "another node answers"


def vectors(index: int) -> dict[str, Any]:
    return {"vectors": [[index + 1] * LENGTH]}


VECTOR_RESULT = {"inputs": 3, "result": {"samples": 3, "sum": [6] * LENGTH}}


def others(victim: int) -> list[int]:
    return [index for index in range(3) if index != victim]


def simon(node: Node) -> Any:
    return node.api().select_microservice(protocol="Simon")


def state(task: Any) -> str:
    return str(task.progress()["state"])


def party(task: Any, index: int) -> dict[str, Any]:
    found: dict[str, Any] = task.progress()["parties"][index]
    return found


def is_in(task: Any, *states: str) -> bool:
    return state(task) in states


def only_missing(task: Any, index: int) -> bool:
    return [entry["party"] for entry in task.progress()["waiting_for"]] == [index]


def connected(task: Any, index: int) -> bool:
    return bool(party(task, index)["connected"])


def disconnected(task: Any, index: int) -> bool:
    return not connected(task, index)


def has_problem(task: Any, index: int, text: str) -> str:
    """What is said of a party, if that is in it."""
    problem = party(task, index)["problem"] or ""
    return problem if text in problem else ""


def wait_until_joined(*tasks: Any) -> None:
    for task in tasks:
        until(partial(all_joined, task), "all have joined")


def give_input_first(tasks: list[Any], index: int) -> None:
    """Gives one party's input and waits until the others have heard of it."""
    tasks[index].input(data=VALUES[index])
    for other in others(index):
        until(partial(has_input, tasks[other], index), "the input is announced")


@pytest.fixture
def ephemeral(tmp_path: Path) -> Iterator[list[Node]]:
    with nodes(tmp_path, 3, "--ephemeral", OPERATOR) as started:
        yield started


@pytest.fixture
def between(three: list[Node]) -> Iterator[list[Proxy]]:
    """A proxy before each of the three nodes."""
    with proxies(urls_of(three)) as made:
        yield made


def compute_and_stall(three: list[Node], between: list[Proxy]) -> list[Any]:
    """A task that computes at all three and cannot end."""
    for proxy in between:
        proxy.stall_after(IN_DATA)
    tasks = make_task(three, [proxy.url for proxy in between], durations={**DURATIONS, "silence": 60})
    for index, task in enumerate(tasks):
        task.input(data=vectors(index))
    for task in tasks:
        until(partial(is_in, task, "running"), "all compute")
    return tasks


# Nodes that are gone


def test_a_party_that_never_joins(shared: list[Node]) -> None:
    urls = urls_of(shared)
    first = simon(shared[0]).create(
        microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations={**DURATIONS, "join": 1}
    )
    second = simon(shared[1]).join(invitation=first.invite(), network={"nodes": urls, "myself": 1})
    for task in (first, second):
        cause = cause_of(task)
        assert (cause["code"], cause["stage"], cause["missing"], cause["party"]) == ("EXPIRED", "join", [2], 2)
        assert cause["node"] == urls[2]
        assert "party 2" in cause["message"]
        assert state(task) == "expired"


@pytest.mark.parametrize("victim", [0, 2])
def test_killed_after_joining(ephemeral: list[Node], victim: int) -> None:
    tasks = make_task(ephemeral, durations={**DURATIONS, "input": 2})
    for index in others(victim):
        tasks[index].input(data=VALUES[index])
    wait_until_joined(*(tasks[index] for index in others(victim)))
    ephemeral[victim].kill()
    for index in others(victim):
        cause = cause_of(tasks[index])
        assert (cause["code"], cause["stage"], cause["missing"]) == ("EXPIRED", "input", [victim])
        assert cause["party"] == victim


@pytest.mark.parametrize("victim", [0, 2])
def test_killed_after_its_input(ephemeral: list[Node], victim: int) -> None:
    """The others do not begin without it: it may come back."""
    tasks = make_task(ephemeral, durations={**DURATIONS, "input": 2})
    give_input_first(tasks, victim)
    ephemeral[victim].kill()
    for index in others(victim):
        until(partial(disconnected, tasks[index], victim), "the others notice")
        tasks[index].input(data=VALUES[index])
    for index in others(victim):
        cause = cause_of(tasks[index])
        assert (cause["code"], cause["stage"], cause["missing"]) == ("EXPIRED", "input", [victim])
        assert cause["node"] == ephemeral[victim].url


@contextlib.contextmanager
def with_stopping_node(tmp_path: Path, victim: int, point: str) -> Iterator[list[Node]]:
    started: list[Node] = []
    try:
        for index in range(3):
            directory = tmp_path / f"node{index}"
            stops = index == victim
            started.append(stopping_node(directory, index, point) if stops else Node(directory, index, "--ephemeral"))
        yield started
    finally:
        for node in started:
            node.kill()


@pytest.mark.parametrize("victim", [0, 2])
@pytest.mark.parametrize("point", ["data", "closing"])
def test_falls_over_in_mid_run(tmp_path: Path, victim: int, point: str) -> None:
    with with_stopping_node(tmp_path, victim, point) as started:
        tasks = make_task(started, durations={**DURATIONS, "silence": 2})
        give_input_first(tasks, victim)
        for index in others(victim):
            tasks[index].input(data=VALUES[index])
        for index in others(victim):
            if point == "data":
                cause = cause_of(tasks[index])
                assert (cause["code"], cause["party"]) == ("PEER_SILENT", victim)
            else:
                result = tasks[index].result(timeout=60)
                (warning,) = result.pop("warnings")
                assert (warning["code"], warning["parties"]) == ("UNCONFIRMED", [victim])
                assert result == RESULT
        # By design, not by the test's hand.
        assert started[victim].wait() == -signal.SIGABRT


def run_state(pid: int) -> str:
    # The second field is the name in brackets, which may hold anything.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_frozen_node(ephemeral: list[Node]) -> None:
    """Its connections stay, but nothing comes from it."""
    tasks = make_task(ephemeral, durations={**DURATIONS, "silence": 2})
    give_input_first(tasks, 2)
    process = ephemeral[2].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    # The signal is only under way when the call returns.
    until(lambda: run_state(process.pid) == "T", "it stands still")
    for index in (0, 1):
        tasks[index].input(data=VALUES[index])
    for index in (0, 1):
        cause = cause_of(tasks[index])
        assert (cause["code"], cause["party"]) == ("PEER_SILENT", 2)
    process.send_signal(signal.SIGCONT)
    # It finds everybody's data, and that they have given up, in any order.
    until(partial(is_in, tasks[2], "failed", "done"), "it learns that this is over")
    if state(tasks[2]) == "failed":
        cause = cause_of(tasks[2])
        assert (cause["code"], cause["party"]) == ("PEER_SILENT", 2)
    else:
        result = tasks[2].result()
        (warning,) = result.pop("warnings")
        assert (warning["code"], result) == ("UNCONFIRMED", RESULT)


# Connections that break


@pytest.mark.parametrize(("count", "times"), [(1_000, 3), (700_000, 2)], ids=["in the greetings", "in the data"])
def test_cut_connections(three: list[Node], between: list[Proxy], count: int, times: int) -> None:
    for proxy in between:
        proxy.cut_after(count, times)
    tasks = make_task(three, [proxy.url for proxy in between])
    for index, task in enumerate(tasks):
        task.input(data=vectors(index))
    for task in tasks:
        # Compared before the assertion: pytest would explain a difference of long lists for minutes.
        right = task.result(timeout=60) == VECTOR_RESULT
        assert right
    # Every pair has a connection, and all its messages have to pass; the first one that does not is cut.
    assert sum(proxy.cuts() for proxy in between) >= 3


def test_cut_and_refused_in_mid_run(three: list[Node], between: list[Proxy]) -> None:
    """All connections are gone at once in the middle of the data, and no new one can be made for a while."""
    tasks = compute_and_stall(three, between)
    for proxy in between:
        proxy.refuse()
    for index, task in enumerate(tasks):
        for other in others(index):
            until(partial(has_problem, task, other, "(TCP)"), "it says what is wrong")
        assert state(task) == "running"
    for proxy in between:
        proxy.flow()
        proxy.accept()
    for task in tasks:
        right = task.result(timeout=60) == VECTOR_RESULT
        assert right


# Nodes that come late or come back


@pytest.mark.parametrize(
    ("absence", "problem"),
    [("refused", "cannot be reached (TCP)"), ("dropped", "the connection to the peer was closed")],
)
def test_a_node_that_joins_late(three: list[Node], between: list[Proxy], absence: str, problem: str) -> None:
    """Party 2 cannot be reached when the others create, join and give their inputs."""
    urls = [proxy.url for proxy in between]
    three[2].kill()
    if absence == "refused":
        # Otherwise the proxy takes connections and drops them, like one that finds no node behind it.
        between[2].refuse()
    first = simon(three[0]).create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS)
    invitation = first.invite()
    second = simon(three[1]).join(invitation=invitation, network={"nodes": urls, "myself": 1})
    for index, task in enumerate((first, second)):
        task.input(data=VALUES[index])
    for task in (first, second):
        until(partial(only_missing, task, 2), "only party 2 is missing")
        until(partial(has_problem, task, 2, problem), "it says what is wrong")
        (waiting,) = task.progress()["waiting_for"]
        assert "has not joined yet" in waiting["why"]
        assert problem in waiting["why"]
    between[2].accept()
    three[2].start()
    third = simon(three[2]).join(invitation=invitation, network={"nodes": urls, "myself": 2})
    third.input(data=VALUES[2])
    assert [task.result(timeout=60) for task in (first, second, third)] == [RESULT] * 3


@pytest.mark.parametrize("why", ["cancelled", "expired"])
def test_joining_what_is_over(shared: list[Node], why: str) -> None:
    """Who joins after the end learns why it ended, and does not wait for the others."""
    urls = urls_of(shared)
    durations = {**DURATIONS, "join": 1} if why == "expired" else DURATIONS
    first = simon(shared[0]).create(
        microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=durations
    )
    invitation = first.invite()
    if why == "cancelled":
        first.cancel()
    cause_of(first)
    late = simon(shared[1]).join(invitation=invitation, network={"nodes": urls, "myself": 1})
    cause = cause_of(late)
    assert cause["code"] == why.upper()
    assert cause["reported_by"] == 0


@pytest.mark.parametrize("when", ["before its input", "after its input", "before the last joins"])
@pytest.mark.parametrize("victim", [0, 1])
def test_restart_while_a_task_waits(three: list[Node], victim: int, when: str) -> None:
    urls = urls_of(three)
    values = [
        node.api().select_microservice(microservice="KeyValueStorage").create(value=value)
        for node, value in zip(three, VALUES)
    ]
    simons = [simon(node) for node in three]
    tasks = [simons[0].create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS)]
    invitation = tasks[0].invite()

    def join(index: int) -> None:
        tasks.append(simons[index].join(invitation=invitation, network={"nodes": urls, "myself": index}))

    join(1)
    if when != "before the last joins":
        join(2)
        wait_until_joined(*tasks)
    if when == "after its input":
        tasks[victim].input(source=values[victim])
        for index in others(victim):
            until(partial(has_input, tasks[index], victim), "the input is announced")
    three[victim].kill()
    for index, task in enumerate(tasks):
        if index != victim:
            until(partial(disconnected, task, victim), "the others notice")
    if when == "after its input":
        # All inputs are there before it comes back.
        for index in others(victim):
            tasks[index].input(source=values[index])
        for index in others(victim):
            until(partial(only_missing, tasks[index], victim), "only this one is missing")
            (waiting,) = tasks[index].progress()["waiting_for"]
            assert "has given its input, but is not connected" in waiting["why"]
    three[victim].start()
    if when == "before the last joins":
        join(2)
    assert values[victim].retrieve() == VALUES[victim]
    assert tasks[victim].invite()["task"] == invitation["task"]
    if when != "after its input":
        for task, value in zip(tasks, values):
            task.input(source=value)
    assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3


def test_restart_of_all(three: list[Node]) -> None:
    tasks = make_task(three)
    tasks[0].input(data=VALUES[0])
    wait_until_joined(*tasks)
    for node in three:
        node.kill()
    for node in three:
        node.start()
    for index in (1, 2):
        tasks[index].input(data=VALUES[index])
    assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3


def test_results_survive_the_end(three: list[Node]) -> None:
    """SIGTERM comes right after the results."""
    many = [make_task(three) for _ in range(20)]
    for tasks in many:
        for task, value in zip(tasks, VALUES):
            task.input(data=value)
    for tasks in many:
        assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3
    for node in three:
        assert node.stop() == 0
        node.start()
    for tasks in many:
        assert [task.progress()["state"] for task in tasks] == ["done"] * 3
        assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3


def test_terminated_while_a_task_waits(three: list[Node]) -> None:
    """SIGTERM: ends with status 0; the others see it; the task goes on when it is back."""
    tasks = make_task(three)
    tasks[1].input(data=VALUES[1])
    wait_until_joined(*tasks)
    assert three[1].stop() == 0
    for index in (0, 2):
        until(partial(disconnected, tasks[index], 1), "the others notice")
        until(partial(has_problem, tasks[index], 1, "(TCP)"), "it says what is wrong")
    three[1].start()
    for index in (0, 2):
        tasks[index].input(data=VALUES[index])
    assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3


@pytest.mark.parametrize("victim", [0, 2])
def test_restart_in_mid_run(three: list[Node], between: list[Proxy], victim: int) -> None:
    tasks = compute_and_stall(three, between)
    three[victim].kill()
    for proxy in between:
        proxy.refuse()
        proxy.flow()
    three[victim].start()
    for proxy in between:
        proxy.accept()
    for task in tasks:
        cause = cause_of(task)
        assert (cause["code"], cause["party"]) == ("PEER_RESTARTED", victim)
        assert state(task) == "failed"


def test_terminated_in_mid_run(three: list[Node], between: list[Proxy]) -> None:
    """It tries to bring its data to the others before it ends, but not for long."""
    between[2].stall_after(IN_DATA)
    network = {"nodes": [proxy.url for proxy in between]}
    durations = {**DURATIONS, "silence": 2}
    tasks = [simon(three[0]).create(microprotocol="SecureSum", network={**network, "myself": 0}, durations=durations)]
    invitation = tasks[0].invite()
    for index in (1, 2):
        # So the connections to the third are dialled by the others and lead through its proxy; the other one flows.
        until(partial(connected, tasks[-1], 2), "they are connected")
        tasks.append(simon(three[index]).join(invitation=invitation, network={**network, "myself": index}))
    for index, task in enumerate(tasks):
        task.input(data=vectors(index))
    until(partial(is_in, tasks[2], "running"), "the third computes")
    assert three[2].stop() == 0
    for index in (0, 1):
        cause = cause_of(tasks[index])
        assert (cause["code"], cause["party"]) == ("PEER_SILENT", 2)


def test_what_is_deleted_stays_deleted(three: list[Node]) -> None:
    """Deleting ends the task and writes that down at about the same time."""
    api = simon(three[0])
    network = {"nodes": urls_of(three), "myself": 0}
    handles = [api.create(microprotocol="SecureSum", network=network, durations=DURATIONS) for _ in range(30)]
    for handle in handles:
        handle.delete()
    three[0].restart()
    for handle in handles:
        with pytest.raises(fdrtd.NotFound):
            handle.progress()


# Keys


def test_another_node_behind_a_url(ephemeral: list[Node]) -> None:
    """Without its data directory a node comes back as another one. Nobody tells it anything."""
    tasks = make_task(ephemeral)
    wait_until_joined(*tasks)
    before = ephemeral[2].fingerprint
    ephemeral[2].restart()
    after = ephemeral[2].fingerprint
    assert before != after
    for index in (0, 1):
        problem = until(partial(has_problem, tasks[index], 2, ANOTHER), "the change is noticed")
        assert before in problem
        assert after in problem
    # There is no new task with it, either.
    network = {"nodes": urls_of(ephemeral), "myself": 0}
    with pytest.raises(fdrtd.Error) as refused:
        simon(ephemeral[0]).create(microprotocol="SecureSum", network=network, durations=DURATIONS)
    assert refused.value.code == "PEER_KEY_CHANGED"
    assert before in str(refused.value)
    assert after in str(refused.value)
    for node in ephemeral[1:]:
        assert node.invitations() == []


def key_of(directory: Path) -> str:
    command = [str(BINARY), "identity", "--json", f"--data-dir={directory / 'data'}"]
    document = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    key: str = document["key"]
    return key


def test_pinned_keys_and_a_node_that_can_only_dial(tmp_path: Path) -> None:
    """Nobody reaches party 2 at its URL; it reaches the others, who know its key from their configuration."""
    directories = [tmp_path / f"node{index}" for index in range(3)]
    for directory in directories:
        directory.mkdir()
    keys = [key_of(directory) for directory in directories]
    between = [Proxy(f"/public{index + 1}") for index in range(3)]
    urls = [proxy.url for proxy in between]
    started: list[Node] = []
    try:
        for index, directory in enumerate(directories):
            lines = ['trust = "pinned"', f'public_url = ["{urls[index]}"]']
            for other in others(index):
                lines += ["[[peers]]", f'url = "{urls[other]}"', f'key = "{keys[other]}"']
            (directory / "fdrtd.toml").write_text("\n".join(lines))
            started.append(Node(directory, index, f"--config={directory / 'fdrtd.toml'}"))
            if index != 2:
                between[index].lead_to(started[index].url)
        tasks = make_task(started, urls)
        assert tasks[0].invite()["keys"] == keys
        for task, value in zip(tasks, VALUES):
            task.input(data=value)
        assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3
        # A URL that is not pinned is not even asked.
        stranger = Proxy("/public4", started[1].url)
        network = {"nodes": [urls[0], urls[1], stranger.url], "myself": 0}
        with pytest.raises(fdrtd.Error) as refused:
            simon(started[0]).create(microprotocol="SecureSum", network=network)
        assert refused.value.code == "PEER_NOT_PINNED"
        assert refused.value.party == 2
        assert stranger.connections == []
        stranger.close()
    finally:
        for node in started:
            node.kill()
        for proxy in between:
            proxy.close()


def test_a_pinned_key_that_is_wrong(tmp_path: Path) -> None:
    """The key that is pinned for node 1 is that of node 2: no Hello goes there."""
    with nodes(tmp_path, 3) as started:
        urls = urls_of(started)
        keys = [key_of(node.directory) for node in started]
        started[0].kill()
        config = tmp_path / "fdrtd.toml"
        config.write_text(f'[[peers]]\nurl = "{urls[1]}"\nkey = "{keys[2]}"\n')
        started[0].flags.append(f"--config={config}")
        started[0].start()
        network = {"nodes": urls[:2], "myself": 0}
        with pytest.raises(fdrtd.Error) as refused:
            simon(started[0]).create(microprotocol="SecureSum", network=network, durations=DURATIONS)
        assert refused.value.code == "PEER_KEY_CHANGED"
        assert started[1].invitations() == []
        assert started[2].invitations() == []
