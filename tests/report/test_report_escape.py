"""Names that would do something where a report is opened: one function per format takes that from them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from imbnas.report.escape import code, markdown
from imbnas.report.page import Block, write_page

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://a.example/pixel.png)",
    "http://a.example",
    "www.a.example",
    "a@b.example",
    "`code`",
    "**bold** _it_ ~~gone~~ $x$",
    "a | b",
    "a\n\n# title",
    "\x1b[31mred\x9b2J",
    "abc\u202egnp.exe",
    "&lt;b&gt;",
    "back\\|slash",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_holds_no_structure(name: str) -> None:
    found = markdown(name)
    assert "\n" not in found
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", found)
    bare = re.sub(r"\\[\\`*_\[\]|~$]", "", found)
    assert not re.search(r"[<`*\[\]|$]|~|://|www\.|@|(?<!\w)_|_(?!\w)", bare)
    assert "&" not in re.sub(r"&(amp|lt|#\d+);", "", found)


@pytest.mark.parametrize("name", ["0", "T-shirt/top", "aquarium_fish", "ant (red)", "Größe 5, x-y", "a > b", "cat #1!"])
def test_ordinary_names_keep_their_bytes(name: str) -> None:
    assert markdown(name) == name


def test_code_ends_neither_itself_nor_its_cell() -> None:
    assert code("a`b|c\n\x1bd") == "`a'b\\|c \\x1bd`"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("href", "src")]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_holds_no_tag_of_a_name(tmp_path: Path, name: str) -> None:
    write_page(tmp_path / "p.html", name, [Block(name, [name], [[name]], name)])
    text = (tmp_path / "p.html").read_text()
    parser = Tags()
    parser.feed(text)
    assert parser.found <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "table", "tr", "th", "td",
                            "p", "br", "small"}  # fmt: skip
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
