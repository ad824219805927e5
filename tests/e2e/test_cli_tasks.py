"""`fdrtd task`, `completion` and `man`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cli import FAILED, INTERRUPTED, OK, REFUSED, TIMED_OUT, UNREACHABLE, USAGE, fdrtd, running
from fronts import front
from harness import DURATIONS, ROOT, Node, all_joined, make_task, nodes, until, urls_of

COMMANDS = ["serve", "demo", "identity", "compute", "task", "doctor", "completion", "man"]


def object_of(task: object) -> str:
    """The id of the task's object, which only its owner has."""
    return str(task._callback)  # type: ignore[attr-defined]


def test_a_list_and_how_to_join(shared: list[Node]) -> None:
    simon = shared[0].api().select_microservice(protocol="Simon")
    network = {"nodes": urls_of(shared), "myself": 0}
    task = simon.create(microprotocol="SecureSum", network=network, durations=DURATIONS)
    progress = task.progress()
    row = next(line for line in ls(shared[0]) if line.startswith(progress["task"][:8]))
    assert row.split()[1:3] == ["SecureSum", "created"]
    assert "0 of 3" in row
    assert row.endswith("party 1, party 2")
    pending = until(lambda: [line for line in ls(shared[1]) if progress["task"][:8] in line], "the invitation arrives")
    assert "SecureSum with " + ", ".join(urls_of(shared)) in pending[0]
    joins = [line for line in ls(shared[1]) if "--invitation 'fdrtd:" in line]
    assert any(line.strip().startswith("join: fdrtd compute SecureSum --invitation 'fdrtd:") for line in joins)
    listed = fdrtd("task", "ls", "--json", FDRTD_NODE=shared[0].url, FDRTD_TOKEN=shared[0].operator()).json()
    assert progress["task"] in [entry["task"] for entry in listed["tasks"]]
    task.cancel()


def ls(node: Node) -> list[str]:
    ended = fdrtd("task", "ls", "--node", node.url, FDRTD_TOKEN=node.operator())
    assert ended.status == OK, ended.err
    return ended.out.splitlines()


def test_one_task_in_full(shared: list[Node]) -> None:
    tasks = make_task(shared)
    until(lambda: all_joined(tasks[0]), "all have joined")
    tasks[1].input(data=5)
    until(lambda: tasks[0].progress()["parties"][1]["input"], "the input is known")
    identifier = tasks[0].progress()["task"]
    shown = fdrtd("task", "show", identifier[:13].upper(), "--node", shared[0].url, FDRTD_TOKEN=shared[0].operator())
    assert shown.status == OK, shown.err
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if not line.startswith("party"))
    assert lines["task"] == identifier
    assert lines["computes"] == "SecureSum"
    assert lines["state"] == "joined"
    assert lines["deadline"].startswith("in ")
    parties = [line for line in shown.out.splitlines() if line.startswith("party")]
    assert f"{shared[0].url}  (this node)  joined  no input" in parties[0]
    assert f"{shared[1].url}  joined  input given  connected  key {shared[1].fingerprint}" in parties[1]
    assert "no input yet" in lines["waiting"]
    whole = fdrtd("task", "show", "--json", object_of(tasks[0]), "--node", shared[0].url).json()
    assert whole["task"] == identifier
    tasks[0].cancel()
    until(lambda: tasks[1].progress()["state"] == "cancelled", "cancelled everywhere")
    shown = fdrtd("task", "show", identifier, "--node", shared[1].url, FDRTD_TOKEN=shared[1].operator())
    assert "party 0 cancelled the task" in shown.out
    assert "(CANCELLED)" in shown.out


