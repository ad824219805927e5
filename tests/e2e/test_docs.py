"""The documentation, typed as it is written: the Python blocks of tutorial and README run and show what they say.

Blocks of one document run in one namespace. A comment `# → value` behind an expression is what it must be equal to.
Only the URLs in `nodes = [...]` are those of nodes that run for the test.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import BINARY, ROOT, Node

BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
ARROW = "→"
EXPECTED = re.compile(rf"#\s*{ARROW}\s*(?P<value>.*)$")
NODES = re.compile(r"nodes\s*=\s*\[")
URL = re.compile(r"(?P<quote>[\"'])(?P<url>https?://[^\"']+)(?P=quote)")
# Where `make demo` and `fdrtd demo` listen, unless told otherwise.
DEMO = [f"http://127.0.0.1:55500/public{place}" for place in (1, 2, 3)]


class Wrong(Exception):
    """A document that does not tell the truth, and where."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line


@dataclass(frozen=True)
class Step:
    """A statement of a document, and the value that it promises."""

    line: int
    node: ast.stmt
    expected: str | None


def steps_of(text: str, nodes: list[str]) -> list[Step]:
    """All statements of a document's Python blocks."""
    steps = []
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start("code"))
        indent = len(block["indent"])
        lines = [line[indent:] for line in block["code"].splitlines()]
        code = "\n".join(replace_nodes(lines, nodes, first))
        promises = {
            number: found["value"]
            for number, line in enumerate(lines, start=1)
            if (found := EXPECTED.search(line)) is not None
        }
        if sum(line.count(ARROW) for line in lines) != len(promises):
            raise Wrong(first + 1, f"an arrow that is not in a comment of the form `# {ARROW} value`")
        try:
            body = ast.parse(code).body
        except SyntaxError as error:
            raise Wrong(first + (error.lineno or 1), f"SyntaxError: {error.msg}") from error
        for node in body:
            last = node.end_lineno or node.lineno
            expected = promises.pop(last, None)
            if expected is not None and not isinstance(node, ast.Expr):
                raise Wrong(first + last, "a value is promised for what is no expression")
            steps.append(Step(first + node.lineno, node, expected))
        if promises:
            raise Wrong(first + min(promises), "a value is promised where no expression ends")
    return steps


def replace_nodes(lines: list[str], nodes: list[str], first: int) -> list[str]:
    """The URLs in the list of nodes are replaced by those of running ones, and nothing else."""
    result = []
    inside = False
    for number, line in enumerate(lines, start=first + 1):
        inside = inside or NODES.match(line) is not None
        if inside:
            for found in URL.finditer(line):
                if found["url"] not in DEMO:
                    raise Wrong(number, f"{found['url']} is not a node of the demo")
            line = URL.sub(lambda found: repr(nodes[DEMO.index(found["url"])]), line)
            inside = "]" not in line
        result.append(line)
    return result


def run_document(text: str, nodes: list[str], name: str = "document", patience: float = 10.0) -> int:
    """Types a document. Returns how many promised values were compared.

    Nodes tell each other a moment later what has happened, and people type slowly: what becomes true within
    `patience` seconds is true.
    """
    namespace: dict[str, Any] = {"__name__": name}
    compared = 0
    for step in steps_of(text, nodes):
        try:
            if step.expected is None:
                exec(compile(ast.Module([step.node], []), f"{name}:{step.line}", "exec"), namespace)
            else:
                compare(step, namespace, patience)
                compared += 1
        except Wrong:
            raise
        except Exception as error:
            raise Wrong(step.line, f"{type(error).__name__}: {error}") from error
    return compared


def compare(step: Step, namespace: dict[str, Any], patience: float) -> None:
    assert isinstance(step.node, ast.Expr)
    assert step.expected is not None
    code = compile(ast.Expression(step.node.value), f"line {step.line}", "eval")
    expected = ast.literal_eval(step.expected)
    deadline = time.monotonic() + patience
    while not same(shown := eval(code, namespace), expected):
        if time.monotonic() >= deadline:
            raise Wrong(step.line, f"promises {expected!r}, but is {shown!r}")
        time.sleep(0.01)


def same(shown: Any, expected: Any) -> bool:
    """Equal in type as well: 31 is not 31.0, nor is 1 True."""
    return bool(shown == expected) and repr(shown) == repr(expected)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    node = Node(tmp_path_factory.mktemp("demo"), 0, command=[str(BINARY), "demo", "--port=0"])
    yield [node.url.replace("/public1", f"/public{place}") for place in (1, 2, 3)]
    node.kill()


def test_the_tutorial(demo: list[str]) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    # The whole way, and the sum at all three.
    for call in ("create", "invite", "join", "input", "result", "delete"):
        assert f".{call}(" in text
    assert text.count(f"# {ARROW} {{'inputs': 3, 'result': {{'samples': 3, 'sum': 31}}}}") >= 3
    assert run_document(text, demo, "docs/tutorial.md") >= 3


def test_the_tutorial_over_three_processes(shared: list[Node]) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    assert run_document(text, [node.url for node in shared], "docs/tutorial.md") >= 3


def test_the_readme(demo: list[str]) -> None:
    run_document((ROOT / "README.md").read_text(), demo, "README.md")


