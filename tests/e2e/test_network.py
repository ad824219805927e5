"""Networks and invitations: every mistake has an error of its own, and nobody waits without being told for whom."""

from __future__ import annotations

import copy
import http.server
import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import fdrtd
import pytest
import urllib3
from harness import BINARY, DURATIONS, Node, all_joined, cause_of, has_input, make_task, nodes, until, urls_of

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}
VALUES = (10, 7, 14)


def simon_of(node: Node) -> fdrtd.Handle:
    return node.api().select_microservice(protocol="Simon")


def network(urls: Any, myself: Any) -> dict[str, Any]:
    return {"nodes": urls, "myself": myself}


def refusal(call: Callable[[], Any], status: int, code: str, *words: str) -> fdrtd.Error:
    """The error of a call: status, code, and words of its message or hint."""
    with pytest.raises(fdrtd.Error) as caught:
        call()
    error = caught.value
    assert (error.status, error.code) == (status, code), str(error)
    assert error.hint
    for word in words:
        assert word in str(error)
    return error


def create(node: Node, urls: Any, myself: Any = 0, **more: Any) -> fdrtd.Handle:
    arguments = {"microprotocol": "SecureSum", "network": network(urls, myself), "durations": DURATIONS, **more}
    task = simon_of(node).create(**arguments)
    assert isinstance(task, fdrtd.Handle)
    return task


def join(node: Node, invitation: Any, urls: Any, myself: Any) -> fdrtd.Handle:
    task = simon_of(node).join(invitation=invitation, network=network(urls, myself))
    assert isinstance(task, fdrtd.Handle)
    return task


def page(node: Node, name: str) -> Any:
    return urllib3.request("GET", f"{node.url}/{name}").json()


def other_spelling(url: str) -> str:
    """The same node under another URL."""
    return url.replace("127.0.0.1", "localhost")


@contextmanager
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def running(*started: Node) -> Iterator[None]:
    try:
        yield
    finally:
        for node in started:
            node.kill()


@pytest.fixture
def no_new_task(shared: list[Node]) -> Iterator[None]:
    """What is refused leaves nothing behind."""
    before = [len(page(node, "tasks")["tasks"]) for node in shared]
    yield
    assert [len(page(node, "tasks")["tasks"]) for node in shared] == before


# --- The list of nodes and `myself` -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_new_task")
@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ([], "WRONG_TYPE", ["network", "an object", "a list"]),
        ({}, "NETWORK_MALFORMED", ["network needs 'nodes', a list of URLs"]),
        ({"nodes": "NODE0", "myself": 0}, "NETWORK_MALFORMED", ["a list of URLs"]),
        ({"nodes": ["NODE0", 5], "myself": 0}, "NETWORK_MALFORMED", ["nodes[1] is not a text"]),
        ({"nodes": ["NODE0", None], "myself": 0}, "NETWORK_MALFORMED", ["nodes[1] is not a text"]),
        ({"nodes": ["NODE0", "NODE1"]}, "NETWORK_MALFORMED", ["network needs 'myself'"]),
        ({"nodes": ["NODE0", "NODE1"], "myslef": 0}, "NETWORK_MALFORMED", ['no member "myslef"']),
        ({"nodes": [], "myself": 0}, "NETWORK_SIZE", ["has 0 nodes", "2 to 64"]),
        ({"nodes": ["NODE0"], "myself": 0}, "NETWORK_SIZE", ["has 1 nodes", "2 to 64"]),
        ({"nodes": ["NODE0"] * 65, "myself": 0}, "NETWORK_SIZE", ["has 65 nodes", "2 to 64"]),
        ({"nodes": ["NODE0", "NODE1"], "myself": 2}, "MYSELF_OUT_OF_RANGE", ["'myself' is 2", "0 to 1", "from 0"]),
        ({"nodes": ["NODE0", "NODE1"], "myself": -1}, "MYSELF_OUT_OF_RANGE", ["'myself' is -1", "0 to 1"]),
        ({"nodes": ["NODE0", "NODE1"], "myself": 2**63}, "MYSELF_OUT_OF_RANGE", ["0 to 1"]),
        ({"nodes": ["NODE0", "NODE1"], "myself": "0"}, "NETWORK_MALFORMED", ["'myself' is a whole number"]),
        ({"nodes": ["NODE0", "NODE1"], "myself": 0.5}, "NETWORK_MALFORMED", ["'myself' is a whole number"]),
        ({"nodes": ["NODE0", "NODE1"], "myself": None}, "NETWORK_MALFORMED", ["'myself' is a whole number"]),
        ({"nodes": ["NODE0", "NODE1"], "myself": True}, "NETWORK_MALFORMED", ["'myself' is a whole number"]),
        ({"nodes": ["NODE0", "NODE1"], "myself": "NODE0"}, "NETWORK_MALFORMED", ["'myself' is a whole number"]),
        ({"nodes": ["NODE0", "NODE1", "NODE1"], "myself": 0}, "NODE_TWICE", ["nodes[1] and nodes[2]", "the same URL"]),
        ({"nodes": ["NODE0", "NODE1", "NODE0/"], "myself": 0}, "NODE_TWICE", ["nodes[0] and nodes[2]"]),
    ],
)
def test_networks_that_are_none(shared: list[Node], given: Any, code: str, words: list[str]) -> None:
    text = json.dumps(given)
    for index, node in enumerate(shared):
        text = text.replace(f"NODE{index}", node.url)
    simon = simon_of(shared[0])
    refusal(lambda: simon.create(microprotocol="SecureSum", network=json.loads(text)), 422, code, *words)


