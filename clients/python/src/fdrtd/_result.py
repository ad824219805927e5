"""Results and progress: plain dicts that a notebook shows as small tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# More than this is for programs to read, not for people to look at.
MAX_ROWS = 50
MAX_ITEMS = 12
MAX_TEXT = 300

_CELL = "padding:2px 10px;text-align:left"


class Result(dict[str, Any]):
    """A task's result: ``{"inputs": parties, "result": …}``, and if there are any ``"warnings"``.

    In ``"own"`` is what only this party learns.

    It is a dict in every respect; in a notebook it is shown as a table.
    """

    def _repr_html_(self) -> str:
        value = self.get("result")
        rows: list[list[Any]]
        if isinstance(value, dict) and value and all(isinstance(part, dict) for part in value.values()):
            names = list(dict.fromkeys(name for part in value.values() for name in part))
            head = ["", *names]
            rows = [[column, *(part.get(name, "") for name in names)] for column, part in value.items()]
        elif isinstance(value, dict):
            head, rows = [], [[name, part] for name, part in value.items()]
        else:
            head, rows = [], [["result", value]]
        rest = {name: part for name, part in self.items() if name not in ("result", "own", "warnings")}
        below = "".join(_line(f"{_text(name)}: {_text(part)}") for name, part in rest.items())
        if "own" in self:
            below += _line(f"for you alone: {_text(self['own'])}")
        warnings = self.get("warnings")
        for warning in warnings if isinstance(warnings, list) else ():
            told = warning.get("message", warning) if isinstance(warning, Mapping) else warning
            below += _line(f"\N{WARNING SIGN} {_text(told)}")
        return _table(head, rows) + below


class Progress(dict[str, Any]):
    """How far a task is, as ``progress()`` tells. A dict; in a notebook a table with a row per party."""

    def _repr_html_(self) -> str:
        head = ["party", "node", "connected", "joined", "input"]
        parties = self.get("parties")
        rows = []
        for entry in parties if isinstance(parties, list) else ():
            if isinstance(entry, Mapping):
                rows.append([_sign(entry.get(name, "")) for name in head])
                if entry.get("myself") is True:
                    rows[-1][0] = f"{_text(rows[-1][0])} (this node)"
        above = _line(f"{_text(self.get('microprotocol', ''))}: {_text(self.get('state', ''))}")
        waiting, cause = self.get("waiting_for"), self.get("cause")
        entries = waiting if isinstance(waiting, list) else []
        texts = [entry.get("why", "") for entry in entries if isinstance(entry, Mapping)]
        texts += [cause.get("message", "")] if isinstance(cause, Mapping) else []
        return above + _table(head, rows) + "".join(_line(_text(text)) for text in texts[:MAX_ROWS])


def _sign(value: Any) -> Any:
    return {True: "\N{CHECK MARK}", False: "\N{EN DASH}"}[value] if isinstance(value, bool) else value


def _table(head: list[str], rows: list[list[Any]]) -> str:
    html = '<table style="border-collapse:collapse">'
    if head:
        html += f"<thead><tr>{_cells('th', head)}</tr></thead>"
    html += "<tbody>"
    for first, *others in rows[:MAX_ROWS]:
        html += f"<tr>{_cells('th', [first])}{_cells('td', others)}</tr>"
    html += "</tbody></table>"
    if len(rows) > MAX_ROWS:
        html += _line(f"and {len(rows) - MAX_ROWS} more")
    return html


def _cells(tag: str, values: Iterable[Any]) -> str:
    return "".join(f'<{tag} style="{_CELL}">{_escape(_text(value))}</{tag}>' for value in values)


def _line(text: str) -> str:
    return f"<div>{_escape(text)}</div>"


def _escape(text: str) -> str:
    # Names of columns and texts of nodes are others' words; in a notebook a tag of theirs would be code.
    from html import escape

    return escape(text, quote=True)


def _text(value: Any) -> str:
    if isinstance(value, str):
        text = value
    else:
        if isinstance(value, list) and len(value) > MAX_ITEMS:
            text = ", ".join(_text(part) for part in value[:MAX_ITEMS]) + f", … ({len(value)} in all)"
            text = f"[{text}]"
        else:
            try:
                text = repr(value)
            except ValueError:  # an integer of thousands of digits
                text = "(too long to show)"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