def python_blocks(path: Path) -> int:
    return len(re.findall(r"(?m)^ *```python", path.read_text()))


def test_the_newer_api(demo: list[str]) -> None:
    name = "docs/newer-api.md"
    assert run_document((ROOT / name).read_text(), demo, name) >= 5


@pytest.mark.parametrize("name", ["docs/tutorial.md", "docs/newer-api.md", "README.md"])
def test_no_block_is_overlooked(name: str) -> None:
    path = ROOT / name
    assert len(list(BLOCK.finditer(path.read_text()))) == python_blocks(path)
    assert not re.search(r"(?mi)^ *(```py$|~~~|```python\S)", path.read_text()), "write ```python"


def test_the_printed_results_of_the_readme_are_those_of_the_tutorial() -> None:
    readme, tutorial = ((ROOT / name).read_text() for name in ("README.md", "docs/tutorial.md"))
    shown = set(re.findall(rf"/public\d {ARROW} (\{{.*)", readme))
    assert shown
    promised = set(re.findall(rf"# {ARROW} (\{{'inputs'.*)", tutorial))
    assert shown <= promised


# --- The runner itself: it must be able to find fault -----------------------------------------------------------------

GOOD = f"""
# A document

```python
nodes = ["{DEMO[0]}", "{DEMO[1]}",
         "{DEMO[2]}"]
def double(number):
    return 2 * number

double(21)  # {ARROW} 42
```

Text in between, and a block of another language:

```sh
exit 1
```

  ```python
  [
      double(1),
      'a → b',
  ][0]
  ```

```python
{{'a': [1, 2.5, None, True]}}  # {ARROW} {{'a': [1, 2.5, None, True]}}
len(nodes)  # {ARROW} 3
```
""".replace(f"'a {ARROW} b',", "'a b',")


def test_a_good_document_passes() -> None:
    assert run_document(GOOD, ["x", "y", "z"], patience=0) == 3


def test_the_nodes_are_replaced_and_nothing_else() -> None:
    text = f'```python\nnodes = ["{DEMO[1]}", "{DEMO[0]}"]\nnodes  # {ARROW} ["y", "x"]\nother = "{DEMO[0]}"\n'
    text += f'other  # {ARROW} "{DEMO[0]}"\n```\n'
    assert run_document(text, ["x", "y", "z"], patience=0) == 2
    with pytest.raises(Wrong, match=r"line 2: http://other.example is not a node of the demo"):
        run_document('```python\nnodes = ["http://other.example"]\n```\n', ["x", "y", "z"])


@pytest.mark.parametrize(
    ("code", "line", "what"),
    [
        (f"1 + 1  # {ARROW} 3", 3, "promises 3, but is 2"),
        (f"x = 5\n\nx  # {ARROW} 6", 5, "promises 6, but is 5"),
        (f"31.0  # {ARROW} 31", 3, "promises 31, but is 31.0"),
        (f"True  # {ARROW} 1", 3, "promises 1, but is True"),
        (f"'1'  # {ARROW} 1", 3, "promises 1, but is '1'"),
        (f"None  # {ARROW} 'x'", 3, "promises 'x', but is None"),
        (f"{{'a': 1}}  # {ARROW} {{'a': 2}}", 3, "promises"),
        ("1 / 0", 3, "ZeroDivisionError"),
        ("nobody", 3, "NameError"),
        (f"1 / 0  # {ARROW} 1", 3, "ZeroDivisionError"),
        ("assert False", 3, "AssertionError"),
        (f"x = 1  # {ARROW} 1", 3, "no expression"),
        (f"if True:\n    1  # {ARROW} 1", 4, "no expression"),
        (f"if True:\n    1  # {ARROW} 1\n    2", 4, "where no expression ends"),
        (f"# {ARROW} 1", 3, "where no expression ends"),
        (f"1  {ARROW} 1", 3, "arrow"),
        (f"1  # is {ARROW} 1", 3, "arrow"),
        (f"1  # {ARROW} one", 3, "ValueError"),
        (f"1  # {ARROW} ", 3, "SyntaxError"),
        ("1 +", 3, "SyntaxError"),
    ],
)
def test_a_wrong_document_fails(code: str, line: int, what: str) -> None:
    with pytest.raises(Wrong, match=re.escape(what)) as wrong:
        run_document(f"# Wrong\n```python\n{code}\n```\n", ["x", "y", "z"], patience=0)
    assert wrong.value.line == line


def test_a_wrong_value_of_a_node_fails(demo: list[str]) -> None:
    # The real thing with one digit changed.
    text = (ROOT / "docs" / "tutorial.md").read_text()
    with pytest.raises(Wrong, match="promises .*'sum': 32.*, but is .*'sum': 31"):
        run_document(text.replace("'sum': 31}", "'sum': 32}", 1), demo, patience=0.1)


def test_what_becomes_true_is_true() -> None:
    code = f"seen = []\nlen(seen.append(1) or seen)  # {ARROW} 5"
    assert run_document(f"```python\n{code}\n```\n", ["x", "y", "z"], patience=10) == 1
    with pytest.raises(Wrong, match="promises 5, but is"):
        run_document(f"```python\n{code}\n```\n", ["x", "y", "z"], patience=0)
