"""The exceptions: one tree below :class:`Error`, each with a stable code and a hint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

# How a text names the side on which something went wrong.
_SIDES = {
    "call": "your call",
    "way": "the way to your node",
    "node": "your node",
    "policy": "your node's policy",
    "peer": "another node",
    "task": "the task",
}


class InsecureWarning(UserWarning):
    """Certificates are not verified, so anybody on the way can read and change what is sent."""


class Error(Exception):
    """Anything that went wrong between this program and its node.

    ``code`` is stable and meant for programs, ``message`` says what happened, ``side`` on whose side
    (``call``, ``way``, ``node``, ``policy``, ``peer``, ``task``; what the node said, else what the class
    tells), ``hint`` what to do. ``status`` is the HTTP status if a node answered. ``extra`` holds what else
    the node said. As text: *what — whose side — what to do (code)*.
    """

    _usual_side: ClassVar[str | None] = None

    code: str | None
    message: str
    hint: str | None
    status: int | None
    side: str | None
    extra: dict[str, Any]

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        status: int | None = None,
        side: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.status = status
        self.side = side if side in _SIDES else self._usual_side
        self.extra = dict(extra or {})

    def __str__(self) -> str:
        text = self.message
        if self.side:
            text += f" — {_SIDES[self.side]}"
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

    _usual_side = "way"


class InputError(Error, ValueError):
    """A value cannot be used: refused here or by the node (400, 413, 415, 422)."""

    _usual_side = "call"


class CallError(Error, TypeError):
    """A call was written wrongly, for example with arguments that are not named."""

    _usual_side = "call"


class NotFound(Error, LookupError):
    """The node has no such service or object, or it belongs to somebody else (404)."""

    _usual_side = "call"


class Forbidden(Error):
    """The function is not public, or the credentials do not permit it (401, 403)."""

    _usual_side = "node"


class WrongState(Error):
    """The call does not fit the state the object is in (409)."""

    _usual_side = "task"


class TaskFailed(WrongState):
    """The task ended without a result (409 with a cause)."""

    @property
    def cause(self) -> Any:
        """What the node said about why the task failed."""
        return self.extra.get("cause")


class TooManyRequests(Error):
    """The node asks for patience (429); ``extra["retry_after"]`` tells how long, if it said so."""

    _usual_side = "node"


class Unavailable(Error):
    """The node, or a proxy before it, cannot serve at the moment (502, 503, 504)."""

    _usual_side = "node"


class NodeError(Error):
    """The node failed (500 and what has no class of its own)."""

    _usual_side = "node"


class NotReady(Error, TimeoutError):
    """``result(timeout=…)`` ran out of time; the task goes on and ``result()`` may be called again."""

    _usual_side = "task"

    @property
    def waiting(self) -> str | None:
        """Who is being waited for, in the node's words."""
        waiting: str | None = self.extra.get("waiting")
        return waiting
