"""Runs the shell transcripts of a document and compares what they print.

A block of the language `console` holds commands behind `$ ` (a backslash at the end continues them) and below each
what it prints, standard output and error together. In what is expected, `…` stands for any text within a line and,
alone in a line, for any lines. A command must succeed, unless `# status 3` behind it says otherwise.

A word in front, as in `anna$ `, says at which machine a command is typed. A word with `…` in a command stands for the
one that another command has printed before: an invitation, for example.

A comment before a block says that it goes on while the next ones run:

* `<!-- stays up -->`: its last command prints what is shown and then stays until the end of the document.
* `<!-- meanwhile -->`: its last command ends some time later, having printed what is shown.
* `<!-- not run: reason -->`: for commands that a test cannot run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>stays up|meanwhile|not run: [^\n]*) -->\n\n?)?"
    r"```console\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PROMPT = re.compile(r"(?P<who>\w*)\$ (?P<text>.*)")
STATUS = re.compile(r"\s+# status (\d+)$")
# For broken code only; nothing relies on it.
LIMIT = 900.0


class Wrong(Exception):
    """A transcript that does not tell the truth, and where."""


@dataclass
class Command:
    """One command of a document."""

    line: int
    text: str
    who: str = ""
    status: int = 0
    expected: list[str] = field(default_factory=list)
    mark: str = ""


def commands_of(document: str) -> list[Command]:
    """All commands of a document's console blocks, in order."""
    commands: list[Command] = []
    for block in BLOCK.finditer(document):
        first = document.count("\n", 0, block.start("text")) + 1
        own: list[Command] = []
        continues = False
        for number, line in enumerate(block["text"].splitlines(), start=first):
            if continues:
                own[-1].text += "\n" + line
            elif found := PROMPT.match(line):
                own.append(Command(number, found["text"], found["who"]))
            elif not own:
                raise Wrong(f"line {number}: a console block begins with a command behind '$ '")
            else:
                own[-1].expected.append(line)
                continue
            continues = own[-1].text.endswith("\\")
        for command in own:
            if found := STATUS.search(command.text):
                command.status = int(found[1])
                command.text = command.text[: found.start()]
        if own:
            own[-1].mark = block["mark"] or ""
        commands += own
    return commands


def pattern_of(expected: list[str]) -> re.Pattern[str]:
    """What the output must look like, from its beginning."""
    parts = []
    for line in expected:
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.rstrip().split("…")) + r"[ \t]*\n")
    return re.compile("".join(parts))


class Running:
    """A command that has been started."""

    def __init__(self, command: Command, machine: list[str], directory: Path, env: Mapping[str, str]) -> None:
        self.command = command
        self.output = ""
        self.news = threading.Condition()
        self.over = False
        self.process = subprocess.Popen(
            [*machine, "bash", "-c", command.text],
            cwd=directory,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self.news:
                self.output += line
                self.news.notify_all()
        with self.news:
            self.over = True
            self.news.notify_all()

    def wait_for_the_text(self) -> None:
        """Until it has printed what is expected, or can no longer."""
        wanted = pattern_of(self.command.expected)
        with self.news:
            self.news.wait_for(lambda: self.over or wanted.match(self.output) is not None, LIMIT)
            if wanted.match(self.output) is None:
                raise self._wrong()

    def wait_for_a_word(self, wanted: re.Pattern[str]) -> str | None:
        """The word when it is printed, or None when it can no longer be."""
        with self.news:
            self.news.wait_for(lambda: self.over or wanted.search(self.output) is not None, LIMIT)
            found = wanted.search(self.output)
        return found and found[0]

    def wait(self) -> None:
        """Until it ends, and compares all that it printed."""
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise Wrong(f"line {self.command.line}: `{self.command.text}` does not end:\n{self.output}") from None
        self.reader.join(LIMIT)
        if status != self.command.status:
            raise Wrong(f"line {self.command.line}: `{self.command.text}` ends with {status}:\n{self.output}")
        if pattern_of(self.command.expected).fullmatch(self.output) is None:
            raise self._wrong()

    def end(self) -> None:
        """With all that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def _wrong(self) -> Wrong:
        expected = "\n".join(self.command.expected)
        return Wrong(
            f"line {self.command.line}: `{self.command.text}` should print\n{expected}\nand prints\n{self.output}"
        )


class Transcript:
    """The commands of documents, one after the other, in one directory. Ends at the end what stays up."""

    def __init__(
        self,
        directory: Path,
        env: Mapping[str, str],
        replace: Mapping[str, str] | None = None,
        machines: Mapping[str, list[str]] | None = None,
    ) -> None:
        """`machines`: how a command is run at each machine, as words in front of it."""
        self.directory = directory
        self.env = env
        self.replace = dict(replace or {})
        self.machines = {"": [], **(machines or {})}
        self.all: list[Running] = []
        self.staying: list[Running] = []
        self.meanwhile: list[Running] = []

    def __enter__(self) -> Transcript:
        return self

    def __exit__(self, *error: object) -> None:
        for running in (*self.meanwhile, *self.staying):
            running.end()

    def run(self, document: str) -> int:
        """Runs a document; returns how many commands have run and shown what they should."""
        for old, new in self.replace.items():
            document = document.replace(old, new)
        run = 0
        for command in commands_of(document):
            if command.mark.startswith("not run"):
                continue
            self._fill_in(command)
            running = Running(command, self.machines[command.who], self.directory, self.env)
            self.all.append(running)
            run += 1
            if command.mark == "stays up":
                self.staying.append(running)
                running.wait_for_the_text()
            elif command.mark == "meanwhile":
                self.meanwhile.append(running)
            else:
                try:
                    running.wait()
                finally:
                    running.end()
        while self.meanwhile:
            self.meanwhile[0].wait()
            self.meanwhile.pop(0)
        return run

    def _fill_in(self, command: Command) -> None:
        """Words with `…` are those that have been printed, or are about to be."""
        for word in re.findall(r"[^\s'\"]*…[^\s'\"]*", command.text):
            wanted = re.compile(r"\S+".join(re.escape(piece) for piece in word.split("…")))
            for running in reversed(self.all):
                if found := running.wait_for_a_word(wanted):
                    command.text = command.text.replace(word, found)
                    break
            else:
                raise Wrong(f"line {command.line}: nothing like {word} has been printed")
