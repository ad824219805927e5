"""Representations: what stands for something on a node in the API of the newer generation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union
from urllib.parse import quote

from fdrtd import _hints, _json
from fdrtd._answers import unusable
from fdrtd._core import HELD
from fdrtd._handle import Remote, service_kind
from fdrtd._result import Result
from fdrtd.errors import CallError

if TYPE_CHECKING:
    from fdrtd._core import Core
    from fdrtd._http import Answer

SERVICES = "representations"
# Part of a path, and of no other one.
UUID = re.compile("[0-9A-Za-z-]{1,64}")


class Representation(Remote):
    """A service, an object or a value on a node, in the newer API. Its attributes live there as well.

    ``representation.store(key="k", value=1)`` calls a function; ``api.download(representation)`` fetches a
    value. The class has no public attribute of its own, so that what is remote may have any name (``get``,
    ``keys``, ``update``, …). ``representation["representation_uuid"]`` is its id; :func:`fdrtd.to_dict` gives
    it in the form in which it travels, for example ``json.dumps(representation, default=fdrtd.to_dict)``.

    Who knows the id can use the object: treat it like a password.
    """

    __slots__ = ("_description", "_uuid")

    _description: Mapping[str, Any]
    _uuid: str

    def __init__(self, api: Core, uuid: str, description: Mapping[str, Any] | None = None) -> None:
        self._set("_api", api)
        self._set("_uuid", uuid)
        self._set("_description", dict(description or {}))

    def __repr__(self) -> str:
        what = service_kind(self._description) + " " if self._description else ""
        return f"<fdrtd.Representation {what}{self._uuid[:8]}…>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Representation, (self._api, self._uuid, self._description))

    def _attribute(self, name: str) -> RemoteAttribute:
        return RemoteAttribute(self, name)

    def _form(self) -> dict[str, Any]:
        return {"representation_uuid": self._uuid}


class RemoteAttribute:
    """An attribute of something on a node: a function to be called, or a value to be downloaded."""

    __slots__ = ("__name__", "_owner")

    def __init__(self, owner: Representation, name: str) -> None:
        self._owner = owner
        self.__name__ = name

    # The slash lets a remote function have a parameter called "self".
    def __call__(self, /, *arguments: Any, **parameters: Any) -> Any:
        """Calls the function on the node and returns a new Representation of its outcome, or None.

        Of a representation that an AsyncApi gave: returns an awaitable of that.
        """
        api = self._owner._api
        return api._do(call(api, self, arguments, parameters))

    def __repr__(self) -> str:
        return f"<remote attribute {self.__name__} of {self._owner!r}>"


AnyRepresentation = Union[Representation, RemoteAttribute, Mapping[str, Any], str]


async def list_services(api: Core) -> list[dict[str, Any]]:
    answer = await api._request("GET", path=SERVICES)
    services = _told(api, answer, "list").get("list")
    if not isinstance(services, list) or not all(isinstance(entry, dict) for entry in services):
        raise unusable(answer, api._interface.url)
    return services


async def create(api: Core, arguments: tuple[Any, ...], description: Mapping[str, Any]) -> Representation:
    if arguments:
        raise _hints.no_name("create", "Api", arguments)
    return _new(api, await api._request("POST", _body((), description), path=SERVICES), description)


async def upload(api: Core, value: Any) -> Representation:
    body = f'{{"args": [{_json.encode(value, "value")}], "kwargs": {{}}}}'
    return _new(api, await api._request("PUT", body, path=SERVICES))


async def download(api: Core, what: AnyRepresentation) -> Any:
    answer = await api._request("GET", path=await _path_to(api, what))
    value = _told(api, answer, "object").get("object")
    return Result(value) if type(value) is dict and value.keys() >= {"inputs", "result"} else value


async def release(api: Core, what: AnyRepresentation) -> None:
    _told(api, await api._request("DELETE", path=await _path_to(api, what)), "none")


async def call(
    api: Core, function: RemoteAttribute, arguments: tuple[Any, ...], parameters: Mapping[str, Any]
) -> Representation | None:
    """Looks the function up, and calls it."""
    if any(isinstance(argument, (Representation, RemoteAttribute)) for argument in arguments):
        raise CallError(
            f"{function.__name__}() was given a representation without a name",
            code="ARGUMENTS_BY_NAME",
            hint="write name=representation: a node looks up only what it is given by name",
        )
    if function.__name__ not in HELD:
        body = _body(arguments, parameters)
        answer = await api._request("PATCH", body, path=await _path_to(api, function))
    else:
        path = await _path_to(api, function)

        async def ask(parameters: Mapping[str, Any], read_timeout: float | None) -> Answer:
            body = _body(arguments, parameters)
            return await api._request("PATCH", body, path=path, read_timeout=read_timeout, holds=True)

        answer = await api._until_there(function.__name__, {**parameters}, ask)
    return _new(api, answer) if _told(api, answer, "uuid", "none")["type"] == "uuid" else None


async def _path_to(api: Core, what: AnyRepresentation) -> str:
    """The path of something on the node. An attribute has one of its own, which the node is asked for."""
    if isinstance(what, RemoteAttribute):
        path = f"{await _path_to(api, what._owner)}/{quote(what.__name__, safe='').replace('.', '%2E')}"
        what = _new(api, await api._request("GET", path=path))
    uuid: Any = what._uuid if isinstance(what, Representation) else what
    if isinstance(uuid, Mapping):
        uuid = uuid.get("representation_uuid")
    if not isinstance(uuid, str) or not UUID.fullmatch(uuid):
        raise CallError(
            f"this {type(what).__name__} is no representation",
            code="NOT_A_REPRESENTATION",
            hint="give a Representation, a dict with 'representation_uuid', or the uuid's text",
        )
    return f"representation/{uuid}"


def _new(api: Core, answer: Answer, description: Mapping[str, Any] | None = None) -> Representation:
    uuid = _told(api, answer, "uuid").get("uuid")
    if not isinstance(uuid, str) or not UUID.fullmatch(uuid):
        raise unusable(answer, api._interface.url)
    return Representation(api, uuid, description)


def _told(api: Core, answer: Answer, *kinds: str) -> dict[str, Any]:
    """An answer of one of these kinds."""
    told = api._value(answer)
    if not isinstance(told, dict) or told.get("type") not in kinds:
        raise unusable(answer, api._interface.url)
    return told


def _body(arguments: tuple[Any, ...], parameters: Mapping[str, Any]) -> str:
    # Each is encoded on its own, so that errors name positions as the caller sees them: value[3].
    listed = ", ".join(_json.encode(value, f"argument {place}") for place, value in enumerate(arguments, 1))
    return f'{{"args": [{listed}], "kwargs": {_json.encode(parameters)}}}'