def test_watching_to_the_end(shared: list[Node]) -> None:
    simon = shared[0].api().select_microservice(protocol="Simon")
    network = {"nodes": urls_of(shared), "myself": 0}
    task = simon.create(microprotocol="SecureSum", network=network, durations=DURATIONS)
    identifier = task.progress()["task"]
    with (
        running("task", "watch", identifier, "--node", shared[0].url, FDRTD_TOKEN=shared[0].operator()) as text,
        running("task", "watch", object_of(task), "--json", FDRTD_NODE=shared[0].url) as machine,
    ):
        first = text.line(lambda line: True, "out")
        assert first.startswith("created: 1 of 3 joined, 0 inputs; party 1 ")
        machine.line(lambda line: True, "out")
        invitation = task.invite()
        tasks = [task]
        for index in (1, 2):
            other = shared[index].api().select_microservice(protocol="Simon")
            tasks.append(other.join(invitation=invitation, network={"nodes": urls_of(shared), "myself": index}))
        text.line(lambda line: line.startswith("joined: 3 of 3 joined"), "out")
        for one in tasks:
            one.input(data=1)
        ended, lines = text.end(), machine.end()
    assert ended.status == lines.status == OK
    assert ended.out.splitlines()[-1] == "done: 3 of 3 joined, 3 inputs"
    states = [json.loads(line)["state"] for line in lines.out.splitlines()]
    assert states[0] == "created"
    assert states[-1] == "done"


def test_watching_what_fails(shared: list[Node]) -> None:
    task = make_task(shared)[0]
    identifier = task.progress()["task"]
    with running("task", "watch", identifier, "--node", shared[1].url, FDRTD_TOKEN=shared[1].operator()) as watching:
        watching.line(lambda line: True, "out")
        task.cancel()
        watching.end().says("party 0 cancelled the task", "the task", "(CANCELLED)", status=FAILED)
    expiring = make_task(shared, durations=DURATIONS | {"input": 0.2})[0]
    late = fdrtd(
        "task", "watch", expiring.progress()["task"], "--node", shared[0].url, FDRTD_TOKEN=shared[0].operator()
    )
    late.says("the time for the input is over", "(EXPIRED)", status=TIMED_OUT)
    open_task = make_task(shared)[0]
    with running(
        "task", "watch", open_task.progress()["task"], "--node", shared[0].url, FDRTD_TOKEN=shared[0].operator()
    ) as watching:
        watching.line(lambda line: True, "out")
        watching.interrupt()
        assert watching.end().status == INTERRUPTED
    assert open_task.progress()["state"] != "cancelled"
    open_task.cancel()


def test_watching_outlives_a_restart(three: list[Node]) -> None:
    tasks = make_task(three)
    until(lambda: all_joined(tasks[0]), "all have joined")
    with running(
        "task", "watch", tasks[0].progress()["task"], "--node", three[0].url, FDRTD_TOKEN=three[0].operator()
    ) as watching:
        watching.line(lambda line: True, "out")
        three[0].restart()
        for task in tasks:
            task.input(data=1)
        assert watching.end().status == OK


def test_who_may_cancel(shared: list[Node], tmp_path: Path) -> None:
    task = make_task(shared)[0]
    identifier = task.progress()["task"]
    at = ["--node", shared[0].url]
    stranger = fdrtd("task", "cancel", identifier, *at, f"--data-dir={tmp_path}")
    stranger.says("--data-dir", "FDRTD_TOKEN", "(TASK_UNKNOWN)", status=REFUSED)
    wrong = fdrtd("task", "cancel", identifier, *at, FDRTD_TOKEN="a" * 52)
    wrong.says("(CREDENTIALS_REFUSED)", status=REFUSED)
    assert "a" * 52 not in wrong.err
    owner = fdrtd("task", "cancel", object_of(task), *at, "--json", f"--data-dir={tmp_path}")
    assert owner.status == OK, owner.err
    assert owner.json() == {"cancelled": object_of(task)}
    assert task.progress()["state"] == "cancelled"

    data = shared[0].directory / "data"
    token = (data / "operator.token").read_text().strip()
    for arguments, env in ([f"--data-dir={data}"], {}), ([], {"FDRTD_TOKEN": token}), ([f"--token={token}"], {}):
        task = make_task(shared)[0]
        identifier = task.progress()["task"]
        operator = fdrtd("task", "cancel", identifier, *at, *arguments, cwd=tmp_path, **env)
        assert (operator.status, operator.out) == (OK, f"cancelled {identifier}\n")
        assert task.progress()["state"] == "cancelled"
    clear = fdrtd("task", "cancel", identifier, "--node=http://node.example", f"--token={token}")
    clear.says("unencrypted", "(TOKEN_UNENCRYPTED)", status=USAGE)
    assert token not in clear.err


