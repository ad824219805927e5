"""A hostile node that holds a valid key: whatever it says, honest nodes end in time, with the right result or the
same reason, and go on with their other work.

Two honest nodes, and a third party that is scripted (`hostile_peer.py`). `docs/attacks.md` lists all of it.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from harness import DURATIONS, Node, cause_of, nodes, until, urls_of
from hostile_peer import (
    ABORT,
    DATA,
    FIRST,
    GIVE_UP,
    HELLO,
    LAST,
    MIDDLE,
    ONLY,
    PROTOCOL,
    READY,
    RECEIPT,
    Channel,
    Closed,
    Handshake,
    Hello,
    Identity,
    Link,
    Part,
    Peer,
    Socket,
    abort,
    data_record,
    garbage,
    hostile,
)

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}
TWO = {"samples": 2, "sum": 17}
VALUES = (10, 7)
ME = 2
MB = 1 << 20


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two honest nodes that all attacks of this module meet one after the other; in the end they have never
    fallen over."""
    with nodes(tmp_path_factory.mktemp("honest"), 2, "--ephemeral") as started:
        yield started
        for node in started:
            is_well(node)


def is_well(node: Node) -> None:
    assert node.process is not None
    assert node.process.poll() is None
    assert "panicked" not in node.logged()
    assert "INTERNAL" not in node.logged()


def simon(node: Node) -> Any:
    return node.api().select_microservice(protocol="Simon")


def other_work(two: list[Node]) -> None:
    """What the honest nodes have to do with each other goes on."""
    urls = urls_of(two)
    first = simon(two[0]).create(microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations=DURATIONS)
    second = simon(two[1]).join(invitation=first.invite(), network={"nodes": urls, "myself": 1})
    for task, value in zip((first, second), VALUES):
        task.input(data=value)
    for task in (first, second):
        assert task.result(timeout=60)["result"] == TWO
        task.delete()
    for node in two:
        is_well(node)


class Scene:
    """A task of the two and the hostile one, in which everybody knows everybody's key."""

    def __init__(self, two: list[Node], peer: Peer, **durations: float) -> None:
        self.two, self.peer = two, peer
        urls = [*urls_of(two), peer.url]
        self.tasks = [
            simon(two[0]).create(
                microprotocol="SecureSum",
                network={"nodes": urls, "myself": 0},
                durations={**DURATIONS, **durations},
            )
        ]
        invitation = self.tasks[0].invite()
        self.tasks.append(simon(two[1]).join(invitation=invitation, network={"nodes": urls, "myself": 1}))
        self.links = {index: peer.link(two[index].url) for index in (0, 1)}
        self.part = Part(invitation["task"], ME, self.links)
        self.id = self.part.task

    def give_inputs(self) -> None:
        for task, value in zip(self.tasks, VALUES):
            task.input(data=value)

    def both(self, message: bytes) -> None:
        for party in self.links:
            self.part.send(party, message)

    # Up to a stage, as an honest node would do it.

    def to_hello(self) -> None:
        for party in self.links:
            self.part.hear_hello(party)

    def to_joined(self) -> None:
        self.part.join()

    def to_ready(self) -> None:
        self.to_joined()
        self.give_inputs()
        for party in self.links:
            self.part.hear_ready(party)

    def to_running(self) -> None:
        self.to_joined()
        self.give_inputs()
        self.part.get_ready()
        self.part.hear_data()

    def to_opened(self) -> None:
        self.to_running()
        self.part.send_data()

    def go_on(self, stage: str) -> None:
        """The rest, as an honest node would do it."""
        stages = ["hello", "joined", "ready", "running", "opened"]
        at = stages.index(stage)
        if at <= 0:
            for party in self.links:
                self.part.send(party, self.part.hello(party).encode())
        if at <= 1:
            self.give_inputs()
            for party in self.links:
                self.part.hear_ready(party)
        if at <= 2:
            for party in self.links:
                self.part.send(party, self.part.ready(party).encode())
            self.part.hear_data()
        if at <= 3:
            self.part.send_data()
        self.part.close()

    # Outcomes

    def is_right(self) -> None:
        assert [task.result(timeout=60) for task in self.tasks] == [RESULT] * 2

    def ends(self, code: str, party: int | None = ME, **more: Any) -> list[dict[str, Any]]:
        """At both with the same reason."""
        causes = [cause_of(task) for task in self.tasks]
        for cause in causes:
            assert (cause["code"], cause.get("party")) == (code, party), cause
            for name, value in more.items():
                assert cause.get(name) == value, cause
        return causes


