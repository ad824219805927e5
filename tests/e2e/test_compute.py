"""`fdrtd compute`: three commands at three nodes, data from files, and what ends a computation early."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zxingcpp
from cli import FAILED, INTERRUPTED, OK, REFUSED, TIMED_OUT, UNREACHABLE, USAGE, fdrtd, running
from harness import Node, urls_of

SHORT = '{"join": 60, "input": 60, "run": 60, "silence": 20}'


@pytest.fixture
def network(shared: list[Node], tmp_path: Path) -> Path:
    path = tmp_path / "net.json"
    path.write_text(json.dumps({"nodes": urls_of(shared)}))
    return path


def party(network: Path, index: int, *arguments: str | Path) -> list[str | Path]:
    return ["compute", "SecureSum", "--network", network, "--myself", str(index), *arguments]


def unique(number: int) -> str:
    """Parameters that no other test uses, so that invitations are told apart."""
    return json.dumps({"digits_before": 20 + number})


@contextlib.contextmanager
def together(commands: list[list[str | Path]]) -> Any:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(*command)) for command in commands]


def test_three_parties_with_files_of_different_kinds(network: Path, tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    a.write_text("name,age\nAnna,31\nAlf,40.10\n")
    b.write_bytes("\ufeffage;name\r\n2,5;Ben\r\n;\r\n".encode())
    c.write_text("age\n0.1\n0.2\n")
    flags = ["--parameters", unique(1)]
    commands: list[list[str | Path]] = [
        party(network, 0, "--data", a, "--column", "age", "--json", "--durations", SHORT, *flags),
        party(
            network,
            1,
            "--data",
            b,
            *["--column", "age", "--delimiter", ";", "--decimal-comma", "--skip-empty", "--json", *flags],
        ),
        party(network, 2, "--data", c, *flags),
    ]
    with together(commands) as parties:
        ended = [one.end() for one in parties]
    for one in ended:
        assert one.status == OK, one.err
    assert ended[0].out == ended[1].out == '{"inputs":3,"result":{"samples":5,"sum":73.9}}'
    assert ended[2].out == "parties  3\nsamples  5\nsum      73.9"
    assert "invitation: fdrtd:" in ended[0].err
    assert "1 empty cell was left out" in ended[1].err
    # Nobody is at a terminal: no progress.
    assert ended[2].err == ""


def test_columns_and_standard_input(shared: list[Node], tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    text = "age,bmi\n30,20.5\n40,21\n"
    (tmp_path / "d.csv").write_text(text)
    flags: list[str | Path] = ["--column", "bmi", "--column", "1", "--parameters", unique(2)]
    with contextlib.ExitStack() as stack:
        others = []
        for index in (1, 2):
            own = tmp_path / f"net{index}.json"
            own.write_text(json.dumps({"nodes": urls_of(shared), "myself": index}))
            command: list[str | Path] = [
                "compute",
                "SecureSum",
                "--network",
                own,
                "--data",
                tmp_path / "d.csv",
                *flags,
            ]
            others.append(stack.enter_context(running(*command)))
        # A file of its own: the others may be reading theirs. Its own place is not what counts.
        path.write_text(json.dumps({"nodes": urls_of(shared), "myself": 2}))
        first = fdrtd(*party(path, 0, "--data", "-", *flags), stdin=text)
        ended = [other.end() for other in others]
    assert first.status == OK, first.err
    lines = [line.split() for line in first.out.splitlines()]
    assert lines == [["parties", "3"], ["samples", "sum"], ["age", "6", "210"], ["bmi", "6", "124.5"]]
    assert [one.out + "\n" for one in ended] == [first.out] * 2


def scanned(lines: list[str]) -> list[str]:
    """What a telephone reads from a code of half blocks on a dark terminal."""
    halves = {" ": (0, 0), "▀": (255, 0), "▄": (0, 255), "█": (255, 255)}
    rows = []
    for line in lines:
        rows += [[halves[character][half] for character in line] for half in (0, 1)]
    picture = np.kron(np.array(rows, dtype=np.uint8), np.ones((4, 4), dtype=np.uint8))
    return [code.text for code in zxingcpp.read_barcodes(picture)]


def test_the_link_is_enough_for_the_others(shared: list[Node], network: Path, tmp_path: Path) -> None:
    with running(*party(network, 0, "--value", "1", "--qr", "--verbose", "--parameters", unique(3))) as first:
        link = first.line(lambda line: line.startswith("invitation: ")).removeprefix("invitation: ")
        first.line(lambda line: "█" in line)
        waiting = first.line(lambda line: "has not joined yet" in line)
        assert "party 1" in waiting
        file = tmp_path / "invitation.txt"
        file.write_text(f"<{link}>\n")
        second: list[str | Path] = ["compute", "--invitation", file, "--value", "-2", "--node", shared[1].url]
        with (
            running(*second) as ben,
            running(
                *["compute", "BasicSum", "--invitation", link, "--value=+03.50", "--json"], FDRTD_NODE=shared[2].url
            ) as clara,
        ):
            ended = [first.end(), ben.end(), clara.end()]
    assert [one.status for one in ended] == [OK] * 3, [one.err for one in ended]
    assert scanned([line for line in ended[0].err.splitlines() if line and set(line) <= set(" ▀▄█")]) == [link]
    assert ended[2].json()["result"] == {"samples": 3, "sum": 2.5}


def test_an_invitation_to_something_else_is_not_taken_silently(shared: list[Node], network: Path) -> None:
    with running(*party(network, 0, "--value", "1", "--parameters", unique(4))) as first:
        link = first.line(lambda line: line.startswith("invitation: ")).removeprefix("invitation: ")
        wrong = fdrtd("compute", "SecureMedian", "--invitation", link, "--value", "5", "--node", shared[1].url)
        wrong.says("the invitation is to SecureSum, not to SecureMedian", "(INVITATION_DIFFERS)", status=USAGE)
        first.end().says("party 1 cancelled the task", "the task", "(TASK_FAILED)", status=FAILED)


def test_who_interrupts_ends_it_for_all(network: Path) -> None:
    flags = ["--value", "1", "--verbose", "--parameters", unique(5)]
    commands = [party(network, index, *flags) for index in (0, 1)]
    with together(commands) as (anna, ben):
        # Clara's is missing: both have joined and given their input.
        anna.line(lambda line: line.startswith("waiting: party 2 ") and "party 1" not in line)
        ben.line(lambda line: line.startswith("waiting: party 2 ") and "party 0" not in line)
        ben.interrupt()
        ben.end().says("interrupted; the task was cancelled at all parties", status=INTERRUPTED)
        anna.end().says("party 1 cancelled the task", "create a new task (TASK_FAILED)", status=FAILED)


def test_time_limits(shared: list[Node], network: Path) -> None:
    lonely = fdrtd(*party(network, 0, "--value", "1", "--timeout", "1", "--parameters", unique(6)))
    lonely.says("the time limit has passed (party 1 at ", " has not joined yet", status=TIMED_OUT)
    lonely.says("); the task was cancelled at all parties — the task — see that", "(TIMED_OUT)", status=TIMED_OUT)
    nobody = fdrtd(*party(network, 1, "--value", "1", "--timeout", "1", "--parameters", unique(6)))
    nobody.says("the time limit has passed (waiting for the invitation of party 0", status=TIMED_OUT)
    # Another's node: it would wait for ever.
    mistaken = [*party(network, 1, "--value", "1", "--parameters", unique(6)), "--node", shared[0].url]
    fdrtd(*mistaken).says("'myself': 1 is wrong here", "write 'myself': 0", "(MYSELF_NOT_THIS_NODE)", status=REFUSED)
    durations = '{"join": 0.3}'
    expired = fdrtd(*party(network, 0, "--value", "1", "--durations", durations, "--parameters", unique(6)))
    expired.says("the time to join is over; missing: party 1 and party 2", "(TASK_FAILED)", status=TIMED_OUT)


def test_two_computations_in_a_row_and_late_creators(network: Path) -> None:
    # The same at both: the second creation must not be confused with the first, and joiners may come first.
    for value in ("1", "2"):
        flags = ["--value", value, "--json", "--parameters", unique(7)]
        with together([party(network, index, "--verbose", *flags) for index in (2, 1)]) as others:
            for other in others:
                other.line(lambda line: "waiting for the invitation of party 0" in line)
            first = fdrtd(*party(network, 0, *flags))
            ended = [other.end() for other in others]
        assert [first.status, *(one.status for one in ended)] == [OK] * 3, [first.err, *(one.err for one in ended)]
        assert first.json()["result"]["sum"] == 3 * int(value)


def test_other_parameters_are_not_joined_but_told(network: Path) -> None:
    with running(*party(network, 0, "--value", "1", "--parameters", unique(8))) as first:
        first.line(lambda line: line.startswith("invitation: "))
        with running(*party(network, 1, "--value", "1", "--timeout", "30", "--parameters", unique(9))) as second:
            told = second.line(lambda line: "differ from yours" in line)
            assert "the parameters" in told
            second.interrupt()
            second.end().says("interrupted", status=INTERRUPTED)
        first.interrupt()
        assert first.end().status == INTERRUPTED


def test_a_refused_input_leaves_nobody_waiting(network: Path) -> None:
    with running(*party(network, 1, "--value", "1", "--parameters", unique(10))) as other:
        refused = fdrtd(*party(network, 0, "--value", "9" * 40, "--parameters", unique(10)))
        refused.says("the task was cancelled at all parties", "(INPUT_REFUSED)", status=REFUSED)
        assert "9" * 40 not in refused.err
        other.interrupt()
        other.end()


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("age\n1,5\n", [], ("line 2: 2 cells",)),
        ("age;x\n1,5;1\n", ["--delimiter", ";", "--column", "age"], ("line 2, column age", "--decimal-comma")),
        ("age,x\n1,1\ngeheim,1\n", ["--column", "age"], ("line 3, column age", "not a number")),
        ("age,x\n1,1\n,1\n", ["--column", "age"], ("line 3, column age", "empty", "--skip-empty")),
        ("age,x\n1,1\n", ["--column", "agee"], ("no column agee", "did you mean age?")),
        ("age,x\n1,1\n", [], ("2 columns: age, x", "--column")),
        ("age;x\n1;1\n", ["--column", "age"], ("--delimiter ';'",)),
    ],
)
def test_unusable_data_are_refused_before_anything_is_sent(
    network: Path, tmp_path: Path, text: str, flags: list[str], words: tuple[str, ...]
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    refused = fdrtd(*party(network, 0, "--data", path, *flags), FDRTD_NODE="http://127.0.0.1:1")
    refused.says(*words, "(DATA_UNUSABLE)", status=USAGE)
    assert "geheim" not in refused.err
    assert refused.out == ""


def test_a_million_rows(network: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_text("id,age\n" + "".join(f"{row},{row}.25\n" for row in range(1_000_000)))
    flags = ["--json", "--parameters", unique(11)]
    commands = [party(network, index, "--value", "0.5", *flags) for index in (1, 2)]
    with together(commands) as others:
        first = fdrtd(*party(network, 0, "--data", path, "--column", "age", *flags))
        for other in others:
            assert other.end().status == OK
    assert first.json()["result"] == {"samples": 1_000_002, "sum": 499_999_500_000 + 250_001}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compute"], ("--network", "MICROPROTOCOL")),
        (["compute", "SecureSum", "--network", "net.json"], ("--data",)),
        (["compute", "SecureSum", "--network", "net.json", "--value", "1", "--data", "x"], ("--value", "--data")),
        (["compute", "SecureSum", "--network", "net.json", "--value", "1"], ("--myself", "MYSELF_MISSING")),
        (["compute", "SecureSum", "--network", "net.json", "--value", "1", "--myself", "2"], ("has 2 nodes",)),
        (["compute", "SecureSum", "--network", "none.json", "--value", "1"], ("none.json", "FILE_UNREADABLE")),
        (["compute", "SecureSum", "--network", "bad.json", "--value", "1"], ("bad.json", "NETWORK_UNUSABLE")),
        (["compute", "SecureSum", "--network", "net.json", "--myself", "0", "--value", "x"], ("DATA_UNUSABLE",)),
        (["compute", "--invitation", "fdrtd:http://a#b", "--value", "1"], ("INVITATION_LINK_MALFORMED",)),
        (["compute", "--invitation", "bad.json", "--value", "1"], ("INVITATION_MALFORMED",)),
        (["compute", "--invitation", "-", "--data", "-"], ("STDIN_TWICE",)),
        (
            ["compute", "SecureSum", "--network", "net.json", "--myself", "0", "--value", "1", "--parameters", "[]"],
            ("--parameters", "JSON_INVALID"),
        ),
    ],
)
def test_wrong_usage(arguments: list[str], words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text('{"nodes": ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]}')
    (tmp_path / "bad.json").write_text("nodes")
    fdrtd(*arguments, cwd=tmp_path).says(*words, status=USAGE)


def test_nodes_that_are_not_there_and_nodes_that_refuse(shared: list[Node], tmp_path: Path) -> None:
    net = tmp_path / "net.json"
    net.write_text('{"nodes": ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]}')
    gone = fdrtd(*party(net, 0, "--value", "1"))
    gone.says("nobody listens at http://127.0.0.1:1/a (TCP)", "the way to your node", status=UNREACHABLE)
    net.write_text(json.dumps({"nodes": urls_of(shared)}))
    unknown: list[str | Path] = ["compute", "SecureSun", "--network", net, "--myself", "0", "--value", "1"]
    fdrtd(*unknown).says("SecureSun", "SecureSum", "(MICROPROTOCOL_UNKNOWN)", status=REFUSED)
    elsewhere = party(net, 0, "--value", "1", "--node", f"{shared[0].url}/nowhere")
    fdrtd(*elsewhere).says("(PATH_UNKNOWN)", status=REFUSED)


def test_a_node_that_is_started_anew_costs_nothing(three: list[Node], tmp_path: Path) -> None:
    net = tmp_path / "net.json"
    net.write_text(json.dumps({"nodes": urls_of(three)}))
    with together([party(net, index, "--value", "1", "--verbose", "--json") for index in (0, 1)]) as (anna, ben):
        for one in (anna, ben):
            one.line(lambda line: line.startswith("waiting: party 2 ") and "; party" not in line)
        three[0].restart()
        anna.line(lambda line: "trying again" in line)
        with running(*party(net, 2, "--value", "1", "--json")) as last:
            ended = [anna.end(), ben.end(), last.end()]
    assert [one.status for one in ended] == [OK] * 3, [one.err for one in ended]
    assert ended[0].json()["result"]["sum"] == 3
