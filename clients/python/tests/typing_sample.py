"""How programs use the client, for mypy to check; what it must refuse is marked. Never run."""

from __future__ import annotations

from pathlib import Path

import fdrtd


def blocking(nodes: list[str]) -> dict[str, object]:
    with fdrtd.HttpInterface(nodes[0], verify=Path("ca.pem"), timeout=(5, 60), token="t") as interface:
        api: fdrtd.Api = fdrtd.Api(interface, progress=False)
        simon: fdrtd.Handle = api.select_microservice(protocol="Simon")
        known: bool = api.has_capabilities(protocol="Simon")
        task = simon.create(microprotocol="SecureSum", network={"nodes": nodes, "myself": 0})
        saved: dict[str, object] = fdrtd.to_dict(task)
        try:
            api.call_microservice(saved, "result", {"timeout": 5})
        except fdrtd.NotReady as error:
            waiting: str | None = error.waiting
            side: str | None = error.side
            print(waiting, side, known)
        api.select_microservice("Simon").create  # noqa: B018 - reported when it is called
        fdrtd.HttpInterface(5)  # type: ignore[arg-type]
        fdrtd.Api("http://localhost")  # type: ignore[arg-type]
        return saved


def whole(nodes: list[str], invitation: dict[str, object]) -> fdrtd.Result:
    network = {"nodes": nodes, "myself": 0}
    result: fdrtd.Result = fdrtd.compute("SecureSum", [1, 2], network, parameters={"digits_after": 3})
    plain: dict[str, object] = result
    fdrtd.compute(data=1, invitation=invitation, interface=nodes[0])
    fdrtd.compute("SecureSum", data=1, invitation="fdrtd:abc", network=network, timeout=60)
    fdrtd.compute("SecureSum", [1, 2])  # type: ignore[call-overload]
    fdrtd.compute("SecureSum", network=network)  # type: ignore[call-overload]
    fdrtd.compute(data=1, invitation=invitation, parameters={})  # type: ignore[call-overload]
    print(plain)
    return result


async def awaiting(nodes: list[str]) -> fdrtd.Result:
    async with fdrtd.AsyncApi(fdrtd.HttpInterface(nodes[0])) as api:
        simon: fdrtd.Handle = await api.select_microservice(protocol="Simon")
        task = await simon.create(microprotocol="SecureSum", network={"nodes": nodes, "myself": 0})
        await task.input(data=1)
        api.select_microservice(protocol="Simon").create  # type: ignore[attr-defined]  # noqa: B018
    return await fdrtd.aio_compute("SecureSum", 1, {"nodes": nodes, "myself": 0})
