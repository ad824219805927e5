"""What is shown while result() waits, on a terminal that only remembers what was written to it."""

from __future__ import annotations

import io
import json
import os
import sys
import types
from typing import Any, NoReturn
from unicodedata import east_asian_width

import pytest
from conftest import Reply, Request, Server

import fdrtd
from fdrtd import _api, _core, _progress

PARTY = "party 1 at https://b.example/public2 has joined, but given no input yet"
OTHER = "party 2 at https://c.example/public3 has not joined yet (no route; check the network)"
SHORT_PARTY = "party 1 has joined, but given no input yet"
SHORT_OTHER = "party 2 has not joined yet (no route; check the network)"
RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return True

    def screen(self) -> list[str]:
        """The lines that somebody sees in the end."""
        lines = [""]
        column = 0
        for character in self.getvalue():
            if character == "\r":
                column = 0
            elif character == "\n":
                lines.append("")
                column = 0
            else:
                # A wide character takes two places.
                cells = character + " " * (east_asian_width(character) in "WF")
                lines[-1] = lines[-1][:column].ljust(column) + cells + lines[-1][column + len(cells) :]
                column += len(cells)
        return [line.rstrip() for line in lines]

    def seen(self) -> list[str]:
        """All that was to be seen in the line at some time."""
        return [text.strip() for text in self.getvalue().split("\r") if text.strip()]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    # Not sys.stderr itself, which pytest sets anew before the test begins.
    monkeypatch.setattr(_progress, "sys", types.SimpleNamespace(stderr=terminal, modules=sys.modules))
    monkeypatch.delenv("FDRTD_PROGRESS")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "IPython", None)
    return terminal


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (_api, _core, _progress):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def waiting(server: Server, clock: Clock) -> Server:
    """A node that holds three requests as long as it may, and then has the result."""

    def respond(request: Request) -> Reply:
        if len(server.requests) == 4:
            return Reply(200, json.dumps(RESULT))
        clock.now += request.json["parameters"].get("timeout", 10.0)
        return Reply(204, headers={"Fdrtd-Waiting": PARTY if len(server.requests) < 3 else OTHER})

    server.respond = respond
    return server


def task_of(interface: fdrtd.HttpInterface, progress: bool | None = None) -> fdrtd.Handle:
    return fdrtd.Handle(fdrtd.Api(interface, progress=progress), "914dfb33", "7f3")


