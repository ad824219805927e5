"""A hostile node with a valid key that sends much of what is allowed: memory stays bounded, others are served
meanwhile."""

from __future__ import annotations

import json
import secrets
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import OPERATOR, Node, cause_of, nodes, until, urls_of
from hostile_peer import (
    FIRST,
    HELLO,
    ONLY,
    PROTOCOL,
    Channel,
    Closed,
    Identity,
    Link,
    Part,
    abort,
    data_record,
    hostile,
    resident,
)
from test_hostile import MB, ME, Scene, is_well, other_work
from test_load import configured, metric

PER_PEER = 20
IN_ALL = 50


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Node]]:
    limits = f"[limits]\ninvitations = {IN_ALL}\ninvitations_per_peer = {PER_PEER}\n"
    with nodes(tmp_path, 2, "--ephemeral", OPERATOR, configured(tmp_path, limits)) as started:
        yield started
        for node in started:
            is_well(node)


def size(node: Node) -> int:
    assert node.process is not None
    return resident(node.process.pid)


def answered(link: Link) -> None:
    """The node has read all that was sent before."""
    link.record(b"\x02" + bytes(8))
    while link.channel.receive()[0] != 3:
        pass


def hello_to(task: uuid.UUID, urls: list[str], pattern: bytes) -> bytes:
    """An invitation that looks like any other: an honest one, to another task and other nodes."""
    described = description(pattern)
    described["task"] = str(task)
    described["nodes"] = urls
    text = json.dumps(described, separators=(",", ":")).encode()
    return bytes([HELLO, pattern[1], 0]) + secrets.token_bytes(64) + rules(pattern) + counted(text)