@pytest.mark.usefixtures("no_new_task")
@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "https://"),
        ("127.0.0.1:55500", "https://"),
        ("ftp://127.0.0.1/x", "https://"),
        ("http:///public1", "host"),
        ("http://127.0.0.1:0/public1", "port"),
        ("http://127.0.0.1:70000/public1", "port"),
        ("http://127.0.0.1:abc/public1", "port"),
        ("http://user:password@127.0.0.1/public1", "password"),
        ("http://127.0.0.1/public1?x=1", "'?'"),
        ("http://127.0.0.1/public1#x", "'#'"),
        ("http://127.0.0.1/../public1", "'..'"),
        ("http://127.0.0.1/a b", "character"),
        ("http://127.1/public1", "host"),
        ("http://host_ü/public1", "character"),
        ("http://127.0.0.1/" + "x" * 600, "512"),
    ],
)
def test_urls_that_are_none(shared: list[Node], url: str, word: str) -> None:
    error = refusal(lambda: create(shared[0], [shared[0].url, url]), 422, "NODE_URL_UNUSABLE", "nodes[1]", word)
    assert "user:password" not in str(error)


@pytest.mark.usefixtures("no_new_task")
def test_a_description_too_long_to_be_sent(shared: list[Node]) -> None:
    urls = [shared[0].url, *(f"http://127.0.0.1:9/{'x' * 100}{i}" for i in range(63))]
    refusal(lambda: create(shared[0], urls), 422, "NETWORK_TOO_LARGE", "3800 bytes", "fewer parties")


@pytest.mark.usefixtures("no_new_task")
def test_myself_is_another_node(shared: list[Node]) -> None:
    urls = urls_of(shared)
    for here, said in itertools.permutations(range(3), 2):
        refusal(
            lambda here=here, said=said: create(shared[here], urls, said),  # type: ignore[misc]
            422,
            "MYSELF_NOT_THIS_NODE",
            f"nodes[{said}] ({urls[said]}) is not this node",
            f"this node is nodes[{here}]",
            f"'myself': {here}",
        )


@pytest.mark.usefixtures("no_new_task")
def test_this_node_is_not_in_the_list(shared: list[Node]) -> None:
    urls = urls_of(shared)
    error = refusal(lambda: create(shared[2], urls[:2], 0), 422, "MYSELF_NOT_THIS_NODE", "nodes[0]", "list of nodes")
    assert "this node is nodes" not in str(error)


@pytest.mark.usefixtures("no_new_task")
def test_myself_cannot_be_reached(shared: list[Node]) -> None:
    with closed_port() as port:
        refusal(
            lambda: create(shared[0], [f"http://127.0.0.1:{port}/public1", shared[1].url]),
            422,
            "MYSELF_UNREACHABLE",
            f"nodes[0] (http://127.0.0.1:{port}/public1)",
            "TCP",
            "public_url",
        )
    wrong = shared[0].url.replace("public1", "public9")
    refusal(lambda: create(shared[0], [wrong, shared[1].url]), 422, "MYSELF_UNREACHABLE", "404", "path of the URL")


def test_configured_urls_are_believed(tmp_path: Path, shared: list[Node]) -> None:
    # Behind a proxy a node may not reach itself by its public name.
    url = "https://node.example/public1"
    flags = ["--ephemeral", f"--public-url={url},http://127.0.0.1:9/alias", "--allow-peer-address=loopback"]
    node = Node(tmp_path, 0, *flags)
    with running(node):
        assert create(node, ["http://127.0.0.1:9/alias", shared[1].url]).progress()["parties"][0]["myself"]
        other = "http://192.0.2.1/public2"
        for own in (f"{url}/", "HTTPS://NODE.example:443/public1"):
            # The next check is that of the other URL.
            refusal(lambda own=own: create(node, [own, other]), 409, "PEER_URL_REFUSED", f"nodes[1] ({other})")  # type: ignore[misc]
        refusal(lambda: create(node, [other, url], 0), 422, "MYSELF_NOT_THIS_NODE", "this node is nodes[1]")


# --- Two parties at one node ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_new_task")
def test_one_node_under_two_urls(shared: list[Node]) -> None:
    urls = [shared[0].url, shared[1].url, other_spelling(shared[1].url)]
    refusal(lambda: create(shared[0], urls), 422, "KEY_TWICE", "nodes[1] and nodes[2] are the same node")
    urls = [shared[0].url, other_spelling(shared[0].url), shared[1].url]
    refusal(lambda: create(shared[0], urls), 422, "KEY_TWICE", "nodes[0] and nodes[1] are the same node")


def test_one_node_under_two_urls_is_found_when_it_starts(tmp_path: Path) -> None:
    with nodes(tmp_path, 3) as (first, second, third):
        third.kill()
        urls = [first.url, second.url, third.url, other_spelling(third.url)]
        tasks = [create(first, urls)]
        tasks.append(join(second, tasks[0].invite(), urls, 1))
        third.start()
        for task in tasks:
            cause = cause_of(task)
            assert (cause["code"], cause["party"], cause["other"]) == ("KEY_TWICE", 2, 3)
            assert "party 2 and party 3 are the same node" in cause["message"]


