"""JWTs of an OpenID Connect issuer: a small one in this process, and whatever can be wrong with a token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from access import ask, refusal, token
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from harness import Node, nodes

GOOD = (200, "")
BAD = (401, "CREDENTIALS_REFUSED")
DOWN = (503, "ISSUER_UNREACHABLE")


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Key:
    """A key of an issuer."""

    def __init__(self, algorithm: str, name: str) -> None:
        self.algorithm = algorithm
        self.name = name
        self.private: Any
        if algorithm in ("RS256", "PS256"):
            self.private = rsa.generate_private_key(65537, 2048)
        elif algorithm == "ES256":
            self.private = ec.generate_private_key(ec.SECP256R1())
        else:
            self.private = ed25519.Ed25519PrivateKey.generate()

    def public(self, **more: str) -> dict[str, str]:
        key = self.private.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            numbers = key.public_numbers()
            jwk = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        elif isinstance(key, ec.EllipticCurvePublicKey):
            point = key.public_numbers()
            x, y = (encoded(value.to_bytes(32, "big")) for value in (point.x, point.y))
            jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        else:
            raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw)}
        return jwk | {"kid": self.name, "use": "sig", "alg": self.algorithm} | more

    def sign(self, message: bytes) -> bytes:
        if self.algorithm == "RS256":
            return bytes(self.private.sign(message, padding.PKCS1v15(), hashes.SHA256()))
        if self.algorithm == "PS256":
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
            return bytes(self.private.sign(message, pss, hashes.SHA256()))
        if self.algorithm == "ES256":
            parts = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
            return b"".join(part.to_bytes(32, "big") for part in parts)
        return bytes(self.private.sign(message))


class Issuer:
    """Publishes its keys, and counts how often it is asked for them."""

    def __init__(self) -> None:
        self.keys = [Key(algorithm, f"{algorithm}-1") for algorithm in ("RS256", "PS256", "ES256", "EdDSA")]
        self.asked = 0
        self.padding = ""
        self.says: str | None = None
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/realm/.well-known/openid-configuration":
                    body: dict[str, Any] = {"issuer": issuer.says or issuer.url, "jwks_uri": f"{issuer.url}/keys"}
                elif self.path == "/realm/keys":
                    issuer.asked += 1
                    body = {"keys": [key.public() for key in issuer.keys], "padding": issuer.padding}
                else:
                    self.send_error(404)
                    return
                text = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.handler = Handler
        self.port = 0
        self.start()

    def start(self) -> None:
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/realm"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {"iss": self.url, "aud": "fdrtd", "sub": "anna", "exp": now + 600, "nbf": now - 10}
        usual |= {"realm_access": {"roles": ["offline_access", "analysts"]}}
        return {name: value for name, value in (usual | more).items() if value is not None}


def jwt(key: Key, claims: dict[str, Any], **header: Any) -> str:
    head = {"alg": key.algorithm, "kid": key.name, "typ": "JWT"} | header
    head = {name: value for name, value in head.items() if value is not None}
    message = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    return f"{message}.{encoded(key.sign(message.encode()))}"


def tried(node: Node, credentials: str) -> tuple[int, str]:
    answer = ask(node, token=credentials)
    return GOOD if answer[0] == 200 else refusal(answer)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    started = Issuer()
    yield started
    started.stop()


@pytest.fixture
def node(tmp_path: Path, issuer: Issuer) -> Iterator[Node]:
    config = tmp_path / "fdrtd.toml"
    config.write_text(
        f'[access]\nfailures_per_minute = 1000\n[access.oidc]\nissuer = "{issuer.url}"\naudience = "fdrtd"\n'
        'role_claim = "realm_access.roles"\nroles = { analysts = "analyst", admins = "owner", guests = "viewer" }\n'
    )
    with nodes(tmp_path, 1, f"--config={config}", "--log=fdrtd=debug") as (started,):
        yield started


def test_good_tokens_of_every_algorithm(node: Node, issuer: Issuer) -> None:
    assert refusal(ask(node)) == (401, "CREDENTIALS_MISSING"), "with an issuer nobody is anonymous"
    assert issuer.asked == 0, "keys are fetched when they are needed"
    for key in issuer.keys:
        assert tried(node, jwt(key, issuer.claims())) == GOOD, key.algorithm
        assert tried(node, jwt(key, issuer.claims(aud=["other", "fdrtd"]))) == GOOD
        assert tried(node, jwt(key, issuer.claims(nbf=None), kid=None)) == GOOD
    assert issuer.asked == 1


def test_roles_and_whose_things_are(node: Node, issuer: Issuer) -> None:
    key = issuer.keys[2]

    def of(*roles: str, **claims: Any) -> str:
        return jwt(key, issuer.claims(realm_access={"roles": list(roles)}, **claims))

    assert tried(node, of("offline_access")) == (403, "ROLE_REFUSED")
    assert tried(node, jwt(key, issuer.claims(realm_access=None))) == (403, "ROLE_REFUSED")
    for roles, pages in (
        (["guests"], {"/tasks": 200, "/tokens": 403}),
        (["analysts"], {"/tasks": 200, "/tokens": 403}),
        (["guests", "admins"], {"/tasks": 200, "/tokens": 200}),
    ):
        for page, status in pages.items():
            assert ask(node, page=page, token=of(*roles))[0] == status, (roles, page)
    made = token(node.directory / "data", "anna", "analyst")
    handle = json.loads(ask(node, "PUT", "", {"microservice": "KeyValueStorage"}, token=made)[2])
    call = {"handle": handle, "function": "create", "parameters": {"value": 4711}}
    callback = json.loads(ask(node, "POST", "", call, token=of("analysts"))[2])["callback"]
    retrieve = {"handle": handle, "function": "retrieve", "parameters": {}, "callback": callback}
    assert ask(node, "POST", "", retrieve, token=of("admins"))[2].strip() == b"4711", "issuer and subject are the same"
    for stranger in (of("admins", sub="ben"), made):
        assert refusal(ask(node, "POST", "", retrieve, token=stranger)) == (404, "OBJECT_UNKNOWN")


def test_what_is_wrong_with_a_token(node: Node, issuer: Issuer) -> None:
    now = int(time.time())
    rs, _, es, ed = issuer.keys
    good = jwt(rs, issuer.claims())
    assert tried(node, good) == GOOD
    head, body, signature = good.split(".")
    wrong = {
        "another key": jwt(Key("RS256", rs.name), issuer.claims()),
        "another's curve key": jwt(Key("ES256", es.name), issuer.claims()),
        "audience": jwt(rs, issuer.claims(aud="somebody")),
        "no audience": jwt(rs, issuer.claims(aud=None)),
        "issuer": jwt(rs, issuer.claims(iss=issuer.url + "/")),
        "issuers": jwt(rs, issuer.claims(iss=[issuer.url])),
        "expired": jwt(rs, issuer.claims(exp=now - 120)),
        "no end": jwt(rs, issuer.claims(exp=None)),
        "end as text": jwt(rs, issuer.claims(exp=str(now + 600))),
        "not yet": jwt(rs, issuer.claims(nbf=now + 120)),
        "not yet, as text": jwt(rs, issuer.claims(nbf="0")),
        "no subject": jwt(rs, issuer.claims(sub=None)),
        "a long subject": jwt(rs, issuer.claims(sub="a" * 300)),
        "cut": good[:-3],
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "changed": ".".join([head, encoded(json.dumps(issuer.claims(sub="eve")).encode()), signature]),
        "extension": jwt(rs, issuer.claims(), crit=["b64"], b64=False),
        "too long": jwt(rs, issuer.claims(padding="a" * 17_000)),
        "an algorithm that is not the key's": jwt(rs, issuer.claims(), alg="PS256"),
        "an algorithm of another family": jwt(ed, issuer.claims(), alg="ES256"),
    }
    for algorithm in ("none", "None", "RS384", "RS512", "ES384", "HS256"):
        wrong[algorithm] = jwt(rs, issuer.claims(), alg=algorithm)
    unsigned = encoded(json.dumps({"alg": "none", "kid": rs.name}).encode())
    wrong["none, unsigned"] = f"{unsigned}.{body}."
    # The public key, which everybody has, taken for the secret of an HMAC.
    public = rs.private.public_key()
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    secrets = [
        public.public_bytes(encoding, info) for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
    ]
    secrets.append(json.dumps(rs.public()).encode())
    for number_of, secret in enumerate(secrets):
        message = f"{encoded(json.dumps({'alg': 'HS256', 'kid': rs.name}).encode())}.{body}"
        mac = hmac.new(secret, message.encode(), hashlib.sha256).digest()
        wrong[f"confusion {number_of}"] = f"{message}.{encoded(mac)}"
    for what, credentials in wrong.items():
        assert tried(node, credentials) == BAD, what
    assert tried(node, good) == GOOD
    logged = node.logged()
    for secret in (signature, *(credentials.rsplit(".", 1)[-1] for credentials in wrong.values())):
        assert len(secret) < 20 or secret not in logged


def test_keys_change(node: Node, issuer: Issuer) -> None:
    old = issuer.keys[0]
    assert tried(node, jwt(old, issuer.claims())) == GOOD
    new = Key("RS256", "RS256-2")
    issuer.keys.insert(0, new)
    assert tried(node, jwt(new, issuer.claims())) == GOOD, "an unknown name has the node ask again"
    assert issuer.asked == 2
    for attempt in range(5):
        assert tried(node, jwt(Key("EdDSA", f"no such key {attempt}"), issuer.claims())) == BAD
    assert issuer.asked == 2, "but not whenever somebody invents one"
    assert tried(node, jwt(old, issuer.claims())) == GOOD
    issuer.stop()
    assert tried(node, jwt(new, issuer.claims())) == GOOD, "keys that are known do not need their issuer"


def test_an_issuer_that_does_not_answer_as_it_should(node: Node, issuer: Issuer) -> None:
    made = token(node.directory / "data", "ben", "analyst")
    good = jwt(issuer.keys[0], issuer.claims())

    def comes_back() -> None:
        deadline = time.monotonic() + 60
        # It is left alone for a moment after each failure.
        while (found := tried(node, good)) != GOOD:
            assert found == DOWN
            assert time.monotonic() < deadline
            time.sleep(0.05)

    issuer.stop()
    assert tried(node, good) == DOWN
    assert tried(node, made) == GOOD, "others notice nothing"
    assert tried(node, "a.b.c") == BAD, "what is no token needs no key"
    node.restart()
    issuer.start()
    issuer.padding = "x" * 300_000
    assert tried(node, good) == DOWN
    assert "longer than" in node.logged()
    node.restart()
    issuer.padding = ""
    issuer.says = "http://somebody.example"
    assert tried(node, good) == DOWN
    issuer.says = None
    comes_back()


def test_what_an_issuer_cannot_be(tmp_path: Path) -> None:
    for index, (text, says) in enumerate(
        (
            ('issuer = "http://idp.example"\naudience = "a"\nroles = { a = "owner" }', "https://"),
            ('issuer = "https://idp.example"\naudience = "a"\nroles = {}', "roles"),
            ('issuer = "https://idp.example"\naudience = "a"\nroles = { a = "admin" }', "admin"),
            ('issuer = "https://idp.example"\naudience = "a"\nroles = { a = "owner" }\nca_file = "/none"', "ca_file"),
        )
    ):
        config = tmp_path / f"{index}.toml"
        config.write_text(f"[access.oidc]\n{text}\n")
        with pytest.raises(AssertionError, match=f"(?s)did not start.*{says}"):
            Node(tmp_path / str(index), 0, f"--config={config}")
