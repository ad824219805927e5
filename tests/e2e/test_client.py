"""The comforts of the Python client against real nodes: data as they are, many awaits, one call, who is waited for."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import fdrtd
import numpy as np
import pytest
from harness import DURATIONS, ROOT, Node, cause_of, make_task, until, urls_of
from test_docs import BLOCK, run_document

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

CLIENT = ROOT / "clients" / "python"


def summed(started: list[Node], *inputs: Any) -> Any:
    """The result of a sum of these inputs, one a party."""
    tasks = make_task(started)
    for task, data in zip(tasks, inputs):
        task.input(data=data)
    return tasks[0].result(timeout=60)["result"]


# --- Data as they are -------------------------------------------------------------------------------------------------


def test_columns_of_every_library(shared: list[Node]) -> None:
    result = summed(shared, np.array([0.1, 0.2]), pd.Series([1, 2], dtype="Int64"), pl.Series([0.3, 4]))
    assert result == {"samples": 6, "sum": 7.6}
    result = summed(shared, Decimal("0.1"), Fraction(1, 5), np.float32(0.5))
    assert result == {"samples": 3, "sum": 0.8}
    result = summed(shared, np.array(7), range(4), pd.Index([1, 2]))
    assert result == {"samples": 7, "sum": 16}


def test_frames_are_columns(shared: list[Node]) -> None:
    frames = (
        pd.DataFrame({"age": [40, 50], "vectors": [0.5, 0.25]}),
        pl.DataFrame({"age": [60], "vectors": [1.0]}),
        {"columns": {"age": np.array([70]), "vectors": []}},
    )
    expected = {"age": {"samples": 4, "sum": 220}, "vectors": {"samples": 3, "sum": 1.75}}
    assert summed(shared, *frames) == expected


def test_rows_of_an_array_are_vectors(shared: list[Node]) -> None:
    rows = [{"vectors": np.eye(3, dtype=np.int64)}, {"vectors": np.full((2, 3), 0.5)}, {"vectors": [[1, 2, 3]]}]
    assert summed(shared, *rows) == {"samples": 6, "sum": [3, 4, 5]}


def test_an_array_in_the_storage(shared: list[Node]) -> None:
    storage = shared[0].api().select_microservice(microservice="KeyValueStorage")
    stored = storage.create(value=pd.DataFrame({"a": [1, 2]}))
    assert stored.retrieve() == {"columns": {"a": [1, 2]}}
    with pytest.raises(fdrtd.InputError, match=r"value\.a\[1\] is NaN"):
        storage.create(value=pd.DataFrame({"a": [1, None]}))
    stored.delete()


# --- AsyncApi ---------------------------------------------------------------------------------------------------------


def test_twenty_tasks_at_once(shared: list[Node]) -> None:
    urls = urls_of(shared)

    async def work() -> list[list[Any]]:
        apis = [fdrtd.AsyncApi(fdrtd.HttpInterface(url)) for url in urls]
        simons = [await api.select_microservice(protocol="Simon") for api in apis]

        async def one(number: int) -> list[Any]:
            network = {"nodes": urls, "myself": 0}
            first = await simons[0].create(microprotocol="SecureSum", network=network, durations=DURATIONS)
            invitation = await first.invite()
            others = [
                await simon.join(invitation=invitation, network={**network, "myself": place})
                for place, simon in enumerate(simons[1:], start=1)
            ]
            tasks = [first, *others]
            # All 60 results are awaited before the first input is given.
            results = [asyncio.ensure_future(task.result()) for task in tasks]
            waiting.append(number)
            if len(waiting) == 20:
                everybody.set()
            await everybody.wait()
            await asyncio.gather(*(task.input(data=number + place) for place, task in enumerate(tasks)))
            return list(await asyncio.gather(*results))

        waiting: list[int] = []
        everybody = asyncio.Event()
        results = await asyncio.gather(*(one(number) for number in range(20)))
        await asyncio.gather(*(api.close() for api in apis))
        return results

    results = asyncio.run(asyncio.wait_for(work(), 120))
    for number, parties in enumerate(results):
        assert parties == [{"inputs": 3, "result": {"samples": 3, "sum": 3 * number + 3}}] * 3


# --- compute ----------------------------------------------------------------------------------------------------------


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What these calls, made at the same time, return or raise."""
    outcomes: list[Any] = [None] * len(calls)

    def work(place: int) -> None:
        try:
            outcomes[place] = calls[place]()
        except Exception as error:
            outcomes[place] = error

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return outcomes


def computing(urls: list[str], place: int, data: Any, **arguments: Any) -> Callable[[], Any]:
    network = {"nodes": urls, "myself": place}
    return lambda: fdrtd.compute("BasicSum", data, network, **arguments)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_one_call_for_all(shared: list[Node], order: tuple[int, ...]) -> None:
    urls = urls_of(shared)
    results = together(*(computing(urls, place, np.array([place, 0.5]), timeout=60) for place in order))
    assert results == [{"inputs": 3, "result": {"samples": 6, "sum": 4.5}}] * 3
    assert all(type(result) is fdrtd.Result for result in results)


