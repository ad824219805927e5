"""Handles: names of services and objects that live on a node."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fdrtd import _hints
from fdrtd.errors import CallError

if TYPE_CHECKING:
    from fdrtd._core import Core


class Handle:
    """A service or an object on a node. Its attributes are the remote functions: ``handle.create(value=10)``.

    The class has no public attribute of its own, so that a remote function may have any name (``get``,
    ``keys``, ``update``, …). ``handle["handle"]`` and ``handle["callback"]`` give the two parts;
    :func:`to_dict` gives both as a dict, for example ``json.dumps(handle, default=fdrtd.to_dict)``.

    Who holds a handle can use the object: treat it like a password. A pickle of a handle also holds the
    settings of its connection, a token included.
    """

    __slots__ = ("_api", "_callback", "_handle", "_identifiers")

    _api: Core
    _callback: Any
    _handle: str
    _identifiers: Mapping[str, Any]

    def __init__(
        self, api: Core, handle: str, callback: Any = None, identifiers: Mapping[str, Any] | None = None
    ) -> None:
        # Past our own __setattr__: nobody else may change a handle, it is hashed by its content.
        object.__setattr__(self, "_api", api)
        object.__setattr__(self, "_handle", handle)
        object.__setattr__(self, "_callback", callback)
        object.__setattr__(self, "_identifiers", dict(identifiers or {}))

    def __getattr__(self, name: str) -> RemoteFunction:
        # Names with an underscore are Python's business (copy, pickle, inspect, IPython ask for them by the
        # dozen) and must never become requests.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return RemoteFunction(self, name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a handle cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a handle cannot be changed")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._api._public_functions(self._identifiers)]

    def __getitem__(self, key: str) -> Any:
        if key == "handle":
            return self._handle
        if key == "callback":
            return copy.deepcopy(self._callback)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in ("handle", "callback")

    def __iter__(self) -> Iterator[str]:
        return iter(("handle", "callback"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Handle):
            return NotImplemented
        return _content(self) == _content(other)

    def __hash__(self) -> int:
        return hash(_content(self))

    def __repr__(self) -> str:
        kind = service_kind(self._identifiers)
        what = kind if self._callback is None else f"{kind} object"
        return f"<fdrtd.Handle {what} {self._handle[:8]}…>"

    def __copy__(self) -> Handle:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Handle, (self._api, self._handle, self._callback, self._identifiers))


class RemoteFunction:
    """A function of an object on a node. Calling it sends one request; its arguments go by name."""

    __slots__ = ("__name__", "_target")

    def __init__(self, target: Handle, name: str) -> None:
        self._target = target
        self.__name__ = name

    # The slash lets a remote function have a parameter called "self".
    def __call__(self, /, *arguments: Any, **parameters: Any) -> Any:
        """Calls the function on the node and returns its value, a new Handle, or None.

        Of a handle that an AsyncApi gave: returns an awaitable of that.
        """
        name = self.__name__
        if arguments:
            raise _hints.no_name(name, service_kind(self._target._identifiers), arguments)
        return self._target._api.call_microservice(self._target, name, parameters)

    def __repr__(self) -> str:
        return f"<remote function {self.__name__} of {self._target!r}>"


def to_dict(handle: Handle) -> dict[str, Any]:
    """Returns ``{"handle": …, "callback": …}``, the form in which a handle travels."""
    if not isinstance(handle, Handle):
        raise CallError(f"to_dict() takes a Handle, not {type(handle).__name__}", code="NOT_A_HANDLE")
    return {"handle": handle["handle"], "callback": handle["callback"]}


def service_kind(identifiers: Mapping[str, Any]) -> str:
    """Returns the name of a service for people, from the identifiers it was selected with."""
    for key in ("microservice", "protocol"):
        if isinstance(identifiers.get(key), str):
            return str(identifiers[key])
    return next((value for value in identifiers.values() if isinstance(value, str)), "service")


def _content(handle: Handle) -> tuple[str, str]:
    # Canonical text: a callback may be any JSON value, and dicts are not hashable.
    return handle._handle, json.dumps(handle._callback, sort_keys=True)
