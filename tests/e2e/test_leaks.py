"""Inputs, stored values, secrets and the names of objects stay where they belong.

Random markers are searched for, in every encoding in which they could appear, in all that leaves a node or is written
by it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import random
import struct
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fdrtd
import numpy as np
import pytest
from harness import DURATIONS, Node, cause_of, has_input, until, urls_of
from proxy import Proxy, proxies

GRID = 10**12
# Shorter than this a pattern could be anywhere by chance.
SHORTEST = 8

Patterns = dict[bytes, str]


def forms_of_bytes(data: bytes) -> Iterator[bytes]:
    """As they are, as hexadecimal, as base64 at any place within more, and as a list of numbers."""
    yield data
    yield data.hex().encode()
    yield data.hex().upper().encode()
    yield ", ".join(map(str, data)).encode()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data + bytes(3))
        # Only the characters that depend on nothing but the data.
        part = whole[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield part
        yield part.replace(b"+", b"-").replace(b"/", b"_")


def forms_of_number(text: str) -> Iterator[bytes]:
    """A number as text, as a float and as an integer on the grid, whole or by machine words."""
    value = Decimal(text)
    grid = int(value * GRID)
    for plain in (text, repr(float(value)), str(grid), str(abs(grid)), str(grid % 2**64), f"{float(value):.16e}"):
        yield plain.encode()
    for order in ("<", ">"):
        yield from forms_of_bytes(struct.pack(order + "d", float(value)))
    for number in {grid, int(value)} if value == int(value) else {grid}:
        # Two's complement. Longer integers contain their low word, and so do all their forms.
        low = number % 2**64
        yield from forms_of_bytes(low.to_bytes(8, "little"))
        yield from forms_of_bytes(low.to_bytes(8, "big"))


def patterns_of(numbers: Iterable[str] = (), texts: Iterable[str] = (), secrets: Iterable[bytes] = ()) -> Patterns:
    """What to search for, and what was found then."""
    found: Patterns = {}
    for text in numbers:
        found.update({form: f"the number {text}" for form in forms_of_number(text)})
    for text in texts:
        found[text.encode()] = f"the text {text}"
    for secret in secrets:
        found.update({form: f"the secret {secret.hex()}" for form in forms_of_bytes(secret)})
    assert all(len(form) >= SHORTEST for form in found)
    return found


def search(where: bytes, patterns: Patterns) -> set[str]:
    """What is there. All patterns in one pass over every eight bytes."""
    starts: dict[int, list[bytes]] = {}
    for form in patterns:
        starts.setdefault(int.from_bytes(form[:8], "little"), []).append(form)
    wanted = np.array(sorted(starts), dtype="<u8")
    found = set()
    for offset in range(min(8, len(where))):
        words = np.frombuffer(where, dtype="<u8", count=(len(where) - offset) // 8, offset=offset)
        for hit in np.nonzero(np.isin(words, wanted))[0]:
            for form in starts[int(words[hit])]:
                if where.startswith(form, int(hit) * 8 + offset):
                    found.add(patterns[form])
    return found


def markers(count: int, randomness: random.Random) -> list[str]:
    """Decimals of 17 digits and whole numbers of 16 to 18, some of them negative."""
    texts = []
    for index in range(count):
        sign = randomness.choice(["", "-"])
        if index % 2:
            texts.append(f"{sign}{randomness.randrange(10_000, 100_000)}.{randomness.randrange(10**11, 10**12) | 1}")
        else:
            texts.append(f"{sign}{randomness.randrange(10**15, 10**18)}")
    return texts


def files_of(node: Node) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted((node.directory / "data").rglob("*")) if path.is_file())


def said_by(node: Node) -> bytes:
    """The log and standard output."""
    return node.log.read_bytes() + "".join(node.output).encode()


def ask(url: str, method: str = "GET", path: str = "", body: str | None = None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, parts.path + path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def numbers(texts: list[str]) -> list[Decimal]:
    """For the client, which writes them as they are here."""
    return [Decimal(text) for text in texts]


def sum_of(texts: list[str]) -> str:
    return format(sum(numbers(texts)), "f")


class Case:
    """Three nodes that log everything, with proxies that listen in."""

    def __init__(self, nodes: list[Node], between: list[Proxy], seed: int) -> None:
        self.nodes = nodes
        self.between = between
        self.urls = [proxy.url for proxy in between]
        self.randomness = random.Random(seed)
        self.simons = [node.api().select_microservice(protocol="Simon") for node in nodes]

    def network(self, index: int) -> dict[str, Any]:
        return {"nodes": self.urls, "myself": index}

    def create(self, api: fdrtd.Api | None = None, microprotocol: str = "SecureSum") -> Any:
        simon = api.select_microservice(protocol="Simon") if api else self.simons[0]
        return simon.create(microprotocol=microprotocol, network=self.network(0), durations=DURATIONS)

    def tasks(self, microprotocol: str = "SecureSum") -> list[Any]:
        first = self.create(microprotocol=microprotocol)
        invitation = first.invite()
        return [first, *(self.simons[i].join(invitation=invitation, network=self.network(i)) for i in (1, 2))]

    def traffic(self) -> bytes:
        return b"\n".join(proxy.captured() for proxy in self.between)

    def logs(self) -> bytes:
        return b"\n".join(said_by(node) for node in self.nodes)

    def files(self) -> bytes:
        return b"\n".join(files_of(node) for node in self.nodes)

    def pages(self) -> bytes:
        return b"\n".join(
            ask(node.url, path=path)[1] for node in self.nodes for path in ("/metrics", "/tasks", "/identity")
        )

    def assert_nowhere(self, patterns: Patterns, *more: bytes) -> None:
        places = {
            "the traffic between the nodes": self.traffic(),
            "the logs": self.logs(),
            "the data directories": self.files(),
            "the pages": self.pages(),
            "the answers": b"\n".join(more),
        }
        # That the places are the right ones: what does have to be there is there.
        assert b"Upgrade: websocket" in places["the traffic between the nodes"]
        assert b"TRACE" in places["the logs"]
        assert b"SQLite format 3" in places["the data directories"]
        assert b"fdrtd_tasks_created_total" in places["the pages"]
        found = {place: search(content, patterns) for place, content in places.items()}
        assert found == dict.fromkeys(places, set())


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    started: list[Node] = []
    try:
        for index in range(3):
            form = "--log-format=json" if index == 1 else "--log-format=text"
            started.append(Node(tmp_path / f"node{index}", index, form, FDRTD_LOG="trace"))
        with proxies(urls_of(started), capturing=True) as between:
            yield Case(started, between, random.randrange(2**32))
    finally:
        for node in started:
            node.kill()


def test_the_search_finds_every_form() -> None:
    texts = ("-4711.123456789012", "123456789012345678")
    for text, other in zip(texts, reversed(texts)):
        patterns = patterns_of([text])
        for form in patterns:
            assert search(b"abc" + form + b"xyz", patterns) == {f"the number {text}"}
        assert search(b"".join(patterns_of([other])), patterns) == set()
        # Wider than a machine word, too.
        wide = int(Decimal(text) * GRID).to_bytes(24, "little", signed=True)
        for form in (wide, wide[::-1], base64.b64encode(b"x" + wide), str(list(wide)).encode(), wide.hex().encode()):
            assert search(form, patterns) == {f"the number {text}"}


def test_inputs_and_stored_values(case: Case) -> None:
    texts = markers(64, case.randomness)
    shares = [texts[:22], texts[22:43], texts[43:]]
    # What a party adds up by itself is as private as what it is the sum of.
    patterns = patterns_of(texts + [sum_of(share) for share in shares])
    listening = Proxy(urlsplit(case.nodes[0].url).path, case.nodes[0].url, capturing=True)
    api = case.nodes[0].api(listening.url)
    stored = api.select_microservice(microservice="KeyValueStorage").create(value=numbers(shares[0]))
    first = case.create(api)
    invitation = first.invite()
    first.input(source=stored)
    second = case.simons[1].join(invitation=invitation, network=case.network(1))
    second.input(data=numbers(shares[1]))
    third = case.simons[2].join_task(invitation=invitation, network=case.network(2))
    third.input(data=numbers(shares[2][:10]))
    third.input(data=numbers(shares[2][10:]))
    until(lambda: has_input(third, 0) and has_input(third, 1), "the inputs are announced")
    # Inputs lie in the data directories now, and nowhere else.
    case.assert_nowhere(patterns)
    case.nodes[1].kill()
    until(lambda: not first.progress()["parties"][1]["connected"], "the others notice")
    until(lambda: not third.progress()["parties"][1]["connected"], "the others notice")
    case.nodes[1].start()
    third.start()
    results = [task.result(timeout=60) for task in (first, second, third)]
    assert results == [{"inputs": 3, "result": {"samples": 64, "sum": results[0]["result"]["sum"]}}] * 3
    assert results[0]["result"]["sum"] == pytest.approx(float(sum_of(texts)), rel=1e-15)
    answers = [json.dumps(task.progress()).encode() for task in (first, second, third)]
    case.assert_nowhere(patterns, *answers)
    stored.delete()
    for task in (first, second, third):
        task.delete()
    case.assert_nowhere(patterns)
    # The same search finds the numbers where they do have to be: on the way from the client to its node.
    assert search(listening.captured(), patterns) == {f"the number {text}" for text in shares[0]}
    listening.close()


@pytest.mark.parametrize(
    ("microprotocol", "ranks"), [("SecureMedian", {"median": 7}), ("MinimumMaximum", {"minimum": 0, "maximum": 14})]
)
def test_what_is_compared(case: Case, microprotocol: str, ranks: dict[str, int]) -> None:
    """A single value opens, or two, and none of the others; not even the others know theirs."""
    texts = sorted(markers(15, case.randomness), key=Decimal)
    opens = [texts[rank] for rank in ranks.values()]
    patterns = patterns_of(text for text in texts if text not in opens)
    shares = [texts[place::3] for place in range(3)]
    tasks = case.tasks(microprotocol)
    for task, share in zip(tasks, shares):
        task.input(data=numbers(share))
    results = [task.result(timeout=60) for task in tasks]
    assert results[0] == results[1] == results[2]
    for name, rank in ranks.items():
        assert results[0]["result"][name] == pytest.approx(float(texts[rank]), rel=1e-15)
    answers = [json.dumps([each, task.progress()]).encode() for each, task in zip(results, tasks)]
    case.assert_nowhere(patterns, *answers)
    # What opens is told to the callers, and stands nowhere else.
    case.assert_nowhere(patterns_of(opens))


def test_refused_inputs(case: Case) -> None:
    """What cannot be used is refused without being repeated."""
    randomness = case.randomness
    ugly = {
        "too large": f"{randomness.randrange(10**25, 10**26)}.5",
        "too fine": f"0.000000000000{randomness.randrange(10**16, 10**17)}",
        "a text": f'"{randomness.randrange(10**16, 10**17)}"',
        "a list in a list": f"[[{randomness.randrange(10**16, 10**17)}]]",
        "in an object": f'{{"a": {{"b": {randomness.randrange(10**16, 10**17)}}}}}',
        "among vectors": f'{{"vectors": [[1, 2], [{randomness.randrange(10**16, 10**17)}]]}}',
        "not JSON": f"[{randomness.randrange(10**16, 10**17)},,]",
        "cut off": f"[{randomness.randrange(10**16, 10**17)}, 1.5",
        "twice": f'{{"a": {randomness.randrange(10**16, 10**17)}, "a": 1}}',
        "too deep": "[" * 70 + f"{randomness.randrange(10**16, 10**17)}" + "]" * 70,
        "too large an exponent": f"{randomness.randrange(10**16, 10**17)}e999999999",
        "leading zero": f"0{randomness.randrange(10**16, 10**17)}",
    }
    fine = markers(6, randomness)
    digits = ["".join(character for character in text if character in "0123456789.") for text in ugly.values()]
    patterns = patterns_of(fine) | {text.strip(".").encode(): f"the text {text}" for text in digits}
    first, second, third = case.tasks()
    node = case.nodes[0].url
    handle = fdrtd.to_dict(first)
    storage = fdrtd.to_dict(case.nodes[0].api().select_microservice(microservice="KeyValueStorage"))

    def call(target: dict[str, Any], function: str, parameters: str) -> bytes:
        callback = "" if target.get("callback") is None else f', "callback": {json.dumps(target["callback"])}'
        service = json.dumps(target["handle"])
        body = f'{{"handle": {service}, "function": "{function}", "parameters": {parameters}{callback}}}'
        status, answer = ask(node, "POST", body=body)
        assert status >= 400, (function, parameters)
        assert json.loads(answer)["code"]
        return answer

    bodies = [call(handle, "input", f'{{"data": {text}}}') for text in ugly.values()]
    assert {json.loads(body)["code"] for body in bodies[:2]} == {"INPUT_REFUSED"}
    bodies += [
        call(handle, "input", f'{{"data": [{fine[0]}, null]}}'),
        call(handle, "input", f'{{"data": [{fine[0]}], "source": {fine[1]}}}'),
        call(handle, "input", f'{{"date": [{fine[0]}]}}'),
        call(handle, "input", f"[{fine[0]}]"),
        call(handle, "inputs", f'{{"data": [{fine[0]}]}}'),
        call(storage, "create", f'{{"value": {fine[0]}, "more": {fine[1]}}}'),
        call(storage, "create", f'{{"value": {fine[0]}, "storage": {fine[1]}}}'),
        call(storage, "store", f'{{"value": {fine[0]}}}'),
        ask(node, "PUT", body=f'{{"microservice": {fine[0]}}}')[1],
        ask(node, "POST", body=f"[{fine[0]}")[1],
        ask(node, "POST", path="/elsewhere", body=fine[0])[1],
    ]
    # Nothing of it was an input: the task can still be used. It ends because the parties' inputs differ in form.
    first.input(data=numbers(fine[:2]))
    bodies.append(call(handle, "input", f'{{"data": [{fine[2]}]}}'))
    second.input(data=numbers(fine[2:4]))
    third.input(data={"vectors": [numbers(fine[4:])]})
    causes = [cause_of(task) for task in (first, second, third)]
    assert {cause["code"] for cause in causes} == {"SHAPES_DIFFER"}
    bodies += [call(handle, "result", "{}"), call(handle, "input", f'{{"data": {fine[2]}}}')]
    bodies += [json.dumps([cause, task.progress()]).encode() for cause, task in zip(causes, (first, second, third))]
    assert search(b"".join(digit.encode() + b" " for digit in digits), patterns) >= {f"the text {digits[0]}"}
    case.assert_nowhere(patterns, *bodies)


def test_columns_and_objects(case: Case) -> None:
    """Names of columns do not travel, and names of objects and secret keys are not written down."""
    names = [f"column{case.randomness.randrange(10**12, 10**13)}" for _ in range(3)]
    texts = markers(18, case.randomness)
    tasks = case.tasks()
    stored = []
    for index, (node, task) in enumerate(zip(case.nodes, tasks)):
        columns = {name: numbers(texts[6 * index + 2 * place :][:2]) for place, name in enumerate(names)}
        stored.append(node.api().select_microservice(microservice="KeyValueStorage").create(value=columns))
        task.input(source=stored[-1])
    results = [task.result(timeout=60) for task in tasks]
    assert results[0] == results[1] == results[2]
    assert sorted(results[0]["result"]) == sorted(names)
    case.assert_nowhere(patterns_of(texts, names))
    # Whoever knows the name of an object can use it.
    objects = [str(fdrtd.to_dict(task)["callback"]) for task in tasks]
    objects += [fdrtd.to_dict(value)["callback"]["uuid"] for value in stored]
    plain = [text.replace("-", "") for text in objects]
    secrets = [bytes.fromhex(text) for text in plain]
    for node in case.nodes:
        secrets += secrets_of(node)
    patterns = patterns_of(texts=objects, secrets=secrets)
    assert search(case.logs(), patterns) == set()
    assert search(case.traffic(), patterns) == set()
    assert search(case.pages(), patterns) == set()


def secrets_of(node: Node) -> list[bytes]:
    """What the node must never show: the secret of its identity, the key of its channels, the key of its storage."""
    data = node.directory / "data"
    identity = (data / "identity.key").read_bytes()
    noise = derive_key(b"fdrtd 2026-01 identity: X25519 Noise static key", identity)
    shown = json.loads(ask(node.url, path="/identity")[1])["noise"]
    # Otherwise something else than the channel's key would be searched for.
    assert base64.b32decode(shown.upper() + "====") == x25519(noise)
    return [identity, noise, (data / "storage.key").read_bytes()]


def derive_key(context: bytes, material: bytes) -> bytes:
    """BLAKE3's key derivation, for at most 64 bytes of each."""
    start = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
    order = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)

    def compress(key: tuple[int, ...], block: bytes, flags: int) -> tuple[int, ...]:
        words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
        state = [*key, *start[:4], 0, 0, len(block), flags]

        def mix(a: int, b: int, c: int, d: int, x: int, y: int) -> None:
            for word, first, second in ((x, 16, 12), (y, 8, 7)):
                state[a] = (state[a] + state[b] + word) % 2**32
                state[d] = rotated(state[d] ^ state[a], first)
                state[c] = (state[c] + state[d]) % 2**32
                state[b] = rotated(state[b] ^ state[c], second)

        for _ in range(7):
            for place in range(4):
                mix(place, place + 4, place + 8, place + 12, words[2 * place], words[2 * place + 1])
            for place in range(4):
                b, c, d = 4 + (place + 1) % 4, 8 + (place + 2) % 4, 12 + (place + 3) % 4
                mix(place, b, c, d, words[8 + 2 * place], words[9 + 2 * place])
            words = [words[index] for index in order]
        return tuple(state[index] ^ state[index + 8] for index in range(8))

    def rotated(word: int, by: int) -> int:
        return (word >> by | word << (32 - by)) % 2**32

    # One chunk that is the root, first of the context, then of the material.
    whole = 1 | 2 | 8
    return struct.pack("<8I", *compress(compress(start, context, whole | 32), material, whole | 64))


def x25519(secret: bytes) -> bytes:
    """The public key to a secret one (RFC 7748)."""
    prime = 2**255 - 19
    scalar = int.from_bytes(secret, "little") & ~7 & (2**254 - 1) | 2**254
    x2, z2, x3, z3, swapped = 1, 0, 9, 1, 0
    for place in reversed(range(255)):
        bit = scalar >> place & 1
        if bit != swapped:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swapped = bit
        plus, minus = (x2 + z2) ** 2, (x2 - z2) ** 2
        one, other = (x3 - z3) * (x2 + z2), (x3 + z3) * (x2 - z2)
        gap = plus - minus
        x3, z3 = (one + other) ** 2 % prime, 9 * (one - other) ** 2 % prime
        x2, z2 = plus * minus % prime, gap * (plus + 121665 * gap) % prime
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, prime - 2, prime) % prime).to_bytes(32, "little")
