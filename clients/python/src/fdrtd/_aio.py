"""The same API for programs with an event loop."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fdrtd import _representation
from fdrtd._api import Services
from fdrtd._core import LOOK, Core
from fdrtd._handle import Handle
from fdrtd._http import Answer, HttpInterface
from fdrtd._representation import AnyRepresentation, Representation

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

# Threads for calls that are answered at once, and for those that a node may hold. They are apart, so that any
# number of waiting results never keeps from the node the very input that all of them wait for.
CALLERS = 8
WAITERS = 24


class AsyncApi(Core):
    """A node's services, for ``await``: all as in :class:`fdrtd.Api`, under the same names.

    A handle's functions are awaited as well: ``task = await simon.create(…)``, ``await task.result()``. Any
    number of calls may be awaited at once; a bounded number of threads sends the requests. Cancelling an
    awaited call returns at once; what was sent stays sent, so a cancelled ``create()`` may have created
    something, and a task whose ``result()`` is not awaited any longer goes on. Close it with
    ``await api.close()``, or use it in an ``async with`` statement.
    """

    def __init__(self, interface: HttpInterface, *, progress: bool | None = None) -> None:
        super().__init__(interface, progress=progress)
        self._pools: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None
        self._held = 0

    async def list_microservices(self) -> Services:
        """See :meth:`fdrtd.Api.list_microservices`."""
        return await self._list()

    async def select_microservice(self, /, *arguments: Any, **identifiers: Any) -> Handle:
        """See :meth:`fdrtd.Api.select_microservice`."""
        return await self._select("select_microservice", arguments, identifiers)

    async def has_capabilities(self, /, *arguments: Any, **identifiers: Any) -> bool:
        """See :meth:`fdrtd.Api.has_capabilities`."""
        return await self._has(arguments, identifiers)

    async def call_microservice(
        self,
        handle: Handle | Mapping[str, Any] | str,
        function: str,
        parameters: Mapping[str, Any] | None = None,
        callback: Any = None,
    ) -> Any:
        """See :meth:`fdrtd.Api.call_microservice`."""
        return await self._call(handle, function, parameters, callback)

    async def create(self, /, *arguments: Any, **description: Any) -> Representation:
        """See :meth:`fdrtd.Api.create`."""
        return await _representation.create(self, arguments, description)

    async def upload(self, value: Any) -> Representation:
        """See :meth:`fdrtd.Api.upload`."""
        return await _representation.upload(self, value)

    async def download(self, what: AnyRepresentation) -> Any:
        """See :meth:`fdrtd.Api.download`."""
        return await _representation.download(self, what)

    async def release(self, what: AnyRepresentation) -> None:
        """See :meth:`fdrtd.Api.release`."""
        await _representation.release(self, what)

    async def list(self) -> Services:
        """See :meth:`fdrtd.Api.list`."""
        return await _representation.list_services(self)

    async def close(self) -> None:
        """Ends the threads and closes the interface. A later call starts new ones."""
        self.end_threads()
        self._interface.close()

    def end_threads(self) -> None:
        """Ends the threads as soon as their requests have ended, and leaves the interface open."""
        pools, self._pools = self._pools, None
        for pool in pools or ():
            pool.shutdown(wait=False)

    async def __aenter__(self) -> AsyncApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pools": None, "_held": 0}

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        return coroutine

    async def _request(
        self,
        method: str,
        body: str | None = None,
        *,
        path: str = "",
        read_timeout: float | None = None,
        holds: bool = False,
    ) -> Answer:
        import asyncio
        from functools import partial

        send = partial(self._interface.request, method, body, path=path, read_timeout=read_timeout)
        self._held += holds
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executors()[holds], send)
        finally:
            self._held -= holds

    async def _sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    def _longest_hold(self) -> float:
        # Short, because a thread cannot be called back when its waiter is cancelled; shorter if there are
        # more waiters than threads, so that each has its turn within about a second.
        return min(LOOK, WAITERS / (self._held + 1))

    def _executors(self) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
        from concurrent.futures import ThreadPoolExecutor

        if self._pools is None:
            self._pools = (
                ThreadPoolExecutor(CALLERS, thread_name_prefix="fdrtd-call"),
                ThreadPoolExecutor(WAITERS, thread_name_prefix="fdrtd-wait"),
            )
        return self._pools
