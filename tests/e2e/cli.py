"""Runs the command line for the end-to-end tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import BINARY

OK, FAILED, USAGE, UNREACHABLE, REFUSED, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


def environment(**env: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("FDRTD_")} | env


def fdrtd(*arguments: str | Path, stdin: str | None = None, cwd: Path | None = None, **env: str) -> Ended:
    """A command that ends by itself."""
    given = subprocess.DEVNULL if stdin is None else None
    command = [str(BINARY), *map(str, arguments)]
    ended = subprocess.run(
        command, stdin=given, input=stdin, capture_output=True, text=True, env=environment(**env), cwd=cwd, timeout=90
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


class Ended:
    """What a command has left."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err
        assert "panicked" not in err, err

    def json(self) -> Any:
        return json.loads(self.out)

    def says(self, *words: str, status: int) -> None:
        """One line of error with these words in it, and this exit status."""
        assert self.status == status, f"{self.status}: {self.err or self.out}"
        for word in words:
            assert word in self.err, self.err


class Running:
    """A command that goes on; its lines are collected as they come."""

    def __init__(self, *arguments: str | Path, **env: str) -> None:
        self.process = subprocess.Popen(
            [BINARY, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**env),
        )
        self._changed = threading.Condition()
        self.lines: dict[str, list[str]] = {"out": [], "err": []}
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = (("out", self.process.stdout), ("err", self.process.stderr))
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: Any) -> None:
        for line in stream:
            with self._changed:
                self.lines[name].append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def line(self, wanted: Callable[[str], bool], stream: str = "err") -> str:
        """The first line of that kind, as soon as there is one. The limit is for broken code only."""

        def found() -> str | None:
            return next((line for line in self.lines[stream] if wanted(line)), None)

        with self._changed:
            assert self._changed.wait_for(lambda: found() is not None, timeout=60), self.lines
            line = found()
        assert line is not None
        return line

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> Ended:
        """Waits until it ends by itself."""
        status = self.process.wait(timeout=90)
        for reader in self._readers:
            reader.join(timeout=10)
        return Ended(status, "\n".join(self.lines["out"]), "\n".join(self.lines["err"]))


@contextlib.contextmanager
def running(*arguments: str | Path, **env: str) -> Iterator[Running]:
    """A command that is killed at the end, if it still runs then."""
    started = Running(*arguments, **env)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()
