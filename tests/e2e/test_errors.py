"""What a first-time user trips over, through the real client: the whole text of each error, and on whose side it is."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import fdrtd
import pytest
import urllib3
from certificates import Authority
from harness import BINARY, DURATIONS, Node, make_task, until, urls_of

TO_JOIN = (
    "; to join takes the invitation: hand over task.invite()['link'], and the others call join(invitation='fdrtd:…')"
)
LOOPBACK = (
    "127.0.0.1 is this machine only: if the peer runs on another one, write the address under which the others reach it"
)


def simon_of(node: Node) -> Any:
    return node.api().select_microservice(protocol="Simon")


def create(node: Node, urls: list[str], **more: Any) -> Any:
    arguments = {"microprotocol": "SecureSum", "network": {"nodes": urls, "myself": 0}, "durations": DURATIONS, **more}
    return simon_of(node).create(**arguments)


def error_of(call: Callable[[], Any]) -> fdrtd.Error:
    with pytest.raises(fdrtd.Error) as caught:
        call()
    error = caught.value
    for part in (error.message, error.hint, error.code):
        assert part
        assert part in str(error)
    return error


def check(
    call: Callable[[], Any], kind: type[fdrtd.Error], code: str, side: str, message: str, hint: str
) -> fdrtd.Error:
    """The whole text of an error of a node."""
    error = error_of(call)
    assert type(error) is kind
    assert (error.message, error.hint, error.code, error.side) == (message, hint, code, side)
    return error


def place(node: Node) -> str:
    """What a node calls itself when it is asked for what it does not have."""
    return f"(this is the node {node.fingerprint} at {node.url.removeprefix('http://')})"


@contextmanager
def running(*started: Node) -> Iterator[None]:
    try:
        yield
    finally:
        for node in started:
            node.kill()


@contextmanager
def server(pages: dict[str, tuple[int, str]]) -> Iterator[str]:
    """A server that is no node: status and text by path, 404 for all others."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, text = pages.get(self.path, (404, ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/node"
        finally:
            serving.shutdown()
            thread.join()


# --- Calls ------------------------------------------------------------------------------------------------------------


def test_unknown_microprotocol(shared: list[Node]) -> None:
    for name, near in (("SecureSun", "SecureSum"), ("basicsum", "BasicSum"), ("SecureSumm", "SecureSum")):
        check(
            lambda name=name: create(shared[0], urls_of(shared), microprotocol=name),  # type: ignore[misc]
            fdrtd.InputError,
            "MICROPROTOCOL_UNKNOWN",
            "call",
            f'there is no microprotocol "{name}"',
            f"did you mean {near}? This node has: SecureSum, BasicSum, MinimumMaximum, BasicMinMax, KthElement, "
            "SecureMedian, Quantiles, Histogram, Benchmark, StatisticsUnivariate, StatisticsBivariate, "
            "CorrelationMatrix, TTest, AnovaOneWay, Table1, StatisticsFrequency, StatisticsContingency",
        )


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        (
            {"microprotocol": 5},
            'the parameter "microprotocol" must be a string, found a number',
            'for example microprotocol="SecureSum"',
        ),
        (
            {"network": ["https://a.example"]},
            'the parameter "network" must be an object, found a list',
            'for example network={"nodes": ["https://a.example", "https://b.example"], "myself": 0}',
        ),
        (
            {"durations": 60},
            'the parameter "durations" must be an object, found a number',
            'for example durations={"join": 3600, "input": 3600}',
        ),
    ],
)
def test_wrong_type(shared: list[Node], given: dict[str, Any], message: str, hint: str) -> None:
    check(lambda: create(shared[0], urls_of(shared), **given), fdrtd.InputError, "WRONG_TYPE", "call", message, hint)


