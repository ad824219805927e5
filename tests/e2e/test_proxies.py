"""Nodes behind nginx and Caddy as docs/proxies has them: clients come through the proxy, and so do the other nodes."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fdrtd
import pytest
from harness import BINARY, DURATIONS, ROOT, Node, all_joined, until
from reverse_proxies import Certificates, Site, make_certificates, site
from test_docs import run_document

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}
VALUES = (10, 7, 14)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certificates]:
    """Clients of this module trust the authority."""
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FDRTD_CA_FILE", str(made.ca))
        yield made


KINDS = [(server, prefix) for server in ("nginx", "caddy") for prefix in ("kept", "stripped")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Site]:
    """Three nodes behind each kind of proxy."""
    server, prefix = request.param
    with site(tmp_path_factory.mktemp(f"{server}-{prefix}"), server, prefix, certificates) as made:
        yield made


def apis_of(urls: list[str]) -> list[fdrtd.Api]:
    return [fdrtd.Api(fdrtd.HttpInterface(url)) for url in urls]


def joined(urls: list[str], **durations: float) -> list[Any]:
    """A task at every node, through the proxy."""
    simons = [api.select_microservice(protocol="Simon") for api in apis_of(urls)]
    networks = [{"nodes": urls, "myself": place} for place in range(len(urls))]
    first = simons[0].create(microprotocol="SecureSum", network=networks[0], durations={**DURATIONS, **durations})
    invitation = first.invite()
    rest = [simon.join(invitation=invitation, network=net) for simon, net in zip(simons[1:], networks[1:])]
    return [first, *rest]


def ask(
    url: str,
    certificates: Certificates | None = None,
    *,
    method: str = "GET",
    body: Any = None,
    headers: dict[str, str] | None = None,
    source: str = "127.0.0.1",
) -> tuple[int, dict[str, str], bytes]:
    """One request, exactly as it is written here: no redirect is followed, no path made pretty."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    options: dict[str, Any] = {"source_address": (source, 0), "timeout": 60}
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        assert certificates is not None
        context = ssl.create_default_context(cafile=str(certificates.ca))
        connection = http.client.HTTPSConnection("localhost", parts.port, context=context, **options)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", parts.port, **options)
    sent = dict(headers or {})
    text = None
    if body is not None:
        text = json.dumps(body)
        sent["Content-Type"] = "application/json"
    path = url.split("/", 3)[3] if url.count("/") > 2 else ""
    try:
        connection.request(method, f"/{path}", body=text, headers=sent)
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


# --- Everything goes through ------------------------------------------------------------------------------------------


def test_the_tutorial(front: Site) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    assert run_document(text, front.urls, "docs/tutorial.md") >= 3


def test_nodes_meet_over_the_proxy(front: Site) -> None:
    tasks = joined(front.urls)
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3
    progress = tasks[0].progress()
    assert [party["node"] for party in progress["parties"]] == front.urls
    if front.proxy.server == "nginx":
        # 101 is logged when a connection ends: have one end.
        front.nodes[2].restart()
        until(
            lambda: re.search(r'GET /public\d/peer HTTP/1.1" 101 ', front.proxy.access_log.read_text()), "a WebSocket"
        )


@pytest.mark.parametrize("path", ["/public1", "/public1/", "//public1", "/public1//", "//public1//"])
def test_slashes(front: Site, certificates: Certificates, path: str) -> None:
    url = front.proxy.url + path
    status, _, services = ask(url, certificates)
    assert status == 200
    assert {"microservice": "Simon"}.items() <= json.loads(services)[-1]["identifiers"].items()
    # What a redirect would break.
    wanted = {"microservice": "KeyValueStorage"}
    status, _, handle = ask(url, certificates, method="PUT", body=wanted)
    assert status == 202
    call = {"handle": json.loads(handle), "function": "create", "parameters": {"value": 1}}
    assert ask(url, certificates, method="POST", body=call)[0] == 201
    # The client brings any spelling into its own.
    assert fdrtd.HttpInterface(url).url == f"{front.urls[0]}/"
    assert fdrtd.Api(fdrtd.HttpInterface(url)).select_microservice(protocol="Simon")


