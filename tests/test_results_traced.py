"""Figures are traced: a page names command, commit and digest; what README and the evidence quote is in the files."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from imbnas.errors import UserError
from imbnas.files import digest_bytes
from imbnas.page_record import TRACE, body, listings, renew, tables, write_page

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
PAGES = sorted(RESULTS.glob("*.md"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
NUMBER = r"([-+]?[\d,]*\.?\d+)"


@cache
def record(name: str) -> dict[str, Any]:
    """Return the file of a page's figures."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def cell(name: str, row: str, column: str, heading: str | None = None, which: int = 0) -> list[float]:
    """Return the numbers that a page prints in a row, named by its first cells, and a column."""
    named = [
        line[table["columns"].index(column)]
        for table in record(name)["tables"]
        if column in table["columns"] and heading in (None, table["heading"])
        for line in table["rows"]
        if " | ".join(line[: row.count(" | ") + 1]) == row
    ]
    assert len(named) > which, (name, row, column, named)
    return numbers(named[which])


def numbers(text: str) -> list[float]:
    """Return the numbers of a text."""
    return [float(number.replace(",", "")) for number in re.findall(NUMBER, text)]


def words(path: Path) -> str:
    """Return a page on one line."""
    return " ".join(path.read_text().split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_the_command_the_commit_and_the_digest_of_its_figures(page: Path) -> None:
    text = page.read_text()
    traces = list(TRACE.finditer(text))
    assert len(traces) == 1, f"{page}: expected one last line as page_record.write_page writes it"
    trace = traces[0]
    assert text.rstrip("\n").endswith(trace[0])
    data = (RESULTS / trace["file"]).read_bytes()
    assert trace["file"] == f"{page.stem}.json"
    assert digest_bytes(data).startswith(trace["digest"]), "the file of figures is another one: `make figures`"
    found = json.loads(data)
    assert (found["command"], found["commit"]) == (trace["command"], trace["commit"])
    assert re.fullmatch("[0-9a-f]{7,}", found["commit"]), "made from a clean clone"
    assert trace["command"].split()[:1] == ["make"]
    assert trace["command"].split()[1] in TARGETS
    assert (found["tables"], found["listings"]) == (tables(text), listings(text)), (
        "the page says other figures: `make figures`"
    )
    assert found["tables"] or found["listings"]


DIFFERENCE = [
    abs(record("digits")["figures"]["chosen minus random"][0]),
    *record("digits")["figures"]["chosen minus random"][1:],
]
TO_LONGTAIL, ADJUSTED = "balanced to longtail", "balanced to longtail, after logit adjustment"
CORRELATION, REGRET = "corrected rank correlation", "regret, points"
SOFTMAX = [
    cell("inheritance", "minus deferred re-weighting, from scratch | balanced softmax", "chosen", heading)[0]
    for heading in ("digits", "CIFAR-10 halves", "CIFAR-100 to CIFAR-10")
]
HEADS = ("head, re-weighted", "class means", "finetune, deferred", "scratch")
WORSE = cell("adapted-heads", "macs", "re-weighted minus it")
AGAINST = ("minus random", "minus macs")
PEERS = "Supernets beside their peers"
QUOTES: dict[str, list[tuple[str, list[float]]]] = {
    "README.md": [
        (
            "rank correlation without noise is # [#, #], and # [#, #] after logit adjustment",
            cell("transfer", CORRELATION, TO_LONGTAIL) + cell("transfer", CORRELATION, ADJUSTED),
        ),
        ("is # points below the mean of four random ones of its cost, with an interval from # to #", DIFFERENCE),
        (
            "the supernet of `cifar10-lt` took # % of the time",
            [100.0 * cell("adaptation", "head | 20", "of scratch")[0]],
        ),
        (
            "Kendall tau of # by the adapted head, # without any adaptation, and # by a supernet",
            [cell("adaptation", name, "tau with trained subnets")[0] for name in ("head", "none", "scratch")],
        ),
        (
            "a supernet # times as fast as xautodl and NNI (# times in bf16), and evaluates subnets # and # times",
            [
                *cell("speed", "imbnas", "over xautodl", PEERS),
                *cell("speed", "imbnas-bf16", "over xautodl", PEERS),
                *cell("speed", "imbnas", "over xautodl", PEERS, 1),
                *cell("speed", "imbnas", "over NNI", PEERS, 1),
            ],
        ),
        ("of ResNet-32 on CIFAR-10-LT take # seconds", cell("gpu", "the step `retrain`", "figure")),
        ("Balanced softmax is # to # points above it", [min(SOFTMAX), max(SOFTMAX)]),
    ],
    "docs/evidence.md": [
        (
            "The rank correlation without noise is # [#, #], and choosing by balanced rows costs # [#, #] points",
            cell("transfer", CORRELATION, TO_LONGTAIL) + cell("transfer", REGRET, TO_LONGTAIL),
        ),
        (
            "the correlation is # [#, #] and the cost # [#, #] points",
            cell("transfer", CORRELATION, ADJUSTED) + cell("transfer", REGRET, ADJUSTED),
        ),
        ("the same cells have # [#, #]", cell("transfer", CORRELATION, "CIFAR-10 to CIFAR-100, published")),
        (
            "cell and condition is # [#, #] without adjustment and # [#, #] with it",
            cell("transfer", "interaction", TO_LONGTAIL) + cell("transfer", "interaction", ADJUSTED),
        ),
        (
            "tau of # [#, #], finetuning with # [#, #], a supernet from scratch with # [#, #] and no adaptation with # "
            "[#, #]; counting MACs reaches # [#, #]",
            [x for name in ("head", "finetune", "scratch", "none", "macs") for x in cell("ranking", name, "tau")],
        ),
        (
            "HLRS finds cells that are # ± # points better than random ones, and DARTS cells that are # ± #.",
            [x for name in ("HLRS", "DARTS") for x in cell("seeds", name, AGAINST[0])],
        ),
        (
            "FairDARTS finds cells of # ± # % balanced accuracy, with self-supervision of # ± # %",
            [
                x
                for name in ("FairDARTS", "FairDARTS, self-supervised")
                for x in cell("seeds", name, "balanced accuracy")
            ],
        ),
        (
            "a re-weighted head ranks them with a tau of # [#, #], class means, which train nothing, with # [#, #], "
            "finetuning with deferred weights with # [#, #] and a supernet from scratch with # [#, #]",
            [x for name in HEADS for x in cell("adapted-heads", name, "tau")],
        ),
        (
            "better than the head by # [#, #], with a corrected p of #",
            [
                *(-x for x in WORSE[:1]),
                *(-x for x in WORSE[:0:-1]),
                *cell("adapted-heads", "macs", "p"),
            ],
        ),
        (
            "The head takes # seconds where scratch takes #, and # with the source's share",
            [
                *cell("adapted-heads", HEADS[0], "seconds"),
                *cell("adapted-heads", "scratch", "seconds"),
                *cell("adapted-heads", HEADS[0], "with the source's"),
            ],
        ),
        (
            "with five seeds: # ± # points. DARTS itself is # ± # above a random cell",
            [
                *cell("darts", "bilateral darts, cumulative rate (HLRS)", "minus darts"),
                *(
                    -sign * x
                    for sign, x in zip((1, -1), cell("darts", "a random cell, no search", "minus darts"), strict=True)
                ),
            ],
        ),
        (
            "class-balanced sampling # ± # points, square-root sampling # ± #, reversed sampling # ± #",
            [
                x
                for name in ("class-balanced", "square-root", "reversed")
                for x in cell("darts", f"darts, {name} sampling", "minus darts")
            ],
        ),
        ("no discretisation gap, # [#, #] points", cell("discretisation-gap", "ZO-DARTS+", "gap, points")),
        (
            "takes # of float32's energy and # of exact 8 bits', and one that drops three # and #",
            [
                x
                for name in ("`truncated-1`", "`truncated-3`")
                for column in ("energy, of float32", "of exact 8 bits")
                for x in cell("approximation", name, column)
            ],
        ),
        (
            "Accuracy is # and # %, that of float32 # %",
            [
                x
                for name in ("`truncated-1`", "`truncated-3`", "`float32`")
                for x in cell("approximation", name, "trained under it")
            ],
        ),
        (
            "decoding DARTS' mixture costs # [#, #] points",
            cell("discretisation-gap", "DARTS, first order", "gap, points"),
        ),
        (
            "would lose # [#, #] or # [#, #] points",
            cell("discretisation-gap", "single-stage, fixed half", "gap, points")
            + cell("discretisation-gap", "single-stage, redrawn part", "gap, points"),
        ),
        (
            "are # ± # points better than random ones and # ± # than the one with most operations. Its # seconds of "
            "search beside those of first-order DARTS, #,",
            [
                *(x for column in AGAINST for x in cell("seeds", "ZO-DARTS+", column)),
                *(cell("seeds", name, "search seconds")[0] for name in ("ZO-DARTS+", "DARTS")),
            ],
        ),
        (
            "are # ± # points from the same cells in float32 where it drops the lowest bit, and # ± # where",
            [
                x
                for name in ("truncated-1", "first-truncated-6")
                for x in cell("seeds", f"ApproxDARTS, {name}", "minus float32")
            ],
        ),
        (
            "are # ± # points better than random cells that are trained from scratch, with a corrected p of #, and # "
            "± # than the cell with most operations",
            [
                *cell("seeds", "single-stage", AGAINST[0]),
                *cell("seeds", "single-stage", "p")[:1],
                *cell("seeds", "single-stage", AGAINST[1]),
            ],
        ),
    ],
}
"""Sentences with # for a figure, and the figures of the files."""
SETTINGS = {
    "README.md": {"2210.00136"},
    "docs/evidence.md": {"53.84 %", "5.97 %", "0.46", "1.20", "2210.00136", "2406.07028", "2406.16949", "2405.03462"}
    | {"2404.08002", "2405.16610"},
}
"""What is quoted from the papers or is one measurement that its sentence gives the command of."""


@pytest.mark.parametrize(("page", "place"), [(page, place) for page in QUOTES for place in range(len(QUOTES[page]))])
def test_a_quoted_figure_is_that_of_the_file(page: str, place: int) -> None:
    sentence, figures = QUOTES[page][place]
    found = re.search(re.escape(sentence).replace("\\#", NUMBER), words(ROOT / page))
    assert found is not None, f"{page}: no longer says: {sentence}"
    for text, figure in zip(found.groups(), figures, strict=True):
        digits = len(text.partition(".")[2])
        assert float(text.replace(",", "")) == pytest.approx(figure, abs=0.5001 * 10.0**-digits), sentence


@pytest.mark.parametrize("page", QUOTES)
def test_all_measured_figures_of_a_page_are_compared(page: str) -> None:
    """In each paragraph, item or row of README that links a page of results, and in all of the evidence."""
    text = (ROOT / page).read_text()
    blocks = [" ".join(block.split()) for block in re.split(r"\n\n|\n(?=[-|#] ?)", text)]
    whole = page != "README.md"
    quotes = [re.escape(sentence).replace("\\#", NUMBER) for sentence, _ in QUOTES[page]]
    seen = 0
    for block in blocks:
        if not (whole or "docs/results/" in block) or block.startswith("*From*"):
            continue
        covered = {place for quote in quotes for hit in re.finditer(quote, block) for place in range(*hit.span())}
        for number in re.finditer(r"(?<![\w.`/-])[-+]?\d[\d,]*(?:\.\d+| %)(?: %)?(?![\w`])", block):
            if number[0] in SETTINGS[page]:
                continue
            seen += 1
            assert number.start() in covered, f"{page}: {number[0]} is compared with no file: {block[:200]}"
    assert seen > 8


def test_the_evidence_names_the_traces_of_its_pages() -> None:
    text = words(ROOT / "docs/evidence.md")
    named = re.findall(
        r"\*From\* \[([\w-]+)\]\(results/([\w-]+)\.md\): `([^`]+)` at commit (\w+), figures "
        r"`([\w.-]+)` \(SHA-256 `(\w+)`\)",
        text,
    )
    claims = re.split(r"## (?=C\d)", text)[1:]
    assert len(claims) == 8
    for claim in claims:
        assert all(f"*{part}*" in claim for part in ("Paper", "Measured", "Verdict"))
        assert "*From*" in claim or "nothing yet" in claim
    for name, file, command, commit, figures, digest in named:
        trace = TRACE.search((RESULTS / f"{file}.md").read_text())
        assert trace is not None
        assert (name, command, commit, figures, digest) == (
            file, trace["command"], trace["commit"], trace["file"], trace["digest"]
        )  # fmt: skip


def test_the_listing_of_the_readme_is_the_run_s() -> None:
    lines = {line for block in record("digits")["listings"] for line in block}
    shown = [
        line.rstrip() for line in (ROOT / "README.md").read_text().splitlines() if "[" in line and "95%" not in line
    ]
    rows = [line for line in shown if line.startswith("     ") and "k" in line]
    assert len(rows) == 6
    assert set(rows) <= lines


def test_a_page_is_read_back_and_written_again_to_the_same_bytes(tmp_path: Path) -> None:
    text = "# A\n\n| a | b |\n|---|---:|\n| x \\| y | 1.5 [1, 2] |\n\nWords.\n\n    output 1\n\n    output 2\n\nEnd.\n"
    page, source = tmp_path / "page.md", tmp_path / "rows.csv"
    source.write_text("1")
    write_page(page, text, "make golden", {"n": 1}, [source], at="abcdef0")
    first, data = page.read_bytes(), (tmp_path / "page.json").read_bytes()
    found = json.loads(data)
    assert found["tables"] == [{"heading": "A", "columns": ["a", "b"], "rows": [["x | y", "1.5 [1, 2]"]]}]
    assert found["listings"] == [["    output 1", "    output 2"]]
    assert (found["figures"], list(found["inputs"])) == ({"n": 1}, ["rows.csv"])
    write_page(page, page.read_text(), "make golden", {"n": 1}, [source], at="abcdef0")
    assert (page.read_bytes(), (tmp_path / "page.json").read_bytes()) == (first, data)
    assert body(page.read_text()).rstrip("\n") + "\n" == text
    page.write_text(page.read_text().replace("1.5", "1.6"))
    renew(page)
    again = json.loads((tmp_path / "page.json").read_text())
    assert again["tables"][0]["rows"] == [["x | y", "1.6 [1, 2]"]]
    assert [again[name] for name in ("command", "commit", "inputs", "figures")] == [
        found[name] for name in ("command", "commit", "inputs", "figures")
    ]
    assert page.read_bytes() != first
    page.write_text(text)
    with pytest.raises(UserError, match="no last line with command, commit and digest"):
        renew(page)
