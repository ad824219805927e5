"""What a node's API means: requests and their answers, and waiting for results.

Written once, as coroutines that leave sending and sleeping to :class:`fdrtd.Api` (which does both at once, so
that no coroutine is ever suspended) and :class:`fdrtd.AsyncApi` (which does them in threads).
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from fdrtd import _hints, _json, _progress
from fdrtd._answers import error_from, not_a_node, unusable, waiting_text
from fdrtd._handle import Handle, to_dict
from fdrtd._http import Answer, HttpInterface
from fdrtd._result import Progress, Result
from fdrtd.errors import CallError, InputError, NotFound, NotReady

# How long one request for a result may be held at the node, in seconds. Without a limit of ours the node
# chooses; it never holds a request for more than 60 s.
POLL = 10.0
POLL_CAP = 60.0
# While somebody watches, what is being waited for is asked this often: soon at first, then now and then.
FIRST_LOOK = 0.5
LOOK = 2.0
# How much later than the node's own limit its answer may come.
GRACE = 5.0
# A node that answers "still waiting" at once is not asked again at once.
MIN_PERIOD = 0.5
# The functions that a node answers when something has happened: a task has ended, somebody has come.
HELD = frozenset({"result", "compute", "wait", "wait_departed"})
# Data of more bytes than this are not sent again every few seconds only to tell who is being waited for.
HEAVY = 1 << 16


class Core:
    """What :class:`fdrtd.Api` and :class:`fdrtd.AsyncApi` have in common."""

    def __init__(self, interface: HttpInterface, *, progress: bool | None = None) -> None:
        if not isinstance(interface, HttpInterface):
            kind = type(self).__name__
            raise CallError(
                f"{kind}() takes an HttpInterface, not {type(interface).__name__}",
                code="NOT_AN_INTERFACE",
                hint=f"write fdrtd.{kind}(fdrtd.HttpInterface(url))",
            )
        self._interface = interface
        self._progress = progress
        self._listing: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._interface!r})"

    def call_microservice(
        self,
        handle: Handle | Mapping[str, Any] | str,
        function: str,
        parameters: Mapping[str, Any] | None = None,
        callback: Any = None,
    ) -> Any:
        """Calls a function: its outcome, or an awaitable of it."""
        raise NotImplementedError

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The value of a coroutine of this class, or an awaitable of it."""
        raise NotImplementedError

    async def _request(
        self,
        method: str,
        body: str | None = None,
        *,
        path: str = "",
        read_timeout: float | None = None,
        holds: bool = False,
    ) -> Answer:
        """Sends a request. ``holds``: the node may keep it for seconds before it answers."""
        raise NotImplementedError

    async def _sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def _longest_hold(self) -> float:
        """How long one request may wait at the node, in seconds."""
        return math.inf

    async def _list(self) -> list[dict[str, Any]]:
        answer = await self._request("GET")
        listing = self._value(answer)
        if not isinstance(listing, list) or not all(isinstance(entry, dict) for entry in listing):
            raise not_a_node(answer, self._interface.url)
        self._listing = listing
        return [dict(entry) for entry in listing]

    async def _select(self, name: str, arguments: tuple[Any, ...], identifiers: Mapping[str, Any]) -> Handle:
        if arguments:
            raise _hints.no_name(name, None, arguments)
        answer = await self._request("PUT", _json.encode(identifiers))
        handle = self._value(answer, identifiers)
        if not isinstance(handle, Handle):
            raise not_a_node(answer, self._interface.url)
        return handle

    async def _has(self, arguments: tuple[Any, ...], identifiers: Mapping[str, Any]) -> bool:
        try:
            await self._select("has_capabilities", arguments, identifiers)
        except NotFound:
            return False
        return True

    async def _call(
        self,
        handle: Handle | Mapping[str, Any] | str,
        function: str,
        parameters: Mapping[str, Any] | None = None,
        callback: Any = None,
    ) -> Any:
        target = self._target(handle, callback)
        arguments = dict(parameters or {})
        if function in HELD:
            return await self._wait_for(target, function, arguments)
        # A call that waits at the node, such as invitations(timeout=…): give it time, and not in others' way.
        hold = arguments.get("timeout")
        read_timeout = self._patience(hold, None) if isinstance(hold, (int, float)) else None
        body = _call_body(target, function, arguments)
        answer = await self._request("POST", body, read_timeout=read_timeout, holds=hold is not None)
        value = self._value(answer, target._identifiers)
        if function == "progress" and type(value) is dict:
            return Progress(value)
        return value

    async def _wait_for(
        self, target: Handle, function: str, arguments: dict[str, Any], interrupted: str | None = None
    ) -> Any:
        """Calls a function that the node answers when something has happened."""

        async def ask(parameters: Mapping[str, Any], read_timeout: float | None) -> Answer:
            body = _call_body(target, function, parameters)
            return await self._request("POST", body, read_timeout=read_timeout, holds=True)

        answer = await self._until_there(function, arguments, ask, interrupted, free=function == "result")
        value = self._value(answer, target._identifiers)
        return Result(value) if type(value) is dict and "result" in value else value

    async def _until_there(
        self,
        function: str,
        arguments: dict[str, Any],
        ask: Callable[[Mapping[str, Any], float | None], Awaitable[Answer]],
        interrupted: str | None = None,
        *,
        free: bool = False,
    ) -> Answer:
        """Asks until there is an answer that is not "not yet".

        A ``timeout`` among the arguments is the limit in seconds for the whole wait (None: no limit); the
        node gets the share that it may use for one request. ``free``: without a limit the node chooses.
        Raises NotReady when the limit has run out.
        """
        limit = parse_limit(arguments.pop("timeout", None))
        heavy = False
        if "data" in arguments:
            # Once, and not again for each request.
            data = _json.Encoded(_json.encode(arguments["data"], "data"))
            arguments["data"], heavy = data, len(data.text) > HEAVY
        if interrupted is None and function != "result":
            interrupted = f"no longer waiting; {function}() waits again"
        start = time.monotonic()
        look = FIRST_LOOK
        with _progress.watch(self._progress, interrupted or _progress.INTERRUPTED) as display:
            while True:
                asked = time.monotonic()
                left = math.inf if limit is None else max(0.0, limit - (asked - start))
                hold = min(left, self._longest_hold(), look if display else math.inf)
                look = LOOK
                arguments.pop("timeout", None)
                if limit is not None or hold < math.inf or not free:
                    hold = min(left, POLL_CAP) if heavy else min(hold, POLL)
                    arguments["timeout"] = round(hold, 3)
                answer = await ask(arguments, self._patience(hold, limit))
                waiting = waiting_text(answer.headers) if answer.status < 300 else None
                if waiting is None:
                    return answer
                now = time.monotonic()
                left = math.inf if limit is None else limit - (now - start)
                if left <= 0:
                    raise _not_ready(function, limit, waiting)
                display.show(waiting)
                pause = min(MIN_PERIOD - (now - asked), left)
                if pause > 0:
                    await self._sleep(pause)

    async def _cancel(self, task: Handle, read_timeout: float) -> None:
        """Gives up a task; a node that does not answer soon is not waited for."""
        await self._request("POST", _call_body(task, "cancel", {}), read_timeout=read_timeout)

    def _patience(self, hold: float, limit: float | None) -> float | None:
        """The read timeout of a request that the node may hold."""
        own = self._interface.read_timeout
        if own is None:
            return None
        return min(hold, POLL_CAP) + GRACE if limit is not None else max(own, min(hold, POLL_CAP) + GRACE)

    def _target(self, handle: Handle | Mapping[str, Any] | str, callback: Any) -> Handle:
        if isinstance(handle, str):
            return Handle(self, handle, callback)
        identifiers: Mapping[str, Any] = {}
        if isinstance(handle, Handle):
            identifiers = handle._identifiers
            handle = to_dict(handle)
        if isinstance(handle, Mapping) and isinstance(handle.get("handle"), str):
            own = handle.get("callback")
            return Handle(self, handle["handle"], own if callback is None else callback, identifiers)
        raise CallError(
            f"this {type(handle).__name__} is no handle",
            code="NOT_A_HANDLE",
            hint="give a Handle, a dict with 'handle' and 'callback', or the handle's text",
        )

    def _value(self, answer: Answer, identifiers: Mapping[str, Any] | None = None) -> Any:
        """Returns what an answer means: a value (200), an object (201), a service (202), nothing (204)."""
        if answer.status >= 400:
            raise error_from(answer, self._interface.url)
        if answer.status == 204:
            return None
        try:
            value = _json.decode(answer.body)
        except ValueError:
            raise not_a_node(answer, self._interface.url) from None
        if answer.status == 200:
            return value
        if answer.status == 201 and isinstance(value, dict) and isinstance(value.get("handle"), str):
            return Handle(self, value["handle"], value.get("callback"), identifiers)
        if answer.status == 202 and isinstance(value, str):
            return Handle(self, value, None, identifiers)
        raise unusable(answer, self._interface.url)

    def _public_functions(self, identifiers: Mapping[str, Any]) -> list[str]:
        """The functions of a service as far as a listing told already; never asks the node."""
        for entry in self._listing:
            own = entry.get("identifiers")
            if isinstance(own, dict) and identifiers.items() <= own.items():
                return [name for name in entry.get("public", ()) if isinstance(name, str)]
        return []


def parse_limit(timeout: Any) -> float | None:
    """A limit in seconds, or None for none. Raises InputError."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InputError(
            "timeout is a number of seconds, 0 or more",
            code="TIMEOUT_UNUSABLE",
            hint="leave it out to wait until the task ends",
        )
    return None if timeout == math.inf else float(timeout)


def _not_ready(function: str, limit: float | None, waiting: str) -> NotReady:
    goes_on = "the task goes on: " if function in ("result", "compute") else ""
    return NotReady(
        f"no result after {limit:g} s: {waiting}" if waiting else f"no result after {limit:g} s",
        code="NOT_READY",
        hint=f"{goes_on}call {function}() again",
        extra={"waiting": waiting},
    )


def _call_body(target: Handle, function: str, parameters: Mapping[str, Any]) -> str:
    # Parameters are encoded on their own, so that errors name positions as the caller sees them: value[3].
    body = (
        f'{{"handle": {_json.encode(target["handle"])}, "function": {_json.encode(function)}, "parameters": '
    )
    body += _json.encode(parameters)
    callback = target["callback"]
    if callback is not None:
        body += f', "callback": {_json.encode(callback, "callback")}'
    return body + "}"
