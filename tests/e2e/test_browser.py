"""Web pages of other origins call nodes, in a real browser.

PUT, PATCH, DELETE, and whatever is marked as JSON, a browser sends to another origin only after a preflight that
permits it, and shows a page of an answer only what the node exposes. What these pages find is what CORS lets through.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import fdrtd
import pytest
from browser import Site, browser_with_sites
from harness import ROOT, Node, nodes, urls_of
from test_docs import DEMO

# The name of nothing.
SOME = "00000000-0000-4000-8000-000000000000"

# How a page asks a node. A failure is thrown with all that the node has said.
ASK = """
    const ask = async (method, url, body) => {
      const options = {method};
      if (body !== undefined) {
        options.headers = {"Content-Type": "application/json"};
        options.body = JSON.stringify(body);
      }
      const response = await fetch(url, options);
      const text = await response.text();
      const value = text === "" ? null : JSON.parse(text);
      if (!response.ok) throw Object.assign(new Error(value.message), value);
      return [value, response];
    };
"""
HANDLES = (
    ASK
    + """
    const select = async (node, identifiers) => (await ask("PUT", node, identifiers))[0];
    const call = async (node, object, name, parameters) => {
      const target = typeof object === "string" ? {handle: object} : object;
      return ask("POST", node, {...target, function: name, parameters});
    };
"""
)
REPRESENTATIONS = (
    ASK
    + """
    const create = async (node, kwargs) => (await ask("POST", `${node}/representations`, {args: [], kwargs}))[0];
    const download = async (node, {uuid}) => (await ask("GET", `${node}/representation/${uuid}`))[0].object;
    const call = async (node, {uuid}, name, kwargs) => {
      const [bound] = await ask("GET", `${node}/representation/${uuid}/${name}`);
      return (await ask("PATCH", `${node}/representation/${bound.uuid}`, {args: [], kwargs}))[0];
    };
"""
)

Pages = tuple[Site, Site, list[Node]]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A page whose origin the nodes allow, one whose they do not, and the nodes."""
    directory = tmp_path_factory.mktemp("browser")
    with contextlib.ExitStack() as stack:
        allowed, stranger = stack.enter_context(browser_with_sites(directory, 2))
        started = stack.enter_context(nodes(directory, 3, f"--cors-origin={allowed.origin}"))
        yield allowed, stranger, started


def test_handles(pages: Pages) -> None:
    page, _, started = pages
    found = page.run(
        HANDLES
        + """
        const storage = await select(given.node, {microservice: "KeyValueStorage"});
        const [stored] = await call(given.node, storage, "create", {value: [1, 2.5, "x", null]});
        const [value] = await call(given.node, stored, "retrieve", {});
        await call(given.node, stored, "delete", {});
        const [there] = await call(given.node, stored, "exists", {});
        const [services] = await ask("GET", given.node);
        return {value, there, services};
        """,
        node=started[0].url,
    )
    assert found["value"] == [1, 2.5, "x", None]
    assert found["there"] is False
    assert found["services"] == started[0].api().list_microservices()


def test_a_sum_by_handles(pages: Pages) -> None:
    page, _, started = pages
    found = page.run(
        HANDLES
        + """
        const {nodes} = given;
        const simons = await Promise.all(nodes.map((node) => select(node, {protocol: "Simon"})));
        const network = (myself) => ({nodes, myself});
        const first = {microprotocol: "SecureSum", network: network(0)};
        const tasks = [(await call(nodes[0], simons[0], "create", first))[0]];
        const [invitation] = await call(nodes[0], tasks[0], "invite", {});
        for (const myself of [1, 2]) {
          const joining = {invitation, network: network(myself)};
          tasks[myself] = (await call(nodes[myself], simons[myself], "join", joining))[0];
        }
        await call(nodes[0], tasks[0], "input", {data: 10});
        // The two others have given nothing, so this tells whom it waits for.
        const [nothing, response] = await call(nodes[0], tasks[0], "result", {timeout: 0});
        const waiting = response.headers.get("Fdrtd-Waiting");
        await call(nodes[1], tasks[1], "input", {data: 9});
        await call(nodes[2], tasks[2], "input", {data: 12});
        const result = async (node, place) => (await call(node, tasks[place], "result", {timeout: 60}))[0];
        return {nothing, waiting, results: await Promise.all(nodes.map(result))};
        """,
        nodes=urls_of(started),
    )
    assert found["nothing"] is None
    assert "party 1" in found["waiting"]
    assert found["results"] == [{"inputs": 3, "result": {"samples": 3, "sum": 31}}] * 3


def test_representations(pages: Pages) -> None:
    page, _, started = pages
    found = page.run(
        REPRESENTATIONS
        + """
        const {node} = given;
        const listed = (await ask("GET", `${node}/representations`))[0].list;
        const [uploaded] = await ask("PUT", `${node}/representations`, {args: [[1, 2.5, "x", null]], kwargs: {}});
        const downloaded = await download(node, uploaded);
        const services = await create(node, {microservice: "KeyValueStorage"});
        const storage = await call(node, services, "create", {storage: "of a page"});
        const stored = await call(node, storage, "store", {key: "k", value: {representation_uuid: uploaded.uuid}});
        const [released] = await ask("DELETE", `${node}/representation/${uploaded.uuid}`);
        const gone = await download(node, uploaded).catch((error) => error.code);
        const retrieved = await download(node, await call(node, storage, "retrieve", {key: "k"}));
        return {listed, downloaded, stored, released, gone, retrieved};
        """,
        node=started[0].url,
    )
    assert found.pop("listed") == started[0].api().list()
    assert found == {
        "downloaded": [1, 2.5, "x", None],
        "stored": {"type": "none"},
        "released": {"type": "none"},
        "gone": "OBJECT_UNKNOWN",
        "retrieved": [1, 2.5, "x", None],
    }


