"""`snakemake --report`: one file that needs no network, with the table whose figures are those of the metrics."""

from __future__ import annotations

import json
import os
from pathlib import Path

import browser
import pytest
from workflow_project import Project

pytestmark = pytest.mark.workflow

CLICK = """
(() => {
    const named = [...document.querySelectorAll("a, button")].filter(e => e.innerText && e.innerText.trim() == NAME)
    if (named.length) { named.at(-1).click() }
    return named.length
})()
"""
ROW = '[...document.querySelectorAll("tr")].find(e => e.innerText.trim().startsWith(NAME))'


@pytest.fixture(scope="module")
def report(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of the finished project."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    finished.run("snakemake", "--report", str(path))
    return path


def test_the_report_is_self_contained(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert 'src="http' not in text
    assert '<link href="http' not in text
    for name in ("Scores", "Figures", "Cards", "Multiply-accumulate", "classes.png", "model-card.md"):
        assert name.lower() in text.lower(), name


def test_the_table_in_a_browser_shows_the_metrics(finished: Project, report: Path, tmp_path: Path) -> None:
    chromium = browser.program()
    if chromium is None:
        pytest.skip(f"no browser to open the report with: none of {', '.join(browser.PROGRAMS)} found")
    metrics = json.loads(finished.bytes("results/metrics.json"))
    folder = Path(os.environ.get("IMBNAS_TEST_SCREENSHOTS", tmp_path))

    async def visit(page: browser.Page) -> None:
        await page.open(report.as_uri())
        await page.until(CLICK.replace("NAME", '"Scores"'))
        row = ROW.replace("NAME", '"table"')
        await page.until(f"{row} && {row}.querySelector('a') && ({row}.querySelector('a').click(), true)")
        source = await page.until("document.querySelector('iframe') && document.querySelector('iframe').src")
        await page.picture(folder / "report.png")
        assert page.errors() == []
        # The frame's content is of another origin for the page: look at it by itself.
        await page.open(source)
        cells = await page.run("[...document.querySelectorAll('tr.strong td')].map(e => e.innerText.split('\\n')[0])")
        columns = await page.run("[...document.querySelectorAll('th')].map(e => e.innerText)")
        shown = dict(zip(columns, cells, strict=True))
        for name in ("balanced_accuracy", "accuracy", "many", "medium", "few"):
            assert shown[name.replace("_", " ")] == f"{100 * metrics[name]:.2f}"
        assert shown["MACs"] == f"{metrics['macs']:,}"
        assert page.errors() == []

    browser.browse(visit, chromium)