@contextmanager
def scene(two: list[Node], **durations: float) -> Iterator[Scene]:
    with hostile() as peer:
        made = Scene(two, peer, **durations)
        yield made
        for task in made.tasks:
            task.delete()
    other_work(two)


Deed = Callable[[Scene], None]


def test_the_script_is_a_party_like_any_other(two: list[Node]) -> None:
    """Without an attack it takes part: otherwise the attacks below would show nothing."""
    with scene(two) as s:
        s.to_hello()
        s.go_on("hello")
        s.is_right()


# Messages of a party that end its task, at both honest parties with the same reason, which names it


def hello_of(s: Scene) -> Hello:
    return s.part.hello(0)


def other_nonce(s: Scene) -> None:
    for party in s.links:
        hello = s.part.hello(party)
        hello.nonce = secrets.token_bytes(32)
        s.part.send(party, hello.encode())


def to_one(s: Scene, message: bytes) -> None:
    s.part.send(0, message)


def other_description(s: Scene, old: bytes, new: bytes) -> None:
    """A Hello to the same task with another text, of the same length."""
    hello = hello_of(s)
    assert old in hello.rest
    assert len(old) == len(new)
    hello.rest = hello.rest.replace(old, new, 1)
    s.both(hello.encode())


def short_hello(s: Scene) -> None:
    s.both(hello_of(s).encode()[:80])


def hello_with_more(s: Scene) -> None:
    s.both(hello_of(s).encode() + b"\0")


def hello_with_false_length(s: Scene) -> None:
    hello = hello_of(s)
    hello.rest = struct.pack("<I", 0xFFFFFFFF) + hello.rest[4:]
    s.both(hello.encode())


def ready_with(s: Scene, **fields: bytes) -> None:
    for party in s.links:
        ready = s.part.ready(party)
        for name, value in fields.items():
            setattr(ready, name, value)
        s.part.send(party, ready.encode())


def cut_ready(s: Scene) -> None:
    s.both(s.part.ready(0).encode()[:-1])


def data_of(s: Scene, round_number: int, payload: bytes, sid: bytes | None = None) -> None:
    s.both(s.part.frame(round_number, payload, sid))


def twice(s: Scene) -> None:
    """Replayed in the next round."""
    s.part.send_data()
    s.both(s.part.vectors[ME])


def old_hello(s: Scene) -> None:
    s.both(s.part.theirs[0].encode())


def too_long(s: Scene) -> None:
    for link in s.links.values():
        link.data(s.id, FIRST, b"\x03" + bytes(5000), total=1 << 40)


def much_early(s: Scene) -> None:
    for _ in range(3):
        data_of(s, 0, bytes(32), bytes(32))