def test_computations_in_one_call(pages: Pages) -> None:
    page, _, started = pages
    found = page.run(
        REPRESENTATIONS
        + """
        const everybody = ({microprotocol, data, parameters}) => Promise.all(given.nodes.map(async (node, myself) => {
          const simon = await create(node, {protocol: "Simon"});
          const network = {nodes: given.nodes, myself, uuid: "one call of a page"};
          const computed = await call(node, simon, "compute", {microprotocol, network, parameters, data: data[myself]});
          return download(node, computed);
        }));
        const results = [];
        for (const computation of given.computations) results.push(await everybody(computation));
        return results;
        """,
        nodes=urls_of(started),
        computations=[
            {"microprotocol": "SecureSum", "parameters": {"digits_after": 3}, "data": [[10, 0.1], 9, 12]},
            {"microprotocol": "SecureSum", "parameters": {"digits_after": 3}, "data": [[10, 0.1], 9, 12]},
            {"microprotocol": "SecureMedian", "parameters": {}, "data": [[1, 2], [3, 4.5], 5]},
            {"microprotocol": "StatisticsUnivariate", "parameters": {}, "data": [[1, 2], [3, 4.5], [5, None]]},
        ],
    )
    *sums, medians, statistics = found
    assert sums == [[{"inputs": 3, "result": {"samples": 4, "sum": 31.1}}] * 3] * 2
    assert medians[0]["result"]["median"] == 3
    assert medians == medians[:1] * 3
    assert statistics == statistics[:1] * 3
    univariate = statistics[0]["result"]
    assert (univariate["samples"], univariate["missing"], univariate["mean"]) == (5, 1, 3.1)


def test_the_page_of_the_documentation(pages: Pages) -> None:
    page, _, started = pages
    (code,) = re.findall(r"^```js\n(.*?)^```$", (ROOT / "docs" / "newer-api.md").read_text(), re.DOTALL | re.MULTILINE)
    for url, node in zip(DEMO, started):
        assert url in code
        code = code.replace(url, node.url)
    results = page.run(code + "return results;")
    assert results == [{"inputs": 3, "result": {"samples": 3, "sum": 31}}] * 3


FAILURES = """
    const failures = {};
    for (const [name, request] of Object.entries(given.requests)) {
      try {
        await ask(...request);
      } catch (error) {
        failures[name] = {...error, said: error.message, kind: error.name};
      }
    }
    return failures;
"""


def test_what_goes_wrong_can_be_read(pages: Pages) -> None:
    page, _, started = pages
    url = started[0].url
    requests = {
        "unknown": ["PUT", url, {"microservice": "Nope"}],
        "unusable": ["POST", url, {"handle": 5}],
        "nowhere": ["GET", f"{url}/nowhere"],
        "no value": ["GET", f"{url}/representation/{SOME}"],
        "no object": ["PATCH", f"{url}/representation/{SOME}", {"args": [], "kwargs": {}}],
        "released": ["DELETE", f"{url}/representation/{SOME}"],
        "no service": ["POST", f"{url}/representations", {"kwargs": {"protocol": "Nope"}}],
        "no JSON object": ["PUT", f"{url}/representations", [1]],
    }
    found = page.run(ASK + FAILURES, requests=requests)
    assert found["unknown"]["code"] == "SERVICE_UNKNOWN"
    assert found["unknown"]["status"] == 404
    assert found["unusable"]["status"] == 400
    assert found["nowhere"]["code"] == "PATH_UNKNOWN"
    for name in ("no value", "no object", "released"):
        assert found[name]["code"] == "OBJECT_UNKNOWN"
    assert found["no service"]["code"] == "SERVICE_UNKNOWN"
    assert found["no JSON object"]["status"] == 400
    assert found.keys() == requests.keys()
    for failure in found.values():
        assert failure["said"]
        assert failure["hint"]


def test_a_page_of_another_origin_gets_nothing(pages: Pages) -> None:
    page, stranger, started = pages
    url = started[0].url
    api = started[0].api()
    stored = api.select_microservice(microservice="KeyValueStorage").create(value=42)
    uploaded = api.upload(43)
    deleting = {**fdrtd.to_dict(stored), "function": "delete", "parameters": {}}
    requests = {
        "listing": ["GET", url],
        "select": ["PUT", url, {"microservice": "KeyValueStorage"}],
        "delete": ["POST", url, deleting],
        "identity": ["GET", f"{url}/identity"],
        "list": ["GET", f"{url}/representations"],
        "create": ["POST", f"{url}/representations", {"kwargs": {"protocol": "Simon"}}],
        "upload": ["PUT", f"{url}/representations", {"args": [1], "kwargs": {}}],
        "download": ["GET", f"{url}/representation/{uploaded['representation_uuid']}"],
        "release": ["DELETE", f"{url}/representation/{uploaded['representation_uuid']}"],
    }
    found = stranger.run(ASK + FAILURES, requests=requests)
    # It does not even learn that there is a node.
    assert {name: failure["said"] for name, failure in found.items()} == dict.fromkeys(requests, "Failed to fetch")
    # What needs no preflight is sent, but does nothing: the node looks at its origin.
    blind = """
        const options = {method: "POST", mode: "no-cors", body: JSON.stringify(given.body)};
        const response = await fetch(given.url, options);
        return {type: response.type, status: response.status, text: await response.text()};
    """
    assert stranger.run(blind, url=url, body=deleting) == {"type": "opaque", "status": 0, "text": ""}
    assert stored.retrieve() == 42
    assert api.download(uploaded) == 43
    # The same requests of the page that is allowed.
    assert page.run(ASK + FAILURES, requests=requests) == {}
    assert stored.exists() is False
