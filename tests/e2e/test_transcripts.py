"""The runner of transcripts: it must be able to find fault."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from transcript import Transcript, Wrong, commands_of

GOOD = """
```console
$ echo one; echo two >&2
one
two
$ printf 'a\\nb\\nc\\n1.5 ms\\n'
a
…
… ms
$ cat \\
    name
Anna
$ exit 3  # status 3
```

<!-- stays up -->

```console
$ echo ready; sleep 1000
ready
```

<!-- meanwhile -->

```console
$ until [ -e signal ]; do sleep 0.01; done; echo seen
seen
```

<!-- not run: it would wake everybody -->

```console
$ false
```

```sh
false
```

```console
$ touch signal
```
"""

TWO_MACHINES = """
<!-- meanwhile -->

```console
anna$ echo "$NAME invites: word-$((6 * 7))."; until [ -e signal ]; do sleep 0.01; done
Anna invites: word-….
```

```console
ben$ echo "$NAME has word-…"; touch signal
Ben has word-42.
```
"""


def run(text: str, directory: Path) -> int:
    with Transcript(directory, os.environ, {"Berta": "Anna"}) as transcript:
        return transcript.run(text)


def test_a_good_document_passes(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("Anna\n")
    assert run(GOOD, tmp_path) == 7
    assert run("```console\n$ echo Berta\nAnna\n```\n", tmp_path) == 1


@pytest.mark.parametrize(
    ("block", "what"),
    [
        ("$ echo one\ntwo\n", "should print\ntwo\nand prints\none"),
        ("$ echo one\n", "prints\none"),
        ("$ echo one\none\ntwo\n", "should print\none\ntwo"),
        ("$ printf 'a\\nb\\n'\n…\nc\n", "should print"),
        ("$ echo 'a.c'\nabc\n", "should print"),
        ("$ false\n", "line 2: `false` ends with 1"),
        ("$ true  # status 1\n", "ends with 0"),
        ("$ true\n$ nobody-has-this\n", "line 3: `nobody-has-this` ends with 127"),
        ("one\n", "begins with a command"),
    ],
)
def test_a_wrong_document_fails(tmp_path: Path, block: str, what: str) -> None:
    with pytest.raises(Wrong, match=re.escape(what)):
        run(f"```console\n{block}```\n", tmp_path)


def test_words_pass_from_machine_to_machine(tmp_path: Path) -> None:
    machines = {"anna": ["env", "NAME=Anna"], "ben": ["env", "NAME=Ben"]}
    with Transcript(tmp_path, os.environ, machines=machines) as transcript:
        assert transcript.run(TWO_MACHINES) == 2
        with pytest.raises(Wrong, match="nothing like word2-… has been printed"):
            transcript.run("```console\n$ echo word2-…\nx\n```\n")


@pytest.mark.parametrize("mark", ["stays up", "meanwhile"])
def test_so_does_one_that_goes_on(tmp_path: Path, mark: str) -> None:
    with pytest.raises(Wrong, match="should print\ntwo"):
        run(f"<!-- {mark} -->\n\n```console\n$ echo one\ntwo\n```\n", tmp_path)


def test_marks_belong_to_the_last_command(tmp_path: Path) -> None:
    text = "<!-- meanwhile -->\n```console\n$ true\n$ echo x\nx\n```\n"
    assert [command.mark for command in commands_of(text)] == ["", "meanwhile"]
