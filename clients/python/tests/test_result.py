from __future__ import annotations

import copy
import json
import pickle
from html.parser import HTMLParser
from typing import Any

import pytest
from conftest import Reply, Server

import fdrtd

RESULT = {"inputs": 3, "result": {"samples": 3, "sum": 31}}
HOSTILE = "<script>alert('x')</script>\"&"
PROGRESS = {
    "task": "7f3",
    "microprotocol": "SecureSum",
    "state": "joined",
    "party": 0,
    "parties": [
        {"party": 0, "node": "https://a.example/", "myself": True,
         "connected": True, "joined": True, "input": True},
        {"party": 1, "node": HOSTILE, "myself": False, "connected": False, "joined": True, "input": False},
    ],
    "waiting_for": [{"party": 1, "why": f"party 1 at {HOSTILE} has joined, but given no input yet"}],
}  # fmt: skip


class Page(HTMLParser):
    """The texts of a page, its rows, and the tags it uses. Fails for tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert {name for name, _ in attrs} <= {"style"}
        self.tags.add(tag)
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


def shown(value: Any) -> Page:
    page = Page(value._repr_html_())
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td", "div"}
    return page


@pytest.fixture
def task(api: fdrtd.Api) -> fdrtd.Handle:
    return fdrtd.Handle(api, "914dfb33", "7f3", {"protocol": "Simon"})


def test_results_are_dicts(task: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(200, json.dumps(RESULT)))
    result = task.result()
    assert type(result) is fdrtd.Result
    assert isinstance(result, dict)
    assert result == RESULT
    assert (repr(result), str(result)) == (repr(RESULT), str(RESULT))
    assert json.dumps(result) == json.dumps(RESULT)
    assert {**result} == RESULT
    assert type(result["result"]) is dict
    for twin in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert twin == result
        assert type(twin) is fdrtd.Result


def test_progress_is_a_dict(task: fdrtd.Handle, server: Server) -> None:
    server.script(Reply(200, json.dumps(PROGRESS)))
    progress = task.progress()
    assert type(progress) is fdrtd.Progress
    assert progress == PROGRESS
    assert repr(progress) == repr(PROGRESS)


@pytest.mark.parametrize("answer", [31, [1], "text", {"samples": 3}, None])
def test_other_values_stay_what_they_are(task: fdrtd.Handle, server: Server, answer: Any) -> None:
    server.script(Reply(200, json.dumps(answer)))
    value = task.result()
    assert value == answer
    assert type(value) is type(answer)


def test_a_number_as_a_table() -> None:
    page = shown(fdrtd.Result(RESULT))
    assert page.rows == [["samples", "3"], ["sum", "31"]]
    assert "inputs: 3" in page.text


def test_columns_as_a_table() -> None:
    columns = {"beds": {"samples": 3, "sum": 73}, "nurses": {"samples": 4, "sum": 31.5}}
    page = shown(fdrtd.Result({"inputs": 3, "result": columns}))
    assert page.rows == [["", "samples", "sum"], ["beds", "3", "73"], ["nurses", "4", "31.5"]]


def test_vectors_and_other_results() -> None:
    page = shown(fdrtd.Result({"inputs": 3, "result": {"samples": 1, "sum": list(range(100))}}))
    assert page.rows[1][1].startswith("[0, 1, 2, ")
    assert page.rows[1][1].endswith("… (100 in all)]")
    assert shown(fdrtd.Result({"result": None})).rows == [["result", "None"]]
    assert shown(fdrtd.Result({"result": 7**9000})).rows == [["result", "(too long to show)"]]
    many = {f"column{index}": {"sum": index} for index in range(60)}
    page = shown(fdrtd.Result({"result": many}))
    assert len(page.rows) == 51
    assert "and 10 more" in page.text


def test_what_only_this_party_learns_is_shown_as_that() -> None:
    page = shown(fdrtd.Result({**RESULT, "own": {"percentile": 66.7, HOSTILE: HOSTILE}}))
    assert "for you alone: " in page.text
    assert "66.7" in page.text
    assert "for you alone" not in shown(fdrtd.Result(RESULT)).text


def test_warnings_are_shown() -> None:
    warnings = [{"code": "TWO_PARTIES", "message": "each learns the other's input"}, "odd"]
    page = shown(fdrtd.Result({**RESULT, "warnings": warnings}))
    assert "\N{WARNING SIGN} each learns the other's input" in page.text
    assert "\N{WARNING SIGN} odd" in page.text


def test_texts_of_others_are_no_code() -> None:
    hostile: Any = {HOSTILE: {HOSTILE: HOSTILE, "list": [HOSTILE]}}
    for value in (hostile, hostile[HOSTILE], HOSTILE, [HOSTILE]):
        page = shown(fdrtd.Result({"result": value, HOSTILE: HOSTILE, "warnings": [{"message": HOSTILE}]}))
        assert page.text.count("alert") >= 3
    assert "alert" in shown(fdrtd.Progress({**PROGRESS, "state": HOSTILE})).text


def test_progress_as_a_table() -> None:
    page = shown(fdrtd.Progress(PROGRESS))
    assert page.rows[0] == ["party", "node", "connected", "joined", "input"]
    assert page.rows[1] == ["0 (this node)", "https://a.example/", "✓", "✓", "✓"]
    assert page.rows[2] == ["1", HOSTILE, "–", "✓", "–"]
    assert "SecureSum: joined" in page.text
    assert "has joined, but given no input yet" in page.text


@pytest.mark.parametrize("value", [None, 5, "x", [None], [5], [{}], {"a": 1}])
def test_odd_progress_is_still_shown(value: Any) -> None:
    odd = {name: value for name in ("microprotocol", "state", "parties", "waiting_for", "cause")}
    assert shown(fdrtd.Progress(odd)).rows
