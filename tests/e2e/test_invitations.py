"""Invitations: links, objects and texts; pending ones and those that are asked for; joining without a list of nodes."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

import fdrtd
import pytest
import urllib3
from harness import DURATIONS, OPERATOR, Node, nodes, until, urls_of
from proxy import Proxy

VALUES = (10, 7, 14)
# The address of a node at which it cannot be reached.
HIDDEN = "http://127.0.0.1:9/hidden"


def simon_of(node: Node) -> Any:
    return node.api().select_microservice(protocol="Simon")


def network(urls: list[str], myself: int) -> dict[str, Any]:
    return {"nodes": urls, "myself": myself}


def create(node: Node, urls: list[str], myself: int = 0, **more: Any) -> Any:
    arguments = {"microprotocol": "SecureSum", "network": network(urls, myself), "durations": DURATIONS, **more}
    return simon_of(node).create(**arguments)


def refusal(call: Callable[[], Any], status: int, code: str, side: str, *words: str) -> fdrtd.Error:
    with pytest.raises(fdrtd.Error) as caught:
        call()
    error = caught.value
    assert (error.status, error.code, error.side) == (status, code, side), str(error)
    for word in words:
        assert word in f"{error.message} — {error.hint}"
    return error


def pending(node: Node, task: str) -> Any:
    found = [each for each in node.invitations() if each["task"] == task]
    assert len(found) <= 1
    return found[0] if found else None


def compute(*tasks: Any) -> None:
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    total = sum(VALUES[: len(tasks)])
    assert [task.result()["result"]["sum"] for task in tasks] == [total] * len(tasks)


def recoded(link: str, change: Callable[[bytearray], None]) -> str:
    """A link of the right form whose last group says something else."""
    start, code = link.rsplit(".", 1)
    data = bytearray(base64.b32decode(code.upper() + "===="))
    change(data)
    return f"{start}.{base64.b32encode(bytes(data)).decode().rstrip('=').lower()}"


@contextmanager
def out_of_reach(joiner: Node) -> Iterator[Proxy]:
    """An address of a node that leads nowhere until it is told to: who invites it cannot tell it anything."""
    proxy = Proxy(f"/public{joiner.index + 1}")
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two nodes of this module's own. The second is known as an address that leads nowhere."""
    directory = tmp_path_factory.mktemp("pair")
    with nodes(directory, 1, "--ephemeral", OPERATOR) as (first,):
        second = Node(directory / "second", 1, "--ephemeral", OPERATOR, f"--public-url={HIDDEN}")
        try:
            yield [first, second]
        finally:
            second.kill()


# --- The link itself --------------------------------------------------------------------------------------------------


def test_what_a_link_is(shared: list[Node]) -> None:
    urls = urls_of(shared)
    task = create(shared[1], urls, 1)
    invitation = task.invite()
    place, code = invitation["link"].split("#")
    assert place == f"fdrtd:{urls[1]}", "the inviting node's URL"
    key, rest = code.split(".")
    assert key == urllib3.request("GET", f"{urls[1]}/identity").json()["key"]
    assert key.startswith(shared[1].fingerprint.replace("-", ""))
    decoded = base64.b32decode(rest.upper() + "====")
    assert decoded[:16].hex() == invitation["task"].replace("-", "")
    assert task.invite()["link"] == invitation["link"]
    # Another task has another commitment.
    other = create(shared[1], urls, 1)
    assert other.invite()["link"].split(".")[-1][26:] != rest[26:]
    for each in (task, other):
        each.delete()


@pytest.mark.parametrize("form", ["link", "object", "text"])
def test_all_forms_join_without_a_network(shared: list[Node], form: str) -> None:
    task = create(shared[0], urls_of(shared), parameters={"digits_after": 3})
    invitation = task.invite()
    given = {"link": invitation["link"], "object": invitation, "text": json.dumps(invitation)}[form]
    joined = [simon_of(node).join(invitation=given) for node in shared[1:]]
    assert [each.progress()["party"] for each in joined] == [1, 2]
    compute(task, *joined)