def test_beginnings_of_ids(tmp_path: Path) -> None:
    with nodes(tmp_path) as started:
        ids: list[str] = []
        while len({identifier[:1] for identifier in ids}) == len(ids):
            # Until two begin alike: 17 at most.
            ids.append(make_task(started)[0].progress()["task"])
        # The directory of the node says who its operator is.
        at = ["--node", started[0].url, f"--data-dir={started[0].directory / 'data'}"]
        assert fdrtd("task", "show", ids[0][:8], *at).status == OK
        fdrtd("task", "show", ids[0][:3], *at).says("four characters", "(ID_UNUSABLE)", status=USAGE)
        fdrtd("task", "show", "no-id", *at).says("(ID_UNUSABLE)", status=USAGE)
        nothing = "ffffffff" if not any(identifier.startswith("ffffffff") for identifier in ids) else "00000000"
        fdrtd("task", "show", nothing, *at).says(nothing, "task ls", "(TASK_UNKNOWN)", status=REFUSED)
        whole = "00000000-0000-4000-8000-000000000000"
        fdrtd("task", "watch", whole, *at).says("no task with this id", "(TASK_UNKNOWN)", status=REFUSED)


def test_two_tasks_that_begin_alike() -> None:
    ids = ["abcd1234-0000-4000-8000-000000000001", "abcd1234-0000-4000-8000-000000000002"]
    entry = {"microprotocol": "SecureSum", "state": "done", "party": 0, "parties": 3}
    tasks = [entry | {"task": identifier} for identifier in ids]
    body = json.dumps({"tasks": tasks, "invitations": []}).encode()
    with front(answers={"/tasks": (200, body)}) as node:
        at = ["--node", node.url]
        fdrtd("task", "show", "abcd1234", *at).says("2 tasks", "(ID_AMBIGUOUS)", status=USAGE)
        shown = fdrtd("task", "ls", *at).out.splitlines()
        assert [line.split()[0] for line in shown[1:]] == ids


def test_what_is_no_node(shared: list[Node]) -> None:
    gone = fdrtd("task", "ls", "--node=http://127.0.0.1:1/a")
    gone.says("nobody listens at http://127.0.0.1:1/a (TCP)", "the way to your node", status=UNREACHABLE)
    named = fdrtd("task", "ls", "--node=https://nobody.invalid")
    named.says("nobody.invalid", "(DNS)", "(NODE_UNREACHABLE)", status=UNREACHABLE)
    plain = fdrtd("task", "ls", "--node", shared[0].url.replace("http:", "https:"))
    plain.says("(TLS)", "write http://", status=UNREACHABLE)
    for status, body, words, expected in [
        (200, b"<html>", "not a node", FAILED),
        (404, b"<html>", "not a node", REFUSED),
        (403, b"<html>", "credentials", REFUSED),
        (502, b"<html>", "cannot reach it", UNREACHABLE),
    ]:
        with front(answers={"/tasks": (status, body)}) as server:
            fdrtd("task", "ls", "--node", server.url).says(words, "(NOT_A_NODE)", status=expected)


def test_hostile_answers_stay_text() -> None:
    task = {
        "task": "\x1b[2J",
        "microprotocol": "\x1b]0;x\x07",
        "state": "done\nfdrtd: ok",
        "party": "\x1b",
        "parties": 3,
    }
    body = json.dumps({"tasks": [task], "invitations": [{"microprotocol": "x", "link": "fdrtd:'; rm"}]}).encode()
    with front(answers={"/tasks": (200, body)}) as node:
        shown = fdrtd("task", "ls", "--node", node.url)
    assert shown.status == OK
    assert "\x1b" not in shown.out
    assert "\nfdrtd: ok" not in shown.out
    assert "fdrtd compute" not in shown.out