ENDINGS: dict[str, tuple[str, Deed, str]] = {
    # Truncated, with trailing bytes, unreadable, unknown
    "nothing": ("joined", lambda s: s.both(b""), "PEER_MALFORMED"),
    "unknown kind": ("joined", lambda s: s.both(b"\x09whatever"), "PEER_MALFORMED"),
    "unknown kind while running": ("running", lambda s: s.both(b"\xff"), "PEER_MALFORMED"),
    "half a Hello": ("hello", short_hello, "PEER_MALFORMED"),
    "a Hello with more behind it": ("hello", hello_with_more, "PEER_MALFORMED"),
    "a Hello that claims 4 GiB": ("hello", hello_with_false_length, "PEER_MALFORMED"),
    "a cut Ready": ("ready", cut_ready, "PEER_MALFORMED"),
    "a Ready of one byte": ("joined", lambda s: s.both(bytes([READY])), "PEER_MALFORMED"),
    "data without a session": ("joined", lambda s: s.both(bytes([DATA, 1, 2])), "PEER_MALFORMED"),
    "an abort that says nothing": ("joined", lambda s: s.both(bytes([ABORT])), "PEER_MALFORMED"),
    "an abort by party 200": (
        "joined",
        lambda s: s.both(abort({"code": "CANCELLED", "party": 0}, 200)),
        "PEER_MALFORMED",
    ),
    "an abort about party 9": (
        "joined",
        lambda s: s.both(abort({"code": "CANCELLED", "party": 9}, ME)),
        "PEER_MALFORMED",
    ),
    "an abort with words of its own": (
        "joined",
        lambda s: s.both(abort({"code": "CANCELLED", "party": 2, "message": "call 555"}, ME)),
        "PEER_MALFORMED",
    ),
    "a signature of the receipt that is cut": ("running", lambda s: s.both(b"\x05\x01"), "PEER_MALFORMED"),
    # Too much
    "a message of a terabyte, before the data": ("joined", too_long, "PEER_MALFORMED"),
    "a message of a terabyte, instead of the data": ("running", too_long, "PEER_MALFORMED"),
    "more data than the protocol has, early": ("joined", much_early, "PEER_MALFORMED"),
    # Another task than the one agreed on
    "other durations": (
        "hello",
        lambda s: other_description(s, b'"run":60000', b'"run":60001'),
        "DESCRIPTORS_DIFFER",
    ),
    "another description of no kind": (
        "hello",
        lambda s: other_description(s, b'"durations"', b'"durationz"'),
        "PEER_MALFORMED",
    ),
    "other parameters": (
        "hello",
        lambda s: other_description(s, b"digits_after", b"digits_befor"),
        "DESCRIPTORS_DIFFER",
    ),
    # Sessions that do not fit
    "other keys": ("ready", lambda s: ready_with(s, keys=bytes(32)), "KEYS_DIFFER"),
    "another shape": ("ready", lambda s: ready_with(s, shape=bytes(32)), "SHAPES_DIFFER"),
    "a new nonce while it runs": ("running", other_nonce, "PEER_RESTARTED"),
    "a Hello of another party while it runs": ("running", old_hello, "PEER_RESTARTED"),
    # Data that are none
    "another round": ("running", lambda s: data_of(s, 1, bytes(32)), "PEER_MALFORMED"),
    "a round far away": ("running", lambda s: data_of(s, 0xFFFFFFFF, bytes(32)), "PEER_MALFORMED"),
    "a vector too short": ("running", lambda s: data_of(s, 0, bytes(31)), "PEER_MALFORMED"),
    "a vector too long": ("running", lambda s: data_of(s, 0, bytes(33)), "PEER_MALFORMED"),
    "an empty vector": ("running", lambda s: data_of(s, 0, b""), "PEER_MALFORMED"),
    "a header cut": ("running", lambda s: s.both(bytes([DATA]) + s.part.sid + b"\0\0"), "PEER_MALFORMED"),
    "the data again": ("running", twice, "PEER_MALFORMED"),
    "a closing digest that is short": ("opened", lambda s: data_of(s, 1, bytes(31)), "PEER_MALFORMED"),
    # Everybody sees that the digest differs, nobody who lies
    "another closing digest": ("opened", lambda s: data_of(s, 1, bytes(32)), "STORIES_DIFFER"),
    # What it says of itself
    "it leaves": ("running", lambda s: s.both(abort({"code": "CANCELLED", "party": ME}, ME)), "CANCELLED"),
}


@pytest.mark.parametrize("attack", ENDINGS)
def test_what_ends_a_task(two: list[Node], attack: str) -> None:
    stage, deed, code = ENDINGS[attack]
    with scene(two) as s:
        getattr(s, f"to_{stage}")()
        deed(s)
        s.ends(code, None if code == "STORIES_DIFFER" else ME)


@pytest.mark.parametrize("attack", [name for name, entry in ENDINGS.items() if entry[2] != "STORIES_DIFFER"])
def test_told_to_one_only(two: list[Node], attack: str) -> None:
    """The same, said to party 0 alone: it tells party 1, which names the hostile one too."""
    stage, deed, code = ENDINGS[attack]
    if code in ("KEYS_DIFFER", "SHAPES_DIFFER"):
        stage = "ready"
    with scene(two) as s:
        getattr(s, f"to_{stage}")()
        only = s.part.send
        s.part.send = lambda party, message: only(party, message) if party == 0 else None  # type: ignore[method-assign]
        links, s.links = s.links, {0: s.links[0]}
        deed(s)
        s.links = links
        causes = s.ends(code)
        assert causes[1].get("reported_by", ME) in (0, ME)


# Messages that change nothing


def with_stranger(s: Scene, deed: Callable[[Link], None]) -> None:
    """Another valid key, that is no party of this task."""
    with hostile() as stranger:
        for node in s.two:
            link = stranger.link(node.url)
            deed(link)
            # What it sent has been read when it is answered.
            link.record(b"\x02" + bytes(8))
            while link.channel.receive()[0] != 3:
                pass


def forged(s: Scene) -> None:
    """All that party 2 could say, said by somebody else under its own key."""
    part = s.part
    messages = [hello_of(s).encode(), b"\x09", abort({"code": "CANCELLED", "party": 1}, 1)]
    messages += [abort({"code": "CANCELLED", "party": ME}, ME), bytes([READY]) + bytes(160)]
    if part.readies:
        messages += [part.ready(0).encode(), part.frame(0, bytes(32)), part.frame(1, bytes(32))]

    def deed(link: Link) -> None:
        for message in messages:
            link.send(s.id, message)
        link.data(s.id, FIRST, bytes(10), total=1 << 50)

    with_stranger(s, deed)


