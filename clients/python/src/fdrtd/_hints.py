"""What to write instead: arguments of remote functions go by name."""

from __future__ import annotations

from typing import Any

from fdrtd.errors import CallError

# What a call of each function looks like, by service. Always these words and never the caller's: an argument
# may be private, and errors are printed, logged and mailed around.
_EXAMPLES: dict[str, dict[str, str]] = {
    "KeyValueStorage": {"create": "create(value=10)", "store": "store(value=10)"},
    "Simon": {
        "create": 'create(microprotocol="SecureSum", network=network)',
        "create_task": 'create_task(microprotocol="SecureSum", network=network)',
        "join": "join(invitation=invitation, network=network)",
        "join_task": "join_task(invitation=invitation, network=network)",
        "input": "input(data=[1, 2, 3]) or input(source=handle)",
        "result": "result(timeout=10)",
        "invitations": 'invitations(microprotocol="SecureSum", network=network)',
    },
    "Barrier": {
        "create": 'create(tokens=["our meeting"])',
        "arrive": "arrive(party=0)",
        "depart": "depart(party=0)",
    },
    "Broadcast": {"create": 'create(tokens=["our meeting"])', "send": "send(message=10)"},
}
_SERVICES = {
    "Simon": 'protocol="Simon"',
    **{name: f'microservice="{name}"' for name in ("KeyValueStorage", "Barrier", "Broadcast")},
}


def no_name(function: str, service: str | None, arguments: tuple[Any, ...]) -> CallError:
    """The error for arguments without names, which has the call as it should be written."""
    if function in ("select_microservice", "has_capabilities") or service == "Api":
        name = arguments[0] if isinstance(arguments[0], str) else ""
        example = f"{function}({_SERVICES.get(name, _SERVICES['KeyValueStorage'])})"
    else:
        example = _example(function, service)
    return CallError(
        f"{function}() was given {'an argument' if len(arguments) == 1 else 'arguments'} without a name",
        code="ARGUMENTS_BY_NAME",
        hint=f"write {example}",
    )


def _example(function: str, service: str | None) -> str:
    own = _EXAMPLES.get(service or "", {})
    if function in own:
        return own[function]
    # A handle that was kept as a dict does not say of which service it is.
    for functions in _EXAMPLES.values():
        if function in functions:
            return functions[function]
    return f"{function}(name=value): arguments go by name"
