"""What the pages name exists: commands, targets, parameters; what they count and list is all that there is."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer.main

from imbnas.cli import app
from imbnas.params.edit import set_parameters
from imbnas.params.head_options import HEADS
from imbnas.params.loss_options import LOSSES
from imbnas.params.reference import parameters

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "params.yaml")] + sorted(
    path for path in (ROOT / "docs").glob("*.md") if path.name not in ("extending.md", "parameters.md")
)
"""docs/extending.md has a test of its own, which types it."""
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PARAMETERS = {each.name: each for each in parameters()}
PLACES = {".".join(name.split(".")[:size]) for name in PARAMETERS for size in range(1, 7)}
SECTIONS = {name.partition(".")[0] for name in PARAMETERS}
FILE = re.compile(r"\.(py|json|parquet|safetensors|tsv|log|smk)$")
NUMBERS = {
    3: "three",
    6: "six",
    7: "seven",
    8: "eight",
    9: "nine",
    10: "ten",
    11: "eleven",
    12: "twelve",
    13: "thirteen",
}


def code(page: Path) -> list[str]:
    """Return what a page shows as code: indented lines, fenced blocks, and words between backticks."""
    text = page.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*fenced, *re.findall(r"^ {4,}\S.*$", rest, re.MULTILINE), *re.findall(r"`([^`]+)`", rest)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_parameters_of_a_page_exist(page: Path) -> None:
    shown = code(page)
    for piece in shown:
        commands = re.findall(r"(?:^|[|&;] *|^ +|\n)imbnas ([a-z]+)", piece)
        assert set(commands) <= set(COMMANDS), piece
        targets = re.findall(r"(?:^|[|&;] *|^ +|\n)make ([a-z][a-z-]*)", piece)
        assert set(targets) <= TARGETS, piece
    dotted = [piece for piece in shown if re.fullmatch(r"[a-z_0-9]+(\.[a-z_0-9]+)+(: [^`]*)?", piece)]
    named = {piece.partition(":")[0] for piece in dotted} | {
        name for piece in shown for name in re.findall(r"(?:-S (?:\+\+)?|params set )'?([a-z_0-9.]+)=", piece)
    }
    ours = {name for name in named if name.partition(".")[0] in SECTIONS and not FILE.search(name)}
    assert ours <= PLACES, ours - PLACES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_sets_is_accepted_line_by_line(page: Path, tmp_path: Path) -> None:
    """Each block of commands starts from the default params.yaml; files that it names need not be there."""
    file = tmp_path / "params.yaml"
    for block in re.findall(r"(?:^ {4,}\S.*\n)+", page.read_text().replace("\\\n", " "), re.MULTILINE):
        shutil.copyfile(ROOT / "params.yaml", file)
        for given in re.findall(r"^ +imbnas params set (.*)$", block, re.MULTILINE):
            set_parameters(file, shlex.split(given, comments=True))


def test_the_readme_counts_what_there_is() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    samplers = PARAMETERS["retrain.sampler.name"].words
    second_stages = sum(entry.generates for entry in HEADS.values())
    assert f"{NUMBERS[len(LOSSES)]} losses, {NUMBERS[len(samplers)]} samplers" in text
    assert f"{NUMBERS[len(HEADS)]} heads on a frozen backbone ({NUMBERS[second_stages]} of them" in text
    assert f"the {NUMBERS[len(LOSSES)]} losses" in (ROOT / "params.yaml").read_text()


def test_a_comment_that_lists_the_words_of_a_parameter_lists_all() -> None:
    """A comment that names three of them is taken for a list, unless it says that it goes on."""
    lists, place = 0, list[str]()
    for line in (ROOT / "params.yaml").read_text().splitlines():
        if (found := re.match(r"( *)([a-z_]+):([^#]*)(?:# (.*))?$", line)) is None:
            continue
        depth = len(found[1]) // 2
        place = [*place[:depth], found[2]]
        parameter, comment = PARAMETERS.get(".".join(place)), found[4] or ""
        if parameter is None or "..." in comment:
            continue
        words = parameter.words
        missing = [word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", comment)]
        if len(words) - len(missing) >= 3:
            lists += 1
            assert not missing, (line, missing)
    assert lists >= 9