def same_hello(s: Scene) -> None:
    for party in s.links:
        for _ in range(20):
            s.part.send(party, s.part.hello(party).encode())


def same_ready(s: Scene) -> None:
    for party in s.links:
        for _ in range(20):
            s.part.send(party, s.part.ready(party).encode())


def reflected_ready(s: Scene) -> None:
    """Their own words: it would have said the same, because the digest is the pair's."""
    for party in s.links:
        s.part.send(party, s.part.readies[party].encode())


def of_another_session(s: Scene) -> None:
    data_of(s, 0, garbage(32), garbage(32))


def of_another_task(s: Scene) -> None:
    for party in s.links:
        other = secrets.token_bytes(16)
        for message in (s.part.frame(0, bytes(32)), s.part.ready(party).encode(), b"\x09"):
            s.links[party].send(other, message)


def old_ready(s: Scene) -> None:
    for party in s.links:
        ready = s.part.ready(party)
        ready.sid = bytes(32)
        s.part.send(party, ready.encode())


def in_tiny_parts(s: Scene) -> None:
    """Its data, byte by byte; the rest follows as usual."""
    part = s.part
    part.vectors[ME] = part.vector(14)
    message = part.vectors[ME]
    for link in s.links.values():
        link.data(s.id, FIRST, message[:1], total=len(message))
        for index in range(1, len(message) - 1):
            link.data(s.id, MIDDLE, message[index : index + 1])
        link.data(s.id, LAST, message[-1:])
    part.close()


def half_and_given_up(s: Scene) -> None:
    for link in s.links.values():
        link.data(s.id, FIRST, bytes(10), total=1000)
        link.data(s.id, MIDDLE, bytes(10))
        link.data(s.id, GIVE_UP)


def interleaved(s: Scene) -> None:
    """Half messages of other tasks around, and records of old sequence numbers between."""
    for link in s.links.values():
        others = [secrets.token_bytes(16) for _ in range(50)]
        for other in others:
            link.data(other, FIRST, b"\x01" + bytes(9), total=2000)
        for seq in range(5):
            link.record(data_record(seq, s.id, ONLY, b"\x09 repeated"))
        for other in others[::2]:
            link.data(other, MIDDLE, bytes(100))


IGNORED: dict[str, tuple[str, Deed]] = {
    "forged by a stranger, before it joins": ("hello", forged),
    "forged by a stranger, before the data": ("ready", forged),
    "forged by a stranger, while it runs": ("running", forged),
    "the same Hello again and again": ("joined", same_hello),
    "the same Hello while it runs": ("running", same_hello),
    "the same Ready again and again": ("ready", same_ready),
    "the same Ready while it runs": ("running", same_ready),
    "a reflected Ready": ("ready", reflected_ready),
    "a Ready of another session, before its own": ("ready", old_ready),
    "a Ready of another session while it runs": ("running", old_ready),
    "data of another session": ("running", of_another_session),
    "data of another session, at the end": ("opened", of_another_session),
    "messages of other tasks": ("ready", of_another_task),
    "a half message that is given up": ("running", half_and_given_up),
    "half messages of other tasks and repeated records": ("running", interleaved),
}


@pytest.mark.parametrize("attack", IGNORED)
def test_what_changes_nothing(two: list[Node], attack: str) -> None:
    stage, deed = IGNORED[attack]
    with scene(two) as s:
        getattr(s, f"to_{stage}")()
        deed(s)
        s.go_on(stage)
        s.is_right()


def test_data_in_tiny_parts(two: list[Node]) -> None:
    with scene(two) as s:
        s.to_running()
        in_tiny_parts(s)
        s.is_right()


# Lies


@pytest.mark.parametrize("digest", ["its own", "the one that each expects", "none"])
def test_two_stories_are_found_out(two: list[Node], digest: str) -> None:
    """Different data to two honest parties. Even with the digest that each expects, they compare theirs with each
    other."""
    with scene(two, run=60, silence=20) as s:
        s.to_running()
        stories = {0: s.part.vector(14), 1: s.part.vector(1_000_014)}
        for party, story in stories.items():
            s.part.send(party, story)
        if digest != "none":
            mirrored = {}
            for party, story in stories.items():
                s.part.vectors[ME] = story
                mirrored[party] = s.part.receive(party, DATA)
                assert mirrored[party] == s.part.closing(s.part.result())
            # Only now: the first to notice tells the other, who then says no more.
            for party, closing in mirrored.items():
                s.part.send(party, closing if digest != "its own" else s.part.closing('{"samples":3,"sum":1}'))
        s.ends("STORIES_DIFFER", None)