@pytest.mark.parametrize("page", ["/identity", "//identity", "/identity/", "/healthz", "/tasks"])
def test_pages(front: Site, certificates: Certificates, page: str) -> None:
    status, headers, body = ask(front.urls[1] + page, certificates)
    assert (status, headers["content-type"]) == (200, "application/json")
    direct = front.nodes[1].url.rstrip("/") + page
    assert page == "/tasks" or body == ask(direct)[2]


def test_what_is_no_node(front: Site, certificates: Certificates) -> None:
    for path in ("", "/", "/public4", "/public11", "/public", "/public1x/identity"):
        assert ask(front.proxy.url + path, certificates)[0] == 404


def test_ten_megabytes(front: Site) -> None:
    value = "x" * 10_000_000
    storage = apis_of(front.urls[:1])[0].select_microservice(microservice="KeyValueStorage")
    kept = storage.create(value=value)
    assert kept.retrieve() == value
    kept.delete()


def test_a_long_input(front: Site) -> None:
    tasks = joined(front.urls)
    numbers = [round(place * 0.001, 3) for place in range(1_300_000)]
    assert 10_000_000 < len(json.dumps(numbers)) < 20_000_000
    tasks[0].input(data=numbers)
    for task in tasks[1:]:
        task.input(data=0)
    result = tasks[2].result(timeout=60)
    assert result["result"] == {"samples": len(numbers) + 2, "sum": 0.001 * (len(numbers) * (len(numbers) - 1) // 2)}


def test_events_arrive_when_they_happen(front: Site, certificates: Certificates) -> None:
    """Each before the next can: a proxy that buffers answers would hold all of them back until the end."""
    tasks = joined(front.urls)
    context = ssl.create_default_context(cafile=str(certificates.ca))
    parts = urlsplit(front.urls[0])
    connection = http.client.HTTPSConnection("localhost", parts.port, context=context, timeout=60)
    connection.request("GET", f"{parts.path}/tasks/{tasks[0]['callback']}/events")
    stream = connection.getresponse()
    assert (stream.status, stream.getheader("content-type", "").partition(";")[0]) == (200, "text/event-stream")

    def event() -> dict[str, Any]:
        while line := stream.readline():
            if line.startswith(b"data:"):
                found: dict[str, Any] = json.loads(line.removeprefix(b"data:"))
                return found
        raise AssertionError("the stream has ended")

    seen = event()
    for place, value in enumerate(VALUES):
        assert not seen["parties"][place]["input"]
        tasks[place].input(data=value)
        while not seen["parties"][place]["input"]:
            seen = event()
    while seen["state"] != "done":
        seen = event()
    connection.close()


def test_a_proxy_that_is_started_anew(front: Site) -> None:
    tasks = joined(front.urls)
    tasks[0].input(data=VALUES[0])
    tasks[1].input(data=VALUES[1])
    until(lambda: all_joined(tasks[0]), "all have joined")
    front.proxy.stop()
    with pytest.raises(fdrtd.ConnectionFailed) as refused:
        tasks[2].input(data=VALUES[2])
    assert refused.value.code == "CONNECTION_REFUSED"
    front.proxy.start_again()
    tasks[2].input(data=VALUES[2])
    assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3


def test_a_node_that_is_down(front: Site) -> None:
    tasks = joined(front.urls)
    until(lambda: all_joined(tasks[0]), "all have joined")
    front.nodes[1].kill()
    try:
        with pytest.raises(fdrtd.Unavailable) as gone:
            tasks[1].progress()
        assert (gone.value.status, gone.value.code) == (502, "BAD_GATEWAY")
        assert "is the node running" in str(gone.value)
        # The other nodes know that it is the proxy that answers.
        why = until(lambda: problem_with(tasks[0], 1, "502"), "the others see the proxy")
        assert "the reverse proxy before the peer cannot reach it" in why
    finally:
        front.nodes[1].start()
    for task, value in zip(tasks, VALUES):
        task.input(data=value)
    assert [task.result(timeout=60) for task in tasks] == [RESULT] * 3


def problem_with(task: Any, party: int, text: str) -> str:
    problem = task.progress()["parties"][party]["problem"] or ""
    return problem if text in problem else ""


# --- Web pages and names ----------------------------------------------------------------------------------------------


def test_pages_of_the_proxys_own_server_may_call(front: Site, certificates: Certificates) -> None:
    wanted = {"microservice": "Simon"}
    own = front.proxy.url
    forged = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
    }
    pages = [(own, 202), (own.replace("https", "http"), 403), ("https://evil.example", 403), ("https://localhost", 403)]
    for headers in ({}, forged):
        for origin, status in pages:
            sent = {**headers, "Origin": origin}
            answer = ask(front.urls[0], certificates, method="PUT", body=wanted, headers=sent)
            assert answer[0] == status, (origin, answer)
            if status == 403:
                assert json.loads(answer[2])["code"] == "ORIGIN_REFUSED"


def test_an_unknown_name_is_told_the_line_to_write(nginx: Site, certificates: Certificates) -> None:
    status, _, body = ask(f"{nginx.urls[0]}/identity", certificates, headers={"Host": "other.example:8443"})
    assert status == 403
    problem = json.loads(body)
    assert problem["code"] == "HOST_UNKNOWN"
    assert 'not known as "other.example"' in problem["message"]
    assert problem["hint"].endswith(
        'add "https://other.example:8443/public1" to public_url in the node\'s configuration'
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node on loopback that trusts 127.0.0.1, and not 127.0.0.2, and is known as https://node.example/public1."""
    flags = ["--public-url=https://node.example/public1", "--trusted-proxy=127.0.0.1", "--log=fdrtd=debug"]
    node = Node(tmp_path_factory.mktemp("known"), 0, "--ephemeral", *flags)
    yield node
    node.kill()


PROXY = {
    "X-Forwarded-For": "198.51.100.9, 192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "node.example",
    "X-Forwarded-Prefix": "/x",
}
SIMON = {"microservice": "Simon"}
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.2"


def test_headers_of_a_trusted_proxy_are_used(known: Node) -> None:
    page = {**PROXY, "Origin": "https://node.example"}
    assert ask(known.url, method="PUT", body=SIMON, headers=page, source=TRUSTED)[0] == 202
    for change in ({"X-Forwarded-Proto": "http"}, {"X-Forwarded-Host": "node.example:8443"}):
        status, _, body = ask(known.url, method="PUT", body=SIMON, headers={**page, **change}, source=TRUSTED)
        assert (status, json.loads(body)["code"]) == (403, "ORIGIN_REFUSED")
    status, _, body = ask(f"{known.url}/identity", headers={**PROXY, "X-Forwarded-Host": "new.example"}, source=TRUSTED)
    assert (status, json.loads(body)["code"]) == (403, "HOST_UNKNOWN")
    assert 'add "https://new.example/x/public1" to public_url' in json.loads(body)["hint"]
    until(lambda: "caller=Some(192.0.2.7)" in known.logged(), "the caller is in the log")


def test_forged_headers_change_nothing(known: Node) -> None:
    asked: list[dict[str, Any]] = [
        {"url": known.url},
        {"url": f"{known.url}/identity", "headers": {"Host": "evil.example"}},
        {"url": f"{known.url}/identity", "headers": {"Host": "node.example"}},
        {"url": known.url, "method": "PUT", "body": SIMON},
        {"url": known.url, "method": "PUT", "body": SIMON, "headers": {"Origin": "https://node.example"}},
        {"url": known.url, "method": "PUT", "body": SIMON, "headers": {"Origin": "https://evil.example"}},
        {"url": known.url.replace("/public1", "/elsewhere")},
        {"url": known.url.replace("/public1", "/identity")},
        {"url": known.url, "method": "OPTIONS"},
    ]
    statuses = []
    for one in asked:
        plain = ask(**one, source=STRANGER)
        for host in ("node.example", "evil.example", "127.0.0.1"):
            forged = {**PROXY, "X-Forwarded-Host": host, **one.get("headers", {})}
            answer = ask(**{**one, "headers": forged}, source=STRANGER)
            assert (answer[0], answer[2]) == (plain[0], plain[2]), one
        statuses.append(plain[0])
    assert statuses == [200, 403, 200, 202, 403, 403, 404, 404, 200]
    until(lambda: "caller=Some(127.0.0.2)" in known.logged(), "the caller is in the log")


@pytest.mark.parametrize("source", [TRUSTED, STRANGER])
def test_a_page_with_a_rebound_name_gains_nothing_by_headers(known: Node, source: str) -> None:
    """Its browser may run on the proxy's machine, whose address is trusted. Host and Origin it cannot write."""
    port = urlsplit(known.url).port
    for host in ("node.example", "127.0.0.1", f"localhost:{port}"):
        page = {**PROXY, "X-Forwarded-Host": host, "Host": f"evil.example:{port}"}
        status, _, body = ask(known.url, headers=page, source=source)
        assert (status, json.loads(body)["code"]) == (403, "HOST_UNKNOWN")
    # A page of another program on this machine, which may name localhost with more right.
    page = {"X-Forwarded-Proto": "http", "X-Forwarded-Host": "localhost:3000", "Origin": "http://localhost:3000"}
    status, _, body = ask(known.url, method="PUT", body=SIMON, headers=page, source=source)
    assert (status, json.loads(body)["code"]) == (403, "ORIGIN_REFUSED")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("proxy.example", "names are not looked up"),
        ("10.1.0.0/8", "write 10.0.0.0/8"),
        ("0.0.0.0/0", "would trust everybody"),
    ],
)
def test_unusable_addresses_of_proxies(tmp_path: Path, given: str, words: str) -> None:
    config = tmp_path / "fdrtd.toml"
    config.write_text(f'trusted_proxies = ["{given}"]')
    told = []
    for arguments, env in (
        ([f"--trusted-proxy={given}"], {}),
        ([], {"FDRTD_TRUSTED_PROXY": f"127.0.0.1,{given}"}),
        ([f"--config={config}"], {}),
    ):
        command = [str(BINARY), "serve", "--ephemeral", "--listen=127.0.0.1:0", *arguments]
        ended = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
        assert ended.returncode != 0
        told.append(ended.stderr)
    for text in told:
        assert words in text
    assert "trusted_proxies" in told[2]


