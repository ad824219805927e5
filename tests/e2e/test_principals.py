"""Who is admitted: tokens, anonymous callers, limits of rate; with real nodes."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import fdrtd as client
import pytest
from access import ask, data_of, operator, refusal, token
from cli import OK, REFUSED, UNREACHABLE, USAGE, fdrtd
from harness import ROOT, Node, nodes

ROUTES = re.findall(r"^\| `(\w+) \{base\}(\S*)` \| (\w+) \|$", (ROOT / "docs/access.md").read_text(), re.MULTILINE)
# What each role may do; a new action without a line here fails the test.
ROLES = {
    "Catalogue": {"viewer", "analyst", "owner"},
    "Look": {"viewer", "analyst", "owner"},
    "Metrics": {"viewer", "analyst", "owner"},
    "Use": {"analyst", "owner"},
    "Cancel": {"analyst", "owner"},
    "Probe": {"analyst", "owner"},
    "Review": {"viewer", "owner"},
    "Decide": {"owner"},
    "Tokens": {"owner"},
}
UNKNOWN_ID = "11111111-2222-4333-8444-555555555555"


def page(path: str) -> str:
    return path.replace("{id}", UNKNOWN_ID).replace("{task}", UNKNOWN_ID).replace("{name}", "nobody")


def test_every_route_asks_who_calls(tmp_path: Path) -> None:
    data = tmp_path / "node0" / "data"
    made = {role: token(data, role, role) for role in ("viewer", "analyst", "owner")}
    made["revoked"] = token(data, "revoked", "owner")
    assert fdrtd("token", "revoke", "revoked", f"--data-dir={data}").status == OK
    with nodes(tmp_path, 1) as (node,):
        assert len(ROUTES) > 15
        wrong = ["fdrtd_" + "a" * 52, "x", made["revoked"], made["owner"] + "a", operator(node)[:-1]]
        answers = set()
        for method, path, takes in ROUTES:
            where = (method, page(path))
            if takes == "nothing":
                # Whatever is sent along.
                for credentials in (None, wrong[0]):
                    assert ask(node, *where, token=credentials)[0] in (200, 404, 426), where
                continue
            assert refusal(ask(node, *where)) == (401, "CREDENTIALS_MISSING"), where
            assert refusal(ask(node, *where, Authorization="Basic dXNlcjpwYXNz")) == (401, "CREDENTIALS_MISSING")
            for credentials in wrong:
                answer = ask(node, *where, token=credentials)
                assert refusal(answer)[0] in (401, 429), where
                if answer[0] == 401:
                    answers.add(answer[2])
            for role in ("viewer", "analyst", "owner"):
                status, _, body = ask(node, *where, token=made[role])
                if role in ROLES[takes]:
                    assert status not in (401, 403), (where, role, body)
                else:
                    assert (status, json.loads(body)["code"]) == (403, "ROLE_REFUSED"), (where, role)
            assert ask(node, *where, token=operator(node))[0] not in (401, 403), where
        assert len(answers) == 1, "unknown, changed and revoked ones are told the same"
        for method, path in (("GET", "/nothing"), ("DELETE", "/tasks"), ("PATCH", ""), ("DELETE", "/tokens")):
            assert ask(node, method, path)[0] in (404, 405)


def test_a_token_is_made_shown_once_used_and_revoked_while_the_node_runs(tmp_path: Path) -> None:
    with nodes(tmp_path, 1) as (node,):
        data = data_of(node)
        where = f"--data-dir={data}"
        assert ask(node)[0] == 200, "nobody is known yet, and only this machine comes in"
        anna = token(data, "anna", "analyst", "--expires=30d")
        assert refusal(ask(node)) == (401, "CREDENTIALS_MISSING")
        assert ask(node, token=anna)[0] == 200
        listed = fdrtd("token", "list", where, "--json").json()["tokens"]
        assert [(each["name"], each["role"], each["state"]) for each in listed] == [("anna", "analyst", "active")]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", listed[0]["last_used"])
        assert "anna" in fdrtd("token", "list", where).out
        fdrtd("token", "create", "--name=anna", "--role=owner", where).says("(TOKEN_NAME_TAKEN)", status=REFUSED)
        fdrtd("token", "create", "--name=a b", "--role=owner", where).says("(TOKEN_NAME_UNUSABLE)", status=REFUSED)
        fdrtd("token", "revoke", "ben", where).says("(TOKEN_UNKNOWN)", status=REFUSED)
        assert fdrtd("token", "revoke", "anna", where).out == "revoked anna\n"
        assert refusal(ask(node, token=anna)) == (401, "CREDENTIALS_REFUSED")
        assert refusal(ask(node)) == (401, "CREDENTIALS_MISSING"), "it does not become open again"
        node.restart()
        assert refusal(ask(node)) == (401, "CREDENTIALS_MISSING")
        assert refusal(ask(node, token=anna)) == (401, "CREDENTIALS_REFUSED")
        # An owner does it from elsewhere, an analyst does not.
        owner, ben = token(data, "boss", "owner"), token(data, "ben", "analyst")
        at = f"--node={node.url}"
        assert fdrtd("token", "list", at, FDRTD_TOKEN=owner, cwd=tmp_path).status == OK
        fdrtd("token", "list", at, FDRTD_TOKEN=ben, cwd=tmp_path).says("(ROLE_REFUSED)", status=REFUSED)
        file = tmp_path / "boss.token"
        file.write_text(owner + "\n")
        assert fdrtd("token", "revoke", "ben", at, f"--token-file={file}", cwd=tmp_path).status == OK
        assert node.stop() == 0
        logged = node.logged()
        # The directory of a node that does not run.
        states = {each["name"]: each["state"] for each in fdrtd("token", "list", where, "--json").json()["tokens"]}
        assert states == {"anna": "revoked", "ben": "revoked", "boss": "active"}
        for secret in (anna, owner, ben):
            assert secret[6:] not in logged
            for stored in data.iterdir():
                assert secret[6:].encode() not in stored.read_bytes()


def test_what_cannot_be_a_token(tmp_path: Path) -> None:
    for expires in ("yesterday", "2001-01-01", "0d"):
        refused = fdrtd("token", "create", "--name=a", "--role=owner", f"--expires={expires}", cwd=tmp_path)
        assert (refused.status, "--expires" in refused.err) == (USAGE, True)
    assert fdrtd("token", "create", "--name=a", "--role=admin", cwd=tmp_path).status == USAGE
    assert not (tmp_path / "fdrtd-data").exists()
    nobody = fdrtd("token", "list", "--node=http://127.0.0.1:9", FDRTD_TOKEN="x", cwd=tmp_path)
    nobody.says("(NODE_UNREACHABLE)", status=UNREACHABLE)
    fdrtd("token", "list", f"--token-file={tmp_path}/none", "--node=http://127.0.0.1:9").says(
        "(TOKEN_FILE_UNUSABLE)", status=USAGE
    )


def test_the_end_of_a_token_ends_what_waits(tmp_path: Path) -> None:
    data = tmp_path / "node0" / "data"
    anna, ben = token(data, "anna", "analyst"), token(data, "ben", "viewer")
    with nodes(tmp_path, 1) as (node,):
        api = client.Api(client.HttpInterface(node.url, token=anna))
        other = "http://127.0.0.1:9/public2"
        task = api.select_microservice(protocol="Simon").create(
            microprotocol="SecureSum", network={"nodes": [node.url, other], "myself": 0}
        )
        identifier = task.invite()["task"]
        ended: dict[str, Any] = {}
        begun = threading.Semaphore(0)

        def follow() -> None:
            connection_open = ask_stream(node, f"/tasks/{identifier}/events", ben)
            connection_open.readline()
            begun.release()
            ended["events"] = connection_open.read()

        def wait() -> None:
            begun.release()
            try:
                ended["result"] = task.result(timeout=60)
            except client.Error as error:
                ended["result"] = error

        waiters = [threading.Thread(target=follow), threading.Thread(target=wait)]
        for waiter in waiters:
            waiter.start()
        for _ in waiters:
            begun.acquire()
        for name in ("anna", "ben"):
            assert fdrtd("token", "revoke", name, f"--data-dir={data}").status == OK
        for waiter in waiters:
            waiter.join(timeout=30)
            assert not waiter.is_alive()
        assert getattr(ended["result"], "code", None) == "CREDENTIALS_REFUSED", ended


def ask_stream(node: Node, path: str, credentials: str) -> Any:
    import urllib.request

    request = urllib.request.Request(node.url.rstrip("/") + path, headers={"Authorization": f"Bearer {credentials}"})
    return urllib.request.urlopen(request, timeout=60)


def test_beyond_this_machine_somebody_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)did not start.*fdrtd token create.*--anonymous yes"):
        Node(tmp_path / "a", 0, listen="0.0.0.0:0")
    made = token(tmp_path / "b" / "data", "anna", "analyst")
    started = [
        Node(tmp_path / "b", 0, listen="0.0.0.0:0"),
        Node(tmp_path / "c", 0, "--anonymous=yes", listen="0.0.0.0:0"),
        Node(tmp_path / "d", 0, "--anonymous=no"),
        Node(tmp_path / "e", 0, "--public-url=https://node.example/x"),
    ]
    try:
        for node in started:
            node.url = node.url.replace("0.0.0.0", "127.0.0.1")
        assert refusal(ask(started[0])) == (401, "CREDENTIALS_MISSING")
        assert ask(started[0], token=made)[0] == 200
        assert ask(started[1])[0] == 200
        assert "whoever reaches" in started[1].logged()
        assert refusal(ask(started[2])) == (401, "CREDENTIALS_MISSING")
        assert ask(started[3])[0] == 200
        assert "admits callers without credentials" in started[3].logged()
        # Who means to be somebody does not become nobody.
        assert refusal(ask(started[1], token="wrong")) == (401, "CREDENTIALS_REFUSED")
    finally:
        for node in started:
            node.kill()


def test_who_asks_too_often_is_told_to_wait(tmp_path: Path) -> None:
    config = tmp_path / "fdrtd.toml"
    config.write_text("[access]\nrequests_per_second = 0.01\nburst = 5\nfailures_per_minute = 2\n")
    data = tmp_path / "node0" / "data"
    anna = token(data, "anna", "analyst")
    with nodes(tmp_path, 1, f"--config={config}") as (node,):
        codes = [refusal(ask(node, token="wrong"))[1] for _ in range(3)]
        assert codes == ["CREDENTIALS_REFUSED"] * 2 + ["RATE_LIMITED"]
        assert ask(node, token=anna)[0] == 200, "good credentials are not locked out"
        assert ask(node, token=anna)[0] == 200
        status, headers, body = ask(node, token=anna)
        assert (status, json.loads(body)["code"]) == (429, "RATE_LIMITED")
        assert 1 <= int(headers["retry-after"]) <= 100
        # Others on the machine are at the same address; those who look whether it lives are not counted.
        assert refusal(ask(node, page="/identity"))[0] == 429
        for _ in range(10):
            assert ask(node, page="/healthz")[0] == 200


def test_the_python_client_says_who_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for index in range(3):
        data = tmp_path / f"node{index}" / "data"
        made.append(token(data, "anna", "analyst"))
    with nodes(tmp_path) as started:
        urls = [node.url for node in started]
        with pytest.raises(client.Error) as refused:
            client.Api(client.HttpInterface(urls[0])).list_microservices()
        assert refused.value.code == "CREDENTIALS_MISSING"
        results: dict[int, Any] = {}

        def compute(index: int) -> None:
            results[index] = client.compute(
                "SecureSum", index, {"nodes": urls, "myself": index}, token=made[index], timeout=60
            )

        threads = [threading.Thread(target=compute, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {index: result["result"]["sum"] for index, result in results.items()} == {0: 3, 1: 3, 2: 3}
        monkeypatch.setenv("FDRTD_TOKEN", made[0])
        assert client.Api(client.HttpInterface(urls[0])).list_microservices()
        # The command line, and what the operator's token shows.
        listed = fdrtd("task", "ls", f"--node={urls[0]}", "--json", FDRTD_TOKEN=made[0], cwd=tmp_path)
        assert len(listed.json()["tasks"]) == 1
        listed = fdrtd("task", "ls", f"--node={urls[1]}", f"--data-dir={data_of(started[1])}", "--json")
        assert len(listed.json()["tasks"]) == 1
        # Who did it is in the audit.
        noted = json.loads(ask(started[0], page="/audit", token=operator(started[0]))[2])["entries"]
        done = [entry["action"] for entry in noted if entry["who"] == "token:anna"]
        assert {"task.create", "task.join"} & set(done), noted
        assert "task.input" in done
