"""Who is being waited for, shown while ``result()`` blocks: on a terminal or in a notebook, and nowhere else.

Several waits at once share one line: it shows the one that began first, and how many there are.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from types import TracebackType
from typing import Any, Protocol, TextIO

WIDTH = 80
INTERRUPTED = "no longer waiting; the task goes on: result() waits again, cancel() ends it"

_lock = threading.RLock()
_watches: list[Watch] = []
_sink: Sink | None = None


class Sink(Protocol):
    """Where the text is shown."""

    def show(self, seconds: float, text: str) -> None:
        """Shows this instead of what was shown."""

    def erase(self) -> None:
        """Takes away what was shown."""

    def note(self, text: str) -> None:
        """Shows a text that stays."""


class Watch:
    """One wait, as a context. It is true if somebody sees what it shows."""

    def __init__(self, sink: Sink | None, interrupted: str) -> None:
        self._own_sink = sink
        self._interrupted = interrupted
        self._since = time.monotonic()
        self.text: str | None = None

    def __bool__(self) -> bool:
        return self._own_sink is not None

    def show(self, text: str) -> None:
        """Shows what is being waited for."""
        if self._own_sink is None:
            return
        with _lock:
            self.text = text
            _render()

    def __enter__(self) -> Watch:
        global _sink
        if self._own_sink is not None:
            with _lock:
                _sink = _sink or self._own_sink
                _watches.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _sink
        if self._own_sink is None:
            return
        with _lock:
            sink = _sink
            _watches.remove(self)
            if not any(watch.text is not None for watch in _watches):
                _quietly(sink, "erase")
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                _quietly(sink, "erase")
                _quietly(sink, "note", self._interrupted)
            _render()
            if not _watches:
                _sink = None

    def seconds(self) -> float:
        """How long it has been waiting."""
        return time.monotonic() - self._since


def watch(setting: bool | None, interrupted: str = INTERRUPTED) -> Watch:
    """A wait that is shown if ``setting`` is True, or None and there is somebody to see it.

    ``interrupted`` is left on the screen if Ctrl-C ends the wait.
    """
    return Watch(None if setting is False else _find_sink(bool(setting)), interrupted)


def fit(text: str, room: int) -> str:
    """Cuts a list of parties ("party 1 at https://… …; party 2 …") to a number of columns.

    First go the URLs, because who and why matter more; then as many parties are shown as have room.
    """
    if _columns(text) <= room:
        return text
    parts = re.split(r"; (?=party \d)", re.sub(r" at https?://\S+", "", text))
    for count in range(len(parts), 0, -1):
        rest = f" (and {len(parts) - count} more)" if count < len(parts) else ""
        shown = "; ".join(parts[:count]) + rest
        if _columns(shown) <= room:
            return shown
    shown = parts[0]
    while shown and _columns(shown) > room - 1 - len(rest):
        shown = shown[:-1]
    return (shown + "…" + rest)[: max(room, 0)]


class _Line:
    """A line of a terminal, written again and again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = 0

    def show(self, seconds: float, text: str) -> None:
        start = f"waiting {seconds:.0f} s: "
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns or WIDTH
        except (OSError, ValueError, AttributeError):
            columns = WIDTH
        line = start + fit(text, columns - 1 - len(start))
        encoding = self._stream.encoding or "ascii"
        line = line.encode(encoding, "replace").decode(encoding)
        width = _columns(line)
        # Blanks instead of an escape sequence: every terminal knows them.
        self._stream.write("\r" + line + " " * max(0, self._shown - width))
        self._stream.flush()
        self._shown = width

    def erase(self) -> None:
        if self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._stream.flush()
            self._shown = 0

    def note(self, text: str) -> None:
        self._stream.write(f"fdrtd: {text}\n")
        self._stream.flush()


class _Lines:
    """A line per change, for logs: only where it was asked for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""

    def show(self, seconds: float, text: str) -> None:
        if text != self._last:
            self._last = text
            self._stream.write(f"waiting: {text}\n")
            self._stream.flush()

    def erase(self) -> None:
        pass

    def note(self, text: str) -> None:
        self._stream.write(f"fdrtd: {text}\n")
        self._stream.flush()


class _Notebook:
    """One output below the cell that is written anew: plain text, no widgets."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def show(self, seconds: float, text: str) -> None:
        data = {"text/plain": f"waiting {seconds:.0f} s: {fit(text, 4 * WIDTH)}"}
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def erase(self) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
            self._handle = None

    def note(self, text: str) -> None:
        self._display({"text/plain": f"fdrtd: {text}"}, raw=True)


def _find_sink(asked: bool) -> Sink | None:
    stream: TextIO = sys.stderr
    if not asked and os.environ.get("FDRTD_PROGRESS", "").strip().lower() in ("0", "no", "off", "false"):
        return None
    # A program in a notebook has IPython imported already; nobody else pays for it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if getattr(shell, "kernel", None) is not None:
        from importlib import import_module

        return _Notebook(import_module("IPython.display").display)
    with contextlib.suppress(ValueError, OSError, AttributeError):
        if stream.isatty() and os.environ.get("TERM") != "dumb":
            return _Line(stream)
        if asked:
            return _Lines(stream)
    return None


def _render() -> None:
    showing = [watch for watch in _watches if watch.text is not None]
    if not showing:
        return
    first = showing[0]
    more = f"[{len(showing)} results] " if len(showing) > 1 else ""
    _quietly(_sink, "show", first.seconds(), more + (first.text or "the node"))


def _quietly(sink: Sink | None, action: str, *arguments: Any) -> None:
    # A closed terminal is no reason to lose a result.
    with contextlib.suppress(Exception):
        getattr(sink, action)(*arguments)


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
