"""Nodes behind nginx and Caddy as docs/proxies has them: clients come through the proxy, and so do the other nodes."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import fdrtd
import pytest
from harness import DURATIONS, ROOT, all_joined, until
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
        assert "is the node running?" in str(gone.value)
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
