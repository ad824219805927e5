"""Client for fdrtd nodes: tell your own node what to compute, with whom and on which private data.

    import fdrtd

    api = fdrtd.Api(fdrtd.HttpInterface("https://node.example.org/public1"))
    storage = api.select_microservice(microservice="KeyValueStorage")
    data = storage.create(value=10)

or, for a whole computation in one call, :func:`fdrtd.compute`; with an event loop, :class:`fdrtd.AsyncApi`.

Every failure is an :class:`fdrtd.Error`; see :mod:`fdrtd.errors` for the tree.
"""

from fdrtd._aio import AsyncApi
from fdrtd._api import Api
from fdrtd._compute import aio_compute, compute
from fdrtd._handle import Handle, RemoteFunction, to_dict
from fdrtd._http import HttpInterface
from fdrtd._representation import RemoteAttribute, Representation
from fdrtd._result import Progress, Result
from fdrtd._version import __version__
from fdrtd.errors import (
    CallError,
    ConnectionFailed,
    Error,
    Forbidden,
    InputError,
    InsecureWarning,
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
    "AsyncApi",
    "CallError",
    "ConnectionFailed",
    "Error",
    "Forbidden",
    "Handle",
    "HttpInterface",
    "InputError",
    "InsecureWarning",
    "NodeError",
    "NotFound",
    "NotReady",
    "Progress",
    "RemoteAttribute",
    "RemoteFunction",
    "Representation",
    "Result",
    "TaskFailed",
    "TooManyRequests",
    "Unavailable",
    "WrongState",
    "__version__",
    "aio_compute",
    "compute",
    "to_dict",
]