def test_a_reflected_vector_is_another_story(two: list[Node]) -> None:
    with scene(two) as s:
        s.to_running()
        s.part.send(0, s.part.vectors[0])
        s.part.send(1, s.part.vector(14))
        s.ends("STORIES_DIFFER", None)


def test_a_reflected_hello_is_no_session(two: list[Node]) -> None:
    """A node's own Hello with its own seed sent back: the session counts as any other, its secrets are those of
    that pair alone."""
    with scene(two) as s:
        for party in s.links:
            s.part.hear_hello(party)
            s.part.seeds[party] = s.part.theirs[party].seed
        s.part.nonce = s.part.theirs[0].nonce
        s.go_on("hello")
        s.is_right()


@pytest.mark.parametrize(
    ("reason", "by", "expected"),
    [
        ({"code": "PEER_MALFORMED", "party": 1}, 0, ("PEER_MALFORMED", 1)),
        ({"code": "STORIES_DIFFER"}, 1, ("STORIES_DIFFER", None)),
        ({"code": "CANCELLED", "party": 0}, 0, ("CANCELLED", 0)),
        ({"code": "KEYS_DIFFER", "party": 1}, ME, ("KEYS_DIFFER", 1)),
        ({"code": "PEER_SILENT", "party": 0}, 1, ("PEER_SILENT", 0)),
    ],
)
def test_a_lying_reason_is_shown_with_its_origin(
    two: list[Node], reason: dict[str, Any], by: int, expected: tuple[str, int | None]
) -> None:
    """It may end the task at any time; but whoever reads why sees who has said so, a thousand times or once."""
    with scene(two) as s:
        s.to_running()
        for _ in range(1000):
            s.part.send(0, abort(reason, by))
        first, second = s.ends(*expected)
        assert first["reported_by"] == by
        assert first.get("passed_on_by") == (ME if by != ME else None)
        # Party 0 has no word of it: what it passes on is marked as passed on.
        assert second["reported_by"] == by
        assert second.get("passed_on_by") == (0 if by != 0 else None)


def test_a_story_after_the_end_changes_nothing(two: list[Node]) -> None:
    with scene(two) as s:
        s.to_hello()
        s.go_on("hello")
        s.is_right()
        s.both(abort({"code": "STORIES_DIFFER"}, ME))
        s.both(b"\x09")
        s.both(s.part.frame(2, bytes(32)))
        for party in s.links:
            s.part.receive(party, RECEIPT)
        # Signatures that do not hold, each of which asks for one in return.
        for _ in range(100):
            s.both(bytes([RECEIPT, 1]) + bytes(64))
        s.both(bytes([RECEIPT]))
        other_nonce(s)
        # Whoever comes back after the end is told that it was started anew.
        for party in s.links:
            told = s.part.receive(party, ABORT)
            assert b"PEER_RESTARTED" in told
            signatures = [message for _, message in s.links[party].inbox if message[:1] == bytes([RECEIPT])]
            assert 1 <= len(signatures) <= 20
        s.is_right()


# Silence


@pytest.mark.parametrize(
    ("stage", "code", "party"),
    [
        ("hello", "EXPIRED", ME),
        ("joined", "EXPIRED", ME),
        ("ready", "EXPIRED", ME),
        ("running", "PEER_SILENT", ME),
    ],
)
def test_silence(two: list[Node], stage: str, code: str, party: int) -> None:
    """It answers nothing any more, not even pings, and keeps its connections."""
    with scene(two, join=2 if stage == "hello" else 60, input=2, silence=1) as s:
        getattr(s, f"to_{stage}")()
        if stage == "joined":
            s.give_inputs()
        s.ends(code, party)


def test_silence_before_the_last_word(two: list[Node]) -> None:
    """The result is there, and both know who did not confirm it."""
    with scene(two, silence=1) as s:
        s.to_opened()
        for task in s.tasks:
            result = task.result(timeout=60)
            assert result["result"] == RESULT["result"]
            (warning,) = result["warnings"]
            assert (warning["code"], warning["parties"]) == ("UNCONFIRMED", [ME])


def test_ready_for_another_session(two: list[Node]) -> None:
    """Or with another secret: never compared as equal, so the task ends when its time is over, and names it."""
    for fields in ({"sid": bytes(32)}, {"pair": bytes(32)}):
        with scene(two, input=2) as s:
            s.to_ready()
            ready_with(s, **fields)
            s.ends("EXPIRED")


