"""All parties in one process: `target/debug/simulate`, asked line by line.

It is built as the released program is, so it computes the same bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"

Json = Any


class Refused(Exception):
    """Parameters, or the input of `party`, were refused."""

    def __init__(self, refusal: dict[str, Json]) -> None:
        super().__init__(f"{refusal['code']} at {refusal['at']!r} of {refusal['party']}: {refusal['message']}")
        self.party = refusal["party"]
        self.code = refusal["code"]
        self.at = refusal["at"]
        self.hint = refusal["hint"]


@dataclass(frozen=True)
class Answer:
    """What all parties have computed."""

    text: str
    own: list[str | None]
    rounds: int

    @property
    def result(self) -> Json:
        return json.loads(self.text)


def text(value: Json) -> str:
    """JSON in which numbers that are given as strings in `Written` stand as they are."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{text(member)}" for name, member in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(text, value)) + "]"
    return json.dumps(value)


@dataclass(frozen=True)
class Written:
    """JSON text that must reach the protocol as it is."""

    text: str


class Simulator:
    """Answers one question after the other."""

    def __init__(self) -> None:
        program = TARGET / "simulate"
        assert program.exists(), f"build it first: cargo build --locked -p fdrtd-mpc --bins ({program})"
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str) -> dict[str, Json]:
        """One line as it is."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"it has ended, after {line!r}"
        return dict(json.loads(answer))

    def run(
        self, microprotocol: str, inputs: list[Json], parameters: Json = None, seed: int = 0, **thresholds: Json
    ) -> Answer:
        """Computes, and checks what holds for every computation."""
        line = {
            "microprotocol": microprotocol,
            "parameters": parameters or {},
            "inputs": inputs,
            "thresholds": thresholds,
            "seed": seed,
        }
        answer = self.ask(text(line))
        if "refusal" in answer:
            raise Refused(answer["refusal"])
        assert "results" in answer, (answer, line)
        results, declared = answer["results"], answer["declared"]
        assert len(set(results)) == 1, f"results differ: {results}"
        assert "-0," not in results[0], results[0]
        assert answer["rounds"] == declared["rounds"], (answer, line)
        assert answer["longest"] <= declared["longest"], (answer, line)
        return Answer(results[0], answer["own"], answer["rounds"])

    def close(self) -> None:
        """Ends the process, which must still be there."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait() == 0
