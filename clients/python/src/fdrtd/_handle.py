"""What stands for something on a node: handles, and what they have in common with representations."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fdrtd import _hints
from fdrtd.errors import CallError

if TYPE_CHECKING:
    from fdrtd._core import Core
    from fdrtd._representation import Representation

Own = TypeVar("Own", bound="Remote")


class Remote:
    """Something on a node. Its attributes are remote, so the class has no public one. It never changes."""

    __slots__ = ("_api",)

    _api: Core

    def __getattr__(self, name: str) -> Any:
        # Names with an underscore are Python's business (copy, pickle, inspect, IPython ask for them by the
        # dozen) and must never become requests.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._attribute(name)

    # Past our own __setattr__: nobody else may change it, it is hashed by its content.
    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__.lower()} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__.lower()} cannot be changed")

    def __getitem__(self, key: str) -> Any:
        return self._form()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._form()

    def __iter__(self) -> Iterator[str]:
        return iter(self._form())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Remote):
            return NotImplemented
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def __copy__(self: Own) -> Own:
        return self

    def __deepcopy__(self: Own, memo: dict[int, Any]) -> Own:
        return self

    def _attribute(self, name: str) -> Any:
        """What stands for an attribute; asks nobody."""
        raise NotImplementedError

    def _form(self) -> dict[str, Any]:
        """The form in which it travels."""
        raise NotImplementedError

    def _content(self) -> str:
        # Canonical text: a callback may be any JSON value, and dicts are not hashable.
        return json.dumps(self._form(), sort_keys=True)


class Handle(Remote):
    """A service or an object on a node. Its attributes are the remote functions: ``handle.create(value=10)``.

    The class has no public attribute of its own, so that a remote function may have any name (``get``,
    ``keys``, ``update``, …). ``handle["handle"]`` and ``handle["callback"]`` give the two parts;
    :func:`to_dict` gives both as a dict, for example ``json.dumps(handle, default=fdrtd.to_dict)``.

    Who holds a handle can use the object: treat it like a password. A pickle of a handle also holds the
    settings of its connection, a token included.
    """

    __slots__ = ("_callback", "_handle", "_identifiers")

    _callback: Any
    _handle: str
    _identifiers: Mapping[str, Any]

    def __init__(
        self, api: Core, handle: str, callback: Any = None, identifiers: Mapping[str, Any] | None = None
    ) -> None:
        self._set("_api", api)
        self._set("_handle", handle)
        self._set("_callback", callback)
        self._set("_identifiers", dict(identifiers or {}))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._api._public_functions(self._identifiers)]

    def __repr__(self) -> str:
        kind = service_kind(self._identifiers)
        what = kind if self._callback is None else f"{kind} object"
        return f"<fdrtd.Handle {what} {self._handle[:8]}…>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Handle, (self._api, self._handle, self._callback, self._identifiers))

    def _attribute(self, name: str) -> RemoteFunction:
        return RemoteFunction(self, name)

    def _form(self) -> dict[str, Any]:
        return {"handle": self._handle, "callback": copy.deepcopy(self._callback)}


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


def to_dict(remote: Handle | Representation) -> dict[str, Any]:
    """Returns the form in which a handle or a representation travels.

    For a handle it is ``{"handle": …, "callback": …}``, for a representation ``{"representation_uuid": …}``.
    """
    if not isinstance(remote, Remote):
        raise CallError(
            f"to_dict() takes a Handle or a Representation, not {type(remote).__name__}", code="NOT_A_HANDLE"
        )
    return remote._form()


def service_kind(identifiers: Mapping[str, Any]) -> str:
    """Returns the name of a service for people, from the identifiers it was selected with."""
    for key in ("microservice", "protocol"):
        if isinstance(identifiers.get(key), str):
            return str(identifiers[key])
    return next((value for value in identifiers.values() if isinstance(value, str)), "service")