def test_two_joins_at_one_node(shared: list[Node]) -> None:
    urls = urls_of(shared)
    first = create(shared[0], urls)
    invitation = first.invite()
    second = join(shared[1], invitation, urls, 1)
    error = refusal(
        lambda: join(shared[1], invitation, urls, 1),
        409,
        "MYSELF_TAKEN",
        "as party 1",
        "'myself' is given twice",
        "node of its own",
    )
    assert error.party == 1
    refusal(lambda: join(shared[1], invitation, urls, 2), 409, "MYSELF_TAKEN", "as party 1")
    refusal(lambda: join(shared[0], invitation, urls, 1), 409, "MYSELF_TAKEN", "as party 0")
    # Nothing is lost by it.
    tasks = [first, second, join(shared[2], invitation, urls, 2)]
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    assert [task.result() for task in tasks] == [RESULT] * 3
    refusal(lambda: join(shared[1], invitation, urls, 1), 409, "MYSELF_TAKEN", "as party 1")


def test_two_parties_say_the_same_place(shared: list[Node]) -> None:
    urls = urls_of(shared)
    task = create(shared[0], urls)
    join(shared[1], task.invite(), urls, 1)
    refusal(lambda: join(shared[2], task.invite(), urls, 1), 422, "MYSELF_NOT_THIS_NODE", "this node is nodes[2]")
    task.delete()


# --- join compares with the invitation --------------------------------------------------------------------------------


def test_lists_that_differ(shared: list[Node]) -> None:
    urls = urls_of(shared)
    with closed_port() as port:
        other = f"http://127.0.0.1:{port}/public3"
        task = create(shared[0], urls)
        invitation = task.invite()
        error = refusal(
            lambda: join(shared[1], invitation, [*urls[:2], other], 1),
            422,
            "NODES_DIFFER",
            f"nodes[2] is {urls[2]} in the invitation and {other} here",
        )
        assert error.extra["nodes"] == urls
        refusal(
            lambda: join(shared[1], invitation, urls[:2], 1),
            422,
            "NODES_DIFFER",
            f"nodes[2] is {urls[2]} in the invitation and nothing here",
        )
        refusal(
            lambda: join(shared[1], invitation, [*urls, other], 1),
            422,
            "NODES_DIFFER",
            f"nodes[3] is nothing in the invitation and {other} here",
        )
        refusal(
            lambda: join(shared[1], invitation, [urls[0], urls[2], urls[1]], 2),
            422,
            "NODES_ORDER_DIFFERS",
            f"nodes[1] is {urls[1]} in the invitation and {urls[2]} here",
            "same order",
        )
        # A wrong list is the first thing to be said, whatever else is wrong.
        refusal(lambda: join(shared[1], invitation, [other, urls[1]], 0), 422, "NODES_DIFFER", "nodes[0]")
    # No attempt has joined or ended anything.
    assert [party["joined"] for party in task.progress()["parties"]] == [True, False, False]
    tasks = [task, *(join(shared[index], invitation, urls, index) for index in (1, 2))]
    for each, value in zip(tasks, VALUES):
        each.input(data=value)
    assert [each.result() for each in tasks] == [RESULT] * 3


def test_spellings_of_one_url_are_tolerated(shared: list[Node]) -> None:
    urls = urls_of(shared)
    slashes = [f"{url}/" for url in urls]
    doubled = [url.replace("/public", "//public").replace("http", "HTTP") + "//" for url in urls]
    tasks = [create(shared[0], slashes)]
    invitation = tasks[0].invite()
    assert invitation["nodes"] == urls
    tasks.append(join(shared[1], invitation, urls, 1))
    tasks.append(join(shared[2], invitation, doubled, 2))
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    assert [task.result() for task in tasks] == [RESULT] * 3


# --- Microprotocols, parameters, durations ----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_new_task")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SecureSumm", ['"SecureSumm"', "did you mean SecureSum?"]),
        ("securesum", ["did you mean SecureSum?"]),
        ("BasicSun", ["did you mean BasicSum?"]),
        ("Nonsense", ["this node has: SecureSum, BasicSum"]),
        ("", ["this node has: SecureSum, BasicSum"]),
        ("x" * 1000, ["…", "this node has: SecureSum"]),
    ],
)
def test_unknown_microprotocols(shared: list[Node], name: str, words: list[str]) -> None:
    error = refusal(
        lambda: create(shared[0], urls_of(shared), microprotocol=name), 422, "MICROPROTOCOL_UNKNOWN", *words
    )
    assert len(str(error)) < 500


@pytest.mark.usefixtures("no_new_task")
@pytest.mark.parametrize(
    ("parameters", "code", "word"),
    [
        ({"digits": 3}, "PARAMETERS_UNUSABLE", "it knows digits_after, digits_before, min_samples"),
        ({"digits_before": "3"}, "PARAMETERS_UNUSABLE", "whole number from 0 to 608"),
        ({"digits_before": -1}, "PARAMETERS_UNUSABLE", "whole number from 0 to 608"),
        ({"digits_after": 1.5}, "PARAMETERS_UNUSABLE", "whole number from 0 to 608"),
        ({"digits_after": 70000}, "PARAMETERS_UNUSABLE", "whole number from 0 to 608"),
        ({"digits_after": 608}, "PARAMETERS_UNUSABLE", "add up to 626; from 1 to 608"),
        ({"digits_before": 600, "digits_after": 12}, "PARAMETERS_UNUSABLE", "add up to 612; from 1 to 608"),
        ({"digits_before": 0, "digits_after": 0}, "PARAMETERS_UNUSABLE", "add up to 0; from 1 to 608"),
        ([], "WRONG_TYPE", "an object"),
        ("digits_before", "WRONG_TYPE", "an object"),
    ],
)
def test_unusable_parameters(shared: list[Node], parameters: Any, code: str, word: str) -> None:
    refusal(lambda: create(shared[0], urls_of(shared), parameters=parameters), 422, code, word)


