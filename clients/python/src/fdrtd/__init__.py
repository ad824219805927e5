"""Client for fdrtd nodes: tell your own node what to compute, with whom and on which private data.

    import fdrtd

    api = fdrtd.Api(fdrtd.HttpInterface("https://node.example.org/public1"))
    storage = api.select_microservice(microservice="KeyValueStorage")
    data = storage.create(value=10)

Every failure is an :class:`fdrtd.Error`; see :mod:`fdrtd.errors` for the tree.
"""

from fdrtd._api import Api
from fdrtd._handle import Handle, RemoteFunction, to_dict
from fdrtd._http import HttpInterface
from fdrtd._version import __version__
from fdrtd.errors import (
    CallError,
    ConnectionFailed,
    Error,
    Forbidden,
    InputError,
    NodeError,
    NotFound,
    NotReady,
    TaskFailed,
    TooManyRequests,
    Unavailable,
    WrongState,
)

__all__ = [
    "Api",
    "CallError",
    "ConnectionFailed",
    "Error",
    "Forbidden",
    "Handle",
    "HttpInterface",
    "InputError",
    "NodeError",
    "NotFound",
    "NotReady",
    "RemoteFunction",
    "TaskFailed",
    "TooManyRequests",
    "Unavailable",
    "WrongState",
    "__version__",
    "to_dict",
]