def test_who_is_waited_for_is_shown_and_erased(
    interface: fdrtd.HttpInterface, waiting: Server, terminal: Terminal
) -> None:
    assert task_of(interface).result() == RESULT
    assert terminal.seen()[0] == "waiting 0 s: party 1 has joined, but given no input yet"
    assert terminal.seen()[-1].startswith("waiting 4 s: party 2 has not joined yet (no route")
    assert terminal.screen() == [""]
    assert "\n" not in terminal.getvalue()
    # Soon at first, then every two seconds.
    assert [request.json["parameters"] for request in waiting.requests] == [
        {"timeout": 0.5}, {"timeout": 2.0}, {"timeout": 2.0}, {"timeout": 2.0},
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["no terminal", "variable", "argument", "dumb", "closed", "none"])
def test_nothing_is_shown_where_nobody_looks(
    interface: fdrtd.HttpInterface,
    waiting: Server,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    if how == "no terminal":
        monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    elif how == "variable":
        monkeypatch.setenv("FDRTD_PROGRESS", "0")
    elif how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    elif how == "closed":
        terminal.close()
    elif how == "none":
        monkeypatch.setattr(_progress, "sys", types.SimpleNamespace(stderr=None, modules={}))
    assert task_of(interface, False if how == "argument" else None).result() == RESULT
    assert how == "closed" or terminal.getvalue() == ""
    # The node may hold requests as long as it likes.
    assert [request.json["parameters"] for request in waiting.requests] == [{}] * 4


def test_lines_for_a_log_where_they_are_asked_for(
    interface: fdrtd.HttpInterface, waiting: Server, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    assert task_of(interface, True).result() == RESULT
    assert terminal.getvalue() == f"waiting: {PARTY}\nwaiting: {OTHER}\n"


def test_a_limit_and_its_end(interface: fdrtd.HttpInterface, waiting: Server, terminal: Terminal) -> None:
    with pytest.raises(fdrtd.NotReady):
        task_of(interface).result(timeout=3)
    assert [request.json["parameters"]["timeout"] for request in waiting.requests] == [0.5, 2.0, 0.5]
    assert terminal.screen() == [""]


def test_ctrl_c_passes_through_and_says_how_to_go_on(
    interface: fdrtd.HttpInterface,
    server: Server,
    terminal: Terminal,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.respond = lambda request: Reply(204, headers={"Fdrtd-Waiting": PARTY})

    def pressed(seconds: float) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep", pressed)
    with pytest.raises(KeyboardInterrupt):
        task_of(interface).result()
    assert terminal.screen() == [
        "fdrtd: no longer waiting; the task goes on: result() waits again, cancel() ends it",
        "",
    ]
    assert len(server.requests) == 1
    before = terminal.getvalue()
    with pytest.raises(KeyboardInterrupt):
        task_of(interface, progress=False).result()
    assert terminal.getvalue() == before
    assert _progress._watches == []


def test_a_terminal_that_goes_away_costs_no_result(
    interface: fdrtd.HttpInterface, waiting: Server, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Terminal, text: str) -> NoReturn:
        raise BrokenPipeError

    monkeypatch.setattr(Terminal, "write", broken)
    assert task_of(interface).result() == RESULT


def test_several_waits_share_a_line(terminal: Terminal, clock: Clock) -> None:
    with _progress.watch(None) as first:
        first.show(PARTY)
        clock.now += 3
        with _progress.watch(None) as second:
            second.show(OTHER)
            assert terminal.seen()[-1].startswith("waiting 3 s: [2 results] party 1 has joined")
        assert terminal.seen()[-1].startswith("waiting 3 s: party 1 has joined")
    assert terminal.screen() == [""]


def test_a_line_is_never_longer_than_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Terminal, "fileno", lambda self: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((40, 20)))
    with _progress.watch(None) as watch:
        watch.show(f"{PARTY}; {OTHER}")
        watch.show("計算中" * 30)
        watch.show("short")
    assert max(map(len, terminal.seen())) <= 39
    assert terminal.seen()[0] == "waiting 0 s: party 1 has … (and 1 more)"
    assert terminal.screen() == [""]


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (500, f"{PARTY}; {OTHER}; party 3 has not sent its part yet"),
        (170, f"{SHORT_PARTY}; {SHORT_OTHER}; party 3 has not sent its part yet"),
        (132, f"{SHORT_PARTY}; {SHORT_OTHER} (and 1 more)"),
        (70, f"{SHORT_PARTY} (and 2 more)"),
        (40, "party 1 has joined, but gi… (and 2 more)"),
        (0, ""),
    ],
)
def test_as_many_parties_as_have_room(room: int, shown: str) -> None:
    text = _progress.fit(f"{PARTY}; {OTHER}; party 3 has not sent its part yet", room)
    assert len(text) <= room
    assert text == shown


class FakeDisplay:
    """IPython's display(), as far as it is used."""

    def __init__(self) -> None:
        self.outputs: list[list[Any]] = []

    def __call__(self, data: Any, *, raw: bool, display_id: bool = False) -> Any:
        assert raw
        output = [data]
        self.outputs.append(output)

        def update(data: Any, *, raw: bool) -> None:
            assert raw
            output.append(data)

        return types.SimpleNamespace(update=update) if display_id else None


def notebook(monkeypatch: pytest.MonkeyPatch, kernel: object) -> FakeDisplay:
    display = FakeDisplay()
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=kernel)
    module: Any = types.ModuleType("IPython.display")
    module.display = display
    ipython.display = module
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return display


def test_a_notebook_has_one_output_that_changes(
    interface: fdrtd.HttpInterface, waiting: Server, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = notebook(monkeypatch, kernel=object())
    assert task_of(interface).result() == RESULT
    assert terminal.getvalue() == ""
    assert len(display.outputs) == 1
    texts = [data["text/plain"] for data in display.outputs[0]]
    assert texts == [f"waiting 0 s: {PARTY}", f"waiting 2 s: {PARTY}", f"waiting 4 s: {OTHER}", ""]


def test_ipython_in_a_terminal_is_a_terminal(
    interface: fdrtd.HttpInterface, waiting: Server, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = notebook(monkeypatch, kernel=None)
    assert task_of(interface).result() == RESULT
    assert display.outputs == []
    assert terminal.seen()
