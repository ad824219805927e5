"""The known answers again, from the protocol's description and other implementations of the primitives.

A second implementation of SecureSum: BLAKE3 and ChaCha20 come from other libraries, the rest is written here from
the head comments of `mask.rs` and `net.rs`.
"""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "secure-sum.txt"
INPUTS = [10, 7, 14]
RING = 1 << 128
GRID = 10**12


def simulated(label: str, a: int, b: int) -> bytes:
    """A secret as the simulator draws it from seed 1."""
    data = (1).to_bytes(8, "little") + label.encode() + a.to_bytes(8, "little") + b.to_bytes(8, "little")
    return blake3(data, derive_key_context="fdrtd simulator").digest(64)


SID = simulated("sid", 0, 0)[:32]


def mask(low: int, high: int) -> list[int]:
    """The two ring elements that this pair adds and subtracts in round 0."""
    label = b"pairwise mask"
    data = simulated("pair", low, high) + SID + len(label).to_bytes(8, "little") + label
    data += low.to_bytes(2, "little") + high.to_bytes(2, "little") + (0).to_bytes(4, "little")
    key = blake3(data, derive_key_context="fdrtd 2026-11 key of a pair of parties, version 1").digest()
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(32))
    return [int.from_bytes(stream[i : i + 16], "little") for i in (0, 16)]


def frame(round_number: int, payload: bytes) -> bytes:
    return b"\x03" + SID + round_number.to_bytes(4, "little") + payload


def masked(party: int) -> bytes:
    """What a party sends in round 0: its sum on the grid, and its count."""
    vector = [INPUTS[party] * GRID, 1]
    for peer in range(3):
        if peer != party:
            sign = 1 if party < peer else -1
            pad = mask(min(party, peer), max(party, peer))
            vector = [(value + sign * added) % RING for value, added in zip(vector, pad)]
    return frame(0, b"".join(value.to_bytes(16, "little") for value in vector))


def closing(messages: list[bytes], result: str) -> bytes:
    transcript = blake3()
    for message in messages:
        transcript.update(blake3(message[37:]).digest())
    data = SID + transcript.digest() + result.encode()
    return frame(1, blake3(data, derive_key_context="fdrtd 2026-11 closing digest, version 2").digest())


def test_a_second_implementation_sends_the_same_bytes() -> None:
    lines = [line.split() for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    messages = [masked(party) for party in range(3)]
    digest = closing(messages, '{"samples":3,"sum":31}')
    expected = sorted(
        [str(sender), str(receiver), message.hex()]
        for sender in range(3)
        for receiver in range(3)
        if sender != receiver
        for message in (messages[sender], digest)
    )
    assert lines == expected


def test_the_masks_cancel() -> None:
    payloads = [masked(party)[37:] for party in range(3)]
    totals = [sum(int.from_bytes(p[i : i + 16], "little") for p in payloads) % RING for i in (0, 16)]
    assert totals == [31 * GRID, 3]
    assert all(int.from_bytes(p[:16], "little") != value * GRID for p, value in zip(payloads, INPUTS))
