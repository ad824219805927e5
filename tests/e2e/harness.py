"""Real nodes in processes of their own, for the end-to-end tests.

Everything waits for events (a line of output, a state seen through the API), never for time to pass.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fdrtd
import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / os.environ.get("FDRTD_TEST_PROFILE", "debug")
BINARY = TARGET / "fdrtd"
STOPPING = TARGET / "examples" / "stopping_node"
# For a node without a data directory that has an operator nevertheless.
OPERATOR = "--operator-token-file={directory}/operator.token"
LISTENS = re.compile(r"fdrtd node (\S+) listens on (\S+)")
# URLs of all nodes so far. The system gives a port again, and a node that outlives others remembers their keys.
TAKEN: set[str] = set()

# Short enough for tests, long enough for a busy machine.
DURATIONS = {"join": 60, "input": 60, "run": 60, "silence": 20}


class Node:
    """One `fdrtd serve` process. `url` is its base URL."""

    def __init__(
        self,
        directory: Path,
        index: int,
        *flags: str,
        command: list[str] | None = None,
        listen: str = "127.0.0.1:0",
        **env: str,
    ) -> None:
        self.directory = directory
        self.index = index
        self.base_path = f"/public{index + 1}"
        self.flags = list(flags)
        self.env = env
        self.command = command
        self.listen = listen
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "log"
        self.start()
        if self.url in TAKEN:
            self.kill()
            self.listen = listen
            self.start()
        TAKEN.add(self.url)

    def start(self) -> None:
        """Starts (or starts again, on the same port) and waits until it listens."""
        command = self.command or [
            str(BINARY),
            "serve",
            f"--base-path={self.base_path}",
            f"--data-dir={self.directory / 'data'}",
            "--policy=teaching",
            *self.flags,
        ]
        command = [
            part.replace("{listen}", self.listen).replace("{directory}", str(self.directory)) for part in command
        ]
        if self.command is None:
            command.append(f"--listen={self.listen}")
        env = {key: value for key, value in os.environ.items() if not key.startswith("FDRTD_")} | self.env
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if found := LISTENS.search(line):
                self.fingerprint, self.url = found.groups()
                break
        else:
            raise AssertionError(f"the node did not start: {self.log.read_text()}")
        self.listen = self.url.split("/")[2]
        threading.Thread(target=self._drain, args=(self.process,), daemon=True).start()

    def _drain(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):
            self.output.extend(process.stdout)

    def kill(self) -> None:
        """As if the machine lost power."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Asks it to end, and gives its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def wait(self) -> int:
        """Waits until it ends by itself."""
        assert self.process is not None
        return self.process.wait(timeout=60)

    def restart(self) -> None:
        """Kills it and starts it again on the same port and data."""
        self.kill()
        self.start()

    def api(self, url: str | None = None) -> fdrtd.Api:
        return fdrtd.Api(fdrtd.HttpInterface(url or self.url))

    def operator(self) -> str:
        """The token of whoever runs it, who sees what anonymous callers do not find."""
        files = (self.directory / "data" / "operator.token", self.directory / "operator.token")
        return next(file for file in files if file.exists()).read_text().strip()

    def invitations(self, **arguments: Any) -> list[dict[str, Any]]:
        """All that are pending there."""
        with fdrtd.HttpInterface(self.url, token=self.operator()) as interface:
            simon = fdrtd.Api(interface).select_microservice(protocol="Simon")
            found: list[dict[str, Any]] = simon.invitations(**arguments)
            return found

    def logged(self) -> str:
        return self.log.read_text(errors="replace")


def stopping_node(directory: Path, index: int, point: str) -> Node:
    """A node that falls over at `point`: "data" or "closing"."""
    return Node(directory, index, command=[str(STOPPING), point, "{listen}", f"/public{index + 1}"])


@contextlib.contextmanager
def nodes(
    directory: Path, count: int = 3, *flags: str, listen: str = "127.0.0.1:0", **env: str
) -> Iterator[list[Node]]:
    """`count` nodes, ended at the end."""
    started: list[Node] = []
    try:
        for index in range(count):
            started.append(Node(directory / f"node{index}", index, *flags, command=None, listen=listen, **env))
        yield started
    finally:
        for node in started:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
        for node in started:
            if node.process is not None:
                node.process.wait()


def urls_of(started: list[Node]) -> list[str]:
    return [node.url for node in started]


def make_task(
    started: list[Node],
    urls: list[str] | None = None,
    *,
    microprotocol: str = "SecureSum",
    durations: dict[str, float] | None = None,
    parameters: dict[str, Any] | None = None,
    gather: bool = False,
) -> list[Any]:
    """A task at every node, created by the first and joined by the others; handles in the order of the nodes."""
    urls = urls or urls_of(started)
    simons = [node.api().select_microservice(protocol="Simon") for node in started]
    create = simons[0].create_task if gather else simons[0].create
    arguments: dict[str, Any] = {"durations": durations or DURATIONS}
    if parameters is not None:
        arguments["parameters"] = parameters
    tasks = [create(microprotocol=microprotocol, network={"nodes": urls, "myself": 0}, **arguments)]
    invitation = tasks[0].invite()
    for index, simon in enumerate(simons[1:], start=1):
        join = simon.join_task if gather else simon.join
        tasks.append(join(invitation=invitation, network={"nodes": urls, "myself": index}))
    return tasks


def until(look: Callable[[], Any], what: str, limit: float = 60.0) -> Any:
    """Looks until `look` gives something true. The limit is for broken code only; no test relies on it."""
    deadline = time.monotonic() + limit
    while not (found := look()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)
    return found


def all_joined(task: Any) -> bool:
    return all(party["joined"] for party in task.progress()["parties"])


def has_input(task: Any, party: int) -> bool:
    return bool(task.progress()["parties"][party]["input"])


def cause_of(task: Any) -> dict[str, Any]:
    """Why a task failed."""
    with pytest.raises(fdrtd.TaskFailed) as failed:
        task.result(timeout=60)
    cause = failed.value.cause
    assert isinstance(cause, dict)
    return cause


def own_address() -> str | None:
    """This machine's, as the program guesses it; None if it is in no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect(("198.51.100.1", 9))
        except OSError:
            return None
        return str(way.getsockname()[0])


def signed(task: Any) -> dict[str, Any] | None:
    """Its receipt, if all have signed. The signatures are the last messages of a task."""
    with contextlib.suppress(fdrtd.Error):
        receipt: dict[str, Any] = task.receipt()
        return receipt if receipt["complete"] else None
    return None