@pytest.mark.usefixtures("no_new_task")
@pytest.mark.parametrize(
    ("durations", "code", "word"),
    [
        ({"jion": 5}, "DURATIONS_UNUSABLE", '"jion"'),
        ({"join": 0}, "DURATIONS_UNUSABLE", "join"),
        ({"join": -5}, "DURATIONS_UNUSABLE", "join"),
        ({"input": "5"}, "DURATIONS_UNUSABLE", "input"),
        ({"run": 1e300}, "DURATIONS_UNUSABLE", "run"),
        ({"silence": None}, "DURATIONS_UNUSABLE", "silence"),
        (5, "WRONG_TYPE", "durations"),
    ],
)
def test_unusable_durations(shared: list[Node], durations: Any, code: str, word: str) -> None:
    refusal(lambda: create(shared[0], urls_of(shared), durations=durations), 422, code, word)


# --- Invitations ------------------------------------------------------------------------------------------------------


def test_what_an_invitation_is(shared: list[Node]) -> None:
    urls = urls_of(shared)
    task = create(shared[0], urls)
    invitation = task.invite()
    assert invitation["nodes"] == urls
    assert invitation["microprotocol"] == "SecureSum"
    assert invitation["parameters"] == {"digits_before": 18, "digits_after": 12}
    assert invitation["task"] == task.progress()["task"]
    assert invitation["durations"] == {name: 1000 * seconds for name, seconds in DURATIONS.items()}
    assert invitation["keys"] == [page(node, "identity")["key"] for node in shared]
    assert task["callback"] not in json.dumps(invitation)
    task.delete()


def test_an_invitation_may_be_text(shared: list[Node]) -> None:
    urls = urls_of(shared)
    tasks = [create(shared[0], urls)]
    invitation = tasks[0].invite()
    tasks.append(join(shared[1], json.dumps(invitation), urls, 1))
    tasks.append(join(shared[2], f" {json.dumps(invitation, indent=4)}\n", urls, 2))
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    assert [task.result() for task in tasks] == [RESULT] * 3


def changed(invitation: dict[str, Any], **members: Any) -> dict[str, Any]:
    result = copy.deepcopy(invitation)
    for name, value in members.items():
        if value is ...:
            del result[name]
        else:
            result[name] = value
    return result


@pytest.mark.usefixtures("no_new_task")
@pytest.mark.parametrize(
    ("given", "word"),
    [
        (None, "it is null"),
        (5, "it is a number"),
        ([], "it is a list"),
        ({}, "no member 'fdrtd'"),
        ("", "JSON text of an object"),
        ("nonsense", "JSON text of an object"),
        ("[]", "JSON text of an object"),
        ("{}", "no member 'fdrtd'"),
        ({"fdrtd": "1"}, "no member 'fdrtd'"),
        ({"fdrtd": 4}, "a member is missing or of the wrong type"),
    ],
)
def test_malformed_invitations(shared: list[Node], given: Any, word: str) -> None:
    refusal(
        lambda: join(shared[1], given, urls_of(shared), 1),
        422,
        "INVITATION_MALFORMED",
        "this is not an invitation",
        word,
        "unchanged",
    )


MILLIS = {"join": 60_000, "input": 60_000, "run": 60_000, "silence": 20_000}


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"task": ...}, "INVITATION_MALFORMED", ["missing"]),
        ({"task": "zzz"}, "INVITATION_MALFORMED", ["wrong type"]),
        ({"nodes": ...}, "INVITATION_MALFORMED", ["missing"]),
        ({"nodes": ["x", "y"]}, "INVITATION_MALFORMED", ["wrong type"]),
        ({"parameters": ...}, "INVITATION_MALFORMED", ["missing"]),
        ({"durations": {"join": 1}}, "INVITATION_MALFORMED", ["missing"]),
        ({"durations": {**MILLIS, "silence": 0}}, "INVITATION_MALFORMED", ["duration", "0.1 seconds"]),
        ({"durations": {**MILLIS, "join": 2**64 - 1}}, "INVITATION_MALFORMED", ["duration", "30 days"]),
        ({"keys": ["zzz", None, None]}, "INVITATION_MALFORMED", ["wrong type"]),
        ({"keys": [None] * 65}, "INVITATION_MALFORMED", ["too many keys"]),
        ({"fdrtd": 1}, "VERSIONS_DIFFER", ["version 1", "speaks 4", "same version"]),
        ({"fdrtd": 0}, "VERSIONS_DIFFER", ["version 0"]),
        ({"microprotocol": "Unheard"}, "MICROPROTOCOL_UNKNOWN", ['"Unheard"']),
        ({"parameters": {"digits_after": 10000}}, "PARAMETERS_UNUSABLE", ["from 0 to 608"]),
        ({"parameters": 5}, "PARAMETERS_UNUSABLE", ["JSON object"]),
        ({"nodes": []}, "NODES_DIFFER", ["nodes[0] is nothing in the invitation"]),
    ],
)
def test_damaged_invitations(shared: list[Node], members: dict[str, Any], code: str, words: list[str]) -> None:
    urls = urls_of(shared)
    task = create(shared[0], urls)
    invitation = changed(task.invite(), **members)
    refusal(lambda: join(shared[1], invitation, urls, 1), 422, code, *words)
    refusal(lambda: join(shared[1], json.dumps(invitation), urls, 1), 422, code, *words)
    task.delete()


