"""The API of a node: which services it has, and calls of their functions."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from fdrtd import _representation
from fdrtd._core import Core
from fdrtd._handle import Handle
from fdrtd._http import Answer
from fdrtd._representation import AnyRepresentation, Representation

Services = list[dict[str, Any]]
T = TypeVar("T")


class Api(Core):
    """A node's services. ``interface`` is how to reach the node; one Api may be used from several threads.

    While ``result()`` waits, a line on a terminal (or below the cell of a notebook) tells who is being waited
    for. ``progress=False`` or the variable ``FDRTD_PROGRESS=0`` keep it quiet; ``progress=True`` also writes
    where there is no terminal, a line per change.
    """

    def list_microservices(self) -> Services:
        """Returns the node's services: ``[{"identifiers": {…}, "public": [function, …]}, …]``."""
        return run(self._list())

    def select_microservice(self, /, *arguments: Any, **identifiers: Any) -> Handle:
        """Returns the node's first service with all these identifiers. Raises NotFound if there is none."""
        return run(self._select("select_microservice", arguments, identifiers))

    def has_capabilities(self, /, *arguments: Any, **identifiers: Any) -> bool:
        """Whether the node has a service with all these identifiers."""
        return run(self._has(arguments, identifiers))

    def call_microservice(
        self,
        handle: Handle | Mapping[str, Any] | str,
        function: str,
        parameters: Mapping[str, Any] | None = None,
        callback: Any = None,
    ) -> Any:
        """Calls a function of a service or an object and returns its value, a new Handle, or None.

        ``handle`` may also be the dict form of a handle, or only its text, with the ``callback`` separately.
        The function ``result`` waits until the task ends, or ``timeout`` seconds.
        """
        return run(self._call(handle, function, parameters, callback))

    def create(self, /, *arguments: Any, **description: Any) -> Representation:
        """Returns the node's first service that this describes: ``create(microservice="KeyValueStorage")``.

        This and the functions below are the newer API; those above are that of the tutorial.
        """
        return run(_representation.create(self, arguments, description))

    def upload(self, value: Any) -> Representation:
        """Stores a value on the node. It can be given to functions there, and downloaded again."""
        return run(_representation.upload(self, value))

    def download(self, what: AnyRepresentation) -> Any:
        """Fetches a value from the node: of a representation, or of an attribute of one."""
        return run(_representation.download(self, what))

    def release(self, what: AnyRepresentation) -> None:
        """Deletes something on the node. Raises NotFound if it is not there."""
        run(_representation.release(self, what))

    def list(self) -> Services:
        """Returns what descriptions :meth:`create` takes: ``[{"microservice": …, "version": …, …}, …]``."""
        return run(_representation.list_services(self))

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return run(coroutine)

    async def _request(
        self,
        method: str,
        body: str | None = None,
        *,
        path: str = "",
        read_timeout: float | None = None,
        holds: bool = False,
    ) -> Answer:
        return self._interface.request(method, body, path=path, read_timeout=read_timeout)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that never suspends, because what it awaits blocks instead."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise AssertionError("a blocking coroutine has no reason to suspend")