def test_pings_keep_no_task_alive(two: list[Node]) -> None:
    """It answers every ping and sends what nobody needs; the time of the computation ends all the same."""
    with scene(two, run=2, silence=60) as s:
        s.to_running()

        def ended() -> bool:
            for link in s.links.values():
                link.pump(0.01)
            of_another_session(s)
            return all(task.progress()["state"] != "running" for task in s.tasks)

        until(ended, "the time is over")
        s.ends("EXPIRED")


# Records


def replayed_record(s: Scene, link: Link) -> None:
    link.acknowledge()
    link.channel.socket.send(link.channel.sealed[-1])


def reordered_records(s: Scene, link: Link) -> None:
    out = link.channel.out
    first, second = out.seal(b"\x01" + bytes(8)), out.seal(b"\x01" + bytes(8))
    link.channel.socket.send(second)
    link.channel.socket.send(first)


def many_halves(s: Scene, link: Link) -> None:
    for _ in range(257):
        link.data(secrets.token_bytes(16), FIRST, b"\x01" + bytes(60), total=4000)


def too_many_bytes(s: Scene, link: Link) -> None:
    link.data(s.id, FIRST, bytes(10), total=15)
    link.data(s.id, MIDDLE, bytes(10))


def too_few_bytes(s: Scene, link: Link) -> None:
    link.data(s.id, FIRST, bytes(10), total=100)
    link.data(s.id, LAST, bytes(10))


def complete_without_end(s: Scene, link: Link) -> None:
    link.data(s.id, FIRST, bytes(10), total=20)
    link.data(s.id, MIDDLE, bytes(10))


def message_in_message(s: Scene, link: Link) -> None:
    link.data(s.id, FIRST, bytes(10), total=20)
    link.data(s.id, ONLY, bytes(10))


def other_tasks_rest(s: Scene, link: Link) -> None:
    """The rest of a message of one task comes under the name of another."""
    link.data(s.id, FIRST, bytes(10), total=20)
    link.data(secrets.token_bytes(16), LAST, bytes(10))


VIOLATIONS: dict[str, Callable[[Scene, Link], None]] = {
    "empty": lambda s, link: link.record(b""),
    "unknown kind": lambda s, link: link.record(b"\x07" + bytes(8)),
    "cut header": lambda s, link: link.record(b"\0" + bytes(20)),
    "an acknowledgement with more behind it": lambda s, link: link.record(b"\x01" + bytes(9)),
    "a ping with more behind it": lambda s, link: link.record(b"\x02" + bytes(1000)),
    "a gap in the sequence": lambda s, link: link.record(data_record(link.seq + 1, s.id, ONLY, b"x")),
    "a gap of 2^64": lambda s, link: link.record(data_record((1 << 64) - 1, s.id, ONLY, b"x")),
    "acknowledged what was never sent": lambda s, link: link.record(b"\x01" + struct.pack("<Q", 1000)),
    "acknowledged 2^64 - 1": lambda s, link: link.record(b"\x01" + b"\xff" * 8),
    "unknown part": lambda s, link: link.data(s.id, 5, b"x"),
    "a middle without a begin": lambda s, link: link.data(s.id, MIDDLE, b"x"),
    "an end without a begin": lambda s, link: link.data(s.id, LAST, b"x"),
    "nothing given up": lambda s, link: link.data(s.id, GIVE_UP),
    "given up with more behind it": lambda s, link: link.data(s.id, GIVE_UP, b"x"),
    "an empty first part": lambda s, link: link.data(s.id, FIRST, b"", total=10),
    "a first part that is the whole": lambda s, link: link.data(s.id, FIRST, bytes(10), total=10),
    "a first part that is more": lambda s, link: link.data(s.id, FIRST, bytes(10), total=0),
    "more bytes than announced": too_many_bytes,
    "fewer bytes than announced": too_few_bytes,
    "a whole without its end": complete_without_end,
    "a message within a message": message_in_message,
    "the rest under another task's name": other_tasks_rest,
    "more half messages than may be under way": many_halves,
    "a replayed record": replayed_record,
    "records in another order": reordered_records,
    "a record of garbage": lambda s, link: link.channel.socket.send(garbage(100)),
    "a record shorter than its tag": lambda s, link: link.channel.socket.send(b"short"),
    "an empty frame": lambda s, link: link.channel.socket.send(b""),
    "a frame longer than a record": lambda s, link: link.channel.socket.send(bytes(70_000)),
    "a frame that claims 2^63 bytes": lambda s, link: link.channel.socket.raw(b"\x82\xff\x7f" + b"\xff" * 7 + bytes(4)),
    "text": lambda s, link: link.channel.socket.send(b'{"hello": 1}', 1),
    "a frame without mask": lambda s, link: link.channel.socket.raw(b"\x82\x05hello"),
    "no WebSocket at all": lambda s, link: link.channel.socket.raw(b"GET / HTTP/1.1\r\n\r\n" * 20),
}