def test_links_as_they_come_out_of_mails(shared: list[Node]) -> None:
    urls = urls_of(shared)
    for spoil in (
        lambda link: f"\n <{link}>.\n",
        lambda link: link[:50] + "\r\n  " + link[50:100] + "\n" + link[100:],
        lambda link: link.split("#")[0].replace("fdrtd:", "FDRTD:") + "#" + link.split("#")[1].upper(),
    ):
        task = create(shared[0], urls)
        joined = simon_of(shared[1]).join_task(invitation=spoil(task.invite()["link"]))
        assert joined.progress()["task"] == task.progress()["task"]
        task.delete()


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda link: link[:-1], "cut off or changed"),
        (lambda link: link[:60], "cut off or changed"),
        (lambda link: "fdrtd:", "cut off or changed"),
        (lambda link: link + "a", "cut off or changed"),
        (lambda link: link.replace("#", "?x#"), "must not contain '?'"),
        (lambda link: link.replace("http:", "ftp:"), "https://"),
        (lambda link: link + " " * 3000, "too long"),
    ],
)
def test_links_that_are_none(shared: list[Node], spoil: Callable[[str], str], word: str) -> None:
    task = create(shared[0], urls_of(shared))
    given = spoil(task.invite()["link"])
    refusal(
        lambda: simon_of(shared[1]).join(invitation=given),
        422,
        "INVITATION_LINK_MALFORMED",
        "call",
        "this is not an invitation link",
        word,
        "copy the whole link",
    )
    task.delete()


# --- A pending invitation: the inviting node is not asked -------------------------------------------------------------


def test_a_pending_invitation_is_enough(shared: list[Node], tmp_path: Path) -> None:
    """The link's node need not answer when its Hello is there already."""
    proxy = Proxy("/public1", shared[0].url)
    try:
        urls = [proxy.url, shared[1].url]
        with nodes(tmp_path, 1, "--ephemeral", f"--public-url={proxy.url}") as (inviter,):
            proxy.lead_to(inviter.url)
            task = create(inviter, urls)
            link = task.invite()["link"]
            assert link.startswith(f"fdrtd:{proxy.url}#")
            found = until(lambda: pending(shared[1], task.invite()["task"]), "the invitation arrives")
            assert found["link"].split("#")[1] == link.split("#")[1]
            proxy.refuse()
            joined = simon_of(shared[1]).join(invitation=link)
            proxy.accept()
            compute(task, joined)
    finally:
        proxy.close()