# --- Completion and manual pages --------------------------------------------------------------------------------------


def test_completion_in_bash(tmp_path: Path) -> None:
    script = tmp_path / "fdrtd.bash"
    script.write_text(fdrtd("completion", "bash").out)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0

    def offered(*words: str) -> list[str]:
        line = " ".join(["fdrtd", *words])
        code = f'source "{script}"; COMP_WORDS=({line} ""); COMP_CWORD={len(words) + 1}; _fdrtd fdrtd "" "{line}"; '
        code += 'printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert set(COMMANDS) <= set(offered())
    assert {"ls", "show", "watch", "cancel"} <= set(offered("task"))
    assert {"bash", "zsh", "fish"} <= set(offered("completion"))


@pytest.mark.parametrize(("shell", "start"), [("zsh", "#compdef fdrtd"), ("fish", "# Print an optspec")])
def test_completion_in_other_shells(shell: str, start: str) -> None:
    script = fdrtd("completion", shell)
    assert script.status == OK
    assert script.out.startswith(start)
    for command in COMMANDS:
        assert command in script.out
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script.out, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_completion_of_an_unknown_shell() -> None:
    fdrtd("completion", "cmd").says("bash, zsh, fish", status=USAGE)


def test_manual_pages(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "man"
    assert fdrtd("man", directory).status == OK
    names = {page.name for page in directory.iterdir()}
    assert {"fdrtd.1", "fdrtd-task.1", "fdrtd-task-watch.1", *(f"fdrtd-{name}.1" for name in COMMANDS)} <= names
    for page in directory.iterdir():
        text = page.read_text()
        assert text.count(".SH NAME") == 1
        if shutil.which("groff"):
            done = subprocess.run(
                ["groff", "-Kutf8", "-man", "-Tutf8", "-ww", page], capture_output=True, text=True, check=True
            )
            assert done.stderr == "", page.name
            assert "Print help" in done.stdout
    whole = (directory / "fdrtd.1").read_text()
    assert "Exit status" in whole
    (tmp_path / "file").write_text("")
    fdrtd("man", tmp_path / "file").says("cannot be written", status=FAILED)


def test_the_build_makes_the_manual_pages() -> None:
    """The recipe of `make build`, without compiling again: what it writes is of this very program."""
    if "FDRTD_TEST_PROFILE" in os.environ:
        pytest.skip("make build is about the debug profile")
    page = ROOT / "target" / "man" / "fdrtd.1"
    page.unlink(missing_ok=True)
    subprocess.run(["make", "-C", ROOT, "build", "CARGO=true"], check=True, capture_output=True, timeout=60)
    assert {f"fdrtd-{name}.1" for name in COMMANDS} <= {path.name for path in page.parent.iterdir()}
    assert "Federated secure computing" in page.read_text()


def test_all_that_tell_something_tell_it_to_programs() -> None:
    subcommands = {"task": ["ls", "show", "watch", "cancel"]}
    commands = [[name, *more] for name in COMMANDS for more in ([[m] for m in subcommands.get(name, [])] or [[]])]
    without = [command for command in commands if "--json" not in fdrtd(*command, "--help").out]
    # A script for a shell, and files.
    assert without == [["completion"], ["man"]]


def test_help_names_statuses_and_examples() -> None:
    for arguments in (["--help"], ["compute", "--help"], ["task", "--help"], ["doctor", "--help"]):
        text = fdrtd(*arguments).out
        assert "130  interrupted" in text
    for command in ("compute", "task", "doctor", "completion", "man"):
        assert f"  fdrtd {command} " in fdrtd(command, "--help").out
