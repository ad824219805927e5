"""Makes tmmo.txt with OpenSSL's AES: key, i, x and H(x, i) = π(π(x) ⊕ i) ⊕ π(x), numbers in hexadecimal (little-endian as bytes)."""

import hashlib
import subprocess


def permute(key: int, x: int) -> int:
    command = ["openssl", "enc", "-aes-128-ecb", "-nopad", "-K", key.to_bytes(16, "little").hex()]
    return int.from_bytes(subprocess.run(command, input=x.to_bytes(16, "little"), capture_output=True, check=True).stdout, "little")


def tmmo(key: int, i: int, x: int) -> int:
    once = permute(key, x)
    return permute(key, once ^ i) ^ once


def number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


print("# Made by tmmo.py: key, i, x, H(x, i).")
for count, i in enumerate([0, 1, 127, 128, 8191, 2**20, 2**32, 2**40 + 3]):
    key, x = number(f"key {count}"), number(f"x {count}")
    print(f"{key:032x} {i:x} {x:032x} {tmmo(key, i, x):032x}")
