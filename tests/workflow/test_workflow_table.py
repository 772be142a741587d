"""`make table`'s workflow: a whole table from a description, and nothing trained twice."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from workflow_project import ROOT, Project

SPEC = """
space:
  name: nasbench201
  stem: {channels: 4}
  stages: {channels: [4], repeats: [1], strides: [1]}
  last_channels:
runtime: {device: cpu, threads: 1}
source: {share: 0.3}
conditions:
  longtail: {ratio: 4.0, n_max: 24}
seeds: 2
retrain: {loss: ce, epochs: 1, batch_size: 32}
evaluate: {shots: thirds}
cells: [3-1-4-2-4-4, 2-0-0-1-4-0]
"""


def snakemake(fresh: Project, folder: Path, expect: int) -> str:
    """Make the table that the description in `folder` asks for and return what was said."""
    words = ["--snakefile", str(ROOT / "workflow/table.smk"), "--cores", "2", "--forceall"]
    words += ["--config", "table=tables/tiny.yaml", "parts=2", "page=page.md"]
    return Project(folder, fresh.env, fresh.server).run("snakemake", *words, expect=expect).output


@pytest.mark.workflow
@pytest.mark.slow
def test_a_table_is_made_and_a_clone_trains_nothing_again(fresh: Project, tmp_path: Path) -> None:
    whole, clone = tmp_path / "whole", tmp_path / "clone"
    for folder in (whole, clone):
        (folder / "tables").mkdir(parents=True)
        (folder / "datasets/digits").mkdir(parents=True)
        (folder / "tables/tiny.yaml").write_text(SPEC)
    told = snakemake(fresh, whole, expect=0)
    table = (whole / "tables/tiny.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in table[1:]] == [
        [seed, cell, "longtail"] for seed in "01" for cell in ("3-1-4-2-4-4", "2-0-0-1-4-0")
    ]
    # Rows of seed 0 are a whole experiment before seed 1 is begun by the same part.
    assert told.index("seed 0, part 1 of 2: 1 trainings, 1 to do") < told.index("seed 1, part 1 of 2: 1 trainings")
    # The table is written as soon as they are there: one part at most has begun its next seed by then.
    begun = re.findall(r"(train|collect) tiny: (?:the table with )?seed (\d)", told)
    assert begun.count(("collect", "0")) == 1
    assert begun[: begun.index(("collect", "0"))].count(("train", "1")) <= 1
    assert re.search(r"tiny\.parquet: [234] rows, [12] of 2 seeds complete", told)
    assert "# What 2 cells are worth" in (whole / "page.md").read_text()
    for suffix in (".parquet", ".csv", "-seconds.csv"):
        shutil.copy(whole / f"tables/tiny{suffix}", clone / f"tables/tiny{suffix}")
    assert snakemake(fresh, clone, expect=0).count("1 trainings, 0 to do") == 4
    for suffix in (".parquet", ".csv", "-seconds.csv"):
        assert (clone / f"tables/tiny{suffix}").read_bytes() == (whole / f"tables/tiny{suffix}").read_bytes()


@pytest.mark.workflow
def test_a_wrong_description_is_one_line(fresh: Project, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/tiny.yaml").write_text(SPEC.replace("seeds: 2", "seeds: none"))
    told = snakemake(fresh, tmp_path, expect=1)
    assert "error: tables/tiny.yaml: seeds: found text 'none', expected a whole number" in told
    assert "Traceback" not in told
