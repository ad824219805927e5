"""Data holders' rules: what they refuse, what they let pass, and what others learn of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fdrtd
import pytest
from access import token
from harness import BINARY, DURATIONS, Node, all_joined, cause_of, has_input, make_task, until, urls_of

FIVE = [10, 7, 14, 3, 8]
SIX = [21, 22, 23, 24, 25, 26]


@contextlib.contextmanager
def network(directory: Path, *rules: str) -> Iterator[list[Node]]:
    """A node for each text of rules (TOML, the profile first), with storage."""
    started: list[Node] = []
    try:
        for index, text in enumerate(rules):
            place = directory / f"node{index}"
            place.mkdir(parents=True)
            profile, _, table = text.partition("\n")
            config = place / "node.toml"
            config.write_text(f'policy = "{profile}"\n' + (f"[rules]\n{table}\n" if table else ""))
            command = [
                *[str(BINARY), "serve", f"--config={config}", "--listen={listen}", "--log=debug"],
                *[f"--base-path=/public{index + 1}", f"--data-dir={place / 'data'}"],
            ]
            started.append(Node(place, index, command=command))
        yield started
    finally:
        for node in started:
            if node.process is not None and node.process.poll() is None:
                node.kill()


def refused(call: Any, code: str) -> dict[str, Any]:
    """The body of a refusal with that code."""
    with pytest.raises(fdrtd.Error) as caught:
        call()
    assert caught.value.code == code, caught.value
    return {"message": str(caught.value), **vars(caught.value)}


def request(
    node: Node, method: str, page: str, body: Any = None, *, operator: bool = False, credentials: str | None = None
) -> tuple[int, Any, str]:
    """Status, JSON and text of an answer."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if operator:
        credentials = node.operator()
    if credentials is not None:
        headers["Authorization"] = f"Bearer {credentials}"
    data = None if body is None else json.dumps(body).encode()
    wanted = urllib.request.Request(f"{node.url}/{page}", data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(wanted, timeout=60) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if text else None, text
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text), text


def name_of(task: Any) -> str:
    return str(task.progress()["task"])


def compute(started: list[Node], *inputs: Any) -> list[Any]:
    """Tasks with all inputs given; the first party's last, so that it does not decline before the others' are there."""
    tasks = make_task(started)
    for task, data in reversed(list(zip(tasks, inputs, strict=True))):
        task.input(data=data)
    return tasks


def audit(node: Node) -> list[str]:
    return [line for line in node.logged().splitlines() if "audit" in line]