# --- What goes wrong --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Site]:
    """nginx as it is often found: short bodies, little patience, and a location with a slash only. Two nodes."""
    changes = {
        "client_max_body_size 64m;": "client_max_body_size 1m;",
        "proxy_read_timeout 1h;": "proxy_read_timeout 1s;",
        "    location = /public1 {\n        proxy_pass http://127.0.0.1:55501;\n    }\n": "",
    }
    with site(tmp_path_factory.mktemp("nginx"), "nginx", "kept", certificates, 2, changes) as made:
        yield made


def storage_at(url: str) -> fdrtd.Handle:
    found = fdrtd.Api(fdrtd.HttpInterface(url)).select_microservice(microservice="KeyValueStorage")
    assert isinstance(found, fdrtd.Handle)
    return found


def test_a_body_that_is_too_large_for_the_proxy(nginx: Site) -> None:
    with pytest.raises(fdrtd.InputError) as refused:
        storage_at(nginx.urls[0]).create(value="x" * 2_000_000)
    assert (refused.value.status, refused.value.code) == (413, "TOO_LARGE")
    assert "the request is too large" in str(refused.value)
    assert "proxy" in str(refused.value)
    assert "<" not in str(refused.value), "no HTML"


def test_a_proxy_that_does_not_wait_for_a_result(nginx: Site) -> None:
    simon = fdrtd.Api(fdrtd.HttpInterface(nginx.urls[0])).select_microservice(protocol="Simon")
    task = simon.create(microprotocol="SecureSum", network={"nodes": nginx.urls, "myself": 0}, durations=DURATIONS)
    task.input(data=1)
    with pytest.raises(fdrtd.Unavailable) as gave_up:
        task.result(timeout=20)
    assert (gave_up.value.status, gave_up.value.code) == (504, "GATEWAY_TIMEOUT")
    assert "the proxy did not wait" in str(gave_up.value)
    assert "read timeout" in str(gave_up.value)
    assert task.progress()["state"] == "created", "the task goes on"
    task.cancel()


