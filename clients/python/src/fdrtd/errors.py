"""The exceptions: one tree below :class:`Error`, each with a stable code and a hint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Error(Exception):
    """Anything that went wrong between this program and its node.

    ``code`` is stable and meant for programs, ``message`` says what happened and on whose side, ``hint`` what
    to do. ``status`` is the HTTP status if a node answered. ``extra`` holds what else the node said.
    """

    code: str | None
    message: str
    hint: str | None
    status: int | None
    extra: dict[str, Any]

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        status: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.status = status
        self.extra = dict(extra or {})

    def __str__(self) -> str:
        text = self.message
        if self.hint:
            text += f" — {self.hint}"
        if self.code:
            text += f" ({self.code})"
        return text

    @property
    def party(self) -> Any:
        """The party the node named (its position in the network), or None."""
        return self.extra.get("party")


class ConnectionFailed(Error):
    """The node could not be reached, or what answered is not a node. The code names the layer."""


class InputError(Error, ValueError):
    """A value cannot be used: refused here or by the node (400, 413, 415, 422)."""


class CallError(Error, TypeError):
    """A call was written wrongly, for example with arguments that are not named."""


class NotFound(Error, LookupError):
    """The node has no such service or object, or it belongs to somebody else (404)."""


class Forbidden(Error):
    """The function is not public, or the credentials do not permit it (401, 403)."""


class WrongState(Error):
    """The call does not fit the state the object is in (409)."""


class TaskFailed(WrongState):
    """The task ended without a result (409 with a cause)."""

    @property
    def cause(self) -> Any:
        """What the node said about why the task failed."""
        return self.extra.get("cause")


class TooManyRequests(Error):
    """The node asks for patience (429); ``extra["retry_after"]`` tells how long, if it said so."""


class Unavailable(Error):
    """The node, or a proxy before it, cannot serve at the moment (502, 503, 504)."""


class NodeError(Error):
    """The node failed (500 and what has no class of its own)."""


class NotReady(Error, TimeoutError):
    """``result(timeout=…)`` ran out of time; the task goes on and ``result()`` may be called again."""

    @property
    def waiting(self) -> str | None:
        """Who is being waited for, in the node's words."""
        waiting: str | None = self.extra.get("waiting")
        return waiting
