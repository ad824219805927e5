"""The tutorial, and tasks of several sizes, through the real client against real processes."""

from __future__ import annotations

from pathlib import Path

import fdrtd
import pytest
from harness import Node, make_task, nodes, urls_of

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}


def test_three_numbers(shared: list[Node]) -> None:
    urls = urls_of(shared)
    apis = [fdrtd.Api(fdrtd.HttpInterface(url)) for url in urls]
    simons = [api.select_microservice(protocol="Simon") for api in apis]
    first = simons[0].create(microprotocol="BasicSum", network={"nodes": urls, "myself": 0})
    invitation = first.invite()
    tasks = [first, *(simons[i].join(invitation=invitation, network={"nodes": urls, "myself": i}) for i in (1, 2))]
    storages = [api.select_microservice(microservice="KeyValueStorage") for api in apis]
    values = [storage.create(value=value) for storage, value in zip(storages, (10, 7, 14))]
    for task, value in zip(tasks, values):
        task.input(source=value)
    assert [task.result() for task in tasks] == [RESULT] * 3
    for value in values:
        value.delete()


@pytest.mark.parametrize("parties", [2, 5, 12])
def test_other_numbers_of_parties(tmp_path: Path, parties: int) -> None:
    with nodes(tmp_path, parties, "--ephemeral") as started:
        tasks = make_task(started)
        for index, task in enumerate(tasks):
            task.input(data=index + 1)
        results = [task.result(timeout=60) for task in tasks]
        expected = {"inputs": parties, "result": {"samples": parties, "sum": parties * (parties + 1) // 2}}
        if parties == 2:
            warning = results[0]["warnings"][0]
            assert warning["code"] == "TWO_PARTIES"
            assert "learns the other's input" in warning["message"]
            expected["warnings"] = [warning]
        assert results == [expected] * parties