def test_the_slash_redirect_of_nginx(nginx: Site, certificates: Certificates) -> None:
    status, headers, _ = ask(nginx.urls[0], certificates, method="POST", body={})
    assert (status, headers["location"]) == (301, f"{nginx.urls[0]}/")
    # The client asks for the place with the slash from the beginning.
    kept = storage_at(nginx.urls[0]).create(value=7)
    assert kept.retrieve() == 7
    kept.delete()


def test_a_site_that_leads_from_http_to_https(nginx: Site) -> None:
    plain = f"http://localhost:{nginx.proxy.plain_port}/public1"
    status, headers, _ = ask(plain.replace("localhost", "127.0.0.1"), headers={"Host": "localhost"})
    assert (status, headers["location"]) == (301, f"{nginx.urls[0]}")
    with pytest.raises(fdrtd.ConnectionFailed) as refused:
        storage_at(plain)
    assert (refused.value.status, refused.value.code) == (301, "REDIRECTED")
    assert f"https://localhost:{nginx.proxy.port}" in str(refused.value)
    # Also in the middle, when it is a POST, whose data would be lost as a GET.
    with pytest.raises(fdrtd.ConnectionFailed) as refused:
        fdrtd.Api(fdrtd.HttpInterface(plain)).call_microservice(storage_at(nginx.urls[0]), "create", {"value": 7})
    assert refused.value.code == "REDIRECTED"