@pytest.mark.parametrize("attack", VIOLATIONS)
def test_what_ends_a_connection(two: list[Node], attack: str) -> None:
    """And the connection only: nothing of it is taken, the task waits, and when the peer comes back as if it were
    started anew the result is right."""
    with scene(two) as s:
        s.to_joined()
        for link in s.links.values():
            VIOLATIONS[attack](s, link)
        for link in s.links.values():
            link.channel.closes()
            link.restart()
        s.part.join()
        s.go_on("joined")
        s.is_right()


@pytest.mark.parametrize("attack", ["a gap in the sequence", "a record of garbage", "more bytes than announced"])
def test_what_ends_a_connection_while_it_runs(two: list[Node], attack: str) -> None:
    with scene(two) as s:
        s.to_running()
        for link in s.links.values():
            VIOLATIONS[attack](s, link)
        for link in s.links.values():
            link.channel.closes()
            link.restart()
        s.ends("PEER_RESTARTED")


def test_records_are_taken_once_after_a_reconnect(two: list[Node]) -> None:
    """All records again, under their old numbers, on a new connection: as a resumed link may send them."""
    with scene(two) as s:
        s.to_running()
        s.part.vectors[ME] = s.part.vector(14)
        for link in s.links.values():
            link.channel.close()
            link.connect()
            seq = link.seq
            for old in range(seq):
                link.record(data_record(old, s.id, ONLY, s.part.vectors[ME]))
            link.send(s.id, s.part.vectors[ME])
        s.part.close()
        s.is_right()


def test_a_record_of_an_earlier_connection(two: list[Node]) -> None:
    with scene(two) as s:
        s.to_joined()
        for link in s.links.values():
            recorded = list(link.channel.sealed)
            link.channel.close()
            link.connect()
            for record in recorded[1:2]:
                link.channel.socket.send(record)
            link.channel.closes()
            link.restart()
        s.part.join()
        s.go_on("joined")
        s.is_right()


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        bytes(24),
        bytes(23),
        struct.pack("<QQQ", 5, 0, 77),
        bytes(range(25)),
        struct.pack("<QQQ", 1, 1 << 63, 1 << 63),
    ],
)
def test_greetings_of_a_link_that_are_none(two: list[Node], greeting: bytes) -> None:
    """Malformed, or with claims of what it has received from an incarnation that it cannot know."""
    with hostile() as peer:
        for node in two:
            channel = Channel(peer.identity, node.url)
            channel.send(greeting)
            if greeting[8:] not in (struct.pack("<QQ", 0, 77), struct.pack("<QQ", 1 << 63, 1 << 63)):
                channel.closes()
            channel.close()
    other_work(two)


def test_a_greeting_that_has_received_more_than_was_sent(two: list[Node]) -> None:
    with scene(two) as s:
        s.to_joined()
        for link in s.links.values():
            link.channel.close()
            link.connect(received=1 << 40)
            link.channel.closes()
            link.restart()
        s.part.join()
        s.go_on("joined")
        s.is_right()


# Handshakes


def refused(node: Node, talk: Callable[[Socket], None]) -> str:
    channel = Socket(node.url)
    talk(channel)
    try:
        while True:
            kind, answer = channel.receive()
            if kind == 1:
                return answer.decode()
    except Closed as closed:
        return str(closed)
    finally:
        channel.close()


def opening(url: str, version: int = PROTOCOL) -> bytes:
    return b'{"fdrtd":%d,"from":null,"to":"%s"}' % (version, url.encode())


def after_opening(node: Node, message: bytes) -> Callable[[Socket], None]:
    def talk(channel: Socket) -> None:
        channel.send(opening(node.url), 1)
        channel.send(message)

    return talk


