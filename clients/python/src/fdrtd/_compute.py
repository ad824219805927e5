"""A whole computation in one call: create or join, give the input, wait for the result."""

from __future__ import annotations

import contextlib
import math
import operator
import time
from collections.abc import Mapping
from typing import Any, TypeVar, Union, overload

from fdrtd import _json, _progress
from fdrtd._aio import AsyncApi
from fdrtd._answers import one_line
from fdrtd._api import Api, run
from fdrtd._core import FIRST_LOOK, LOOK, MIN_PERIOD, POLL, Core, parse_limit
from fdrtd._handle import Handle
from fdrtd._http import HttpInterface
from fdrtd._result import Result
from fdrtd.errors import CallError, Error, InputError, NotReady, TaskFailed

Network = Mapping[str, Any]
Invitation = Union[Mapping[str, Any], str]
Policy = Union[Mapping[str, Any], str]
AnyCore = TypeVar("AnyCore", bound=Core)

# How long others wait for the first party's task if nothing else is said: a node's own limit for joining.
DEFAULT_JOIN = 86400.0
# How long a node may take to hear that a task is given up.
CANCEL_TIMEOUT = 5.0
# What the nodes call computations that an earlier system had under other names.
_ALIASES = {"BasicSum": "SecureSum", "BasicMinMax": "MinimumMaximum"}
_EXAMPLE = 'compute("SecureSum", data=[1, 2, 3], network={"nodes": nodes, "myself": 0})'
_NOTE = "interrupted; the task is cancelled for all parties"


@overload
def compute(
    microprotocol: str,
    data: Any,
    network: Network,
    *,
    parameters: Mapping[str, Any] | None = ...,
    durations: Mapping[str, float] | None = ...,
    policy: Policy | None = ...,
    invitation: None = ...,
    timeout: float | None = ...,
    interface: HttpInterface | str | None = ...,
    token: str | None = ...,
    progress: bool | None = ...,
) -> Result: ...


@overload
def compute(
    microprotocol: str | None = ...,
    *,
    data: Any,
    invitation: Invitation,
    network: Network | None = ...,
    policy: Policy | None = ...,
    timeout: float | None = ...,
    interface: HttpInterface | str | None = ...,
    token: str | None = ...,
    progress: bool | None = ...,
) -> Result: ...


def compute(
    microprotocol: str | None = None,
    data: Any = None,
    network: Network | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    durations: Mapping[str, float] | None = None,
    policy: Policy | None = None,
    invitation: Invitation | None = None,
    timeout: float | None = None,
    interface: HttpInterface | str | None = None,
    token: str | None = None,
    progress: bool | None = None,
) -> Result:
    """Computes with the other parties and returns the result, as ``task.result()`` would.

    All parties make the same call, each with its own data and its own ``myself``. Party 0 creates the task;
    the others wait until it appears at their nodes and join it: the newest task of exactly this
    microprotocol, these parameters and these nodes in this order. With ``invitation`` (the object, its JSON
    text or an ``fdrtd:`` link) that task is joined instead; if a microprotocol is named as well it must be
    that of the invitation.

    ``policy`` asks for more caution than the nodes' own rules, for this task and all its parties: a profile
    (``"strict"``) or rules (``{"min_samples_own": 8}``).

    ``data`` is what ``input(data=…)`` takes, or the handle of a stored value. The own node is
    ``nodes[myself]`` unless ``interface`` (or its URL) says otherwise; ``token`` says to it who calls (as
    ``HttpInterface(token=…)`` does; without it ``FDRTD_TOKEN``). ``timeout`` limits the whole call, in
    seconds; without it the task's own durations do.

    If anything goes wrong, time runs out or Ctrl-C is pressed, the task is cancelled for all parties, so that
    nobody waits in vain. Raises NotReady when time has run out, and what ``input()`` and ``result()`` raise.
    """
    call = _Call(microprotocol, data, network, parameters, durations, policy, invitation, timeout)
    _check_token(interface, token)
    with contextlib.ExitStack() as stack:
        own = interface if isinstance(interface, HttpInterface) else None
        own = own or stack.enter_context(HttpInterface(call.own_url(interface), token=token))
        return run(call.run(Api(own, progress=progress)))


@overload
async def aio_compute(
    microprotocol: str,
    data: Any,
    network: Network,
    *,
    parameters: Mapping[str, Any] | None = ...,
    durations: Mapping[str, float] | None = ...,
    policy: Policy | None = ...,
    invitation: None = ...,
    timeout: float | None = ...,
    interface: HttpInterface | str | None = ...,
    token: str | None = ...,
    progress: bool | None = ...,
) -> Result: ...