def test_an_alias_in_an_invitation_is_the_same_microprotocol(shared: list[Node]) -> None:
    urls = urls_of(shared)[:2]
    first = create(shared[0], urls)
    second = join(shared[1], changed(first.invite(), microprotocol="BasicSum", parameters={}), urls, 1)
    first.input(data=1)
    second.input(data=2)
    assert first.result()["result"] == second.result()["result"] == {"samples": 2, "sum": 3}


@pytest.mark.parametrize("honest_first", [True, False])
@pytest.mark.parametrize(
    ("field", "members", "words"),
    [
        ("parameters", {"parameters": {"digits_before": 18, "digits_after": 11}}, "the parameters"),
        ("durations", {"durations": {"join": 60000, "input": 60000, "run": 59000, "silence": 20000}}, "the durations"),
    ],
)
def test_tampered_invitations(
    shared: list[Node], field: str, members: dict[str, Any], words: str, honest_first: bool
) -> None:
    urls = urls_of(shared)
    tasks = [create(shared[0], urls)]
    invitation = tasks[0].invite()
    if honest_first:
        tasks.append(join(shared[2], invitation, urls, 2))
        until(lambda: tasks[1].progress()["parties"][0]["joined"], "the honest party has joined")
    tasks.append(join(shared[1], changed(invitation, **members), urls, 1))
    if not honest_first:
        cause_of(tasks[0])
        # It is over before this party comes, which must not wait for nothing.
        tasks.append(join(shared[2], invitation, urls, 2))
    for task in tasks:
        cause = cause_of(task)
        assert (cause["code"], cause["field"]) == ("DESCRIPTORS_DIFFER", field)
        assert words in cause["message"]
        assert "unchanged" in cause["hint"]
        assert task.progress()["state"] == "failed"
        with pytest.raises(fdrtd.TaskFailed, match=words):
            task.input(data=1)


def test_a_tampered_order_of_nodes(shared: list[Node]) -> None:
    urls = urls_of(shared)
    swapped = [urls[0], urls[2], urls[1]]
    first = create(shared[0], urls)
    invitation = changed(first.invite(), nodes=swapped, keys=[])
    second = join(shared[1], invitation, swapped, 2)
    for task in (first, second):
        cause = cause_of(task)
        assert (cause["code"], cause["field"]) == ("DESCRIPTORS_DIFFER", "order")
        assert "orders of the nodes" in cause["message"]


def test_other_keys_than_invited(shared: list[Node]) -> None:
    urls = urls_of(shared)
    task = create(shared[0], urls)
    keys = task.invite()["keys"]
    error = refusal(
        lambda: join(shared[1], changed(task.invite(), keys=[keys[2], keys[1], keys[2]]), urls, 1),
        409,
        "KEYS_DIFFER",
        f"nodes[0] ({urls[0]}) has the key {shared[0].fingerprint}",
        f"the invitation says {shared[2].fingerprint}",
    )
    assert error.party == 0
    task.delete()


# --- Policies ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict_ones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Node]]:
    """A node of each policy that is stricter than teaching. `serve` alone means standard."""
    started = {}
    for index, policy in enumerate(["standard", "strict"]):
        directory = tmp_path_factory.mktemp(policy)
        flags = [] if policy == "standard" else ["--policy=strict"]
        command = [str(BINARY), "serve", "--ephemeral", f"--base-path=/public{index + 1}", "--listen={listen}", *flags]
        started[policy] = Node(directory, index, command=command)
    yield started
    for node in started.values():
        node.kill()


@pytest.mark.parametrize(("policy", "fewest"), [("standard", 3), ("strict", 4)])
def test_a_policy_wants_more_parties(
    shared: list[Node], strict_ones: dict[str, Node], policy: str, fewest: int
) -> None:
    node = strict_ones[policy]
    others = [*urls_of(shared), "http://127.0.0.1:9/public4"]
    few = [node.url, *others[: fewest - 2]]
    refusal(
        lambda: create(node, few),
        403,
        "POLICY_TOO_FEW_PARTIES",
        f"'{policy}' wants at least {fewest} parties, the network has {fewest - 1}",
        "more parties",
    )


def test_a_policy_refuses_to_join(shared: list[Node], strict_ones: dict[str, Node]) -> None:
    # The data holder's node decides, whatever the inviting one allows.
    node = strict_ones["strict"]
    urls = [shared[0].url, node.url, shared[2].url]
    task = create(shared[0], urls)
    assert task.progress()["policy"] == "teaching"
    refusal(lambda: join(node, task.invite(), urls, 1), 403, "POLICY_TOO_FEW_PARTIES", "'strict'")
    assert [party["joined"] for party in task.progress()["parties"]] == [True, False, False]
    task.delete()