def test_the_link_of_a_pending_invitation_joins_it(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    links = []
    for node in shared[1:]:
        found = until(lambda node=node: pending(node, task.progress()["task"]), "the invitation arrives")  # type: ignore[misc]
        links.append(found["link"])
    joined = [simon_of(node).join(invitation=link) for node, link in zip(shared[1:], links)]
    compute(task, *joined)


# --- Not heard of yet: the inviting node is asked ---------------------------------------------------------------------


def test_who_was_not_told_asks(pair: list[Node]) -> None:
    inviter, joiner = pair
    task = create(inviter, [inviter.url, HIDDEN])
    invitation = task.invite()
    assert joiner.invitations() == []
    joined = simon_of(joiner).join(invitation=invitation["link"])
    progress = joined.progress()
    assert (progress["task"], progress["party"]) == (invitation["task"], 1)
    assert joined.invite()["link"].startswith(f"fdrtd:{HIDDEN}#")
    assert {**joined.invite(), "link": "", "from": 0, "keys": []} == {**invitation, "link": "", "keys": []}
    joined.delete()
    task.delete()


def test_a_link_through_an_address_that_comes_later(shared: list[Node], tmp_path: Path) -> None:
    with nodes(tmp_path, 1, "--ephemeral") as (joiner,), out_of_reach(joiner) as address:
        task = create(shared[0], [shared[0].url, address.url])
        invitation = task.invite()
        until(lambda: "TCP" in str(task.progress()["parties"][1]["problem"]), "it cannot be reached")
        # Without public_url it asks its own address, which does not lead to it yet: it says so, and what helps.
        error = refusal(
            lambda: simon_of(joiner).join(invitation=invitation["link"]),
            422,
            "MYSELF_NOT_FOUND",
            "call",
            "none of the 2 nodes of the invitation is known to be this node",
            f"nodes[1] ({address.url}) did not answer",
            "set public_url",
        )
        assert error.extra["nodes"] == invitation["nodes"]
        address.lead_to(joiner.url)
        joined = simon_of(joiner).join(invitation=invitation["link"])
        compute(task, joined)


def test_a_node_that_is_not_invited(pair: list[Node], shared: list[Node]) -> None:
    task = create(shared[0], [shared[0].url, shared[1].url])
    invitation = task.invite()
    for given in (invitation, invitation["link"]):
        error = refusal(
            lambda given=given: simon_of(shared[2]).join(invitation=given),  # type: ignore[misc]
            422,
            "MYSELF_NOT_FOUND",
            "call",
            shared[2].fingerprint,
            "with this node's URL in the list",
        )
        assert "did not answer" not in error.message
    task.delete()


def test_a_changed_link(pair: list[Node]) -> None:
    inviter, joiner = pair
    task = create(inviter, [inviter.url, HIDDEN])
    other = create(inviter, [inviter.url, HIDDEN], parameters={"digits_after": 3})
    link = task.invite()["link"]

    def commitment(data: bytearray) -> None:
        data[16] ^= 1

    def other_task(data: bytearray) -> None:
        data[:16] = bytes.fromhex(other.progress()["task"].replace("-", ""))

    for change in (commitment, other_task):
        refusal(
            lambda change=change: simon_of(joiner).join(invitation=recoded(link, change)),  # type: ignore[misc]
            409,
            "INVITATION_CHANGED",
            "peer",
            f"the inviting node ({inviter.url})",
            "is not what the link invites to",
            "ask the inviting party for the link",
        )
    for each in (task, other):
        each.delete()


def test_another_key_than_the_link_says(pair: list[Node], shared: list[Node]) -> None:
    inviter, joiner = pair
    task = create(inviter, [inviter.url, HIDDEN])
    link = task.invite()["link"]
    key = urllib3.request("GET", f"{shared[0].url}/identity").json()["key"]
    place, code = link.split("#")
    for given, found, said in (
        (f"{place}#{key}.{code.split('.')[1]}", inviter, shared[0]),
        (f"fdrtd:{shared[1].url}#{code}", shared[1], inviter),
    ):
        refusal(
            lambda given=given: simon_of(joiner).join(invitation=given),  # type: ignore[misc]
            409,
            "KEYS_DIFFER",
            "peer",
            f"({found.url}) has the key {found.fingerprint}",
            f"the link says {said.fingerprint}",
            "127.0.0.1",
        )
    task.delete()


def test_the_inviting_node_is_gone(tmp_path: Path, pair: list[Node]) -> None:
    joiner = pair[1]
    with nodes(tmp_path, 1, "--ephemeral") as (inviter,):
        task = create(inviter, [inviter.url, HIDDEN])
        link = task.invite()["link"]
        inviter.kill()
        refusal(
            lambda: simon_of(joiner).join(invitation=link),
            409,
            "PEER_UNREACHABLE",
            "peer",
            f"the inviting node ({inviter.url}): the peer cannot be reached (TCP)",
            "check that the peer runs",
            "127.0.0.1 is this machine only",
        )


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_the_task_is_over(pair: list[Node], end: str) -> None:
    inviter, joiner = pair
    task = create(inviter, [inviter.url, HIDDEN])
    invitation = task.invite()
    page = f"{inviter.url}/invitations/{invitation['task']}"
    assert urllib3.request("GET", page).json() == invitation
    getattr(task, end)()
    assert urllib3.request("GET", page).json()["code"] == "TASK_UNKNOWN"
    for node, whose in ((joiner, f"the inviting node ({inviter.url})"), (inviter, "this node's own")):
        if node is inviter and end == "cancel":
            refusal(lambda: simon_of(inviter).join(invitation=invitation["link"]), 409, "MYSELF_TAKEN", "task")
            continue
        refusal(
            lambda node=node: simon_of(node).join(invitation=invitation["link"]),  # type: ignore[misc]
            404,
            "INVITATION_UNKNOWN",
            "peer",
            whose,
            "no such task any more",
            "ask the inviting party for a new invitation",
        )


def test_a_link_without_an_address_that_is_not_pending(shared: list[Node]) -> None:
    task = create(shared[0], urls_of(shared))
    found = until(lambda: pending(shared[1], task.progress()["task"]), "the invitation arrives")
    task.delete()
    until(lambda: pending(shared[1], found["task"]) is None, "it is withdrawn")
    link = "fdrtd:#" + found["link"].split("#")[1]
    refusal(lambda: simon_of(shared[1]).join(invitation=link), 404, "INVITATION_UNKNOWN", "peer", "does not say where")


# --- Invitations as objects -------------------------------------------------------------------------------------------


def test_unknown_members_are_ignored(shared: list[Node]) -> None:
    task = create(shared[0], [shared[0].url, shared[1].url])
    invitation = {**task.invite(), "link": "whatever", "comment": "for Anna"}
    compute(task, simon_of(shared[1]).join(invitation=invitation))


@pytest.mark.parametrize(
    ("nodes_of", "code"),
    [
        (lambda urls: urls[:1], "NETWORK_SIZE"),
        (lambda urls: [], "NETWORK_SIZE"),
        (lambda urls: [*urls, urls[0]], "NODE_TWICE"),
        (lambda urls: [*urls, "https://node.example/x"], "NODE_URL_LOOPBACK"),
        (lambda urls: urls * 33, "NETWORK_SIZE"),
    ],
)
def test_the_nodes_of_an_invitation_are_checked(
    shared: list[Node], nodes_of: Callable[[list[str]], list[str]], code: str
) -> None:
    task = create(shared[0], urls_of(shared))
    invitation = copy.deepcopy(task.invite())
    invitation["nodes"] = nodes_of(invitation["nodes"])
    refusal(lambda: simon_of(shared[1]).join(invitation=invitation), 422, code, "call")
    task.delete()


def test_a_promised_key_holds_when_its_node_comes_later(three: list[Node]) -> None:
    """Who cannot be asked for a key yet is taken for nobody but the node that the invitation names."""
    first, second, third = three
    urls = urls_of(three)
    task = create(first, urls)
    joined = [simon_of(third).join(invitation=task.invite())]
    invitation = joined[0].invite()
    assert all(invitation["keys"])
    third_key = invitation["keys"][2]
    first.kill()
    # The first node's key is promised to be the third's: found out when it is there.
    late = simon_of(second).join(invitation={**invitation, "keys": [invitation["keys"][0], None, None]})
    assert late.progress()["parties"][0]["fingerprint"] == first.fingerprint
    first.start()
    compute(task, late, joined[0])
    assert late.invite()["keys"][2] == third_key


# --- invitations(…) ---------------------------------------------------------------------------------------------------


def test_looking_for_one_task(shared: list[Node]) -> None:
    urls = urls_of(shared)
    first = create(shared[0], urls, parameters={"digits_after": 5})
    second = create(shared[0], urls, microprotocol="BasicSum", parameters={"digits_after": 5, "digits_before": 18})
    names = [task.progress()["task"] for task in (first, second)]
    for name in names:
        until(lambda name=name: pending(shared[1], name), "the invitation arrives")  # type: ignore[misc]
    simon = simon_of(shared[1])
    wanted = {"microprotocol": "BasicSum", "network": network(urls, 1), "parameters": {"digits_after": 5}}
    found = simon.invitations(**wanted)
    assert {each["task"] for each in found} == set(names)
    assert not any("differs" in each for each in found)
    assert found[0]["seconds"] <= found[1]["seconds"]
    # Only part of the description: what fits it.
    for less in ({"network": wanted["network"]}, {"microprotocol": "SecureSum"}, {}):
        assert set(names) <= {each["task"] for each in shared[1].invitations(**less)}
        assert simon.invitations(**less) == [], "anonymous callers find what they can describe"
    assert shared[1].invitations(microprotocol="SecureSum", parameters={"digits_after": 6}) == []
    for task in (first, second):
        task.delete()
    for name in names:
        until(lambda name=name: pending(shared[1], name) is None, "the invitation is withdrawn")  # type: ignore[misc]


def test_what_nearly_fits_says_in_what_it_differs(shared: list[Node]) -> None:
    urls = urls_of(shared)
    task = create(shared[0], urls, parameters={"digits_after": 7})
    name = task.progress()["task"]
    until(lambda: pending(shared[1], name), "the invitation arrives")
    simon = simon_of(shared[1])

    def differs(nodes_: list[str], **more: Any) -> Any:
        wanted = {"microprotocol": "SecureSum", "network": network(nodes_, 1), **more}
        found = [each["differs"] for each in shared[1].invitations(**wanted) if each["task"] == name]
        # Others of this file may be there as well; anonymous callers are told of no task which it is.
        told = simon.invitations(**wanted)
        assert all(each.keys() == {"microprotocol", "nodes", "differs"} for each in told)
        assert [urls, found[0]] in [[each["nodes"], each["differs"]] for each in told] if found else told == []
        return found

    assert differs(urls) == ["the parameters"]
    assert differs(urls, parameters={"digits_after": 8}) == ["the parameters"]
    swapped = [urls[2], urls[1], urls[0]]
    assert differs(swapped, parameters={"digits_after": 7}) == ["the orders of the nodes"]
    assert differs(urls[:2], parameters={"digits_after": 7}) == []
    # What is exactly wanted hides what is near.
    found = simon.invitations(microprotocol="SecureSum", network=network(urls, 1), parameters={"digits_after": 7})
    assert [each["task"] for each in found] == [name]
    assert "differs" not in found[0]
    task.delete()
    until(lambda: pending(shared[1], name) is None, "the invitation is withdrawn")


def test_waiting_for_an_invitation(shared: list[Node]) -> None:
    """The call hangs at the node, an invitation of another kind does not end it, the right one does."""
    urls = urls_of(shared)
    found: list[Any] = []
    asked = threading.Event()
    simon = simon_of(shared[1])

    def wait() -> None:
        asked.set()
        wanted = {"parameters": {"digits_after": 4}, "network": network(urls, 1), "timeout": 60}
        found.append(simon.invitations(microprotocol="SecureSum", **wanted))

    waiting = threading.Thread(target=wait)
    waiting.start()
    asked.wait()
    other = create(shared[0], urls, parameters={"digits_after": 9})
    until(lambda: pending(shared[1], other.progress()["task"]), "the other invitation arrives")
    assert waiting.is_alive()
    task = create(shared[0], urls, parameters={"digits_after": 4})
    waiting.join(timeout=60)
    assert [each["task"] for each in found[0]] == [task.progress()["task"]]
    joined = [simon_of(node).join(invitation=found[0][0]) for node in shared[1:]]
    compute(task, *joined)
    other.delete()


def test_nobody_waits_longer_than_the_node(tmp_path: Path) -> None:
    with nodes(tmp_path, 1, "--ephemeral", OPERATOR) as (node,):
        found: list[Any] = []
        before = sockets(node)

        def wait() -> None:
            # Who is not heard any more is not answered.
            with contextlib.suppress(fdrtd.ConnectionFailed):
                found.extend(node.invitations(timeout=60))

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: sockets(node) > before, "the call is there")
        assert node.invitations() == []
        assert node.stop() == 0
        waiting.join(timeout=60)
        assert not waiting.is_alive()
        assert found == []
        # It was not the last resort that ended it.
        assert "some requests were still waiting" not in node.logged()


def sockets(node: Node) -> int:
    assert node.process is not None
    files = Path(f"/proc/{node.process.pid}/fd")
    targets = []
    for file in files.iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(file.readlink()))
    return sum(target.startswith("socket:") for target in targets)


@pytest.mark.parametrize(
    ("given", "code", "word"),
    [
        ({"microprotocol": "SecureSumm"}, "MICROPROTOCOL_UNKNOWN", "did you mean SecureSum?"),
        ({"parameters": {}}, "PARAMETER_MISSING", "microprotocol"),
        ({"microprotocol": "SecureSum", "parameters": {"digits": 1}}, "PARAMETERS_UNUSABLE", "digits"),
        ({"network": {"nodes": []}}, "NETWORK_SIZE", "2 to 64"),
        ({"timeout": -1}, "VALUE_OUT_OF_RANGE", "seconds"),
        ({"timeout": "soon"}, "WRONG_TYPE", "timeout=10"),
        ({"patience": 1}, "PARAMETER_UNKNOWN", "timeout"),
    ],
)
def test_what_cannot_be_looked_for(shared: list[Node], given: dict[str, Any], code: str, word: str) -> None:
    refusal(lambda: simon_of(shared[0]).invitations(**given), 422, code, "call", word)
