"""The API of a node: which services it has, and calls of their functions."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from fdrtd import _json
from fdrtd._answers import error_from, not_a_node, waiting_text
from fdrtd._handle import Handle, to_dict
from fdrtd._http import Answer, HttpInterface
from fdrtd.errors import CallError, ConnectionFailed, InputError, NotFound, NotReady

# How long one request for a result may be held at the node, in seconds. Without a limit of ours the node
# chooses; it never holds a request for more than 60 s.
POLL = 10.0
POLL_CAP = 60.0
# How much later than the node's own limit its answer may come.
GRACE = 5.0
# A node that answers "still waiting" at once is not asked again at once.
MIN_PERIOD = 0.5


class Api:
    """A node's services. ``interface`` is how to reach the node; one Api may be used from several threads."""

    def __init__(self, interface: HttpInterface) -> None:
        if not isinstance(interface, HttpInterface):
            raise CallError(
                f"Api() takes an HttpInterface, not {type(interface).__name__}",
                code="NOT_AN_INTERFACE",
                hint="write fdrtd.Api(fdrtd.HttpInterface(url))",
            )
        self._interface = interface
        self._listing: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        return f"Api({self._interface!r})"

    def list_microservices(self) -> list[dict[str, Any]]:
        """Returns the node's services: ``[{"identifiers": {…}, "public": [function, …]}, …]``."""
        answer = self._interface.request("GET")
        listing = self._value(answer)
        if not isinstance(listing, list) or not all(isinstance(entry, dict) for entry in listing):
            raise not_a_node(answer, self._interface.url)
        self._listing = listing
        return [dict(entry) for entry in listing]

    def select_microservice(self, **identifiers: Any) -> Handle:
        """Returns the node's first service with all these identifiers. Raises NotFound if there is none."""
        answer = self._interface.request("PUT", _json.encode(identifiers))
        handle = self._value(answer, identifiers)
        if not isinstance(handle, Handle):
            raise not_a_node(answer, self._interface.url)
        return handle

    def has_capabilities(self, **identifiers: Any) -> bool:
        """Whether the node has a service with all these identifiers."""
        try:
            self.select_microservice(**identifiers)
        except NotFound:
            return False
        return True

    def call_microservice(
        self,
        handle: Handle | Mapping[str, Any] | str,
        function: str,
        parameters: Mapping[str, Any] | None = None,
        callback: Any = None,
    ) -> Any:
        """Calls a function of a service or an object and returns its value, a new Handle, or None.

        ``handle`` may also be the dict form of a handle, or only its text, with the ``callback`` separately.
        The function ``result`` waits: see :meth:`_wait_for_result`.
        """
        target = self._target(handle, callback)
        arguments = dict(parameters or {})
        if function == "result":
            return self._wait_for_result(target, arguments)
        answer = self._interface.request("POST", _call_body(target, function, arguments))
        return self._value(answer, target._identifiers)

    def _wait_for_result(self, target: Handle, arguments: dict[str, Any]) -> Any:
        """Asks for a result until it is there: the only place where this client waits.

        A ``timeout`` among the arguments is the limit in seconds for the whole wait (None: no limit); the
        node gets the share that it may use for one request. Raises NotReady when the limit has run out.
        """
        limit = _parse_limit(arguments.pop("timeout", None))
        start = time.monotonic()
        while True:
            asked = time.monotonic()
            hold = POLL_CAP
            if limit is not None:
                hold = max(0.0, min(limit - (asked - start), POLL))
                arguments["timeout"] = round(hold, 3)
            read_timeout = self._interface.read_timeout
            if read_timeout is not None:
                read_timeout = max(read_timeout, hold + GRACE) if limit is None else hold + GRACE
            body = _call_body(target, "result", arguments)
            answer = self._interface.request("POST", body, read_timeout=read_timeout)
            waiting = waiting_text(answer.headers) if answer.status == 204 else None
            if waiting is None:
                return self._value(answer, target._identifiers)
            now = time.monotonic()
            remaining = math.inf if limit is None else limit - (now - start)
            if remaining <= 0:
                raise NotReady(
                    f"no result after {limit:g} s: {waiting}" if waiting else f"no result after {limit:g} s",
                    code="NOT_READY",
                    hint="the task goes on: call result() again",
                    extra={"waiting": waiting},
                )
            pause = min(MIN_PERIOD - (now - asked), remaining)
            if pause > 0:
                time.sleep(pause)

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
        raise ConnectionFailed(
            f"the answer of {self._interface.url} (status {answer.status}) has not the form it should have",
            code="ANSWER_UNUSABLE",
            status=answer.status,
            hint="node and client may be of different versions",
        )

    def _public_functions(self, identifiers: Mapping[str, Any]) -> list[str]:
        """The functions of a service as far as a listing told already; never asks the node."""
        for entry in self._listing:
            own = entry.get("identifiers")
            if isinstance(own, dict) and identifiers.items() <= own.items():
                return [name for name in entry.get("public", ()) if isinstance(name, str)]
        return []


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


def _parse_limit(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise InputError(
            "timeout is a number of seconds, 0 or more",
            code="TIMEOUT_UNUSABLE",
            hint="leave it out to wait until the task ends",
        )
    return None if timeout == math.inf else float(timeout)