def test_plain_http_beyond_this_machine(tmp_path: Path) -> None:
    own = "https://node.example/public1"
    node = Node(tmp_path, 0, "--ephemeral", f"--public-url={own}")
    with running(node):
        for url in ("http://192.0.2.1/public2", "http://node.example/public2", "http://[2001:db8::1]/x"):
            error = refusal(
                lambda url=url: create(node, [own, url]),  # type: ignore[misc]
                409,
                "PEER_URL_REFUSED",
                f"nodes[1] ({url})",
                "not encrypted",
                "configuration",
            )
            assert error.party == 1
        assert page(node, "tasks")["tasks"] == []


def test_nodes_that_talk_to_known_peers_only(tmp_path: Path, shared: list[Node]) -> None:
    config = tmp_path / "fdrtd.toml"
    key = page(shared[1], "identity")["key"]
    wrong = page(shared[0], "identity")["key"]
    config.write_text(
        f"""
        ephemeral = true
        trust = "pinned"
        peers = [{{url = "{shared[1].url}", key = "{key}"}}, {{url = "{shared[2].url}", key = "{wrong}"}}]
        """
    )
    pinned = Node(tmp_path, 0, f"--config={config}")
    with running(pinned):
        task = create(pinned, [pinned.url, shared[1].url])
        other = join(shared[1], task.invite(), [pinned.url, shared[1].url], 1)
        task.input(data=1)
        other.input(data=2)
        assert task.result()["result"]["sum"] == 3
        error = refusal(
            lambda: create(pinned, [pinned.url, shared[0].url]), 409, "PEER_NOT_PINNED", "nodes[1]", "pinned peers"
        )
        assert error.party == 1
        # Another key answers than the one that was pinned.
        refusal(lambda: create(pinned, [pinned.url, shared[2].url]), 409, "PEER_KEY_CHANGED", "another node answers")


def test_nodes_that_call_allowed_urls_only(tmp_path: Path, shared: list[Node]) -> None:
    config = tmp_path / "fdrtd.toml"
    config.write_text(f'ephemeral = true\nallow_peer_urls = ["{shared[1].url}"]\n')
    node = Node(tmp_path, 0, f"--config={config}", f"--public-url={shared[0].url}x")
    with running(node):
        own = f"{shared[0].url}x"
        task = create(node, [own, shared[1].url])
        task.delete()
        refusal(lambda: create(node, [own, shared[2].url]), 409, "PEER_URL_REFUSED", "nodes[1]", "allowed peer URLs")


# --- Peers that are not there, or not what they should be -------------------------------------------------------------


@pytest.mark.usefixtures("no_new_task")
def test_a_url_of_no_node(shared: list[Node]) -> None:
    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for url in (f"http://127.0.0.1:{server.server_address[1]}/public2", f"{shared[1].url}x"):
            error = refusal(
                lambda url=url: create(shared[0], [shared[0].url, url]),  # type: ignore[misc]
                409,
                "PEER_NOT_A_NODE",
                f"nodes[1] ({url})",
                "base URL",
            )
            assert error.party == 1
        server.shutdown()


def test_a_peer_that_does_not_run_yet(three: list[Node]) -> None:
    urls = urls_of(three)
    three[2].kill()
    tasks = [create(three[0], urls)]
    invitation = tasks[0].invite()
    assert invitation["keys"][2] is None
    tasks.append(join(three[1], invitation, urls, 1))
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
        until(lambda task=task: len(task.progress()["waiting_for"]) == 1, "the other one has joined")  # type: ignore[misc]
        waiting = task.progress()["waiting_for"][0]
        assert waiting["party"] == 2
        assert f"party 2 at {urls[2]} has not joined yet" in waiting["why"]
        until(lambda task=task: "(TCP)" in task.progress()["waiting_for"][0]["why"], "the reason is told")  # type: ignore[misc]
        assert "check that the peer runs" in task.progress()["waiting_for"][0]["why"]
        with pytest.raises(fdrtd.NotReady, match=re.escape(urls[2])):
            task.result(timeout=0)
    three[2].start()
    name = tasks[0].progress()["task"]
    found = until(lambda: pending(three[2], name), "the others find it by themselves")
    tasks.append(join(three[2], found, urls, 2))
    tasks[2].input(data=VALUES[2])
    assert [task.result() for task in tasks] == [RESULT] * 3


# --- Pending invitations ----------------------------------------------------------------------------------------------


def pending(node: Node, task: str) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = [each for each in node.invitations() if each["task"] == task]
    assert len(found) <= 1
    return found[0] if found else None


def test_pending_invitations(shared: list[Node]) -> None:
    urls = urls_of(shared)
    task = create(shared[0], urls, microprotocol="BasicSum", parameters={"digits_after": 3})
    name = task.progress()["task"]
    assert pending(shared[0], name) is None, "it is its own"
    found = [until(lambda node=node: pending(node, name), "the invitation arrives") for node in shared[1:]]  # type: ignore[misc]
    for each in found:
        assert each["microprotocol"] == "SecureSum"
        assert each["parameters"] == {"digits_before": 18, "digits_after": 3}
        assert each["nodes"] == urls
        assert each["policy"] == "teaching"
        assert each["hellos"] == [shared[0].fingerprint]
        assert "from" not in each
    # Who runs the node sees them on its page too; others are shown none.
    operator = {"Authorization": f"Bearer {shared[1].operator()}"}
    whole = urllib3.request("GET", f"{shared[1].url}/tasks", headers=operator).json()
    listed = [each for each in whole["invitations"] if each["task"] == name]
    assert len(listed) == 1
    assert page(shared[1], "tasks")["invitations"] == []
    assert changed(listed[0], seconds=...) == changed(found[0], seconds=...)
    assert not any(each["task"] == name for each in whole["tasks"])
    # It can be joined as it is.
    tasks = [task, *(join(shared[i], each, urls, i) for i, each in zip((1, 2), found))]
    assert [pending(node, name) for node in shared] == [None] * 3
    for each, value in zip(tasks, VALUES):
        each.input(data=value)
    assert [each.result() for each in tasks] == [RESULT] * 3


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_invitations_are_gone_when_the_task_is(shared: list[Node], end: str) -> None:
    task = create(shared[0], urls_of(shared))
    name = task.progress()["task"]
    for node in shared[1:]:
        until(lambda node=node: pending(node, name), "the invitation arrives")  # type: ignore[misc]
    getattr(task, end)()
    for node in shared[1:]:
        until(lambda node=node: pending(node, name) is None, "the invitation is withdrawn")  # type: ignore[misc]


