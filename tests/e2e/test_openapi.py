"""Schemathesis reads /openapi.json and asks what it allows, and what it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from harness import Node, nodes
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

EXAMPLES = 200 if os.environ.get("FDRTD_LONG") else 12
COMMON = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
PROMISED = {"type", "title", "status", "code", "side", "message", "hint", "detail"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Its policy lets it connect to nobody, whatever URLs are made up."""
    directory = tmp_path_factory.mktemp("openapi")
    config = directory / "fdrtd.toml"
    config.write_text(
        'allow_peer_urls = ["https://nobody.invalid"]\n[limits]\nbody_bytes = 100000\nbodies_bytes = 1048576\n'
    )
    with nodes(directory, 1, "--ephemeral", f"--config={config}") as started:
        yield started[0]


@pytest.fixture(scope="module")
def api(node: Node) -> Any:
    config = SchemathesisConfig.from_dict({"seed": 20261125})
    return schemathesis.openapi.from_url(f"{node.url}/openapi.json", config=config, wait_for_schema=10)


def check(response: Response, case: Any) -> None:
    """No mistake of the node, and every refusal as it is promised."""
    assert response.status_code < 500 or response.status_code == 503, case.as_curl_command()
    if response.status_code >= 400 and case.method != "HEAD":
        assert response.headers["content-type"] == ["application/problem+json"], case.as_curl_command()
        problem = response.json()
        assert set(problem) >= PROMISED
        assert problem["status"] == response.status_code
        assert problem["message"]
        assert problem["hint"]


def test_every_operation(api: Any) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) >= 20
    for operation in operations:

        @COMMON
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            response = case.call()
            check(response, case)
            case.validate_response(response, checks=[response_schema_conformance, status_code_conformance])

        ask()


def test_services_and_objects_one_after_the_other(api: Any) -> None:
    """PUT gives a handle, POST an object of it, POST its value: along the links of the document."""

    class Way(api.as_state_machine()):  # type: ignore[misc]
        def validate_response(self, response: Response, case: Any, **kwargs: Any) -> None:
            check(response, case)

    run_state_machine_as_test(Way, settings=settings(COMMON, max_examples=max(5, EXAMPLES // 4), stateful_step_count=6))


def test_the_document_is_for_this_node(node: Node, api: Any) -> None:
    assert api.raw_schema["openapi"] == "3.1.0"
    assert api.raw_schema["servers"] == [{"url": node.base_path}]
