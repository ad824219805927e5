"""A node is killed at any moment while clients work with it. What it has acknowledged is there afterwards.

FDRTD_KILLS says how often; each time it is one more life on the same data.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fdrtd
import pytest
from harness import BINARY, DURATIONS, Node, make_task, nodes, signed, until, urls_of

KILLS = int(os.environ.get("FDRTD_KILLS", "10"))
KEPT = 40


class Ledger:
    """What one client was told. Of what was under way when the node died, either may be true."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[Any, list[int]]] = {}
        self.deleted: list[Any] = []
        self.tasks: list[tuple[Any, set[str]]] = []
        self.gone_tasks: list[Any] = []
        self.acknowledged = 0

    def trim(self, choose: random.Random) -> None:
        """Of what was looked at, some is looked at again and again: all of it would take ever longer."""
        for name in choose.sample(sorted(self.values), max(0, len(self.values) - KEPT)):
            del self.values[name]
        choose.shuffle(self.deleted)
        del self.deleted[KEPT:]


def work(
    node: Node, peers: list[str], ledger: Ledger, seed: int, stop: threading.Event, busy: threading.Semaphore
) -> None:
    """Stores, changes and deletes values, makes, feeds, cancels and deletes tasks, until the node is gone."""
    choose = random.Random(seed)
    api = node.api()
    try:
        storage = api.select_microservice(microservice="KeyValueStorage")
        simon = api.select_microservice(protocol="Simon")
    except fdrtd.ConnectionFailed:
        return  # Killed before this caller had come that far.
    number = seed * 1_000_000
    while not stop.is_set():
        number += 1
        deed = choose.randrange(7)
        try:
            if deed <= 1 or not ledger.values:
                handle = storage.create(value=number)
                ledger.values[f"v{number}"] = (handle, [number])
            elif deed == 2:
                name = choose.choice(sorted(ledger.values))
                handle, possible = ledger.values[name]
                possible.append(number)
                handle.store(value=number)
                ledger.values[name] = (handle, [number])
            elif deed == 3:
                handle, possible = ledger.values.pop(choose.choice(sorted(ledger.values)))
                handle.delete()
                ledger.deleted.append(handle)
            elif deed == 4 or not ledger.tasks:
                network = {"nodes": [node.url, *peers], "myself": 0}
                task = simon.create_task(microprotocol="SecureSum", network=network, durations=DURATIONS)
                ledger.tasks.append((task, {"created"}))
            elif deed == 5:
                place = choose.randrange(len(ledger.tasks))
                task, done = ledger.tasks.pop(place)
                so_far = set(done)
                ledger.tasks.append((task, so_far))
                if "input" not in done:
                    task.input(data=number)
                    so_far.add("input")
                elif "cancel" not in done:
                    so_far.add("cancel?")
                    task.cancel()
                    so_far.add("cancel")
            else:
                task, _ = ledger.tasks.pop()
                task.delete()
                ledger.gone_tasks.append(task)
        except fdrtd.ConnectionFailed:
            return  # killed under the request
        ledger.acknowledged += 1
        busy.release()


def unknown(call: Any) -> None:
    with pytest.raises(fdrtd.Error) as refused:
        call()
    assert refused.value.code == "OBJECT_UNKNOWN", refused.value


def check(node: Node, ledgers: list[Ledger]) -> None:
    for ledger in ledgers:
        for handle, possible in ledger.values.values():
            found = handle.retrieve()
            assert found in possible
            possible[:] = [found]
        for handle in ledger.deleted:
            unknown(handle.retrieve)
        for task, done in ledger.tasks:
            state = task.progress()["state"]
            if "cancel" in done:
                assert state == "cancelled", (state, done)
            elif "cancel?" not in done:
                assert state in ("created", "joining", "joined"), (state, done)
            if "input" in done and state != "cancelled":
                assert task.progress()["parties"][0]["input"] is False, "it waits for start()"
        for task in ledger.gone_tasks:
            unknown(task.progress)