def test_the_same_call_again_and_again(shared: list[Node]) -> None:
    urls = urls_of(shared)
    for number in range(3):
        results = together(*(computing(urls, place, number, timeout=60) for place in range(3)))
        assert [result["result"]["sum"] for result in results] == [3 * number] * 3


def test_a_stored_value_and_parameters(shared: list[Node]) -> None:
    urls = urls_of(shared)
    stored = shared[1].api().select_microservice(microservice="KeyValueStorage").create(value=[1e-13])
    data = [[Decimal("1e-13")], stored, []]
    parameters = {"digits_after": 13}
    calls = (computing(urls, place, data[place], parameters=parameters, timeout=60) for place in range(3))
    assert [result["result"] for result in together(*calls)] == [{"samples": 2, "sum": 2e-13}] * 3


def test_other_parameters_are_not_joined_but_told(shared: list[Node]) -> None:
    urls = urls_of(shared)
    simon = shared[0].api().select_microservice(protocol="Simon")
    network = {"nodes": urls, "myself": 0}
    task = simon.create(microprotocol="SecureSum", network=network, parameters={"digits_after": 14})
    name = task.progress()["task"]
    until(lambda: name in [entry["task"] for entry in shared[1].invitations()], "the invitation arrives")
    with pytest.raises(fdrtd.NotReady) as caught:
        fdrtd.compute("SecureSum", 1, {"nodes": urls, "myself": 1}, timeout=1)
    assert f"party 0 at {urls[0]} has not created this task yet" in str(caught.value)
    assert "there is one with the same nodes, but the parameters differ" in str(caught.value)
    assert not task.progress()["parties"][1]["joined"]
    task.cancel()


@pytest.mark.parametrize("form", ["object", "text", "link"])
def test_an_invitation_in_every_form(shared: list[Node], form: str) -> None:
    urls = urls_of(shared)
    simon = shared[0].api().select_microservice(protocol="Simon")
    task = simon.create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS)
    invitation = task.invite()
    given = {"object": invitation, "text": json.dumps(invitation), "link": invitation["link"]}[form]
    task.input(data=1)
    results = together(
        lambda: fdrtd.compute(data=2, invitation=given, interface=urls[1], timeout=60),
        lambda: fdrtd.compute("BasicSum", data=3, invitation=given, interface=urls[2], timeout=60),
        task.result,
    )
    assert results == [{"inputs": 3, "result": {"samples": 3, "sum": 6}}] * 3


def test_time_that_runs_out_cancels_for_all(shared: list[Node]) -> None:
    urls = urls_of(shared)
    # Party 2 does not come.
    outcomes = together(computing(urls, 0, 1, timeout=2), computing(urls, 1, 1, timeout=60))
    assert type(outcomes[0]) is fdrtd.NotReady
    assert "no result after 2 s: party 2 at" in str(outcomes[0])
    assert "the task was cancelled for all parties" in str(outcomes[0])
    assert type(outcomes[1]) is fdrtd.TaskFailed
    assert outcomes[1].cause["code"] == "CANCELLED"


def test_an_unusable_input_cancels_for_all(shared: list[Node]) -> None:
    urls = urls_of(shared)
    outcomes = together(*(computing(urls, place, 1e-13 if place == 1 else 1, timeout=60) for place in range(3)))
    assert type(outcomes[1]) is fdrtd.InputError
    assert outcomes[1].code == "INPUT_REFUSED"
    for place in (0, 2):
        # Party 2 may have been too late to join: then it is told that nothing is there.
        assert type(outcomes[place]) in (fdrtd.TaskFailed, fdrtd.NotReady)
    assert outcomes[0].cause["code"] == "CANCELLED"


def test_with_an_event_loop(shared: list[Node]) -> None:
    urls = urls_of(shared)

    async def work() -> list[fdrtd.Result]:
        networks = [{"nodes": urls, "myself": place} for place in range(3)]
        calls = (fdrtd.aio_compute("SecureSum", 5, network, timeout=60) for network in networks)
        return list(await asyncio.gather(*calls))

    assert [result["result"]["sum"] for result in asyncio.run(work())] == [15] * 3


# --- Who is waited for ------------------------------------------------------------------------------------------------

