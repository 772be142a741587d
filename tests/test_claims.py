"""The rules of the claims about adaptations and searches, and the drivers that apply them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imbnas.longtail.student import Estimate, mean_of_runs

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    monkeypatch.syspath_prepend(ROOT / "tests/truth")


def gain(value: float, error: float = 0.01) -> Estimate:
    return Estimate(np.array(value), np.array(error), np.array(20.0))


def test_all_adaptations_are_valid_and_share_the_supernet_of_other_classes() -> None:
    from ablation_changes import Lengths
    from ablation_scores import Ablation
    from adapted_heads import CLAIMED, Heads

    from imbnas.truth.places import Table

    other = {"dataset": "npz", "root": "cifar100.npz", "share": 0.5}
    table = Table(ROOT / "tables/cifar10-lt-16.yaml", ROOT)
    heads, ablation = (
        Heads(table, "longtail", Lengths(6, 9), other, 30),
        Ablation(table, "longtail", Lengths(6, 9), other),
    )
    for one in (heads, ablation):
        one._files = lambda params: []  # type: ignore[method-assign]
    shared = ablation.folders("other classes", 2)["supernet"]
    folders = {name: heads.folders(name, 2) for name in heads.changes}
    assert {found["supernet"] for found in folders.values()} == {shared}
    assert len({found["adapt"] for found in folders.values()}) == 9
    adapt = {name: heads.params(name, 2).adapt for name in heads.changes}
    assert (adapt[CLAIMED].loss, adapt[CLAIMED].weighting.defer) == ("effective-number", 0.0)
    assert (adapt["head, deferred"].weighting.defer, adapt["head, cross-entropy"].loss) == (0.5, "ce")
    assert adapt["scratch"].scratch.epochs == 30
    assert {one.strategy for one in adapt.values()} == {"head", "finetune", "scratch"}
    assert heads.params(CLAIMED, 2).source.dataset == "npz"


@pytest.mark.parametrize(
    ("ce", "scratch", "p", "said"),
    [
        (0.10, 0.00, 0.9, "**supported**"),
        (0.10, -0.04, 0.9, "**open** (not shown: not worse than scratch by 0.05)"),
        (0.01, 0.00, 0.9, "**open** (not shown: better than head, cross-entropy)"),
        (0.10, -0.10, 0.01, "**refuted** (better than it: scratch)"),
    ],
)
def test_the_best_adaptation_is_better_than_one_rival_and_not_worse_than_any(
    ce: float, scratch: float, p: float, said: str
) -> None:
    from adapted_heads_page import verdict

    free = {"macs": (gain(0.1), 0.01), "synflow": (gain(0.1), 0.2)}
    text = verdict({"head, cross-entropy": (gain(ce), 0.01), "scratch": (gain(scratch), p)}, free, 5, 48)
    assert said in text
    assert "not shown to pay" in text
    assert ("supernets make it" in text) == ("**open**" in said)
    paid = verdict({"head, cross-entropy": (gain(ce), 0.01)}, {"macs": (gain(0.1), 0.01)}, 5, 48)
    assert "It pays" in paid


def test_more_supernets_are_asked_for_only_where_they_would_suffice() -> None:
    """Runs and cells each add their variance: only the first falls with the number of supernets."""
    from adapted_heads_page import enough

    runs = [0.10, -0.10, 0.05, -0.05, 0.0]
    free = enough([mean_of_runs(runs, 0.01**2), mean_of_runs([0.0, 0.001], 0.0)], 5, 48)
    # Their variance is 0.00625: 0.00625 / n + 0.0001 is (0.05 / 1.96)^2 at n = 11.35.
    assert free.endswith("about 12 supernets make it ±0.05.")
    bound = enough([mean_of_runs(runs, 0.05**2)], 5, 48)
    assert "48 cells alone make it ±0.10, however many supernets there are" in bound
    assert "About 369 cells and 20 supernets make it ±0.05" in bound


def test_adapted_heads_ask_for_other_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import adapted_heads
    from tiny_table import write_spec

    spec = write_spec(tmp_path)
    for arguments, said in (
        (["--data", str(tmp_path)], "no CIFAR-100 there, expected cifar100.npz or cifar-100-python"),
        (["--seeds", "1"], "--seeds 1: expected at least 2"),
        (["--condition", "x"], "--condition x: expected one of balanced, longtail"),
    ):
        monkeypatch.setattr(sys, "argv", ["x", str(spec), "--root", str(tmp_path), *arguments])
        assert adapted_heads.main() == 2
        assert said in capsys.readouterr().err
    (tmp_path / "cifar100.npz").write_bytes(b"not read by a plan, nor where there is no truth")
    monkeypatch.setattr(sys, "argv", ["x", str(spec), "--root", str(tmp_path), "--data", str(tmp_path)])
    assert adapted_heads.main() == 2
    assert "tiny.parquet: " in capsys.readouterr().err
    monkeypatch.setattr("ablation_plan.each_training", lambda *a: (60.0, "given"))
    arguments = ["--data", str(tmp_path), "--plan", "--seeds", "2", "--supernet", "2", "--scratch", "4000"]
    monkeypatch.setattr(sys, "argv", ["x", str(spec), "--root", str(tmp_path), *arguments])
    assert adapted_heads.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:9]] == list(adapted_heads.adaptations({}, 4))
    assert all("0 of 2 done" in line for line in lines[:9])
    minutes = {line.partition(":")[0]: float(line.split()[-3]) for line in lines[:9]}
    # The first pays for the supernet that all share, and what trains a backbone takes longer than a head.
    assert minutes["scratch"] > minutes["head, cross-entropy"]
    assert "hours on one thread" in lines[9]


def test_the_page_of_adapted_heads_shows_all_of_them_beside_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json
    from types import SimpleNamespace

    import adaptation_statistics
    import adapted_heads_page as page
    from ablation_changes import Lengths
    from ablation_statistics import Ranked, places_of
    from adapted_heads import CLAIMED, Heads
    from tiny_table import invented

    from imbnas.truth.places import Table
    from imbnas.truth.trained_rows import write_rows
    from imbnas.truth.whole_seeds import whole_of

    rows, rng = invented(seeds=3), np.random.default_rng(0)
    write_rows(tmp_path / "tiny.parquet", tmp_path / "tiny.csv", rows)
    whole = whole_of(rows, "t")
    truth = whole.scores("longtail", "test").mean(axis=0)
    cells = list(range(len(truth)))

    def noisy(spread: float) -> Ranked:
        scores = truth + spread * rng.normal(size=(5, len(truth)))
        return Ranked(scores, places_of(scores, truth), 1.0)

    real = Heads(
        Table(ROOT / "tables/cifar10-lt-16.yaml", ROOT),
        "longtail",
        Lengths(6, 9),
        {"dataset": "npz", "root": "cifar100.npz", "share": 0.5},
        30,
    )
    heads = SimpleNamespace(changes=real.changes, params=real.params, condition="longtail")
    heads.table = SimpleNamespace(name="tiny", beside=lambda suffix: tmp_path / f"tiny{suffix}")
    draws = adaptation_statistics.draws
    monkeypatch.setattr(adaptation_statistics, "draws", lambda statistic, count, resamples: draws(statistic, count, 20))
    monkeypatch.setattr(page, "measured", lambda h, names, *a: {n: noisy(0.0 if n == CLAIMED else 0.2) for n in names})
    monkeypatch.setattr(page, "in_order", lambda table: (whole, cells, cells))
    monkeypatch.setattr(
        page, "Ranking", lambda *a: SimpleNamespace(scores=lambda name, seed: rng.normal(size=len(truth)))
    )
    monkeypatch.setattr(page, "seconds", lambda heads, name, seeds: (3.0, 10.0))
    page.write_heads(tmp_path / "page.md", heads, range(5))  # type: ignore[arg-type]
    table = json.loads((tmp_path / "page.json").read_text())["tables"][0]
    assert [row[0] for row in table["rows"]] == [*real.changes, "macs", "params", "synflow", "jacobian"]
    assert table["rows"][0][1] == "1.00 [1.00, 1.00]"
    assert table["rows"][0][2] == ""
    assert table["rows"][1][6:] == ["3", "10"]
    assert float(table["rows"][1][2].split()[0]) > 0.0, "the claimed one minus a noisier one"
    assert "**supported**" in (tmp_path / "page.md").read_text()


def searched(shifts: dict[str, float], spread: float = 0.002, seeds: int = 12) -> Any:
    """Return searches whose cells differ by the method, each trained three times."""
    from search_claims import claimed
    from seeds_methods import Epochs
    from seeds_page import Measured

    rng = np.random.default_rng(0)
    names = claimed(Epochs(), {"batch_size": 128, "epochs": 24, "optimizer": {"lr": 0.1}})
    found: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for name in names:
        found[name] = []
        for seed in range(seeds):
            cell, true = f"{name} {seed}", 0.3 + shifts.get(name, 0.0) + spread * rng.normal()
            rows += [
                {"architecture": cell, "seed": one, "test": true + 0.002 * rng.normal(), "macs": 1} for one in range(3)
            ]
            found[name].append({"cells": [cell], "seconds": 1.0})
    return Measured(found, rows)


WORSE = {"random cells": -0.05}
ALL_HARM = {f"DARTS, {name} sampling": -0.02 for name in ("class-balanced", "square-root", "reversed")}


@pytest.mark.parametrize(
    ("shifts", "spread", "said"),
    [
        (WORSE, 0.002, ("supported", "refuted", "supported")),
        (
            {**WORSE, **ALL_HARM, "HLRS": 0.03, "FairDARTS, self-supervised": -0.03},
            0.002,
            ("refuted", "supported", "refuted"),
        ),
        ({**WORSE, **ALL_HARM, "DARTS, square-root sampling": 0.0}, 0.002, ("supported", "open", "supported")),
        (WORSE, 0.03, ("open", "open", "open")),
        # Searches that all end with cells like random ones tell nothing of each other.
        ({}, 0.002, ("open", "open", "open")),
    ],
)
def test_searches_are_judged_by_equivalence_and_by_holms_correction(
    shifts: dict[str, float], spread: float, said: tuple[str, str, str]
) -> None:
    from search_claims_page import power, table_of, tells, verdicts, words

    measured = searched(shifts, spread)
    assert tuple(verdicts(measured).values()) == said
    assert ("is not told from random cells" in words(measured)) == (not tells(measured))
    assert f"C3, HLRS is comparable to DARTS: **{said[0]}**" in words(measured)
    rows = [line for line in table_of(measured).splitlines() if line.startswith("| DARTS, ")]
    assert len(rows) == 3
    assert all(line.count(" DARTS |") == 1 for line in rows)
    assert power(measured).count("seeds are enough") == 5


def test_few_seeds_know_their_spread_badly_so_that_more_are_asked_for() -> None:
    """Normal quantiles would give 9 seeds for equivalence at a spread of a point, and 2 at a fifth of it."""
    from search_claims_page import seeds_enough

    assert seeds_enough(0.01, 0.05, 0.9) == 11
    assert seeds_enough(0.002, 0.05, 0.9) == 3
    assert seeds_enough(0.01, 0.025 / 3, 0.8) > seeds_enough(0.01, 0.025, 0.8) > 8, "Holm's level of the first of three"
    rng = np.random.default_rng(0)
    runs = rng.normal(0.01, 0.01, size=(2000, seeds_enough(0.01, 0.025, 0.8)))
    assert np.mean(mean_of_runs(runs).p() < 0.05) > 0.75


def test_the_searches_of_the_claims_are_valid_and_share_those_of_the_seeds() -> None:
    from search_claims import NAME, experiment, sampled
    from seeds_methods import Epochs
    from seeds_search import Searches
    from seeds_table import beside, write_spec

    from imbnas.truth.places import Table

    table = Table(ROOT / "tables/cifar10-lt-16.yaml", ROOT)
    own, first = experiment(table, "longtail", Epochs(), 12, 3).searches, Searches(table, "longtail", Epochs())
    assert own._folder("HLRS", 4) == first._folder("HLRS", 4), "found once for both"
    samplers = {
        own.params(sampled(name), 0).search.darts.sampler.name for name in ("class-balanced", "square-root", "reversed")
    }
    assert samplers == {"class-balanced", "square-root", "reversed"}
    assert first.params("DARTS", 0).search.darts.sampler.name == "instance"
    assert beside(table.file, NAME).name == "cifar10-lt-16-claims.yaml"
    assert beside(table.file).name == "cifar10-lt-16-seeds.yaml"
    assert write_spec.__defaults__ == ("seeds",)


def test_the_plan_of_the_claims_counts_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import search_claims
    import seeds_table
    from tiny_table import write_spec

    spec = write_spec(tmp_path)
    monkeypatch.setattr("seeds_results.each_training", lambda *a: (60.0, "given"))
    arguments = ["x", str(spec), "--root", str(tmp_path), "--seeds", "2", "--plan"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert search_claims.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 + 2
    assert all("0 of 2 searches done" in line for line in lines[:9])
    # Seven searches that descend and three random cells with each of two seeds, and the cell with most MACs.
    assert f"at most {(2 * (7 + 3) + 1) * 3}," in lines[9]
    first = seeds_table.Table(spec, tmp_path)
    seeds_table.prepare(first)
    own = seeds_table.write_spec(first, "longtail", ["3-3-3-3-3-3"], 2, "claims")
    assert own.name == "tiny-claims"
    assert "make search-claims" in own.file.read_text()
    assert [one.name for one in seeds_table.tables_of(first, "longtail")] == ["tiny", "tiny-claims"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--only", "DART"])
    assert search_claims.main() == 2
    assert "--only DART: expected some of DARTS, HLRS" in capsys.readouterr().err


def test_a_part_that_is_drawn_comes_out_the_same_or_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import rerun
    from tiny_table import CELLS, write_spec

    from imbnas.progress import Log
    from imbnas.truth.collecting import collect
    from imbnas.truth.data_rows import prepare
    from imbnas.truth.places import Table
    from imbnas.truth.shards import train_shard
    from imbnas.truth.trained_rows import read_rows, write_rows

    spec = write_spec(tmp_path, cells=CELLS[:1], seeds=1, retrain={"epochs": 1})
    table, log = Table(spec, tmp_path), Log("test", silent=True)
    prepare(table)
    train_shard(table, 0, 0, 1, log)
    collect(table, log)
    arguments = ["x", str(spec), "--data", str(tmp_path), "--work", str(tmp_path / "again"), "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--plan"])
    assert rerun.main() == 0
    planned = capsys.readouterr().out
    assert planned.count(": drawn") == 2
    assert "C2: no figures by the piece yet, `make adapted-heads` makes them" in planned
    assert not (tmp_path / "again").exists()
    file = table.beside(".parquet")
    rows = read_rows(file)
    rows[1]["test"] += 1e-9
    write_rows(file, table.beside(".csv"), rows)
    monkeypatch.setattr(sys, "argv", [*arguments, "--claims", "C1"])
    assert rerun.main() == 1
    found = capsys.readouterr().out
    assert (found.count(": the same"), found.count(": DIFFERS: test (")) == (1, 1)
    monkeypatch.setattr(sys, "argv", [*arguments, "--claims", "C6"])
    assert rerun.main() == 2
    assert "--claims C6: expected some of C1, C2, C3, C8" in capsys.readouterr().err


def test_draws_follow_the_seed_and_figures_are_compared_to_the_last_bit(tmp_path: Path) -> None:
    from rerun import Place, unequal

    places = [Place(tmp_path, tmp_path, tmp_path, tmp_path, seed) for seed in (0, 0, 1)]
    drawn = [place.drawn("C1", range(288), 6) for place in places]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(drawn[0])
    assert len(set(drawn[0])) == 6
    assert unequal([0.1, 0.2], [0.1, 0.2]) == ""
    assert unequal([0.1, 0.2], [0.1, 0.2 + 1e-16]).startswith("0.2, now 0.2000")
    assert len(Place(tmp_path, tmp_path, tmp_path, tmp_path, 0, 2).drawn("C1", range(288), 6)) == 2
    assert unequal(["a"], ["a", "b"]) == "1, now 2"