def handshake(
    node: Node,
    *,
    prologue: bytes | None = None,
    pattern: bytes = b"Noise_XX_25519_AESGCM_SHA256",
    certificate: bytes | None = None,
    change: Callable[[bytes], bytes] = lambda message: message,
) -> str:
    """A handshake with something wrong in it; whether the node has taken it shows in its greeting."""
    identity = Identity()
    text = opening(node.url)
    made = Handshake(identity, (b"fdrtd/1 " if prologue is None else prologue) + text, pattern)
    channel = Socket(node.url)
    channel.send(text, 1)
    channel.send(made.first())
    try:
        made.second(channel.receive()[1])
    except Closed:
        raise
    except Exception:
        # The node's answer does not open: that is where an honest dialler stops. This one goes on.
        channel.send(garbage(48 + 128 + 16))
    else:
        channel.send(change(made.third(certificate)))
    try:
        channel.receive()
        return "accepted"
    except Closed as closed:
        return str(closed)
    finally:
        channel.close()


def test_handshakes_that_are_none(two: list[Node]) -> None:
    node = two[0]
    stolen, other = Identity().certificate, Identity()
    assert handshake(node) == "accepted"
    for attack in (
        handshake(node, prologue=b""),
        handshake(node, prologue=b"fdrtd/0 "),
        handshake(node, pattern=b"Noise_XX_25519_ChaChaPoly_SHA256"),
        handshake(node, pattern=b"Noise_NN_25519_AESGCM_SHA256"),
        handshake(node, certificate=stolen),
        handshake(node, certificate=other.key + other.noise + bytes(64)),
        handshake(node, certificate=bytes(128)),
        handshake(node, certificate=b""),
        handshake(node, change=lambda message: message[:-1]),
        handshake(node, change=lambda message: message + b"\0"),
        handshake(node, change=lambda message: bytes([message[0] ^ 1]) + message[1:]),
        refused(node, after_opening(node, b"")),
        refused(node, after_opening(node, bytes(31))),
        refused(node, after_opening(node, bytes(33))),
        refused(node, after_opening(node, garbage(3000))),
        refused(node, lambda channel: channel.send(opening(node.url))),
        refused(node, lambda channel: channel.send(b"{}", 1)),
        refused(node, lambda channel: channel.send(b"x" * 3000, 1)),
        refused(node, lambda channel: channel.send(b'{"fdrtd":%d}' % PROTOCOL, 1)),
        refused(node, lambda channel: channel.raw(b"\xff" * 500)),
    ):
        assert attack != "accepted"

    def with_zeros(channel: Socket) -> None:
        after_opening(node, bytes(32))(channel)
        channel.receive()
        channel.send(garbage(48 + 128 + 16))

    # The point that gives everybody the same secret costs only the dialler its own: it still has to prove a key.
    assert refused(node, with_zeros) != "accepted"
    other_work(two)


@pytest.mark.parametrize("version", [0, PROTOCOL + 1, 4294967295])
def test_other_versions_are_told_which_one_is_spoken(two: list[Node], version: int) -> None:
    said = refused(two[0], lambda channel: channel.send(opening(two[0].url, version), 1))
    assert said == f'{{"error":"VERSION","speaks":[{PROTOCOL}]}}'


def test_a_nodes_own_key_is_no_peer(two: list[Node]) -> None:
    """Its certificate reflected: it is public, the key behind it is not."""
    with hostile() as peer:
        channel = Channel(peer.identity, two[0].url)
        assert len(channel.peer) == 32
        channel.close()
    made = Handshake(Identity(), b"fdrtd/1 " + opening(two[0].url))
    socket = Socket(two[0].url)
    socket.send(opening(two[0].url), 1)
    socket.send(made.first())
    certificate = made.second(socket.receive()[1])
    socket.send(made.third(certificate))
    with pytest.raises(Closed):
        socket.receive()
    socket.close()


def test_a_url_that_shows_anothers_key(two: list[Node]) -> None:
    """A node behind a URL shows somebody else's identity document, and connects with its own key: it is no party."""
    victim, thief = Identity(), Identity()
    peer = Peer(thief, shows=victim)
    try:
        urls = [*urls_of(two), peer.url]
        task = simon(two[0]).create(
            microprotocol="SecureSum", network={"nodes": urls, "myself": 0}, durations={**DURATIONS, "join": 2}
        )
        simon(two[1]).join(invitation=task.invite(), network={"nodes": urls, "myself": 1})
        link = peer.link(two[0].url)
        hello = bytes([HELLO, 0, 0]) + bytes(64)
        link.send(UUID(task.progress()["task"]).bytes, hello)
        cause = cause_of(task)
        assert (cause["code"], cause["party"]) == ("EXPIRED", ME)
        link.pump()
        assert not [message for _, message in link.inbox if message[0] in (HELLO, READY, DATA)]
    finally:
        peer.close()
    other_work(two)
