"""The experiments' own arithmetic: agreement of rankings, the subnets that are ranked, and the tables of seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imbnas.cell_graph import is_connected

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")


def test_agreement_is_of_each_seed_and_pairs_are_of_equal_or_other_seeds() -> None:
    import adaptation_statistics as adaptation

    up, down = np.arange(6.0), -np.arange(6.0)
    every = np.arange(6)
    assert list(adaptation.agreement(np.array([up, down]), up)(every)) == pytest.approx([1.0, -1.0])
    both = np.array([up, down])
    assert list(adaptation.paired(both, both, True)(every)) == pytest.approx([1.0, 1.0])
    assert list(adaptation.paired(both, both, False)(every)) == pytest.approx([-1.0])
    assert adaptation.agreement(np.array([up]), up)(np.array([1, 1, 2, 5])) == pytest.approx([1.0]), (
        "ties on both sides are no disorder"
    )


def test_pairs_of_seeds_have_the_jackknifes_values() -> None:
    """Of three seeds the first two agree and the third is their reverse: pairs 1, -1, -1, without a seed -1, -1, 1."""
    import adaptation_statistics as adaptation

    seeds = np.array([np.arange(6.0), np.arange(6.0), -np.arange(6.0)])
    found = adaptation.paired(seeds, seeds, False)(np.arange(6))
    assert list(found) == pytest.approx([3 * (-1 / 3) - 2 * other for other in (-1.0, -1.0, 1.0)])
    assert found.mean() == pytest.approx(-1 / 3), "that of all pairs"


def test_an_interval_holds_the_figure_and_narrows_with_more_subnets() -> None:
    import adaptation_statistics as adaptation

    rng = np.random.default_rng(0)
    width = {}
    for count in (12, 48):
        first = rng.normal(size=count)
        second = first + rng.normal(size=count)
        measure = adaptation.agreement(first[None], second)
        low, high = adaptation.interval(measure, count, 200)
        assert low < float(measure(np.arange(count))[0]) < high
        width[count] = high - low
        assert adaptation.figure(measure, count).endswith("(subnets alone)")
    assert width[48] < width[12]


def test_seeds_that_disagree_widen_the_interval() -> None:
    """Each of three seeds is far from the truth in its own way; the bootstrap of the subnets does not see that."""
    import adaptation_statistics as adaptation

    rng = np.random.default_rng(1)
    truth = rng.normal(size=40)
    alike = np.array([truth + 0.1 * rng.normal(size=40) for _ in range(3)])
    unlike = np.array([truth, truth + rng.normal(size=40), truth + 9.0 * rng.normal(size=40)])
    width = {}
    for name, scores in (("alike", alike), ("unlike", unlike)):
        measure = adaptation.agreement(scores, truth)
        low, high = adaptation.interval(measure, 40, 200)
        rows = np.quantile(adaptation.draws(measure, 40, 200), [0.025, 0.975])
        width[name] = (high - low) / np.ptp(rows)
    assert width["alike"] < 1.6
    assert width["unlike"] > 4.0


def test_the_page_of_rankings_corrects_three_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    import adaptation_page
    import adaptation_statistics as adaptation

    from imbnas.longtail.student import holm

    # The page's two thousand resamples take half a minute.
    draws = adaptation.draws
    monkeypatch.setattr(adaptation, "draws", lambda statistic, count, resamples: draws(statistic, count, 100))

    rng = np.random.default_rng(2)
    truth = rng.normal(size=(3, 12))
    noise = {"none": 0.5, "head": 0.7, "finetune": 1.0, "scratch": 2.0}
    scores = {name: truth.mean(axis=0) + size * rng.normal(size=(3, 12)) for name, size in noise.items()}
    page, mean = adaptation_page._rankings(scores, truth), truth.mean(axis=0)
    base = adaptation.agreement(scores["scratch"], mean)
    plain = [
        float(adaptation.estimate(adaptation.difference(adaptation.agreement(scores[name], mean), base), 12).p())
        for name in ("none", "head", "finetune")
    ]
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
    assert [row[3] for row in rows] == [*(f"{p:.3f}" for p in holm(plain)), ""]


def test_the_subnets_are_different_and_span_the_costs(tmp_path: Path) -> None:
    from adaptation_place import Place
    from adaptation_ranking import spread_subnets

    from imbnas.spaces.registry import make_space

    place = Place(tmp_path, "digits", {})
    paths = spread_subnets(place, 16)
    table = make_space(place.params().space).cost_table((8, 8, 1), 10)
    macs = [table.cost(path).macs for path in paths]
    assert len(set(paths)) == 16
    assert macs == sorted(macs)
    assert macs[-1] > 1.3 * macs[0]


def test_cells_are_drawn_from_those_with_a_way_through(tmp_path: Path) -> None:
    from adaptation_place import Place
    from adaptation_ranking import CELLS, drawn_cells

    cells = drawn_cells(Place(tmp_path, "digits", {"space": CELLS}), 40)
    assert len(set(cells)) == 40
    assert all(map(is_connected, cells))
    assert any(0 in cell for cell in cells), "`none` is not excluded"


def test_the_share_of_a_preset_is_of_the_whole_step() -> None:
    import adaptation_page

    spent = {
        "head": {"wall": 12.0, "processor": 9.0, "own": 5.0},
        "scratch": {"wall": 240.0, "processor": 225.0, "own": 220.0},
    }
    found = {"preset": "p", "largest": 10, "size": 36, "epochs": {"head": 20, "scratch": 600}, "seconds": spent}
    assert "| head | 20 | 12.0 | 0.050 | 9.0 | 0.040 |\n" in adaptation_page._preset(found)
    assert adaptation_page._preset(None) == ""


def test_seconds_are_shares_of_scratch_with_and_without_what_every_step_costs() -> None:
    import adaptation_page

    spent = {
        "head": {"wall": 6.0, "processor": 3.0, "own": 1.0},
        "scratch": {"wall": 44.0, "processor": 22.0, "own": 20.0},
    }
    lines = adaptation_page._seconds(spent).splitlines()
    assert lines[2] == "| head | 6.0 | 3.0 | 0.136 | 1.00 | 0.050 |"


def test_functions_of_cells_are_counted() -> None:
    from distinct_cells import figures

    scored = [(0, 0, 0, 4, 0, 0), (3, 0, 0, 4, 0, 0), (3, 3, 0, 0, 0, 0), (0, 0, 0, 3, 0, 0)]
    assert figures(scored) == {"scored": 4, "functions": 3, "disconnected": 1, "with dead operations": 2}
