"""`fdrtd doctor` and `POST {base}/probe`: what is wrong is told by its layer, from here and from node to node."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from access import data_of, token
from certificates import Authority, Pair
from cli import FAILED, OK, USAGE, fdrtd
from fronts import front
from harness import Node, nodes, urls_of


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def prober(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that trusts the authority."""
    with nodes(tmp_path_factory.mktemp("prober"), 1, f"--peer-ca-file={authority.file}") as (node,):
        yield node


@pytest.fixture(scope="module")
def secure(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that speaks TLS."""
    with nodes(tmp_path_factory.mktemp("secure"), 1, *authority.issue("secure").flags) as (node,):
        yield node


def ways(*arguments: str | Path, status: int) -> list[dict[str, Any]]:
    ended = fdrtd("doctor", "--json", *arguments)
    assert ended.status == status, ended.err or ended.out
    told = ended.json()
    assert told["ok"] == (status == OK)
    found: list[dict[str, Any]] = told["ways"]
    return found


def both(prober: Node, authority: Authority, url: str) -> list[dict[str, Any]]:
    """What is wrong with the way to `url`, from here and from the node."""
    found = ways(prober.url, url, f"--ca-file={authority.file}", status=FAILED)
    wrong = [way["error"] for way in found if way["to"].rstrip("/") == url.split("#")[0].rstrip("/")]
    assert [way["ok"] for way in found if way["to"] == prober.url][0]
    assert len(wrong) == 2, found
    for error in wrong:
        assert error["hint"]
    return wrong


def layers(wrong: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(error["layer"], error["code"]) for error in wrong}


def test_all_is_well(shared: list[Node]) -> None:
    ended = fdrtd("doctor", *urls_of(shared))
    assert ended.status == OK, ended.err
    lines = ended.out.splitlines()
    assert len(lines) == 9 + 5 + 2
    assert lines[10] == "Keys in digits, to compare by telephone:"
    for node, line in zip(shared, lines[11:14], strict=True):
        own = fdrtd("identity", "--json", f"--data-dir={node.directory / 'data'}").json()
        assert line == f"{node.url}  {own['spoken']}"
    assert lines[-1] == "All is well."
    for index, node in enumerate(shared):
        assert lines[index].startswith(f"here → {node.url}  ok  ")
        assert lines[index].endswith(f" ms  key {node.fingerprint}")
    pairs = {tuple(line.split("  ")[0].split(" → ")) for line in lines[3:9]}
    assert pairs == {(a.url, b.url) for a in shared for b in shared if a is not b}


def test_steps_and_keys_as_json(secure: Node, prober: Node, authority: Authority) -> None:
    found = ways(prober.url, secure.url, f"--ca-file={authority.file}", status=OK)
    assert [(way["from"], way["to"]) for way in found] == [
        (None, prober.url),
        (None, secure.url),
        (prober.url, secure.url),
        (secure.url, prober.url),
    ]
    for way in found:
        assert way["ok"], way
        assert way["round_trip_ms"] > 0
        assert way["fingerprint"] == way["key"][:4] + "-" + "-".join(way["key"][at : at + 4] for at in (4, 8, 12))
    assert [step["layer"] for step in found[1]["steps"]] == ["DNS", "TCP", "TLS", "prefix", "WebSocket", "handshake"]
    assert [step["layer"] for step in found[0]["steps"]] == ["DNS", "TCP", "prefix", "WebSocket", "handshake"]


def test_a_name_that_does_not_resolve(prober: Node, authority: Authority) -> None:
    wrong = both(prober, authority, "https://nobody.invalid/public1")
    assert layers(wrong) == {("DNS", "PEER_UNREACHABLE")}
    assert "nobody.invalid" in wrong[0]["message"]


def test_a_closed_port(prober: Node, authority: Authority) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        wrong = both(prober, authority, f"http://127.0.0.1:{closed.getsockname()[1]}/public1")
    assert layers(wrong) == {("TCP", "PEER_UNREACHABLE")}


def test_one_line_a_pair_with_the_remedy(shared: list[Node]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/public1"
        told = fdrtd("doctor", shared[0].url, url)
    assert told.status == FAILED
    lines = told.out.splitlines()
    for start in ("here", shared[0].url):
        (line,) = [line for line in lines if line.startswith(f"{start} → {url}  FAIL TCP: ")]
        assert "connection refused" in line
        assert " — check that the peer runs, and the port and the firewalls" in line
        assert line.endswith("(PEER_UNREACHABLE)")


def test_a_wrong_prefix(prober: Node, shared: list[Node], authority: Authority) -> None:
    wrong = both(prober, authority, shared[0].url.replace("/public1", "/public7"))
    assert layers(wrong) == {("prefix", "PEER_NOT_A_NODE")}
    assert "404" in wrong[0]["message"]
    assert "base URL" in wrong[0]["hint"]
    with front() as nothing:
        assert layers(both(prober, authority, nothing.url)) == {("prefix", "PEER_NOT_A_NODE")}
    with front(answers={"/identity": (200, b"<html>")}) as page:
        assert layers(both(prober, authority, page.url)) == {("prefix", "PEER_NOT_A_NODE")}
    with front(answers={"/identity": (502, b"")}) as broken:
        assert layers(both(prober, authority, broken.url)) == {("HTTP", "PEER_UNREACHABLE")}


def test_https_to_a_port_that_speaks_http(prober: Node, shared: list[Node], authority: Authority) -> None:
    wrong = both(prober, authority, shared[1].url.replace("http:", "https:"))
    assert layers(wrong) == {("TLS", "PEER_UNREACHABLE")}
    assert "write http://" in wrong[0]["hint"]


def test_http_to_a_port_that_speaks_tls(prober: Node, secure: Node, authority: Authority) -> None:
    with front(pair=authority.issue("plain")) as server:
        for url in (server.url, secure.url):
            wrong = both(prober, authority, url.replace("https:", "http:"))
            assert layers(wrong) == {("TLS", "PEER_UNREACHABLE")}
            for error in wrong:
                assert "write https://" in error["hint"]


def test_certificates(prober: Node, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    itself = Pair(stranger.file, stranger.key_file, 0, authority.issue("any").end)
    for pair, what in [
        (authority.issue("expired", end=-0.5), "has expired"),
        (authority.issue("early", begin=1), "not valid yet"),
        (authority.issue("other", hosts=("node.example",)), "for another host"),
        (stranger.issue("unknown"), "not signed by an authority"),
        (itself, "self-signed"),
    ]:
        with front(pair=pair) as server:
            wrong = both(prober, authority, server.url)
        assert layers(wrong) == {("TLS", "PEER_UNREACHABLE")}, what
        for error in wrong:
            assert what in error["message"], error
    here = fdrtd("doctor", "https://127.0.0.1:1", f"--ca-file={tmp_path / 'none.pem'}")
    here.says("none.pem", "(CA_FILE_UNUSABLE)", status=USAGE)


def test_whose_file_of_authorities_to_change(secure: Node, shared: list[Node]) -> None:
    found = ways(shared[0].url, secure.url, status=FAILED)
    here, there = (way["error"]["hint"] for way in found if way["to"] == secure.url)
    assert "--ca-file" in here
    assert "peer_ca_file" in there


def test_a_proxy_without_websockets(prober: Node, shared: list[Node], authority: Authority) -> None:
    with front(shared[1].url) as proxy:
        wrong = both(prober, authority, proxy.url)
        assert layers(wrong) == {("WebSocket", "PEER_NO_WEBSOCKET")}
        assert "426" in wrong[0]["message"]
        for status in (200, 400, 404):
            proxy.answers = {"/peer": (status, b"")}
            assert layers(both(prober, authority, proxy.url)) == {("WebSocket", "PEER_NO_WEBSOCKET")}


def test_another_version(prober: Node, authority: Authority) -> None:
    with front(answers={"/identity": (200, b'{"protocol": 2, "software": "later"}')}) as later:
        assert layers(both(prober, authority, later.url)) == {("version", "PEER_VERSION")}


def test_a_wrong_key(shared: list[Node], tmp_path: Path) -> None:
    keys = [way["key"] for way in ways(*urls_of(shared), status=OK)[:3]]
    config = tmp_path / "pinning.toml"
    config.write_text(f'[[peers]]\nurl = "{shared[1].url}"\nkey = "{keys[2]}"\n')
    with nodes(tmp_path, 1, f"--config={config}") as (pinning,):
        found = ways(pinning.url, shared[1].url, status=FAILED)
        wrong = next(way["error"] for way in found if way["from"] == pinning.url)
        assert (wrong["layer"], wrong["code"]) == ("key", "PEER_KEY_CHANGED")
        assert shared[2].fingerprint in wrong["message"]
        assert shared[1].fingerprint in wrong["message"]
        assert [way["ok"] for way in found] == [True, True, False, True]
    # Named by the caller: in the URL, whole or as a fingerprint, or beside it, or by the link of an invitation.
    for good, bad in [(keys[1], keys[2]), (shared[1].fingerprint, shared[2].fingerprint)]:
        ways(f"{shared[1].url}#{good}", status=OK)
        ways(shared[1].url, f"--pinned={shared[1].url}={good}", status=OK)
        for arguments in (
            [shared[0].url, f"{shared[1].url}#{bad}"],
            [shared[0].url, shared[1].url, f"--pinned={shared[1].url}={bad}"],
        ):
            found = ways(*arguments, status=FAILED)
            wrong = [way["error"]["code"] for way in found if way["to"] == shared[1].url]
            assert wrong == ["PEER_KEY_CHANGED"] * 2
    fdrtd("doctor", shared[1].url, "--pinned=http://x=" + keys[0]).says("(PINNED_UNKNOWN)", status=USAGE)


def test_the_link_of_an_invitation(shared: list[Node]) -> None:
    key = ways(shared[0].url, status=OK)[0]["key"]
    other = ways(shared[1].url, status=OK)[0]["key"]
    ways(f"fdrtd:{shared[0].url}#{key}.{'a' * 52}", status=OK)
    wrong = ways(f"fdrtd:{shared[0].url}#{other}.{'a' * 52}", status=FAILED)[0]["error"]
    assert wrong["code"] == "PEER_KEY_CHANGED"
    assert fdrtd("doctor", f"fdrtd:{shared[0].url}").status == USAGE


def test_one_node_under_two_urls(shared: list[Node]) -> None:
    twice = shared[0].url.replace("127.0.0.1", "localhost")
    found = ways(shared[0].url, twice, status=FAILED)
    assert [way["error"] and way["error"]["code"] for way in found] == [None, None, "KEY_TWICE", "KEY_TWICE"]


def test_what_only_a_comparison_shows(shared: list[Node]) -> None:
    documents = {way["to"]: way["key"] for way in ways(*urls_of(shared), status=OK)[:3]}
    itself = {
        "ok": False,
        "key": documents[shared[0].url],
        "steps": [],
        "round_trip_ms": None,
        "error": {"layer": "key", "code": "PEER_IS_MYSELF", "message": "m", "hint": "h"},
    }
    # In another network, the node behind this front would find itself there, or a third one.
    with front(shared[0].url, {"/probe": (200, json.dumps(itself).encode())}) as elsewhere:
        found = fdrtd("doctor", elsewhere.url, shared[1].url)
        assert found.status == FAILED
        line = next(line for line in found.out.splitlines() if line.startswith(f"{elsewhere.url} → "))
        assert f"from {elsewhere.url}, this URL leads to {elsewhere.url} itself" in line
        assert "127.0.0.1 and localhost mean" in line
        third = {"ok": True, "key": documents[shared[2].url], "steps": [], "round_trip_ms": 1.0, "error": None}
        elsewhere.answers["/probe"] = (200, json.dumps(third).encode())
        wrong = ways(elsewhere.url, shared[1].url, status=FAILED)[2]["error"]
        assert wrong["code"] == "KEYS_DIFFER"
        assert shared[2].fingerprint in wrong["message"]


def test_nodes_that_cannot_be_asked(shared: list[Node]) -> None:
    with front(shared[0].url, {"/probe": (404, b'{"code": "PATH_UNKNOWN"}')}) as old:
        ended = fdrtd("doctor", old.url, shared[1].url)
        assert "not tested: that node is too old to be asked" in ended.out
        old.answers["/probe"] = (200, b'{"ok": true, "steps": "\x1b[2J"}')
        assert "not tested: its answer cannot be read" in fdrtd("doctor", old.url, shared[1].url).out
        nasty: dict[str, Any] = {"ok": False, "key": None, "steps": [], "round_trip_ms": None}
        nasty["error"] = {"layer": "\x1b[2J", "code": "X", "message": "\x1b]0;owned\x07", "hint": "h\nfake line"}
        old.answers["/probe"] = (200, json.dumps(nasty).encode())
        shown = fdrtd("doctor", old.url, shared[1].url)
        assert shown.status == FAILED
        assert "\x1b" not in shown.out
        assert "\nfake line" not in shown.out


def test_nodes_that_ask_for_a_token(tmp_path: Path) -> None:
    """A token goes to its own node and to no other; who refuses is said to, and all other ways are tested."""
    with nodes(tmp_path, 2) as (ours, other), front(other.url) as between:
        made = token(data_of(ours), "anna", "analyst")
        viewer = token(data_of(ours), "vera", "viewer")
        token(data_of(other), "ben", "analyst")
        both = (ours.url, other.url)
        nowhere = f"--data-dir={tmp_path / 'none'}"
        without = fdrtd("doctor", *both, nowhere)
        assert without.status == FAILED
        for url, to in (both, both[::-1]):
            assert f"{url} → {to}  not tested: that node asks for a token\n" in without.out
            assert f"- {url} (from {url}): if you have one, name the node and the token: --node {url} " in without.out
        assert without.out.count("  ok  ") == 2, without.out
        secret = tmp_path / "anna.token"
        secret.write_text(made)
        for ended in (
            fdrtd("doctor", *both, f"--node={ours.url}", f"--token-file={secret}", nowhere),
            fdrtd("doctor", *both, nowhere, FDRTD_NODE=ours.url, FDRTD_TOKEN=made),
            fdrtd("doctor", *both, f"--data-dir={data_of(ours)}"),
        ):
            assert ended.out.count("  ok  ") == 3, ended.out
            assert f"{ours.url} → {other.url}  ok  " in ended.out
            assert f"{other.url} → {ours.url}  not tested: that node asks for a token" in ended.out
            assert made not in ended.out + ended.err
        # Named for no node that is tested, it is sent to none; so is one for a node with another key than was named.
        lost = fdrtd("doctor", *both, nowhere, FDRTD_TOKEN=made)
        assert lost.out.count("asks for a token") == 2
        key = ways(*both, nowhere, status=FAILED)[1]["key"]
        wrong = fdrtd("doctor", f"{ours.url}#{key}", other.url, f"--node={ours.url}", f"--token-file={secret}", nowhere)
        assert f"{ours.url} → {other.url}  not tested: that node asks for a token" in wrong.out
        for given, said in ((viewer, "the token is a viewer's"), ("fdrtd_wrong", "does not take the token")):
            ended = fdrtd("doctor", *both, nowhere, FDRTD_NODE=ours.url, FDRTD_TOKEN=given)
            assert said in ended.out, ended.out
            assert ended.out.count("  ok  ") == 2
        # Another organisation's node is never told it.
        asked = fdrtd(
            "doctor", ours.url, between.url, f"--data-dir={data_of(ours)}", FDRTD_NODE=ours.url, FDRTD_TOKEN=made
        )
        assert f"{ours.url} → {between.url}  FAIL WebSocket: " in asked.out, asked.out
        assert f"{between.url} → {ours.url}  not tested: that node asks for a token" in asked.out
        assert between.asked
        assert not any("authorization" in headers for headers in between.asked)
        # It sees what it is given, and what is given to it alone.
        fdrtd("doctor", ours.url, between.url, nowhere, FDRTD_NODE=between.url, FDRTD_TOKEN=made)
        assert sum("authorization" in headers for headers in between.asked) == 1


# --- The page of the node ---------------------------------------------------------------------------------------------


def probe(node: Node, body: object, **headers: str) -> tuple[int, dict[str, Any]]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | headers
    answer = urllib3.request("POST", f"{node.url}/probe", body=text, headers=sent, retries=False)
    return answer.status, answer.json()


def test_a_probe_follows_the_rules_for_peers(shared: list[Node], tmp_path: Path) -> None:
    for url in ("http://192.0.2.1:55500/public1", "http://node.example"):
        status, found = probe(shared[0], {"url": url})
        assert (status, found["ok"], found["steps"]) == (200, False, [])
        assert (found["error"]["layer"], found["error"]["code"]) == ("policy", "PEER_URL_REFUSED")
    with nodes(tmp_path, 1, "--trust=pinned") as (strict,):
        _, found = probe(strict, {"url": shared[0].url})
        assert found["error"]["code"] == "PEER_NOT_PINNED"
        assert found["steps"] == []


def test_a_probe_remembers_nothing(shared: list[Node], tmp_path: Path) -> None:
    with nodes(tmp_path, 1) as (node,), front(shared[0].url) as changing:
        _, found = probe(node, {"url": changing.url})
        assert found["key"][:4] == shared[0].fingerprint[:4]
        changing.target = shared[1].url
        identity = urllib3.request("GET", f"{shared[1].url}/identity").data
        changing.answers["/identity"] = (200, identity)
        _, found = probe(node, {"url": changing.url})
        assert found["error"]["layer"] == "WebSocket"
        assert found["key"][:4] == shared[1].fingerprint[:4]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "BODY_EMPTY"),
        (b"{", 400, "JSON_INVALID"),
        (b"[]", 400, "CALL_INVALID"),
        ({}, 400, "CALL_INVALID"),
        ({"url": 5}, 400, "CALL_INVALID"),
        ({"url": "ftp://x"}, 422, "NODE_URL_UNUSABLE"),
        ({"url": "http://127.0.0.1:1", "key": "short"}, 400, "CALL_INVALID"),
        ({"url": "http://127.0.0.1:1", "key": 5}, 400, "CALL_INVALID"),
        ({"url": "x" * 5000}, 413, "BODY_TOO_LARGE"),
    ],
)
def test_unusable_probes(shared: list[Node], body: object, status: int, code: str) -> None:
    found, problem = probe(shared[0], body)
    assert (found, problem["code"]) == (status, code)


def test_probes_are_for_clients_not_for_pages(shared: list[Node]) -> None:
    status, problem = probe(shared[0], {"url": shared[1].url}, Origin="https://evil.example")
    assert (status, problem["code"]) == (403, "ORIGIN_REFUSED")
    for method, expected in (("GET", 405), ("OPTIONS", 200)):
        answer = urllib3.request(method, f"{shared[0].url}/probe", retries=False)
        assert answer.status == expected
        assert answer.headers["Allow"] == "POST, OPTIONS"


def test_only_some_probes_at_once(shared: list[Node]) -> None:
    """Servers that never answer hold the places; the next one is told to wait."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        address = silent.getsockname()
        body = json.dumps({"url": f"http://127.0.0.1:{address[1]}"}).encode()
        request = (
            f"POST {shared[2].base_path}/probe HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        host, port = shared[2].listen.split(":")
        asking = [socket.create_connection((host, int(port))) for _ in range(4)]
        held = []
        for one in asking:
            one.sendall(request)
            # The node has begun when it knocks here.
            held.append(silent.accept()[0])
        status, problem = probe(shared[2], {"url": shared[1].url})
        assert (status, problem["code"]) == (503, "PROBES_BUSY")
        for one in (*asking, *held):
            one.close()
