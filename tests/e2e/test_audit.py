"""Audit, receipts, backups and the storage's quota over real processes."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fdrtd
import pytest
from harness import BINARY, Node, all_joined, make_task, nodes, signed, until, urls_of

SECRET = 4711001


def run(*arguments: object, status: int = 0) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("FDRTD_")}
    command = [str(BINARY), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def data(node: Node) -> Path:
    return node.directory / "data"


def audit(node: Node, *arguments: object, status: int = 0) -> str:
    return run("audit", *arguments, f"--data-dir={data(node)}", status=status)


def entries(node: Node, *arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in audit(node, "show", "--json", *arguments).splitlines()]


def get(url: str, token: str | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


@pytest.fixture
def done(tmp_path: Path) -> Iterator[tuple[list[Node], list[Any]]]:
    """Three nodes and a task that has its result."""
    with nodes(tmp_path, 3) as three:
        tasks = make_task(three, urls_of(three))
        for index, task in enumerate(tasks):
            task.input(data=SECRET + index)
        for task in tasks:
            task.result(timeout=60)
        yield three, tasks


def test_the_audit_tells_what_was_done_and_no_value(done: tuple[list[Node], list[Any]]) -> None:
    three, tasks = done
    for index, (node, task) in enumerate(zip(three, tasks, strict=True)):
        id_of_task = task.progress()["task"]
        actions = [entry["action"] for entry in entries(node, "--task", id_of_task)]
        assert actions == ["task.create" if index == 0 else "task.join", "task.input", "task.release"]
        whole = audit(node, "show")
        assert "node.start" in whole
        assert "peer.first-use" in whole
        assert str(SECRET + index) not in whole
        assert str(3 * SECRET + 3) not in whole
        receipt = until(partial(signed, task), "all have signed")
        assert entries(node, "--task", id_of_task)[-1]["detail"]["receipt"] == receipt["id"]
        assert "samples" not in whole
    tasks[0].delete()
    assert entries(three[0])[-1]["action"] == "task.delete"
    three[0].stop()
    assert entries(three[0])[-1]["action"] == "node.stop"
    audit(three[0], "verify")


def test_the_chain_is_verified_with_and_without_the_node(done: tuple[list[Node], list[Any]], tmp_path: Path) -> None:
    (node, other, _), _ = done
    assert "whole" in audit(node, "verify")
    export = tmp_path / "audit.jsonl"
    audit(node, "export", export)
    assert stat.S_IMODE(export.stat().st_mode) == 0o600
    audit(node, "export", export, status=2)
    key = json.loads(run("identity", "--json", f"--data-dir={data(node)}"))["key"]
    foreign = json.loads(run("identity", "--json", f"--data-dir={data(other)}"))["key"]
    assert "whole" in run("audit", "verify", export, "--key", key)
    assert "instead of" in run("audit", "verify", export, "--key", foreign, status=1)
    lines = export.read_text().splitlines()
    cases = {
        "changed": [line.replace("task.create", "task.deleted") for line in lines],
        "missing": lines[:1] + lines[2:],
        "stands in its place": [lines[0], lines[0], *lines[1:]],
        "not an entry": [*lines[:2], "{}", *lines[2:]],
    }
    for what, forged in cases.items():
        path = tmp_path / "forged.jsonl"
        path.write_text("\n".join(forged) + "\n")
        assert what in run("audit", "verify", path, status=1), what
    # A tail that was cut off is whole by itself; the earlier export tells.
    path.write_text("\n".join(lines[:-1]) + "\n")
    run("audit", "verify", path, "--key", key)
    assert "cut off" in run("audit", "verify", path, "--against", export, status=1)
    assert "whole" in audit(node, "verify", "--against", export)


def test_what_is_done_past_sqlite_breaks_the_chain(done: tuple[list[Node], list[Any]]) -> None:
    (node, *_), _ = done
    node.stop()
    with contextlib.closing(sqlite3.connect(data(node) / "node.db", isolation_level=None)) as database:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute("UPDATE audit SET who = 'somebody' WHERE seq = 2")
        database.execute("DROP TRIGGER audit_is_not_changed")
        database.execute("UPDATE audit SET who = 'somebody' WHERE seq = 2")
    assert "broken at entry 2" in audit(node, "verify", status=1)


def test_an_audit_without_entries_is_told_as_such(tmp_path: Path) -> None:
    # The directory is made, and nothing is done in it that an audit tells.
    directory = tmp_path / "data"
    assert "there are no tokens" in run("token", "list", f"--data-dir={directory}")
    told = run("audit", "verify", f"--data-dir={directory}", status=1)
    assert told.startswith("fdrtd: the audit has no entry")
    assert told.rstrip().endswith("(AUDIT_EMPTY)")
    export = tmp_path / "audit.jsonl"
    run("audit", "export", export, f"--data-dir={directory}")
    assert "(AUDIT_EMPTY)" in run("audit", "verify", export, status=1)
    # What is done while no node runs is told at once, and signed.
    run("token", "create", "--name=anna", "--role=owner", f"--data-dir={directory}")
    assert "1 entries, whole" in run("audit", "verify", f"--data-dir={directory}")
    (entry,) = map(json.loads, run("audit", "show", "--json", f"--data-dir={directory}").splitlines())
    assert (entry["who"], entry["action"]) == ("operator", "token.create")
    assert entry["detail"]["offline"] is True


def test_the_route_is_for_owners_and_viewers(done: tuple[list[Node], list[Any]]) -> None:
    (node, *_), _ = done
    status, problem = get(f"{node.url}/audit")
    assert (status, problem["code"]) == (401, "CREDENTIALS_MISSING")
    token = (data(node) / "operator.token").read_text().strip()
    status, page = get(f"{node.url}/audit?limit=3", token)
    assert status == 200
    assert [entry["seq"] for entry in page["entries"]] == [1, 2, 3]
    status, rest = get(f"{node.url}/audit?after=3", token)
    assert page["entries"] + rest["entries"] == entries(node)
    status, problem = get(f"{node.url}/audit?limit=no", token)
    assert (status, problem["code"]) == (422, "VALUE_OUT_OF_RANGE")


def test_an_ephemeral_node_has_an_audit_too(tmp_path: Path) -> None:
    token = tmp_path / "token"
    config = tmp_path / "config"
    config.write_text(f'operator_token_file = "{token}"\n')
    with nodes(tmp_path, 1, "--ephemeral", f"--config={config}") as (node,):
        status, page = get(f"{node.url}/audit", token.read_text().strip())
    assert status == 200
    assert [entry["action"] for entry in page["entries"]] == ["node.start"]


def test_all_parties_hold_the_same_receipt(done: tuple[list[Node], list[Any]], tmp_path: Path) -> None:
    three, tasks = done
    receipts = [until(partial(signed, task), "all have signed") for task in tasks]
    assert receipts[0] == receipts[1] == receipts[2]
    assert tasks[1].progress()["receipt"] == {"complete": True, "id": receipts[0]["id"], "signed": [0, 1, 2]}
    task, result = tmp_path / "receipt.json", tmp_path / "result.json"
    # As the node gave it, and as another program writes it.
    task.write_text(run("task", "receipt", tasks[0]["callback"], "--node", three[0].url))
    result.write_text(json.dumps(tasks[2].result(), indent=2))
    for node in three:
        node.stop()
    found = run("receipt", "verify", task, "--result", result)
    assert "valid" in found
    assert all(node.fingerprint in found for node in three)
    result.write_text(json.dumps({"samples": 3, "sum": 1}))
    assert "another one" in run("receipt", "verify", task, "--result", result, status=1)
    forged = json.loads(task.read_text())
    forged["signatures"][1] = forged["signatures"][0]
    task.write_text(json.dumps(forged))
    assert "signature of party 1 does not hold" in run("receipt", "verify", task, status=1)
    task.write_text("{}")
    assert "RECEIPT_MALFORMED" in run("receipt", "verify", task, status=2)


def test_whoever_only_knows_the_task_gets_no_salt(done: tuple[list[Node], list[Any]]) -> None:
    (node, *_), (task, *_) = done
    by_name = f"{node.url}/tasks/{task.progress()['task']}/receipt"
    assert get(by_name)[1]["code"] == "TASK_UNKNOWN"
    status, receipt = get(by_name, node.operator())
    assert status == 200
    assert receipt["salt"] is None
    status, receipt = get(f"{node.url}/tasks/{task['callback']}/receipt")
    assert status == 200
    assert receipt["salt"]


def test_who_deletes_a_task_at_once_has_signed(shared: list[Node]) -> None:
    """The result is told before the signatures go out; a caller may be quicker than they are."""
    for _ in range(5):
        tasks = make_task(shared)
        for index, task in enumerate(tasks):
            task.input(data=SECRET + index)
        tasks[0].result(timeout=60)
        for task in tasks[1:]:
            task.result(timeout=60)
            task.delete()
        until(partial(signed, tasks[0]), "all have signed")


def test_no_result_no_receipt(shared: list[Node]) -> None:
    tasks = make_task(shared)
    for task in tasks:
        until(partial(all_joined, task), "all have joined")
        with pytest.raises(fdrtd.WrongState) as refused:
            task.receipt()
        assert refused.value.code == "NO_RECEIPT"
        assert task.progress()["receipt"] is None
    tasks[0].cancel()


def test_backup_and_restore(done: tuple[list[Node], list[Any]], tmp_path: Path) -> None:
    (node, *_), (task, *_) = done
    receipt = until(partial(signed, task), "all have signed")
    result = task.result()
    storage = node.api().select_microservice(microservice="KeyValueStorage")
    deleted, kept = storage.create(value=1), storage.create(value=2)
    backup = tmp_path / "backup"
    said = run("backup", backup, f"--data-dir={data(node)}")
    assert "does not hold the storage key" in said
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    export = tmp_path / "audit.jsonl"
    audit(node, "export", export)
    late = storage.create(value=3)
    deleted.delete()
    task.delete()
    assert "in use" in run("restore", backup, f"--data-dir={data(node)}", "--force", status=1)
    node.stop()
    assert "--force" in run("restore", backup, f"--data-dir={data(node)}", status=2)
    run("restore", backup, f"--data-dir={data(node)}", "--force")
    node.start()
    assert (deleted.retrieve(), kept.retrieve()) == (1, 2)
    with pytest.raises(fdrtd.NotFound):
        late.retrieve()
    assert task.result() == result
    # Signatures that were not written yet when the backup was made are asked for again.
    assert until(partial(signed, task), "all have signed") == receipt
    audit(node, "verify", "--against", export)
    assert "node.restore" in [entry["action"] for entry in entries(node)]


def test_a_damaged_database_is_left_alone(tmp_path: Path) -> None:
    with nodes(tmp_path, 1) as (node,):
        storage = node.api().select_microservice(microservice="KeyValueStorage")
        storage.create(value="x" * 100_000)
        node.stop()
        database = data(node) / "node.db"
        content = bytearray(database.read_bytes())
        content[4096:8192] = b"Z" * 4096
        database.write_bytes(content)
        with pytest.raises(AssertionError, match="did not start"):
            node.start()
        assert "node.db is damaged" in node.logged()
        assert "fdrtd restore" in node.logged()
        assert database.read_bytes() == content


def test_a_full_storage_says_so_and_loses_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text('[storage]\nmax_bytes = 100000\nsync = "process"\n')
    with nodes(tmp_path, 2, f"--config={config}") as two:
        storage = two[0].api().select_microservice(microservice="KeyValueStorage")
        kept = [storage.create(value="x" * 30_000) for _ in range(3)]
        with pytest.raises(fdrtd.Error) as refused:
            storage.create(value="x" * 30_000)
        assert (refused.value.status, refused.value.code) == (507, "STORAGE_FULL")
        # An input that does not fit is not taken, and the task goes on with one that does.
        task, other = make_task(two)
        with pytest.raises(fdrtd.Error) as refused:
            task.input(data=[1] * 20_000)
        assert refused.value.code == "STORAGE_FULL"
        kept.pop().delete()
        task.input(data=[1])
        other.input(data=[2])
        assert task.result(timeout=60)["result"]["sum"] == 3
        two[0].restart()
        assert [value.retrieve() for value in kept] == ["x" * 30_000] * 2
        assert task.result(timeout=60)["result"]["sum"] == 3


def test_everything_in_the_data_directory_is_for_its_owner(done: tuple[list[Node], list[Any]]) -> None:
    (node, *_), _ = done
    assert stat.S_IMODE(data(node).stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data(node).iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert {"node.db", "node.db-wal", "node.db-shm", "identity.key", "storage.key"} <= set(modes)


def test_the_chain_goes_on_under_a_new_key(done: tuple[list[Node], list[Any]]) -> None:
    (node, *_), _ = done
    node.stop()
    before = entries(node)
    key = json.loads(run("identity", "--json", "rotate", f"--data-dir={data(node)}"))["key"]
    assert "whole" in audit(node, "verify", "--key", key)
    node.start()
    after = entries(node)
    assert [entry["action"] for entry in after[len(before) :]][:2] == ["identity.rotate", "node.start"]
    assert [entry["key"] == key for entry in after[len(before) :]][:2] == [False, True]
    audit(node, "verify", "--key", key)
    assert "instead of" in audit(node, "verify", "--key", before[0]["key"], status=1)