@overload
async def aio_compute(
    microprotocol: str | None = ...,
    *,
    data: Any,
    invitation: Invitation,
    network: Network | None = ...,
    policy: Policy | None = ...,
    timeout: float | None = ...,
    interface: HttpInterface | str | None = ...,
    token: str | None = ...,
    progress: bool | None = ...,
) -> Result: ...


async def aio_compute(
    microprotocol: str | None = None,
    data: Any = None,
    network: Network | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    durations: Mapping[str, float] | None = None,
    policy: Policy | None = None,
    invitation: Invitation | None = None,
    timeout: float | None = None,
    interface: HttpInterface | str | None = None,
    token: str | None = None,
    progress: bool | None = None,
) -> Result:
    """:func:`compute` for programs with an event loop. Cancelling it cancels the task as well."""
    call = _Call(microprotocol, data, network, parameters, durations, policy, invitation, timeout)
    _check_token(interface, token)
    given = isinstance(interface, HttpInterface)
    own = (
        interface
        if isinstance(interface, HttpInterface)
        else HttpInterface(call.own_url(interface), token=token)
    )
    api = AsyncApi(own, progress=progress)
    try:
        return await call.run(api)
    finally:
        api.end_threads()
        if not given:
            own.close()


def _check_token(interface: HttpInterface | str | None, token: str | None) -> None:
    if token is not None and isinstance(interface, HttpInterface):
        raise CallError(
            "compute() was given an HttpInterface, and a token beside it",
            code="ARGUMENTS_CLASH",
            hint="give HttpInterface the token",
        )


