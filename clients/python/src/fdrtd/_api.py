"""The API of a node: which services it has, and calls of their functions."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from fdrtd._core import Core
from fdrtd._handle import Handle
from fdrtd._http import Answer

T = TypeVar("T")


class Api(Core):
    """A node's services. ``interface`` is how to reach the node; one Api may be used from several threads.

    While ``result()`` waits, a line on a terminal (or below the cell of a notebook) tells who is being waited
    for. ``progress=False`` or the variable ``FDRTD_PROGRESS=0`` keep it quiet; ``progress=True`` also writes
    where there is no terminal, a line per change.
    """

    def list_microservices(self) -> list[dict[str, Any]]:
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

    async def _request(
        self, method: str, body: str | None = None, *, read_timeout: float | None = None, holds: bool = False
    ) -> Answer:
        return self._interface.request(method, body, read_timeout=read_timeout)

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