# --- Ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "party"),
    [(stage, party) for stage in ("joining", "joined", "inputs") for party in range(2 if stage == "joining" else 3)],
)
@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_one_party_ends_it_for_all(shared: list[Node], end: str, stage: str, party: int) -> None:
    urls = urls_of(shared)
    tasks = [create(shared[0], urls)]
    tasks.append(join(shared[1], tasks[0].invite(), urls, 1))
    if stage != "joining":
        tasks.append(join(shared[2], tasks[0].invite(), urls, 2))
        for task in tasks:
            until(lambda task=task: all_joined(task), "all have joined")  # type: ignore[misc]
    else:
        for task in tasks:
            until(
                lambda task=task: all(each["joined"] for each in task.progress()["parties"][:2]),  # type: ignore[misc]
                "two have joined",
            )
    if stage == "inputs":
        for index, task in enumerate(tasks):
            if index != (party + 1) % 3:
                task.input(data=1)
    getattr(tasks[party], end)()
    for index, task in enumerate(tasks):
        if end == "delete" and index == party:
            with pytest.raises(fdrtd.NotFound):
                task.progress()
            continue
        cause = cause_of(task)
        assert (cause["code"], cause["party"]) == ("CANCELLED", party)
        assert cause["node"] == urls[party]
        # The reason may come by way of another party, which is then said, too.
        assert cause["message"].startswith(f"party {party} cancelled the task")
        progress = task.progress()
        assert progress["state"] == "cancelled"
        assert progress["waiting_for"] == []
        assert progress["messages"] == {"data": 0}
        with pytest.raises(fdrtd.TaskFailed, match=f"party {party} cancelled"):
            task.input(data=1)


@pytest.mark.parametrize("end", ["cancel", "delete"])
@pytest.mark.parametrize("known", [True, False])
def test_who_joins_too_late_is_told(tmp_path: Path, end: str, known: bool) -> None:
    # The inviting party has ended the task before the invitation was used: the other must not wait until it expires.
    with nodes(tmp_path, 2) as (first, second):
        urls = [first.url, second.url]
        if not known:
            second.kill()
        task = create(first, urls)
        invitation = task.invite()
        getattr(task, end)()
        if not known:
            second.start()
        late = join(second, invitation, urls, 1)
        cause = cause_of(late)
        assert (cause["code"], cause["party"], cause["reported_by"]) == ("CANCELLED", 0, 0)
        assert first.invitations() == []


def test_to_cancel_what_is_over_changes_nothing(shared: list[Node]) -> None:
    tasks = make_task(shared)
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    assert [task.result() for task in tasks] == [RESULT] * 3
    tasks[0].cancel()
    tasks[1].delete()
    assert tasks[0].result() == RESULT
    assert tasks[2].result() == RESULT
    assert tasks[2].progress()["state"] == "done"


# --- Inputs and starts ------------------------------------------------------------------------------------------------


def test_a_second_input(shared: list[Node]) -> None:
    tasks = make_task(shared)
    tasks[0].input(data=VALUES[0])
    for data in (1, [1, 2], "nonsense"):
        refusal(
            lambda data=data: tasks[0].input(data=data),  # type: ignore[misc]
            409,
            "ALREADY_STARTED",
            "as a list",
            "create_task",
        )
    refusal(lambda: tasks[0].start(), 409, "ALREADY_STARTED")
    for task, value in zip(tasks[1:], VALUES[1:]):
        task.input(data=value)
    assert [task.result() for task in tasks] == [RESULT] * 3
    refusal(lambda: tasks[0].input(data=1), 409, "TASK_FINISHED", "new task")
    refusal(lambda: tasks[0].start(), 409, "TASK_FINISHED", "new task")
    assert tasks[0].result() == RESULT, "a result can be asked for again"


def test_tasks_that_gather(shared: list[Node]) -> None:
    tasks = make_task(shared, gather=True)
    storage = shared[0].api().select_microservice(microservice="KeyValueStorage")
    refusal(lambda: tasks[0].start(), 409, "NO_INPUT", "before start()")
    stored = storage.create(value=[1, 2.5])
    tasks[0].input(source=stored)
    stored.store(value=1000)  # the input is a copy
    stored.delete()
    tasks[0].input(data=6.5)
    refusal(lambda: tasks[0].input(data=[1, None]), 422, "INPUT_REFUSED", "row [1] is null")
    tasks[1].input(data=7)
    tasks[2].input(data=[10, 4])
    for task in tasks:
        assert not has_input(task, task.progress()["party"])
        with pytest.raises(fdrtd.NotReady):
            task.result(timeout=0)
    for task in tasks:
        task.start()
    assert [task.result() for task in tasks] == [{"inputs": 3, "result": {"samples": 6, "sum": 31}}] * 3
    refusal(lambda: tasks[0].start(), 409, "TASK_FINISHED")