class _Call:
    """One call of compute(), its arguments checked."""

    def __init__(
        self,
        microprotocol: str | None,
        data: Any,
        network: Network | None,
        parameters: Mapping[str, Any] | None,
        durations: Mapping[str, float] | None,
        policy: Policy | None,
        invitation: Invitation | None,
        timeout: float | None,
    ) -> None:
        if invitation is None and (microprotocol is None or network is None):
            missing = "microprotocol" if microprotocol is None else "network"
            raise CallError(
                f"compute() needs {missing}, or an invitation",
                code="ARGUMENT_MISSING",
                hint=f"write {_EXAMPLE}",
            )
        if invitation is not None and not (parameters is None and durations is None):
            raise CallError(
                "compute() was given an invitation, and parameters or durations beside it",
                code="ARGUMENTS_CLASH",
                hint="the invitation says them already: leave them out",
            )
        self._microprotocol = microprotocol
        self._network = network
        self._parameters = parameters
        self._durations = durations
        self._policy = policy
        self._invitation = invitation
        self._limit = parse_limit(timeout)
        self._start = time.monotonic()
        # Read before anything is created, so that a wrong value costs nobody a task.
        self._input: dict[str, Any] = (
            {"source": data}
            if isinstance(data, Handle)
            else {"data": _json.Encoded(_json.encode(data, "data"))}
        )
        self._check_microprotocol(_named_in(invitation))

    def own_url(self, interface: HttpInterface | str | None) -> str:
        """The URL of this party's own node."""
        if isinstance(interface, str):
            return interface
        if interface is not None:
            raise CallError(
                f"interface= takes an HttpInterface or a URL, not {type(interface).__name__}",
                code="NOT_AN_INTERFACE",
                hint="write interface=fdrtd.HttpInterface(url)",
            )
        if self._network is None:
            raise CallError(
                "compute() cannot tell which node is yours",
                code="ARGUMENT_MISSING",
                hint='name it: interface="https://node.example.org/public1", or give the network',
            )
        nodes = self._network.get("nodes")
        try:
            place = operator.index(self._network["myself"])
            if not isinstance(nodes, (list, tuple)) or not 0 <= place < len(nodes):
                raise IndexError
        except (KeyError, TypeError, IndexError):
            raise InputError(
                "network must be a list of nodes and this party's place in it, from 0",
                code="NETWORK_MALFORMED",
                hint=f"write {_EXAMPLE}",
            ) from None
        return str(nodes[place])

    async def run(self, api: Core) -> Result:
        """Creates or joins, gives the input and waits. Cancels the task if anything goes wrong."""
        simon = await api._select("select_microservice", (), {"protocol": "Simon"})
        task = await self._task(api, simon)
        try:
            await self._compare_joined(api, task)
            await api._call(task, "input", self._input)
            self._input = {}
            left = None if self._limit is None else max(0.0, self._left())
            result: Result = await api._wait_for(task, "result", {"timeout": left}, _NOTE)
            return result
        except TaskFailed:
            raise
        except BaseException as error:
            with contextlib.suppress(Exception):
                await api._cancel(task, CANCEL_TIMEOUT)
            if isinstance(error, NotReady):
                raise self._too_late(error.waiting or "", "the task was cancelled for all parties") from None
            raise

    def _left(self) -> float:
        limit = math.inf if self._limit is None else self._limit
        return limit - (time.monotonic() - self._start)

    async def _task(self, api: Core, simon: Handle) -> Handle:
        if self._invitation is not None:
            arguments: dict[str, Any] = {"invitation": self._invitation}
            if self._network is not None:
                arguments["network"] = self._network
            arguments.update(self._caution())
            return _handle(await api._call(simon, "join", arguments))
        what = {"microprotocol": self._microprotocol, "network": self._network}
        if self._parameters is not None:
            what["parameters"] = self._parameters
        myself = self._network.get("myself") if self._network is not None else None
        if myself == 0:
            if self._durations is not None:
                what["durations"] = self._durations
            return _handle(await api._call(simon, "create", {**what, **self._caution()}))
        return await self._join_when_there(api, simon, what)

    def _caution(self) -> dict[str, Any]:
        """What to ask for besides; a client without rules of its own says nothing."""
        return {} if self._policy is None else {"policy": self._policy}

    async def _join_when_there(self, api: Core, simon: Handle, what: dict[str, Any]) -> Handle:
        """Waits for party 0's task and joins it."""
        first = _first_node(self._network)
        limit = self._limit
        if limit is None:
            limit = float((self._durations or {}).get("join", DEFAULT_JOIN))
        look, seen = FIRST_LOOK, ""
        with _progress.watch(api._progress, "no longer waiting; nothing was joined") as display:
            while True:
                asked = time.monotonic()
                left = limit - (asked - self._start)
                if left <= 0 and look == LOOK:
                    raise self._too_late(_not_there(first, seen), "nothing was joined", limit)
                hold = max(0.0, min(left, POLL, api._longest_hold(), look if display else POLL))
                look = LOOK
                found = await api._call(simon, "invitations", {**what, "timeout": round(hold, 3)})
                entries = [entry for entry in found or () if isinstance(entry, dict)]
                for entry in entries:
                    if "differs" in entry:
                        continue
                    arguments = {"invitation": entry, "network": self._network, **self._caution()}
                    try:
                        return _handle(await api._call(simon, "join", arguments))
                    except Error as error:
                        # Another call of this party was faster; the next task may be ours.
                        if error.code != "MYSELF_TAKEN":
                            raise
                seen = next((one_line(entry["differs"]) or "" for entry in entries if "differs" in entry), "")
                display.show(_not_there(first, seen))
                pause = min(MIN_PERIOD - (time.monotonic() - asked), limit - (time.monotonic() - self._start))
                if pause > 0:
                    await api._sleep(pause)

    async def _compare_joined(self, api: Core, task: Handle) -> None:
        """A link does not show what it invites to; after joining the node tells."""
        if isinstance(self._invitation, str) and self._microprotocol is not None:
            progress = await api._call(task, "progress")
            self._check_microprotocol(progress.get("microprotocol") if isinstance(progress, dict) else None)

    def _check_microprotocol(self, invited: Any) -> None:
        wanted = self._microprotocol
        if wanted is None or not isinstance(invited, str):
            return
        if _ALIASES.get(wanted, wanted) != _ALIASES.get(invited, invited):
            raise CallError(
                f"the invitation is to compute {one_line(invited)}, not {one_line(wanted)}",
                code="MICROPROTOCOL_DIFFERS",
                hint="ask who sent it; nothing was given to that task",
            )

    def _too_late(self, waiting: str, then: str, limit: float | None = None) -> NotReady:
        seconds = self._limit if limit is None else limit
        return NotReady(
            f"no result after {seconds:g} s: {waiting}" if waiting else f"no result after {seconds:g} s",
            code="NOT_READY",
            hint=f"{then}; call compute() again, with more time",
            extra={"waiting": waiting},
        )


def _not_there(first: str, differs: str) -> str:
    text = f"party 0 at {first} has not created this task yet"
    if differs:
        text += f" (there is one with the same nodes, but {differs} differ)"
    return text


def _first_node(network: Network | None) -> str:
    nodes = network.get("nodes") if network is not None else None
    return one_line(nodes[0]) or "" if isinstance(nodes, (list, tuple)) and nodes else ""


def _named_in(invitation: Invitation | None) -> Any:
    """The microprotocol that an invitation names, as far as it can be read here."""
    if isinstance(invitation, str):
        try:
            invitation = _json.decode(invitation.encode())
        except ValueError:
            return None
    return invitation.get("microprotocol") if isinstance(invitation, Mapping) else None


def _handle(value: Any) -> Handle:
    if not isinstance(value, Handle):
        raise Error(
            "the node made no task",
            code="ANSWER_UNUSABLE",
            hint="node and client may be of different versions",
        )
    return value