def counted(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def begin(pattern: bytes) -> int:
    """Where the description begins in a Hello; in front of it is its length, and before that are the rules."""
    return pattern.index(b'{"protocol"')


def description(pattern: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(pattern[begin(pattern) :])
    return found


def rules(pattern: bytes) -> bytes:
    return pattern[67 : begin(pattern) - 4]


@pytest.fixture
def pattern(two: list[Node]) -> bytes:
    """What an honest node says in a Hello."""
    with hostile() as peer:
        s = Scene(two, peer)
        message = s.part.hear_hello(0).encode()
        for task in s.tasks:
            task.delete()
    return message


def test_invitations_without_end(two: list[Node], pattern: bytes) -> None:
    """Thousands of tasks that nobody knows, of several keys: a few are kept and shown, the rest is dropped with a
    word in the log; those of others are not pushed out."""
    urls = [*urls_of(two), "http://127.0.0.1:9/none"]
    with hostile() as honest_stranger:
        link = honest_stranger.link(two[0].url)
        first = uuid.uuid4()
        link.send(first.bytes, hello_to(first, urls, pattern))
        until(lambda: len(two[0].invitations()) == 1, "the first is shown")
        before = size(two[0])
        for _ in range(3):
            with hostile() as peer:
                flood = peer.link(two[0].url)
                for _ in range(2000):
                    task = uuid.uuid4()
                    flood.send(task.bytes, hello_to(task, urls, pattern))
                answered(flood)
                shown = two[0].invitations()
                assert len(shown) <= IN_ALL
                own = [one for one in shown if one["hellos"] != shown[0]["hellos"]]
                assert len(own) <= IN_ALL
                by_key: dict[str, int] = {}
                for one in shown:
                    (hello,) = one["hellos"]
                    by_key[hello] = by_key.get(hello, 0) + 1
                assert max(by_key.values()) == PER_PEER
                assert str(first) in {one["task"] for one in shown}
        assert "too many pending invitations" in two[0].logged()
        assert size(two[0]) - before < 20 * MB
        # Aborts of a stranger take back its own invitations only.
        link.send(first.bytes, abort({"code": "CANCELLED", "party": 0}, 0))
        until(lambda: str(first) not in {one["task"] for one in two[0].invitations()}, "it is gone")
    other_work(two)


def test_invitations_that_are_none(two: list[Node], pattern: bytes) -> None:
    """Descriptions that do not fit are dropped: nobody is shown what could not be joined."""
    urls = [*urls_of(two), "http://127.0.0.1:9/none"]
    described = description(pattern)
    task = str(uuid.uuid4())
    changes: list[dict[str, object]] = [
        {"protocol": PROTOCOL + 7},
        {"task": str(uuid.uuid4())},
        {"microprotocol": "Nonsense"},
        {"parameters": "{"},
        {"parameters": "[1]"},
        {"nodes": []},
        {"nodes": urls[:1]},
        {"nodes": [f"http://127.0.0.1:9/{index}" for index in range(65)]},
        {"nodes": ["javascript:alert(1)", urls[0]]},
        {"durations": {"join": 0, "input": 1000, "run": 1000, "silence": 1000}},
        {"durations": {"join": 1 << 63, "input": 1000, "run": 1000, "silence": 1000}},
        {"more": 1},
    ]
    with hostile() as peer:
        link = peer.link(two[0].url)
        for change in changes:
            text = json.dumps({**described, "task": task, "nodes": urls, **change}, separators=(",", ":")).encode()
            link.send(uuid.UUID(task).bytes, bytes([HELLO, pattern[1], 0]) + bytes(64) + rules(pattern) + counted(text))
        answered(link)
        assert two[0].invitations() == []
        # The same without a change is shown: nothing else was wrong with them.
        link.send(uuid.UUID(task).bytes, hello_to(uuid.UUID(task), urls, pattern))
        until(lambda: [one["task"] for one in two[0].invitations()] == [task], "it is shown")
    other_work(two)


def test_who_never_acknowledges_is_not_answered_without_end(two: list[Node]) -> None:
    """Each of its Hellos would be answered with another one; a few answers wait for it, no more."""
    with hostile() as peer:
        s = Scene(two, peer)
        s.to_joined()
        link = s.links[0]
        link.acknowledging = False
        before = size(two[0])
        hello = s.part.hello(0)
        hello.has_ours = 0
        for _ in range(10_000):
            s.part.send(0, hello.encode())
        answered(link)
        assert size(two[0]) - before < 10 * MB
        link.pump()
        assert len([1 for _, message in link.inbox if message[0] == HELLO]) < 500
        for task in s.tasks:
            task.delete()
    other_work(two)


def test_aborts_after_the_end(two: list[Node]) -> None:
    with hostile() as peer:
        s = Scene(two, peer)
        s.to_running()
        before = size(two[0])
        for index in range(20_000):
            s.part.send(0, abort({"code": "STORIES_DIFFER"}, index % 3))
        answered(s.links[0])
        assert cause_of(s.tasks[1])["code"] == "STORIES_DIFFER"
        assert size(two[0]) - before < 10 * MB
    other_work(two)


def test_half_messages_without_end(two: list[Node]) -> None:
    """As many as may be under way, to a stranger's longest length, given up and begun again: their memory does
    not add up."""
    with hostile() as peer:
        link = peer.link(two[0].url)
        sizes = []
        for _ in range(8):
            tasks = [secrets.token_bytes(16) for _ in range(256)]
            for task in tasks:
                link.data(task, FIRST, bytes(4000), total=4096)
            answered(link)
            sizes.append(size(two[0]))
            for task in tasks:
                link.data(task, 4)
        answered(link)
        assert sizes[-1] - sizes[1] < 5 * MB
    other_work(two)


def test_tiny_records_without_end(two: list[Node]) -> None:
    """Thousands of parts of a byte, of messages that are never whole, and of messages that are empty, of tasks
    that nobody knows."""
    with hostile() as peer:
        link = peer.link(two[0].url)
        before = size(two[0])
        task = secrets.token_bytes(16)
        link.data(task, FIRST, b"\x01", total=4096)
        for _ in range(4000):
            link.data(task, 0, b"x")
        for _ in range(5000):
            link.data(secrets.token_bytes(16), ONLY, b"")
        answered(link)
        assert size(two[0]) - before < 10 * MB
    other_work(two)


def test_strangers_without_end(two: list[Node], pattern: bytes) -> None:
    """Several hundred valid keys connect at once and stay: those beyond the limit are refused; parties of tasks
    still come in."""
    before = size(two[0])
    channels, refused = [], 0
    with hostile() as party:
        s = Scene(two, party)
        for _ in range(300):
            channel = Channel(Identity(), two[0].url)
            try:
                channel.send(struct.pack("<QQQ", 1, 0, 0))
                channel.receive()
            except Closed:
                refused += 1
                channel.close()
            else:
                channels.append(channel)
        assert refused > 0
        assert len(channels) <= 256
        assert metric(two[0], "fdrtd_peer_connections") <= 256 + 2
        s.to_joined()
        s.go_on("joined")
        s.is_right()
        assert size(two[0]) - before < 256 * MB
        for channel in channels:
            channel.close()
    until(lambda: metric(two[0], "fdrtd_peer_connections") <= 2, "they are gone")
    other_work(two)


def test_connections_of_one_key(two: list[Node]) -> None:
    """The same key again and again: the newest counts, the one before is closed, and nothing said on any of them
    is taken twice or lost."""
    with hostile() as peer:
        s = Scene(two, peer)
        s.to_joined()
        s.give_inputs()
        link = s.links[0]
        for _ in range(30):
            old = link.channel
            link.connect()
            old.closes()
        s.part.get_ready()
        s.part.hear_data()
        vector = s.part.vectors[ME] = s.part.vector(14)
        s.part.send(0, vector)
        seq = link.seq
        for _ in range(5):
            old = link.channel
            link.connect()
            old.closes()
            # What has arrived is known, and comes again all the same.
            for again in range(link.acknowledged, seq):
                link.record(data_record(again, s.id, ONLY, vector))
            link.record(data_record(0, s.id, ONLY, b"\x09"))
        s.part.send(1, vector)
        s.part.close()
        s.is_right()
        assert metric(two[0], "fdrtd_peer_connections") <= 2
    other_work(two)


def test_two_connections_of_one_key_at_once(two: list[Node]) -> None:
    """Two that claim to be the same link, each with its own idea of what was said."""
    with hostile() as peer:
        for _ in range(10):
            one, other = peer.link(two[0].url), peer.link(two[0].url)
            one.channel.closes()
            other.send(bytes(16), b"\x01")
            answered(other)
            other.close()
    other_work(two)


def test_new_sessions_without_end(two: list[Node]) -> None:
    """Regression: each Hello with another nonce makes a new session, of which all other parties are told. A party
    that sent them without end made the node queue as many messages for another party that was away."""
    with hostile() as peer:
        s = Scene(two, peer)
        s.to_joined()
        s.give_inputs()
        for party in s.links:
            s.part.hear_ready(party)
        two[1].kill()
        before = size(two[0])
        with_nonce = s.part.hello(0)
        for _ in range(20_000):
            with_nonce.nonce = secrets.token_bytes(32)
            s.part.send(0, with_nonce.encode())
        answered(s.links[0])
        cause = cause_of(s.tasks[0])
        assert (cause["code"], cause["party"]) == ("PEER_RESTARTED", ME)
        assert size(two[0]) - before < 5 * MB
        two[1].start()


def test_new_lives(two: list[Node]) -> None:
    """An honest node that falls over again and again is greeted again and again, and takes part in the end."""
    with hostile() as peer:
        s = Scene(two, peer)
        s.to_joined()
        s.give_inputs()
        for _ in range(40):
            for link in s.links.values():
                link.restart()
            s.part = Part(str(uuid.UUID(bytes=s.id)), ME, s.links)
            s.part.join()
        for party in s.links:
            s.part.hear_ready(party)
        s.go_on("ready")
        s.is_right()
        for task in s.tasks:
            task.delete()
    other_work(two)