CHILD = """
import json, signal, sys
import fdrtd
# A shell may have told its background jobs to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
what = json.loads(sys.argv[1])
try:
    if "network" in what:
        result = fdrtd.compute("SecureSum", 10, what["network"])
    else:
        api = fdrtd.Api(fdrtd.HttpInterface(what["url"]))
        try:
            api.call_microservice(what["task"], "result", {"timeout": 1})
        except fdrtd.NotReady:
            print("not yet", flush=True)
        result = api.call_microservice(what["task"], "result")
    print(json.dumps(result), flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


class Child:
    """A Python program at a terminal of its own."""

    def __init__(self, **what: Any) -> None:
        self.master, slave = pty.openpty()
        env = {name: value for name, value in os.environ.items() if name != "FDRTD_PROGRESS"}
        command = [sys.executable, "-c", CHILD, json.dumps(what)]
        env["TERM"] = "xterm"
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, text=True, env=env)
        os.close(slave)
        self.seen = ""

    def read(self) -> bool:
        """Reads what has been written to the terminal; False at its end."""
        try:
            data = os.read(self.master, 65536)
        except OSError:  # how Linux says that nobody has the terminal open any longer
            data = b""
        self.seen += data.decode()
        return bool(data)

    def read_until(self, pattern: str) -> None:
        while not re.search(pattern, self.seen):
            assert self.read(), f"never shown: {pattern}; only {self.seen!r}"

    def end(self) -> str:
        """Waits for its end and returns what it printed."""
        while self.read():
            pass
        os.close(self.master)
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return output


def visible(written: str) -> str:
    """The lines that are left on the terminal in the end."""
    lines = [line.split("\r")[-1] for line in written.replace("\r\n", "\n").split("\n")]
    return "\n".join(line.rstrip() for line in lines)


def test_a_terminal_shows_who_is_waited_for(shared: list[Node]) -> None:
    tasks = make_task(shared)
    child = Child(url=shared[0].url, task=fdrtd.to_dict(tasks[0]))
    tasks[0].input(data=1)
    tasks[2].input(data=1)
    child.read_until(r"party 1 (at \S+ )?has joined, but given no input yet")
    tasks[1].input(data=1)
    assert child.end().splitlines()[-1] == '{"inputs": 3, "result": {"samples": 3, "sum": 3}}'
    assert visible(child.seen) == ""


def test_nothing_is_shown_in_a_pipe(shared: list[Node]) -> None:
    tasks = make_task(shared)
    env = {name: value for name, value in os.environ.items() if name != "FDRTD_PROGRESS"}
    what = json.dumps({"url": shared[0].url, "task": fdrtd.to_dict(tasks[0])})
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", CHILD, what]
    child = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env)
    assert child.stdout is not None
    assert child.stdout.readline() == "not yet\n"  # so it has waited for a second
    for task in tasks:
        task.input(data=1)
    output, errors = child.communicate(timeout=60)
    assert json.loads(output)["result"] == {"samples": 3, "sum": 3}
    assert errors == ""


def test_ctrl_c_ends_the_wait_and_not_the_task(shared: list[Node]) -> None:
    tasks = make_task(shared)
    child = Child(url=shared[0].url, task=fdrtd.to_dict(tasks[0]))
    child.read_until(r"party 0 \(this node\) has joined, but given no")
    child.process.send_signal(signal.SIGINT)
    assert child.end().splitlines()[-1] == "interrupted"
    assert "the task goes on: result() waits again, cancel() ends it" in visible(child.seen)
    for task in tasks:
        task.input(data=1)
    assert tasks[0].result(timeout=60)["result"] == {"samples": 3, "sum": 3}


def test_ctrl_c_in_compute_cancels_for_all(shared: list[Node]) -> None:
    urls = urls_of(shared)
    child = Child(network={"nodes": urls, "myself": 0})
    simon = shared[1].api().select_microservice(protocol="Simon")
    network = {"nodes": urls, "myself": 1}
    found = simon.invitations(microprotocol="SecureSum", network=network, timeout=60)
    task = simon.join(invitation=found[0], network=network)
    child.read_until(r"party 2 (at \S+ )?has not joined yet")
    child.process.send_signal(signal.SIGINT)
    assert child.end() == "interrupted\n"
    assert "interrupted; the task is cancelled for all parties" in visible(child.seen)
    assert cause_of(task)["code"] == "CANCELLED"


# --- Errors and documents ---------------------------------------------------------------------------------------------


def test_errors_say_what_whose_side_and_what_to_do(shared: list[Node]) -> None:
    api = shared[0].api()
    with pytest.raises(fdrtd.CallError) as by_name:
        api.select_microservice(microservice="KeyValueStorage").create(10)
    assert str(by_name.value).endswith(" — your call — write create(value=10) (ARGUMENTS_BY_NAME)")
    with pytest.raises(fdrtd.InputError) as refused:
        make_task(shared)[0].input(data=[1, 2, 1e-13])
    assert " — your call — " in str(refused.value)
    assert str(refused.value).endswith('create the task with parameters={"digits_after": 13} (INPUT_REFUSED)')


def test_the_readme_of_the_client(shared: list[Node]) -> None:
    text = (CLIENT / "README.md").read_text()
    assert len(list(BLOCK.finditer(text))) == text.count("```python")
    assert run_document(text, urls_of(shared), "clients/python/README.md") >= 3