def test_a_started_task_takes_no_more(shared: list[Node]) -> None:
    tasks = make_task(shared, gather=True)
    tasks[0].input(data=1)
    tasks[0].start()
    refusal(lambda: tasks[0].input(data=1), 409, "ALREADY_STARTED")
    refusal(lambda: tasks[0].start(), 409, "ALREADY_STARTED")
    until(lambda: has_input(tasks[1], 0), "the others know")
    tasks[0].delete()


def test_both_ways_mix(shared: list[Node]) -> None:
    urls = urls_of(shared)
    tasks = [create(shared[0], urls)]
    simon = simon_of(shared[1])
    tasks.append(simon.join_task(invitation=tasks[0].invite(), network=network(urls, 1)))
    tasks.append(join(shared[2], tasks[0].invite(), urls, 2))
    tasks[1].input(data=3)
    tasks[1].input(data=4)
    tasks[1].start()
    tasks[0].input(data=10)
    tasks[2].input(data=14)
    assert [task.result() for task in tasks] == [{"inputs": 3, "result": {"samples": 4, "sum": 31}}] * 3


def test_inputs_of_one_party_that_do_not_fit(shared: list[Node]) -> None:
    task = make_task(shared[:2], gather=True)[0]
    task.input(data={"vectors": [[1, 2]]})
    error = refusal(lambda: task.input(data={"vectors": [[1, 2, 3]]}), 422, "INPUT_REFUSED", "length 3", "length 2")
    assert error.extra["reason"] == "INPUT_SHAPE"
    refusal(lambda: task.input(data=5), 422, "INPUT_REFUSED", "a number")
    task.delete()


# --- Who is waited for ------------------------------------------------------------------------------------------------


def waiting(task: Any) -> str:
    with pytest.raises(fdrtd.NotReady) as caught:
        task.result(timeout=0)
    assert caught.value.code == "NOT_READY"
    assert caught.value.waiting
    assert caught.value.waiting in str(caught.value)
    return str(caught.value.waiting)


def test_a_result_that_is_not_there_says_who_is_missing(shared: list[Node]) -> None:
    urls = urls_of(shared)
    tasks = [create(shared[0], urls)]
    text = waiting(tasks[0])
    assert f"party 1 at {urls[1]} has not joined yet" in text
    assert f"party 2 at {urls[2]} has not joined yet" in text
    assert "party 0" not in text
    assert tasks[0].progress()["state"] == "created"
    tasks.append(join(shared[1], tasks[0].invite(), urls, 1))
    until(lambda: "party 1" not in waiting(tasks[0]), "party 1 has joined")
    assert tasks[0].progress()["state"] == "joining"
    tasks.append(join(shared[2], tasks[0].invite(), urls, 2))
    for task in tasks:
        until(lambda task=task: all_joined(task), "all have joined")  # type: ignore[misc]
        assert task.progress()["state"] == "joined"
    assert f"party 1 (this node) at {urls[1]} has joined, but given no input yet" in waiting(tasks[1])
    tasks[0].input(data=10)
    tasks[1].input(data=7)
    for task in tasks[:2]:
        until(lambda task=task: has_input(task, 0) and has_input(task, 1), "two inputs are there")  # type: ignore[misc]
        assert waiting(task) == f"party 2 at {urls[2]} has joined, but given no input yet"
        progress = task.progress()
        assert [each["party"] for each in progress["waiting_for"]] == [2]
        assert progress["messages"] == {"data": 0}
        assert 0 < progress["seconds_left"] <= DURATIONS["input"]
    tasks[2].input(data=14)
    assert [task.result() for task in tasks] == [RESULT] * 3
    # One message to each peer and round, and one for the closing digest.
    assert [task.progress()["messages"] for task in tasks] == [{"data": 4}] * 3


def test_a_result_that_is_waited_for_comes(shared: list[Node]) -> None:
    # The request hangs at the node and is answered when the last input comes; nobody polls.
    tasks = make_task(shared)
    results: list[Any] = [None] * 3
    asked = [threading.Event() for _ in tasks]

    def ask(index: int) -> None:
        asked[index].set()
        results[index] = tasks[index].result(timeout=60)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for event, task, value in zip(asked, tasks, VALUES):
        event.wait()
        task.input(data=value)
    for thread in threads:
        thread.join()
    assert results == [RESULT] * 3


STEPS = ("join B", "input B", "join C", "input C", "input A")
ORDERS = [
    order
    for order in itertools.permutations(STEPS)
    if order.index("join B") < order.index("input B") and order.index("join C") < order.index("input C")
]


def test_any_order_of_steps(shared: list[Node]) -> None:
    assert len(ORDERS) == 30
    urls = urls_of(shared)
    for order in ORDERS:
        tasks = {"A": create(shared[0], urls)}
        invitation = tasks["A"].invite()
        for step in order:
            what, who = step.split()
            place = "ABC".index(who)
            if what == "join":
                tasks[who] = join(shared[place], invitation, urls, place)
            else:
                tasks[who].input(data=VALUES[place])
        assert [tasks[who].result(timeout=60) for who in "ABC"] == [RESULT] * 3, order
        for task in tasks.values():
            task.delete()
