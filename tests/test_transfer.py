"""The statistics of balanced ranks beside long-tailed ones, on simulated tables whose truth is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imbnas.truth.agreement import Figure, Spread

ROOT = Path(__file__).resolve().parents[1]
PARTS = (Spread(0.009, 0.019), Spread(0.005, 0.008))


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    monkeypatch.syspath_prepend(ROOT / "tests/truth")


def tables(correlation: float, cells: int = 48, seeds: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    from transfer_power import simulated

    return simulated(np.random.default_rng(seed), PARTS, correlation, (seeds, cells))


def test_a_planted_interaction_is_found_and_a_change_of_spread_is_none() -> None:
    from transfer_statistics import interaction

    for correlation in (1.0, 0.9, 0.6):
        found = [interaction(*tables(correlation, seed=seed)) for seed in range(40)]
        error = 0.02 + 0.1 * (1.0 - correlation)
        assert np.mean([one.share for one in found]) == pytest.approx(1.0 - correlation, abs=error)
        rejected = np.mean([one.p_of_f < 0.05 for one in found])
        # The spreads of the two conditions differ by more than twice; no rank does at a correlation of 1.
        assert rejected < 0.15 if correlation == 1.0 else rejected > 0.7
    first, second = tables(0.9)
    spread_out = interaction(first, 7.0 * second + 0.1)
    assert (spread_out.share, spread_out.f) == pytest.approx(
        (interaction(first, second).share, interaction(first, second).f)
    )


def test_the_corrected_rank_correlation_is_that_of_the_true_means() -> None:
    from transfer_statistics import correlation, plain_rank_correlation, rank_correlation

    for true in (1.0, 0.8):
        first, second = tables(true, cells=60 * 48)
        places = np.arange(60 * 48).reshape(60, 48)
        # Spearman's correlation of normal variables, Pearson 1907.
        spearman = 6.0 / np.pi * np.arcsin(true / 2.0)
        assert rank_correlation(first, second)(places).mean() == pytest.approx(spearman, abs=0.02)
        assert plain_rank_correlation(first, second)(places).mean() < spearman - 0.04
    alike = np.zeros((3, 5))
    assert np.isnan(rank_correlation(alike, alike)(np.arange(5)))
    assert correlation(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0])) == pytest.approx(1.0)


def test_noise_that_a_seed_has_under_both_conditions_does_not_count_between_different_seeds() -> None:
    from transfer_statistics import interaction, seeds_apart

    from imbnas.truth.agreement import disattenuated

    first, second = tables(0.8, cells=6000)
    shared = 0.012 * np.random.default_rng(9).normal(size=first.shape)
    both = first + shared, second + shared
    places = np.arange(6000)
    assert disattenuated(*both)(places) > 0.87
    assert seeds_apart(*both)(places) == pytest.approx(0.8, abs=0.03)
    assert seeds_apart(*both)(places.reshape(6, 1000)).mean() == pytest.approx(0.8, abs=0.04)
    assert interaction(*both).share == pytest.approx(0.2, abs=0.03)
    alike = np.zeros((3, 5))
    assert np.isnan(seeds_apart(alike, alike)(np.arange(5)))


def test_intervals_cover_the_truth() -> None:
    from transfer_statistics import interval, rank_correlation, regret

    spearman = 6.0 / np.pi * np.arcsin(0.9 / 2.0)
    many = tables(0.9, cells=2000 * 24)
    truth = regret(many, many[1])(np.arange(2000 * 24).reshape(2000, 24)).mean()
    missed = np.zeros(2)
    for seed in range(40):
        first, second = tables(0.9, cells=24, seed=seed)
        for place, (statistic, true) in enumerate(
            [(rank_correlation(first, second), spearman), (regret((first, second), second), truth)]
        ):
            found = interval(statistic, 24, 100)
            missed[place] += not found.low <= true <= found.high
    assert (missed <= 7).all(), missed


def test_seeds_that_choose_do_not_judge_and_the_best_of_several_are_a_mean() -> None:
    from transfer_statistics import regret

    own = np.array([[0.9, 0.5, 0.1], [0.1, 0.5, 0.2]])
    other = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert regret((other, own), own)(np.arange(3)) == pytest.approx(((0.5 - 0.5) + (0.1 - 0.5)) / 2)
    both = regret((other, own), own)(np.array([[0, 1, 2], [1, 1, 1]]))
    assert both == pytest.approx([-0.2, 0.0])
    # Other rows may choose: here the cell that is worst for the judge, in place of the best.
    judge = np.tile([0.1, 0.2, 0.3, 0.4], (3, 1))
    assert regret((-judge, judge), judge)(np.arange(4)) == pytest.approx(0.3)
    assert regret((-judge, judge), judge, top=2)(np.arange(4)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("ends", "lost", "said"),
    [
        ((0.5, 0.89), (0.006, 0.02), "supported"),
        ((0.5, 0.89), (0.004, 0.02), "open"),
        ((0.5, 0.91), (0.006, 0.02), "open"),
        ((0.96, 1.1), (0.006, 0.02), "refuted"),
        ((0.5, 0.99), (-0.004, 0.002), "refuted"),
        ((0.94, 1.1), (-0.004, 0.004), "open"),
    ],
)
def test_the_verdict_follows_the_rule(ends: tuple[float, float], lost: tuple[float, float], said: str) -> None:
    from transfer import verdict

    assert verdict(Figure(0.0, *ends), Figure(0.0, *lost)) == said


def test_power_is_that_of_the_truth() -> None:
    from transfer_power import power, suffices

    coarse = (Spread(0.009, 0.06), Spread(0.005, 0.06))
    alike, apart = (power(coarse, correlation, (192, 3), 60) for correlation in (1.0, 0.3))
    assert (alike.refuted, alike.supported) == (pytest.approx(1.0, abs=0.05), 0.0)
    assert apart.supported > 0.3
    assert apart.refuted == 0.0
    few = power(coarse, 0.93, (48, 3), 60)
    assert few.decided < 0.5
    assert suffices([few, alike, apart], 0.93) is None
    assert suffices([few, alike, apart], 1.0) == alike


def test_the_control_divides_by_the_noise_of_equal_functions() -> None:
    from transfer_published import figures

    rng = np.random.default_rng(1)
    true = rng.normal(size=800)
    scores = 0.01 * (np.stack([true, true]) + rng.normal(size=(2, 800)))
    found = figures(scores, (0.01, 0.01), 8)
    assert found.plain.value < 0.55
    assert found.pearson.value == pytest.approx(1.0, abs=0.12)
    assert found.share.value == pytest.approx(1.0 - found.pearson.value)
    assert found.between[0] == pytest.approx(0.01, rel=0.1)
    assert found.regret.value >= 0.0


def test_the_page_is_written_from_a_table_and_one_of_further_cells_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import transfer
    from tiny_table import invented

    from imbnas.page_record import TRACE, tables
    from imbnas.truth.trained_rows import write_rows

    first = tmp_path / "t.parquet"

    def write(path: Path, rows: list[dict[str, Any]]) -> None:
        write_rows(path, path.with_suffix(".csv"), rows)

    page = tmp_path / "page.md"
    arguments = ["x", str(first), "--output", str(page), "--resamples", "30", "--simulations", "5"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr("transfer_power.SIZES", ((12, 3),))
    monkeypatch.setattr("transfer_power.CORRELATIONS", (1.0,))
    write(first, invented(seeds=2))
    assert transfer.main() == 2
    assert "holds 2 whole seed(s), expected 3" in capsys.readouterr().err
    rows = invented(seeds=3)
    write(first, rows)
    more = [{**row, "architecture": row["architecture"][:-1] + "2"} for row in rows]
    write(tmp_path / "t-more.parquet", more[:-1])
    assert transfer.main() == 0
    text = page.read_text()
    assert text.startswith("# Do ranks on balanced rows")
    assert "12 cells of NAS-Bench-201, each trained alone with 3 seeds under each condition: `t.parquet` (" in text
    assert "The last column is empty" in text
    record = json.loads(page.with_suffix(".json").read_text())
    assert record["tables"] == tables(text)
    assert list(record["inputs"]) == ["t.parquet"]
    assert (trace := TRACE.search(text)) is not None
    assert trace["command"] == "make transfer"
    write(tmp_path / "t-more.parquet", more)
    assert transfer.main() == 0
    assert "24 cells of NAS-Bench-201" in page.read_text()
    assert "`t.parquet` and `t-more.parquet`" in page.read_text()
    monkeypatch.setattr(sys, "argv", [*arguments, "--longtail", "tail"])
    assert transfer.main() == 2
    assert "no condition tail, expected one of balanced, longtail" in capsys.readouterr().err


def test_a_gpu_trains_the_cells_of_both_tables_and_they_are_one_experiment() -> None:
    import gpu_plan

    from imbnas.params.reading import read

    first, more = (read(ROOT / f"tables/cifar10-lt-16{end}.yaml") for end in ("", "-more"))
    assert {name for name in first if first[name] != more[name]} == {"about", "drawn", "cells"}
    name, tree = gpu_plan.table("cuda")
    assert name == "cifar10-lt-16-cuda"
    assert tree["cells"] == first["cells"] + more["cells"]
    assert len(set(tree["cells"])) == 96