@pytest.mark.parametrize(("proxy", "node", "path"), [("kept", "stripped", "/public1"), ("stripped", "kept", "")])
def test_a_prefix_that_the_node_expects_otherwise(
    tmp_path: Path, certificates: Certificates, proxy: str, node: str, path: str
) -> None:
    does = {"kept": "keeps", "stripped": "strips"}[proxy]
    with site(tmp_path, "nginx", proxy, certificates, 1, nodes_prefix=node) as made:
        for page in ("", "/", "/identity"):
            status, _, body = ask(made.urls[0] + page, certificates)
            problem = json.loads(body)
            assert (status, problem["code"]) == (404, "PATH_UNKNOWN")
            assert f"the proxy in front {does} the prefix of {made.urls[0]}" in problem["hint"]
            assert f'set base_path = "{path}"' in problem["hint"]
        with pytest.raises(fdrtd.ConnectionFailed) as refused:
            storage_at(made.urls[0])
        assert f'set base_path = "{path}"' in str(refused.value)


def test_a_proxy_that_asks_for_a_password(tmp_path: Path, certificates: Certificates) -> None:
    """As the page shows it: clients need the password, nodes do not."""
    page = (ROOT / "docs" / "reverse-proxy.md").read_text()
    (shown,) = re.findall(r"^```nginx\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    passwords = tmp_path / "htpasswd"
    passwords.write_text("anna:{PLAIN}secret\n")
    whole = (ROOT / "docs" / "proxies" / "nginx-prefix-kept.conf").read_text()
    plain = re.findall(r"^    location .*?^    }\n", whole, re.MULTILINE | re.DOTALL)[:2]
    changes = {"".join(plain): shown.replace("/etc/nginx/fdrtd.htpasswd", str(passwords))}
    with site(tmp_path, "nginx", "kept", certificates, 2, changes) as made:
        for path in ("", "/", "/tasks", "//tasks", "/peer/../tasks", "/metrics", "/identity/"):
            assert ask(made.urls[0] + path, certificates)[0] == 401, path
        assert ask(f"{made.urls[0]}/identity", certificates)[0] == 200
        # To nginx the open page; the node takes dots for names of pages.
        assert ask(f"{made.urls[0]}/tasks/../identity", certificates)[0] == 404
        with pytest.raises(fdrtd.Forbidden):
            storage_at(made.urls[0])
        headers = {"Authorization": "Basic " + base64.b64encode(b"anna:secret").decode()}
        apis = [
            fdrtd.Api(fdrtd.HttpInterface(made.urls[0], headers=headers)),
            fdrtd.Api(fdrtd.HttpInterface(made.urls[1])),
        ]
        first, second = (api.select_microservice(protocol="Simon") for api in apis)
        networks = [{"nodes": made.urls, "myself": place} for place in (0, 1)]
        tasks = [first.create(microprotocol="SecureSum", network=networks[0], durations=DURATIONS)]
        tasks.append(second.join(invitation=tasks[0].invite(), network=networks[1]))
        for task, value in zip(tasks, VALUES):
            task.input(data=value)
        assert [task.result(timeout=60)["result"]["sum"] for task in tasks] == [17, 17]


def test_a_proxy_without_websocket(tmp_path: Path, certificates: Certificates) -> None:
    changes = {"proxy_set_header Upgrade $http_upgrade;": 'proxy_set_header Upgrade "";'}
    with site(tmp_path, "nginx", "kept", certificates, 2, changes) as made:
        tasks = joined(made.urls)
        for task, other in zip(tasks, (1, 0)):
            # The status that a node gives to what is no WebSocket, or its meaning.
            found = partial(problem_with, task, other, "")
            until(lambda: re.search("WebSocket|426", found()), "it says what is wrong")  # noqa: B023