def test_standard_computes_sums(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        tasks = make_task(started)
        until(lambda: all_joined(tasks[0]), "all have joined")
        progress = tasks[0].progress()
        assert progress["policy"] == "standard"
        assert progress["rules"]["min_samples_own"] == {"value": 5, "party": 0}
        assert tasks[0].invite()["rules"]["min_samples_own"] == 5
        # Four are too few: its owner is told, the task stays as it was, and nobody else learns anything.
        problem = refused(lambda: tasks[0].input(data=FIVE[:4]), "POLICY_TOO_FEW_SAMPLES")
        assert "at least 5 samples" in problem["message"]
        assert "has 4" in problem["message"]
        assert not has_input(tasks[1], 0)
        assert not has_input(tasks[0], 0)
        for task in tasks:
            task.input(data=FIVE)
        for task in tasks:
            assert task.result(timeout=60) == {"inputs": 3, "result": {"samples": 15, "sum": 126}}


def test_every_column_has_enough(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        task = make_task(started)[0]
        refused(lambda: task.input(data={"age": FIVE, "bmi": FIVE[:3]}), "POLICY_TOO_FEW_SAMPLES")
        refused(lambda: task.input(data={"vectors": [[1, 2, 3, 4, 5, 6]] * 4}), "POLICY_TOO_FEW_SAMPLES")
        task.input(data={"age": FIVE, "bmi": FIVE})


def test_gathered_inputs_are_counted_together(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        tasks = make_task(started, gather=True)
        for task in tasks:
            task.input(data=FIVE[:3])
        refused(lambda: tasks[0].start(), "POLICY_TOO_FEW_SAMPLES")
        for task in tasks:
            task.input(data=FIVE[3:])
            task.start()
        for task in tasks:
            assert task.result(timeout=60)["result"]["samples"] == 15


def test_a_stricter_party_is_in_force_for_all(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard\nmin_samples_own = 8") as started:
        tasks = make_task(started)
        for task in tasks:
            until(lambda task=task: all_joined(task), "all have joined")  # type: ignore[misc]
            assert task.progress()["rules"]["min_samples_own"] == {"value": 8, "party": 2}
        problem = refused(lambda: tasks[0].input(data=FIVE), "POLICY_TOO_FEW_SAMPLES")
        assert "party 2" in problem["message"]
        for task in tasks:
            task.input(data=[*FIVE, *FIVE])
        for task in tasks:
            assert task.result(timeout=60)["result"]["samples"] == 30


def test_a_profile_that_is_stricter_tightens(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard", "strict") as started:
        tasks = make_task(started)
        until(lambda: all_joined(tasks[0]), "all have joined")
        assert tasks[0].progress()["policy"] == "strict"
        for task in tasks:
            task.input(data=[*FIVE, *FIVE])
        assert {json.dumps(task.result(timeout=60)) for task in tasks} == {
            json.dumps({"inputs": 4, "result": {"samples": 40, "sum": 336}})
        }


def test_a_requester_tightens_and_cannot_loosen(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        simons = [node.api().select_microservice(protocol="Simon") for node in started]
        place = {"nodes": urls_of(started), "myself": 0}
        arguments = {"microprotocol": "SecureSum", "network": place, "durations": DURATIONS}
        strict = refused(lambda: simons[0].create(policy="strict", **arguments), "POLICY_TOO_FEW_PARTIES")
        assert "'strict'" in strict["message"]
        refused(lambda: simons[0].create(policy={"min_sampels": 1}, **arguments), "POLICY_UNUSABLE")
        refused(lambda: simons[0].create(policy={"peers": []}, **arguments), "POLICY_UNUSABLE")
        task = simons[0].create(policy={"min_samples_own": 7}, **arguments)
        assert task.progress()["rules"]["min_samples_own"]["value"] == 7
        simons[1].join(invitation=task.invite(), policy={"min_samples_own": 9})
        until(lambda: task.progress()["rules"]["min_samples_own"] == {"value": 9, "party": 1}, "it is told")
        loose = simons[0].create(policy={"min_samples_own": 1}, **arguments)
        assert loose.progress()["rules"]["min_samples_own"]["value"] == 5


def aio(*arguments: Any, **more: Any) -> Any:
    return asyncio.run(fdrtd.aio_compute(*arguments, **more))


@pytest.mark.parametrize("compute", [fdrtd.compute, aio])
def test_a_computation_in_one_call_asks_for_more_caution(tmp_path: Path, compute: Any) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started, ThreadPoolExecutor(3) as pool:
        urls = urls_of(started)

        def party(myself: int, policy: Any, data: Any = FIVE) -> Future[Any]:
            place = {"nodes": urls, "myself": myself}
            more = {"policy": policy, "timeout": 60, "progress": False}
            return pool.submit(compute, "SecureSum", data, place, **more)

        refused(lambda: party(0, "strict").result(), "POLICY_TOO_FEW_PARTIES")
        refused(lambda: party(0, {"min_sampels": 1}).result(), "POLICY_UNUSABLE")
        calls = [party(0, {"min_samples_own": 4}), party(1, {"max_digits_after": 18}), party(2, None)]
        assert [call.result()["result"]["sum"] for call in calls] == [126, 126, 126]
        # Who creates asks for six samples, and has five.
        refused(lambda: party(0, {"min_samples_own": 6}).result(), "POLICY_TOO_FEW_SAMPLES")
        # So does one who joins; the others have six, none of which was in an earlier release.
        others = [party(0, None, SIX), party(2, None, SIX)]

        def joined() -> bool:
            tasks = request(started[2], "GET", "tasks", operator=True)[1]["tasks"]
            return any(task["state"] not in {"done", "failed"} for task in tasks)

        # Whoever comes when it is over finds nothing to join.
        until(joined, "the third party has joined")
        refused(lambda: party(1, {"min_samples_own": 6}).result(), "POLICY_TOO_FEW_SAMPLES")
        for call in others:
            with pytest.raises(fdrtd.TaskFailed):
                call.result()
        # And one who has an invitation.
        simon = started[0].api().select_microservice(protocol="Simon")
        task = simon.create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS)
        join = {"data": FIVE, "invitation": task.invite(), "interface": urls[1], "policy": {"min_samples_own": 6}}
        refused(lambda: compute(**join), "POLICY_TOO_FEW_SAMPLES")


def test_what_is_declined_tells_the_others_nothing(tmp_path: Path) -> None:
    """Rule and number stay with the owner: not in answers at peers, not in their logs, not in what they get of it."""
    with network(tmp_path, "standard", "standard", "standard\nmin_samples_own = 17") as started:
        tasks: list[Any] = [None, None, None]
        urls = urls_of(started)
        simons = [node.api().select_microservice(protocol="Simon") for node in started]
        tasks[0] = simons[0].create(
            microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS
        )
        # Given before anybody knows that 17 are wanted.
        tasks[0].input(data=[*FIVE, 1, 1, 1, 1, 1, 1])
        tasks[1] = simons[1].join(invitation=tasks[0].invite())
        tasks[1].input(data=[1] * 20)
        tasks[2] = simons[2].join(invitation=tasks[0].invite())
        cause = cause_of(tasks[0])
        assert (cause["code"], cause["party"]) == ("DECLINED", 0)
        assert cause["declined"]["rule"] == "min_samples_own"
        assert "17" in cause["declined"]["message"]
        name = name_of(tasks[0])
        for index in (1, 2):
            theirs = cause_of(tasks[index])
            assert (theirs["code"], theirs["party"]) == ("DECLINED", 0)
            assert "declined" not in theirs
            assert theirs["message"].startswith("party 0 declined")
            told = json.dumps({**tasks[index].progress(), "rules": None})
            assert "min_samples" not in told
        # Whoever asks the declining node by the name that all know finds no task, and a looker-on is told no more.
        assert request(started[0], "GET", f"tasks/{name}")[1]["code"] == "TASK_UNKNOWN"
        viewer = token(started[0].directory / "data", "vera", "viewer")
        told = request(started[0], "GET", f"tasks/{name}", credentials=viewer)[1]
        assert told["cause"]["code"] == "DECLINED"
        assert "declined" not in told["cause"]
        assert "declined" in request(started[0], "GET", f"tasks/{name}", operator=True)[1]["cause"]
        for index in (1, 2):
            # Without the time of day, which may be full of elevens.
            logged = "\n".join(line.partition("Z ")[2] for line in started[index].logged().splitlines())
            assert "DECLINED" in logged
            assert "min_samples" not in logged
            assert not any(word in logged for word in (" 11 ", "=11", ":11"))
        declined = [line for line in audit(started[0]) if "task.fail" in line and "DECLINED" in line]
        assert len(declined) == 1
        assert "min_samples_own" in declined[0]
        assert "17" not in declined[0].split("detail=")[1]


def test_the_budget_of_a_column(tmp_path: Path) -> None:
    rules = "standard\nreleases = 2"
    with network(tmp_path, rules, "standard", "standard") as started:
        for _ in range(2):
            for task in compute(started, FIVE, FIVE, FIVE):
                task.result(timeout=60)
        # Nothing is forgotten.
        started[0].restart()
        tasks = compute(started, FIVE, FIVE, FIVE)
        cause = cause_of(tasks[0])
        assert (cause["code"], cause["declined"]["rule"]) == ("DECLINED", "releases")
        for task in tasks[1:]:
            theirs = cause_of(task)
            assert (theirs["code"], theirs["party"]) == ("DECLINED", 0)
            assert "declined" not in theirs
            assert "releases" not in json.dumps(theirs)
        # Another column has its own.
        columns = [{"age": FIVE}] * 3
        for task in compute(started, *columns):
            assert task.result(timeout=60)["result"]["age"]["samples"] == 15


def test_a_task_that_comes_again_is_another_release(tmp_path: Path) -> None:
    with network(tmp_path, "standard\nreleases = 1", "standard", "standard") as started:
        tasks = compute(started, FIVE, FIVE, FIVE)
        invitation = tasks[0].invite()
        for task in tasks:
            task.result(timeout=60)
        for task in tasks:
            task.delete()
        # Whoever makes a task chooses its id, and may choose one that was there before. Nodes tell latecomers that
        # it is over; until they are started anew, and a peer that is not honest would not.
        for node in started:
            node.restart()
        simons = [node.api().select_microservice(protocol="Simon") for node in started]
        places = [{"nodes": urls_of(started), "myself": index} for index in range(3)]
        again = [simon.join(invitation=invitation, network=place) for simon, place in zip(simons, places, strict=True)]
        for task in reversed(again):
            task.input(data=FIVE)
        cause = cause_of(again[0])
        assert (cause["code"], cause["declined"]["rule"]) == ("DECLINED", "releases")


def test_a_row_more_is_refused(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        others = [list(range(100, 110)), list(range(200, 210))]
        for task in compute(started, FIVE, *others):
            task.result(timeout=60)
        # The same rows again, in another order and spelling, are the same release.
        for task in compute(started, [8.0, 3, 14, 7, 10], *others):
            assert task.result(timeout=60)["result"]["samples"] == 25
        tasks = compute(started, [*FIVE, 99], *others)
        cause = cause_of(tasks[0])
        assert (cause["code"], cause["declined"]["rule"]) == ("DECLINED", "differencing")
        assert {cause_of(task)["code"] for task in tasks[1:]} == {"DECLINED"}
        assert "differencing" not in started[1].logged() + started[2].logged()
        more = [*FIVE, 91, 92, 93, 94, 95]
        for task in compute(started, more, *others):
            assert task.result(timeout=60)["result"]["samples"] == 30


def asked(task: Any) -> None:
    until(lambda: task.progress().get("approval") == "waiting", "the owner is asked")


def cli(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BINARY), *arguments, f"--node={node.url}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_owner_is_asked_the_first_time(tmp_path: Path) -> None:
    rules = 'standard\napproval = "first-time"'
    with network(tmp_path, rules, "standard", "standard") as started:
        tasks = compute(started, FIVE, FIVE, FIVE)
        asked(tasks[0])
        name = name_of(tasks[0])
        until(lambda: len(tasks[0].progress()["waiting_for"]) == 1, "the others are ready")
        [waiting] = tasks[0].progress()["waiting_for"]
        assert "owner to approve" in waiting["why"]
        # To the others it has not given its input yet.
        until(lambda: has_input(tasks[1], 2), "the others are ready")
        assert not has_input(tasks[1], 0)
        assert "approve" not in json.dumps(tasks[1].progress())
        # Not by anybody.
        assert request(started[0], "POST", f"tasks/{name}/approve")[0] == 401
        # The question survives a restart, and so does the answer.
        started[0].restart()
        until(lambda: all_joined(tasks[0]) and all_joined(tasks[1]) and all_joined(tasks[2]), "they meet again")
        asked(tasks[0])
        data = f"--data-dir={started[0].directory / 'data'}"
        done = cli(started[0], "task", "approve", name[:8], data)
        assert (done.returncode, done.stdout) == (0, f"approved {name}\n"), done.stderr
        for task in tasks:
            assert task.result(timeout=60)["result"]["sum"] == 126
        assert request(started[0], "POST", f"tasks/{name}/approve", operator=True)[1]["code"] == "TASK_NOT_WAITING"
        started[0].restart()
        for task in compute(started, FIVE, FIVE, FIVE):
            assert task.result(timeout=60)["result"]["sum"] == 126
        # Other columns are another kind of task.
        tasks = compute(started, *[{"age": FIVE}] * 3)
        asked(tasks[0])
        assert any("task.approve" in line for line in audit(started[0]))


def test_the_owner_declines(tmp_path: Path) -> None:
    rules = 'standard\napproval = "always"'
    with network(tmp_path, rules, "standard", "standard") as started:
        data = f"--data-dir={started[0].directory / 'data'}"
        for _ in range(2):
            tasks = compute(started, FIVE, FIVE, FIVE)
            asked(tasks[0])
            assert cli(started[0], "task", "approve", name_of(tasks[0]), data).returncode == 0
            assert tasks[1].result(timeout=60)["result"]["sum"] == 126
        tasks = compute(started, FIVE, FIVE, FIVE)
        asked(tasks[0])
        done = cli(started[0], "task", "decline", name_of(tasks[0]), data, "--reason", "no agreement on zebras")
        assert done.returncode == 0, done.stderr
        cause = cause_of(tasks[0])
        assert cause["code"] == "DECLINED"
        assert "zebras" in cause["declined"]["message"]
        started[0].restart()
        assert cause_of(tasks[0])["declined"] == cause["declined"]
        for index in (1, 2):
            assert cause_of(tasks[index])["message"].startswith("party 0 declined")
            assert "zebras" not in json.dumps(tasks[index].progress()) + started[index].logged()
        status, body, _ = request(started[0], "POST", f"tasks/{name_of(tasks[0])}/decline", {}, operator=True)
        assert (status, body["code"]) == (409, "TASK_NOT_WAITING")


def test_with_whom(tmp_path: Path) -> None:
    with network(tmp_path, 'teaching\npeers = ["http://127.0.0.1:9"]', "teaching", "teaching") as started:
        problem = refused(lambda: make_task(started), "POLICY_PEER")
        assert started[1].url in problem["message"]
    with network(tmp_path / "second", "teaching\nmin_organisations = 3", "teaching", "teaching") as started:
        refused(lambda: make_task(started), "POLICY_TOO_FEW_ORGANISATIONS")
    with network(tmp_path / "third", "teaching\nmax_digits_after = 2", "teaching", "teaching") as started:
        refused(lambda: make_task(started), "POLICY_DIGITS")
        for task in make_task(started, parameters={"digits_after": 2}):
            task.input(data=1)


def test_a_dry_run(tmp_path: Path) -> None:
    with network(tmp_path, "standard\nmin_samples_own = 4\nreleases = 0", "teaching") as started:
        node = started[0]
        status, shown, _ = request(node, "GET", "policy")
        assert (status, shown["profile"]) == (200, "standard")
        assert shown["rules"]["min_samples_own"] == 4
        assert shown["looser_than_profile"] == ["min_samples_own", "releases"]
        assert any("every party has at least 4" in words for words in shown["words"])
        assert "looser than its profile" in node.logged().replace("this node's rules are ", "")

        question = {"microprotocol": "SecureSum", "parties": 3, "samples": 12}
        status, found, _ = request(node, "POST", "policy/check", question)
        assert (status, found["allowed"], found["refused"], found["cannot_check"]) == (200, True, [], [])
        found = request(node, "POST", "policy/check", {**question, "parties": 2, "samples": {"age": 3, "bmi": 4}})[1]
        assert [(one["code"], one["rule"]) for one in found["refused"]] == [
            ("POLICY_TOO_FEW_PARTIES", "min_parties"),
            ("POLICY_TOO_FEW_SAMPLES", "min_samples_own"),
        ]
        assert found["refused"][1]["column"] == "age"
        found = request(node, "POST", "policy/check", {**question, "policy": {"min_samples_total": 13}})[1]
        # It does not follow from what each party has; so it will be compared inside the computation.
        assert (found["allowed"], found["cannot_check"], found["compared"]["samples_total"]) == (True, [], 13)
        assert request(node, "POST", "policy/check", {"microprotocol": "SecureSum"})[1]["code"] == "NETWORK_SIZE"
        assert request(node, "POST", "policy/check", {"parties": 3})[0] == 422
        # Nothing was made, and nobody was asked.
        assert request(node, "GET", "tasks")[1] == {"tasks": [], "invitations": []}

        shown = cli(node, "policy", "show")
        assert shown.returncode == 0
        assert shown.stdout.startswith("profile standard\nlooser than it: min_samples_own, releases\n")
        good = cli(node, "policy", "check", "SecureSum", "--parties=3", "--samples=12")
        assert (good.returncode, good.stdout) == (0, "allowed\n")
        bad = cli(node, "policy", "check", "SecureSum", "--parties=2")
        assert bad.returncode == 4
        assert bad.stdout.startswith("refused\n- min_parties: ")


def test_a_command_asks_for_more_caution(tmp_path: Path) -> None:
    with network(tmp_path, "standard", "standard", "standard") as started:
        file = tmp_path / "net.json"
        file.write_text(json.dumps({"nodes": urls_of(started)}))
        command = ["compute", "SecureSum", f"--network={file}", "--myself=0", "--value=1"]
        done = cli(started[0], *command, "--policy=strict")
        assert (done.returncode, "POLICY_TOO_FEW_PARTIES" in done.stderr) == (4, True), done.stderr
        done = cli(started[0], *command, '--policy={"max_digits_after": 2}')
        assert (done.returncode, "POLICY_DIGITS" in done.stderr) == (4, True), done.stderr
        done = cli(started[0], *command, "--policy=lenient")
        assert (done.returncode, "POLICY_UNUSABLE" in done.stderr) == (2, True), done.stderr


def test_rules_that_are_none_stop_the_node(tmp_path: Path) -> None:
    for rules, word in [
        ("min_sampels = 1", "min_sampels"),
        ("min_parties = 1", "min_parties"),
        ("differencing = 17", "differencing"),
        ('microprotocols = ["Sum"]', "Sum"),
        ('approval = "never"', "approval"),
    ]:
        config = tmp_path / "node.toml"
        config.write_text(f'ephemeral = true\nlisten = "127.0.0.1:0"\n[rules]\n{rules}\n')
        done = subprocess.run(
            [str(BINARY), "serve", f"--config={config}"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode != 0
        assert word in done.stderr
