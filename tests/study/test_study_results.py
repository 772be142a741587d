"""Tables and figures of a study: of finished cells, with the others listed."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from rich.console import Console
from study_cells import planned, right, scattered, study, write_cells

from imbnas.errors import UserError
from imbnas.longtail.student import holm, mean_of_runs
from imbnas.params.config import Params
from imbnas.progress import Log
from imbnas.study.collect import collect
from imbnas.study.estimate import lines, print_plan
from imbnas.study.plan import levels


@pytest.fixture(scope="module")
def params() -> Params:
    return study()


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    root = tmp_path_factory.mktemp("collected")
    write_cells(root, params)
    assert collect(params, root, Log("study")) == 0
    return root


def test_a_row_for_each_cell_and_network(collected: Path, params: Params) -> None:
    table = pd.read_parquet(collected / "study/results.parquet")
    assert len(table) == 8 * 2
    final = table[table["network"] == "final"]
    for number, level in enumerate(levels(params)):
        row = final[final["cell"] == number].iloc[0]
        assert {name: row[name] for name in level} == level
        assert row["balanced_accuracy"] == right(level) / 10
        assert row["balanced_accuracy_low"] == pytest.approx(right(level) / 10 - 0.05)
        assert pd.isna(row["few_low"])
        assert row["job_evaluate"] == planned(params).cells[number]["evaluate"]
    assert set(table[table["network"] == "largest"]["balanced_accuracy"]) == {1.0}


def test_mean_and_deviation_are_over_seeds(collected: Path) -> None:
    table = pd.read_csv(collected / "study/summary.csv")
    final = table[table["network"] == "final"].set_index(["imbalance.ratio", "adapt.strategy"])
    assert len(final) == 4
    # 8 and 7 of ten; 6 and 5; ...
    assert final.loc[(10.0, "head"), "balanced_accuracy_mean"] == pytest.approx(0.75)
    assert final.loc[(50.0, "scratch"), "balanced_accuracy_mean"] == pytest.approx(0.65)
    assert final["balanced_accuracy_std"].to_list() == pytest.approx([0.1 / 2**0.5] * 4, abs=1e-6)
    assert set(final["runs"]) == {2}


def test_differences_are_paired_with_the_first_value_of_an_axis(collected: Path) -> None:
    table = pd.read_csv(collected / "study/pairs.csv")
    ratio = table[(table["axis"] == "imbalance.ratio") & (table["score"] == "balanced_accuracy")]
    assert list(ratio["cell"]) == [4, 5, 6, 7]
    assert ratio["difference"].to_list() == pytest.approx([-0.2] * 4)
    assert ((ratio["low"] < -0.2) & (ratio["high"] > -0.2) & (ratio["high"] < 0)).all()
    # Other long tails have other groups.
    assert set(table[table["axis"] == "imbalance.ratio"]["score"]) == {"balanced_accuracy", "accuracy"}
    strategy = table[table["axis"] == "adapt.strategy"]
    assert set(strategy["score"]) == {"balanced_accuracy", "accuracy", "many", "medium", "few"}
    assert strategy["difference"].to_list() == pytest.approx([0.1] * 4 * 5)
    assert "seed" not in set(table["axis"])
    mean = pd.read_csv(collected / "study/differences.csv")
    assert len(mean) == 2 * 2 + 2 * 5
    assert set(mean["runs"]) == {2}
    assert mean["std"].to_list() == pytest.approx([0.0] * len(mean), abs=1e-6)
    assert list(mean.columns[-5:]) == ["low", "high", "p", "p_holm", "covers"], "no margin, no test of equivalence"


def test_choices_are_paired_with_their_own_random_networks(tmp_path: Path) -> None:
    write_cells(tmp_path, study(SHARED), right=scattered, shared=True, random=(1, -1, -2))
    collect(study(SHARED), tmp_path, Log("study"))
    table = pd.read_csv(tmp_path / "study/references.csv")
    assert list(table["score"].unique()) == ["balanced_accuracy", "accuracy", "many", "medium", "few"]
    assert len(table) == 2 * 3 * 5
    for _, row in table.iterrows():
        assert (row["runs"], row["networks"], row["beaten"]) == (3, 9, 6)
        # The same in every seed, whatever the chosen networks' own scores are.
        assert row["mean"] == pytest.approx(0.2 / 3, abs=1e-6)
        assert row["std"] == pytest.approx(0.0, abs=1e-6)
        assert row["low"] < row["mean"] < row["high"]
        assert row["covers"] == "seeds and rows"
    assert "Against random networks of equal cost" in (tmp_path / "study/table.html").read_text()


def test_a_single_seed_has_an_interval_of_prediction(tmp_path: Path) -> None:
    axes = {**SHARED, "seed": [1]}
    write_cells(tmp_path, study(axes), right=scattered, shared=True, random=(0, -1, -2))
    collect(study(axes), tmp_path, Log("study"))
    table = pd.read_csv(tmp_path / "study/references.csv")
    half = scipy.stats.t.ppf(0.95, 2) * 0.1 * np.sqrt(1 + 1 / 3)
    balanced = table[table["score"] == "balanced_accuracy"]
    assert set(balanced["covers"]) == {"networks and rows"}
    assert balanced["mean"].to_list() == pytest.approx([0.1] * 6, abs=1e-6)
    assert ((balanced["high"] - balanced["low"]) / 2 >= half - 1e-5).all()


def test_without_random_networks_there_is_nothing_to_say(collected: Path) -> None:
    assert pd.read_csv(collected / "study/references.csv").empty
    assert "Against random" not in (collected / "study/table.html").read_text()


def test_the_workflow_knows_all_tables_of_a_study(collected: Path) -> None:
    rule = (Path(__file__).parents[2] / "workflow/rules/study.smk").read_text()
    declared = re.search(r'expand\("study/\{name\}\.csv", name=\[(.*)\]\)', rule)
    assert declared is not None
    written = {file.stem for file in (collected / "study").glob("*.csv")}
    assert set(re.findall(r'"(\w+)"', declared[1])) == written


KEY = ["imbalance.ratio", "adapt.strategy", "axis", "score"]
SHARED: dict[str, list[Any]] = {
    "imbalance.ratio": [10.0, 50.0],
    "adapt.strategy": ["head", "scratch", "none"],
    "seed": [0, 1, 2],
}


def test_over_seeds_there_is_students_t_with_the_variance_of_the_test_rows(tmp_path: Path) -> None:
    write_cells(tmp_path, study(SHARED), right=scattered, shared=True)
    collect(study(SHARED, margin=0.15), tmp_path, Log("study"))
    pairs = pd.read_csv(tmp_path / "study/pairs.csv")
    mean = pd.read_csv(tmp_path / "study/differences.csv")
    wanted = {"axis": "adapt.strategy", "score": "accuracy"}
    chosen = mean[(mean[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert set(chosen["covers"]) == {"seeds and rows"}
    assert list(chosen["p_holm"]) == pytest.approx(holm(list(chosen["p"])), abs=2e-6), "four comparisons of one axis"
    assert list(chosen["p_equivalent_holm"]) == pytest.approx(holm(list(chosen["p_equivalent"])), abs=2e-6)
    assert set(chosen["margin"]) == {0.15}
    for _, row in chosen.iterrows():
        same = (pairs[KEY] == row[KEY]).all(axis=1)
        values = pairs[same]["difference"].to_numpy()
        assert len(values) == 3
        alone = mean_of_runs(values)
        assert row["mean"] == pytest.approx(values.mean(), abs=1e-6)
        # Rows widen the interval and raise the degrees of freedom; the test rows' own interval has no part of the runs.
        rows = pairs[same][["low", "high"]].to_numpy()
        assert row["high"] - row["low"] > 0.5 * np.ptp(rows, axis=1).mean()
        assert (row["p"] != pytest.approx(float(alone.p()))) or float(alone.error) == 0.0
        level, half = 0.9, (row["high"] - row["low"]) / 2
        least = scipy.stats.norm.ppf(0.5 + level / 2) * float(alone.error)
        assert half > least


def test_where_each_seed_has_its_own_test_rows_their_noise_is_in_the_runs(tmp_path: Path) -> None:
    params = study(SHARED)
    write_cells(tmp_path, params, right=scattered)
    collect(params, tmp_path, Log("study"))
    pairs = pd.read_csv(tmp_path / "study/pairs.csv")
    mean = pd.read_csv(tmp_path / "study/differences.csv")
    assert set(mean["covers"]) == {"seeds"}
    row = mean[(mean["axis"] == "adapt.strategy") & (mean["score"] == "accuracy")].iloc[0]
    values = pairs[(pairs[KEY] == row[KEY]).all(axis=1)]["difference"]
    expected = scipy.stats.ttest_1samp(values, 0.0)
    assert row["p"] == pytest.approx(expected.pvalue, abs=1e-6)
    assert (row["low"], row["high"]) == pytest.approx(expected.confidence_interval(0.9), abs=1e-5)


def test_one_seed_has_the_interval_of_the_test_rows(tmp_path: Path) -> None:
    params = study({**SHARED, "seed": [0]})
    write_cells(tmp_path, params)
    collect(params, tmp_path, Log("study"))
    pairs, mean = (pd.read_csv(tmp_path / f"study/{name}.csv") for name in ("pairs", "differences"))
    assert set(mean["covers"]) == {"rows"}
    merged = mean.merge(pairs, on=KEY)
    assert len(merged) == len(mean)
    assert merged["low_x"].to_list() == merged["low_y"].to_list()
    assert "covers" in (tmp_path / "study/table.html").read_text()


def test_pictures_and_page(collected: Path) -> None:
    for name in ("scores", "groups", "pairs"):
        assert (collected / f"study/figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (collected / "study/table.html").read_text()
    assert "75.00 ± 7.07" in page
    assert "8 of 8 cells" in page


def test_the_same_again_is_the_same_bytes(collected: Path, params: Params) -> None:
    files = [path for path in (collected / "study").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    for name in ("study/.results.parquet.7.part", "study/figures/.scores.png.7.part"):
        (collected / name).write_text("left by a kill")
    collect(params, collected, Log("study"))
    assert {path: path.read_bytes() for path in (collected / "study").rglob("*") if path.is_file()} == before


def test_other_test_rows_are_not_paired(tmp_path: Path) -> None:
    params = study({"imbalance.ratio": [10.0], "adapt.strategy": ["head"], "seed": [0, 1]})
    write_cells(tmp_path, params)
    collect(params, tmp_path, Log("study"))
    assert len(pd.read_csv(tmp_path / "study/pairs.csv")) == 0


def test_unfinished_cells_are_listed_and_left_out(
    tmp_path: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_cells(tmp_path, params)
    # Cell 0, with which others are compared, was never evaluated; cell 5 has old files in place of those that failed.
    (tmp_path / made.place("metrics", 0)).unlink()
    failed = made.cells[5]["retrain"]
    assert collect(params, tmp_path, Log("study"), {"retrain": [failed]}) == 2
    table = pd.read_parquet(tmp_path / "study/results.parquet")
    assert sorted(set(table["cell"])) == [1, 2, 3, 4, 6, 7]
    cells = pd.read_csv(tmp_path / "study/cells.csv", keep_default_na=False)
    assert list(cells[~cells["finished"]]["cell"]) == [0, 5]
    assert cells.loc[5, "stopped_at"] == f"retrain/{failed}"
    said = capsys.readouterr().err
    assert (
        f"not finished: cell 5 (imbalance.ratio=50.0, adapt.strategy=head, seed=1), see logs/study/retrain/{failed}"
        in said
    )
    assert "6 of 8 cells collected" in said
    assert "2 not finished" in (tmp_path / "study/table.html").read_text()
    pairs = pd.read_csv(tmp_path / "study/pairs.csv")
    assert 0 not in set(pairs["cell"])
    assert set(pairs[pairs["axis"] == "imbalance.ratio"]["cell"]) == {6, 7}


def test_a_study_without_finished_cells_is_one_line(tmp_path: Path, params: Params) -> None:
    with pytest.raises(UserError, match="none of the 8 cells is finished"):
        collect(params, tmp_path, Log("study"))
    assert len(pd.read_csv(tmp_path / "study/cells.csv")) == 8


def test_the_plan_estimates_from_benchmarks(tmp_path: Path, params: Params) -> None:
    text = io.StringIO()
    print_plan(params, tmp_path, Console(file=text, width=80))
    assert "No estimate of hours" in text.getvalue()
    assert max(len(line) for line in text.getvalue().splitlines()) <= 80
    (tmp_path / "benchmarks/study/retrain").mkdir(parents=True)
    (tmp_path / "benchmarks/retrain.tsv").write_text("s\th:m:s\n9000.0\t2:30:00\n")
    (tmp_path / "benchmarks/supernet.tsv").write_text("s\th:m:s\n3600.0\t1:00:00\n")
    for name, seconds in (("a", 60.0), ("b", 120.0)):
        (tmp_path / f"benchmarks/study/retrain/{name}.tsv").write_text(f"s\th:m:s\n{seconds}\t-\n")
    made, found = lines(params, tmp_path)
    by_step = {line.step: line for line in found}
    # A study's own runs say more than the chain's.
    assert (by_step["retrain"].seconds, by_step["retrain"].runs) == (90.0, 2)
    assert (by_step["supernet"].seconds, by_step["supernet"].jobs, by_step["adapt"].seconds) == (3600.0, 2, None)
    (tmp_path / made.place("supernet", 0)).parent.mkdir(parents=True)
    (tmp_path / made.place("supernet", 0)).touch()
    text = io.StringIO()
    print_plan(params, tmp_path, Console(file=text, width=80))
    total = next(line for line in text.getvalue().splitlines() if line.strip().startswith("total"))
    assert total.split() == ["total", "38", "1", f"{1 + 8 * 90 / 3600:.2f}"]
    assert "Without sharing it would be 64 jobs." in " ".join(text.getvalue().split())
    assert "none for source, target, imbalance, adapt, search, evaluate" in " ".join(text.getvalue().split())