def audit(node: Node, *arguments: str) -> str:
    command = [str(BINARY), "audit", *arguments, f"--data-dir={node.directory / 'data'}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def entries_of(node: Node) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in audit(node, "show").splitlines():
        action = line.split()[2]
        counts[action] = counts.get(action, 0) + 1
    return counts


def check_database(node: Node) -> None:
    """Of the dead node: SQLite finds it whole."""
    with contextlib.closing(sqlite3.connect(node.directory / "data" / "node.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[Node]]:
    with nodes(tmp_path, 2) as started:
        yield started


def test_nothing_acknowledged_is_lost(pair: list[Node]) -> None:
    node, peer = pair
    ledgers = [Ledger() for _ in range(4)]
    choose = random.Random(os.urandom(8))
    exported = node.directory / "audit.jsonl"
    for life in range(KILLS):
        stop, busy = threading.Event(), threading.Semaphore(0)
        threads = [
            threading.Thread(target=work, args=(node, [peer.url], ledger, life * 10 + index + 1, stop, busy))
            for index, ledger in enumerate(ledgers)
        ]
        for thread in threads:
            thread.start()
        # Killed after any number of acknowledged deeds; where in the next ones, chance decides.
        for _ in range(choose.randrange(1, 60)):
            assert busy.acquire(timeout=60), "the node does nothing any more"
        node.kill()
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        check_database(node)
        # The chain is whole, and goes on from what an earlier life had.
        earlier = [f"--against={exported}"] if exported.exists() else []
        audit(node, "verify", *earlier)
        exported.unlink(missing_ok=True)
        audit(node, "export", str(exported))
        node.start()
        check(node, ledgers)
        for ledger in ledgers:
            ledger.trim(choose)
    counts = entries_of(node)
    kept = [(task, done) for ledger in ledgers for task, done in ledger.tasks]
    gone = [task for ledger in ledgers for task in ledger.gone_tasks]
    # Everything acknowledged has its entry (what was under way may have one, too).
    assert counts["task.create"] >= len(kept) + len(gone)
    assert counts.get("task.delete", 0) >= len(gone)
    assert counts.get("task.input", 0) >= sum("input" in done for _, done in kept)
    assert counts.get("task.cancel", 0) >= sum("cancel" in done for _, done in kept)
    assert counts["node.start"] == KILLS + 1
    assert sum(ledger.acknowledged for ledger in ledgers) >= KILLS


def test_a_result_that_was_given_stays(tmp_path: Path) -> None:
    """Killed as soon as the result was given, or right after; the receipt becomes complete all the same."""
    with nodes(tmp_path, 3) as three:
        for life in range(max(3, KILLS // 3)):
            tasks = make_task(three, urls_of(three))
            for index, task in enumerate(tasks):
                task.input(data=index + life)
            victim = life % 3
            result = tasks[victim].result(timeout=60)
            three[victim].restart()
            assert tasks[victim].result(timeout=60) == result
            assert tasks[victim].progress()["receipt"] is not None
            receipts = [until(partial(signed, task), "all have signed") for task in tasks]
            assert receipts[0] == receipts[1] == receipts[2]
            audit(three[victim], "verify")
            assert receipts[victim]["id"] in audit(three[victim], "show")


def test_a_node_that_is_stopped_keeps_the_signatures_it_has(tmp_path: Path) -> None:
    """Stopped as soon as it has them; then the others are gone, and cannot be asked again."""
    with nodes(tmp_path, 3) as three:
        tasks = make_task(three, urls_of(three))
        for index, task in enumerate(tasks):
            task.input(data=index)
        receipt = until(partial(signed, tasks[0]), "all have signed")
        assert three[0].stop() == 0
        for node in three[1:]:
            node.kill()
        three[0].start()
        assert tasks[0].receipt() == receipt