def test_input_of_the_wrong_type(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    check(
        lambda: task.input(data="ten"),
        fdrtd.InputError,
        "INPUT_REFUSED",
        "call",
        "the input is text where a number is expected",
        "give numbers such as 31 or -0.5 and leave missing values out",
    )
    task.delete()


def test_positional_argument(shared: list[Node]) -> None:
    """Refused by the client itself, which says how to write it."""
    storage = shared[0].api().select_microservice(microservice="KeyValueStorage")
    error = error_of(lambda: storage.create(10))
    assert type(error) is fdrtd.CallError
    assert str(error) == (
        "create() was given an argument without a name — your call — write create(value=10) (ARGUMENTS_BY_NAME)"
    )


# --- Handles ----------------------------------------------------------------------------------------------------------


def test_handle_of_another_node(shared: list[Node]) -> None:
    value = shared[0].api().select_microservice(microservice="KeyValueStorage").create(value=10)
    check(
        lambda: shared[1].api().call_microservice(fdrtd.to_dict(value), "retrieve"),
        fdrtd.NotFound,
        "HANDLE_UNKNOWN",
        "call",
        "microservice not available: this node has no service with this handle",
        f"select the service with this node's api: a handle of another node is not known here {place(shared[1])}",
    )


def test_deleted_object(shared: list[Node]) -> None:
    value = shared[0].api().select_microservice(microservice="KeyValueStorage").create(value=10)
    task = create(shared[0], urls_of(shared))
    hint = "it may be deleted, expired or another node's: use the api that made it, or call create to make a new one"
    for thing, call, service in ((value, value.retrieve, "KeyValueStorage"), (task, task.progress, "Simon")):
        thing.delete()
        check(
            call,
            fdrtd.NotFound,
            "OBJECT_UNKNOWN",
            "call",
            f"{service} has no such object",
            f"{hint} {place(shared[0])}",
        )


def test_expired_object_names_the_public_url(tmp_path: Path) -> None:
    node = Node(tmp_path, 0, "--ephemeral", "--public-url=https://node.example/public1")
    with running(node):
        gone = node.api().select_microservice(microservice="KeyValueStorage").create(value=1)
        gone.delete()
        error = error_of(gone.retrieve)
        assert str(error.hint).endswith(f"(this is the node {node.fingerprint} at https://node.example/public1)")


# --- Tasks ------------------------------------------------------------------------------------------------------------


def test_not_joined_yet(shared: list[Node]) -> None:
    urls = urls_of(shared)
    task = create(shared[0], urls)
    until(lambda: all(party["connected"] for party in task.progress()["parties"]), "they are connected")
    error = error_of(lambda: task.result(timeout=0))
    assert isinstance(error, fdrtd.NotReady)
    waiting = (
        f"party 1 at {urls[1]} has not joined yet; party 2 at {urls[2]} has not joined yet; to join takes the "
        "invitation: "
        "hand over task.invite()['link'], and the others call join(invitation='fdrtd:…')"
    )
    assert error.waiting == waiting
    assert str(error) == (
        f"no result after 0 s: {waiting} — the task — the task goes on: call result() again (NOT_READY)"
    )
    task.delete()


def test_already_started_and_finished(shared: list[Node]) -> None:
    tasks = make_task(shared)
    tasks[0].input(data=10)
    check(
        lambda: tasks[0].input(data=5),
        fdrtd.WrongState,
        "ALREADY_STARTED",
        "task",
        "the task has its input already and has started",
        "give all numbers at once, as a list: input(data=[1, 2, 3]); or make the task with create_task and start "
        "it with start(); "
        "for other numbers create a new task",
    )
    for task in tasks[1:]:
        task.input(data=1)
    assert tasks[0].result()["result"]["sum"] == 12
    check(
        lambda: tasks[0].input(data=5),
        fdrtd.WrongState,
        "TASK_FINISHED",
        "task",
        "the task has ended and has its result",
        "result() gives it; create a new task for new data",
    )


def test_failed(shared: list[Node]) -> None:
    # Of more than two, a third might pass the reason on.
    tasks = make_task(shared[:2])
    tasks[1].cancel()
    error = check(
        lambda: tasks[0].result(timeout=60),
        fdrtd.TaskFailed,
        "TASK_FAILED",
        "task",
        "the task has no result: party 1 cancelled the task",
        "ask that party, and create a new task",
    )
    assert error.extra["cause"]["node"] == shared[1].url


def test_versions_differ(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    check(
        lambda: simon_of(shared[1]).join(invitation={**task.invite(), "fdrtd": 5}),
        fdrtd.InputError,
        "VERSIONS_DIFFER",
        "call",
        "the invitation is of version 5 of the protocol between nodes, this node speaks 4",
        "run the same version of fdrtd at all parties",
    )
    task.delete()
    with server({"/node/identity": (200, '{"protocol": 2}')}) as url:
        check(
            lambda: create(shared[0], [shared[0].url, url]),
            fdrtd.WrongState,
            "PEER_VERSION",
            "peer",
            f"nodes[1] ({url}): the peer does not speak version 1 of the protocol between nodes",
            "update the older of the two nodes",
        )


def test_lists_differ(shared: list[Node]) -> None:
    urls = urls_of(shared)
    task = create(shared[0], urls)
    for given, code, message, hint in (
        (
            urls[:2],
            "NODES_DIFFER",
            f"the lists of nodes differ: nodes[2] is {urls[2]} in the invitation and nothing here",
            "use exactly the inviting party's list of nodes; only 'myself' differs",
        ),
        (
            [urls[0], urls[2], urls[1]],
            "NODES_ORDER_DIFFERS",
            f"the orders of the nodes differ: nodes[1] is {urls[1]} in the invitation and {urls[2]} here",
            "use the same list in the same order at every party; only 'myself' differs",
        ),
    ):
        network = {"nodes": given, "myself": given.index(urls[1])}
        check(
            lambda network=network: simon_of(shared[1]).join(invitation=task.invite(), network=network),  # type: ignore[misc]
            fdrtd.InputError,
            code,
            "call",
            message,
            hint,
        )
    task.delete()


# --- Policy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "parties"), [("standard", 3), ("strict", 4)])
def test_below_a_threshold(tmp_path: Path, shared: list[Node], policy: str, parties: int) -> None:
    command = [str(BINARY), "serve", "--listen={listen}", "--base-path=/public1", "--ephemeral", f"--policy={policy}"]
    config = tmp_path / "node.toml"
    config.write_text("[rules]\nmin_samples_own = 1\n")
    command.append(f"--config={config}")
    node = Node(tmp_path, 0, command=command)
    with running(node):
        others = [*urls_of(shared), *(f"http://127.0.0.1:9/{index}" for index in range(3))]
        few = [node.url, *others][: parties - 1]
        check(
            lambda: create(node, few),
            fdrtd.Forbidden,
            "POLICY_TOO_FEW_PARTIES",
            "policy",
            f"this node's policy '{policy}' wants at least {parties} parties, the network has {parties - 1}",
            "take more parties; or ask this node's operator, who alone can change its policy (policy in its "
            "configuration, or "
            "--policy)",
        )
        # Whether there are enough samples in all is compared inside the computation.
        create(node, [node.url, *others][:parties]).delete()


# --- The way to the node ----------------------------------------------------------------------------------------------


def test_a_certificate_that_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: list[Node]) -> None:
    for variable in ("FDRTD_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    authority = Authority(tmp_path)
    node = Node(tmp_path, 0, "--ephemeral", *authority.issue("node").flags)
    with running(node):
        error = error_of(node.api().list_microservices)
        assert type(error) is fdrtd.ConnectionFailed
        assert str(error) == (
            f"the TLS certificate of {node.listen} was not accepted: it is not signed by a known authority "
            "(the system's certificates) — the way to your node — name the authority's PEM file in "
            "HttpInterface(ca_file=…) or in the variable FDRTD_CA_FILE (TLS_FAILED)"
        )
        monkeypatch.setenv("FDRTD_CA_FILE", str(authority.file))
        assert node.api().list_microservices()
        # The same from node to node.
        assert why(shared[0], node.url) == (
            "no secure connection to the peer (TLS): its certificate is not signed by an authority that this node "
            "trusts; name the authority's PEM file in peer_ca_file of this node's configuration (or "
            "FDRTD_PEER_CA_FILE), if you trust it"
        )


# --- Peers: which layer -----------------------------------------------------------------------------------------------


def test_loopback_among_other_machines(shared: list[Node]) -> None:
    url = shared[0].url
    for urls, index in (([url, "https://b.example/node"], 0), (["https://b.example/node", url, "http://[::1]:1"], 1)):
        error = check(
            lambda urls=urls: create(shared[0], urls),  # type: ignore[misc]
            fdrtd.InputError,
            "NODE_URL_LOOPBACK",
            "call",
            f"nodes[{index}] is {url}, which on every machine means that machine itself, but other nodes of the "
            "list are on other "
            "machines",
            "write the address under which the others reach it, for example http://192.168.1.5:55500/public1",
        )
        assert error.party == index


def test_the_prefix_is_wrong(shared: list[Node]) -> None:
    url = shared[1].url.replace("public2", "public7")
    check(
        lambda: create(shared[0], [shared[0].url, url]),
        fdrtd.WrongState,
        "PEER_NOT_A_NODE",
        "peer",
        f"nodes[1] ({url}): no node is under this path of the peer's server (prefix): HTTP status 404",
        "check the path of the URL: it must be the base URL of the node, for example https://host/public1",
    )


def why(node: Node, url: str, own: str | None = None) -> str:
    """What `result` tells about a peer that cannot be reached."""
    task = create(node, [own or node.url, url])
    quiet = (None, "looking for its node", "not connected")
    until(lambda: task.progress()["parties"][1]["problem"] not in quiet, "it has found out")
    with pytest.raises(fdrtd.NotReady) as caught:
        task.result(timeout=0)
    text = str(caught.value.waiting)
    problem = task.progress()["parties"][1]["problem"]
    assert text == f"party 1 at {url} has not joined yet ({problem}){TO_JOIN}"
    task.delete()
    return str(problem)


def test_the_name_does_not_resolve(tmp_path: Path) -> None:
    own = "https://node.example/public1"
    node = Node(tmp_path, 0, "--ephemeral", f"--public-url={own}")
    with running(node):
        # Where there is no name server at all, it does not even say no.
        assert why(node, "https://nowhere.invalid/public2", own) in (
            "the host name of the peer cannot be resolved (DNS): nowhere.invalid; check the spelling of the host "
            "name and the name server",
            "the peer did not answer in time: the look-up of the host name (DNS); check that the peer runs and "
            "that no firewall "
            "drops the packets",
        )


def test_the_port_is_closed(shared: list[Node]) -> None:
    assert why(shared[0], "http://127.0.0.1:9/public2") == (
        "the peer cannot be reached (TCP): connection refused; check that the peer runs, and the port and the "
        "firewalls in "
        f"between; {LOOPBACK}"
    )


def test_it_does_not_speak_tls(shared: list[Node]) -> None:
    assert why(shared[0], shared[1].url.replace("http:", "https:")) == (
        "no secure connection to the peer (TLS): it does not speak TLS on this port; if the peer serves plain "
        "HTTP there, write "
        "http:// in its URL"
    )


def test_the_proxy_before_it_finds_no_node(shared: list[Node]) -> None:
    with server({"/node/identity": (502, "")}) as url:
        assert why(shared[0], url) == (
            "the peer's server or the proxy before it failed (HTTP): HTTP status 502; the reverse proxy before the "
            "peer cannot reach it: check that the node behind it runs"
        )


@pytest.mark.parametrize("status", [400, 426])
def test_the_proxy_before_it_knows_no_websockets(tmp_path: Path, shared: list[Node], status: int) -> None:
    behind = Node(tmp_path, 1, "--ephemeral")
    with running(behind):
        identity = urllib3.request("GET", f"{behind.url}/identity").data.decode()
    with server({"/node/identity": (200, identity), "/node/peer": (status, "")}) as url:
        assert why(shared[0], url) == (
            f"the peer's server opens no WebSocket between nodes (HTTP status {status} at /peer); the proxy in front "
            "of the peer must pass WebSocket upgrades on (the headers Upgrade and Connection, at {base}/peer)"
        )
