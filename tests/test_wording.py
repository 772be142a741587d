"""Three habits that make a reader stop are kept out of docs, comments of parameters, and docstrings.

They are "one row a class" where "per" is meant, "is no file" for "is not a file", and docstrings that begin with a noun
clause ("What a step reads") instead of saying what a function does or a module holds (PEP 257).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")] + sorted(
    path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts
)
PARAMETERS = [ROOT / "params.yaml", *sorted((ROOT / "presets").rglob("*.yaml"))]
MODULES = sorted((ROOT / "src/imbnas").rglob("*.py"))

UNITS = (
    "batch|block|branch|cell|choice|class|column|dataset|day|edge|epoch|file|generation|group|hour|image|job|kind|layer|"
    "line|minute|network|node|page|path|process|rank|resample|round|row|run|second|seed|split|stage|step|subnet|test|week"
)
NUMBER = r"(?:a|an|one|two|three|four|five|six|eight|ten|once|twice|\d+(?:[.,]\d+)*)"
JOINING = (
    "a|an|and|as|at|before|but|by|for|from|gives?|has|have|if|in|into|is|like|makes?|names?|writes?|of|on|or|over|than|that|the|then|"
    "though|to|until|was|when|where|while|with|within|without|after|are|be|called|each|see|sees|takes?|needs?|holds?|only"
)
COMPARED = "longer|more|less|fewer|wider|later|larger|better|worse"
HABITS = {
    "per": re.compile(rf"\b{NUMBER}(?:(?: \w+){{0,2}} (?!(?:{JOINING})\b)[\w%]+)? an? (?:{UNITS})\b", re.IGNORECASE),
    "not a": re.compile(rf"(?<!there )\b(?:is|are|was|were|be) no (?!(?:{COMPARED})\b)\w+", re.IGNORECASE),
    "which thing": re.compile(r"# (?:of|for) [\w-]+: "),
}
CLAUSE = re.compile(r"(?:What|How|Which|From|Where|When|Who|Whether)\b|Say\b|That [a-z]")


def words(path: Path) -> str:
    """Return the prose of a page, without blocks of code, its lines joined."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join("\n".join(line for line in text.splitlines() if not line.startswith(("    ", "#"))).split())


def comments(path: Path) -> str:
    """Return the comments of a parameter file, joined."""
    return " ".join(found.strip() for found in re.findall(r"(?:^|\s)# ?.*", path.read_text(encoding="utf-8")))


def docstrings(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Yield each module, class and function of a file that has a docstring, and the docstring on one line.

    A property is a noun, so its docstring may be one too.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            marks = [ast.unparse(mark) for mark in getattr(node, "decorator_list", [])]
            if text and not any(mark.endswith("property") for mark in marks):
                yield node, " ".join(text.split())


def found(text: str) -> list[str]:
    """Return what a text has of the habits, with some words around it."""
    hits = [hit for habit in HABITS.values() for hit in habit.finditer(text)]
    return [text[max(0, hit.start() - 20) : hit.end() + 20] for hit in hits]


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("It trains two supernets, one a seed, not twelve.", True),
        ("It has one row an epoch.", True),
        ("It has one row per epoch.", False),
        ("Two edges a node at most.", True),
        ("A link is no file.", True),
        ("There is no file.", False),
        ("It is no longer there.", False),
        ("One of a class is enough.", False),
    ],
)
def test_the_habits_are_told_from_plain_english(text: str, bad: bool) -> None:
    assert bool(found(text)) == bad


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages(path: Path) -> None:
    assert found(words(path)) == []


@pytest.mark.parametrize("path", PARAMETERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_comments_of_parameters(path: Path) -> None:
    assert found(comments(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings(path: Path) -> None:
    for node, text in docstrings(path):
        assert found(text) == []
        name = getattr(node, "name", "module")
        assert not CLAUSE.match(text), f"{name}: {text[:60]}"
