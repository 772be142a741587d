"""The experiments' own arithmetic: agreement of rankings, and the table of seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")


def test_agreement_is_the_mean_over_seeds_and_pairs_are_of_equal_or_other_seeds() -> None:
    import adaptation

    up, down = np.arange(6.0), -np.arange(6.0)
    every = np.arange(6)
    assert adaptation.agreement(np.array([up, up]), up)(every) == pytest.approx(1.0)
    assert adaptation.agreement(np.array([up, down]), up)(every) == pytest.approx(0.0)
    assert adaptation.paired(np.array([up, down]), np.array([up, down]), True)(every) == pytest.approx(1.0)
    assert adaptation.paired(np.array([up, down]), np.array([up, down]), False)(every) == pytest.approx(-1.0)
    assert adaptation.agreement(np.array([up]), up)(np.array([1, 1, 2, 5])) == pytest.approx(1.0), (
        "ties on both sides are no disorder"
    )


def test_an_interval_holds_the_figure_and_narrows_with_more_subnets() -> None:
    import adaptation

    rng = np.random.default_rng(0)
    width = {}
    for count in (12, 48):
        first = rng.normal(size=count)
        second = first + rng.normal(size=count)
        measure = adaptation.agreement(first[None], second)
        low, high = adaptation.interval(measure, count, 200)
        assert low < measure(np.arange(count)) < high
        width[count] = high - low
    assert width[48] < width[12]


def test_the_subnets_are_different_and_span_the_costs(tmp_path: Path) -> None:
    import adaptation

    from imbnas.spaces.registry import make_space

    place = adaptation.Place(tmp_path, {})
    paths = adaptation.subnets(place, 16)
    table = make_space(place.params().space).cost_table((8, 8, 1), 10)
    macs = [table.cost(path).macs for path in paths]
    assert len(set(paths)) == 16
    assert macs == sorted(macs)
    assert macs[-1] > 1.3 * macs[0]


def test_seconds_are_shares_of_scratch_with_and_without_what_every_step_costs() -> None:
    import adaptation_page

    spent = {
        "head": {"wall": 6.0, "processor": 3.0, "own": 1.0},
        "scratch": {"wall": 44.0, "processor": 22.0, "own": 20.0},
    }
    lines = adaptation_page._seconds(spent).splitlines()
    assert lines[2] == "| head | 6.0 | 3.0 | 0.136 | 1.00 | 0.050 |"
