"""The documentation as a book: every link leads somewhere, and every page can be reached from its contents."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from harness import ROOT

CONTENTS = ROOT / "docs" / "README.md"
OUTSIDE = ("README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "clients/python/README.md")
PAGES = sorted({*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in OUTSIDE)})
CODE = re.compile(r"^(?P<fence> *```+|~~~+).*?^(?P=fence) *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<target>[^()\s]+(?:\([^()\s]*\))?)(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6} (?P<text>.+?)\s*#*$", re.MULTILINE)
REFERENCE = re.compile(r"\]\[|^\[[^\]]+\]:", re.MULTILINE)


def links_of(text: str) -> list[str]:
    """The targets of a page's links and pictures."""
    return [found["target"] for found in LINK.finditer(CODE.sub("", text))]


def anchors_of(text: str) -> set[str]:
    """What the headings of a page are called in links, as the usual renderers do it."""
    anchors: dict[str, int] = {}
    for heading in HEADING.finditer(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        plain = LINK.sub("]", heading["text"]).replace("[", "").replace("]", "").replace("`", "")
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = anchors.get(name, 0)
        anchors[name] = number + 1
        if number:
            anchors[f"{name}-{number}"] = 1
    return set(anchors)


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for target in links_of(text):
        if re.match(r"https://[\w.-]+\.\w+(/|$)", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        there = file == page or (ROOT in file.parents and file.exists())
        reached = there and ":" not in target
        if reached and anchor:
            reached = anchor in anchors_of(text if file == page else file.read_text())
        if not reached:
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    assert broken(page, text) == []
    assert not REFERENCE.search(CODE.sub("", text)), "write links in place: [text](target)"


def test_every_page_is_in_the_contents() -> None:
    listed = {(CONTENTS.parent / unquote(link).partition("#")[0]).resolve() for link in links_of(CONTENTS.read_text())}
    assert [page for page in PAGES if page != CONTENTS and page not in listed and ROOT / "docs" in page.parents] == []
    assert CONTENTS in {(ROOT / link).resolve() for link in links_of((ROOT / "README.md").read_text())}


def test_every_picture_is_ours_and_used() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links_of(page.read_text())}
    pictures = [file for file in (ROOT / "docs").rglob("*") if file.suffix in {".svg", ".png", ".jpg"}]
    assert [picture for picture in pictures if picture not in shown] == []
    for picture in pictures:
        assert picture.suffix == ".svg", "drawn by hand, so that it can be changed"
        assert "http" not in picture.read_text().replace("http://www.w3.org/2000/svg", ""), "nothing is loaded"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](README.md) [b](docs/tutorial.md#cleaning-up) [c](#a-b)\n# A b", []),
        ("`[a](nowhere.md)`\n```\n[b](nowhere.md)\n```\n", []),
        ("[a](nowhere.md)", ["nowhere.md"]),
        ("![a](nowhere.svg)", ["nowhere.svg"]),
        ("[a](docs/tutorial.md#nowhere)", ["docs/tutorial.md#nowhere"]),
        ("[a](#nowhere)\n# A b", ["#nowhere"]),
        ("[a](../../etc/passwd)", ["../../etc/passwd"]),
        ("[a](http://example.org)", ["http://example.org"]),
        ("[a](https://example.org/x)", []),
    ],
)
def test_broken_links_are_found(text: str, wrong: list[str]) -> None:
    assert broken(ROOT / "page.md", text) == wrong
