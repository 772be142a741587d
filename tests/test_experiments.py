"""The experiments' own arithmetic: agreement of rankings, the subnets that are ranked, and the tables of seconds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

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


def test_the_experiment_on_inheritance_is_resumed_cell_by_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pair digits at a tiny size: lengths are chosen on validation rows, and what is there is not made again."""
    import inheritance
    import inheritance_page
    from adaptation_place import Place

    small = {
        "space": {"stem": {"channels": 4}, "stages": {"channels": [4], "repeats": [1], "strides": [2]}},
        "supernet": {"epochs": 1, "probe_paths": 1},
        "adapt": {"head": {"epochs": 1}},
        "search": {"method": "random", "candidates": 2, "max_macs": None, "calibration": {"rows": 64}},
        "retrain": {"batch_size": 128, "head": {"epochs": 1}},
    }
    lengths = {inheritance.SCRATCH: (1, 2), inheritance.HANDED: (1,), inheritance.JOINT: (1,)}
    monkeypatch.setitem(inheritance.PAIRS, "digits", inheritance.Pair({}, lengths, True))
    made, step = [], Place.step
    monkeypatch.setattr(Place, "step", lambda *a, **k: (made.append(a[1]), step(*a, **k))[1])
    bench = inheritance.bench(tmp_path, "digits", tmp_path, small)
    found = bench.measured(2, 1)
    assert made.count("search") == 2
    trained = 2 * 3 * 3 + (2 + 1 + 1) * 3
    assert made.count("retrain") == trained, "two seeds of three starts and losses, and each length alone"
    made.clear()
    again = inheritance.bench(tmp_path, "digits", tmp_path, small).measured(2, 1)
    assert (made, again) == ([], found)
    for arm in found["arms"]:
        cells = [inheritance.Cell(arm["start"], arm["loss"], epochs, 0, True) for epochs in lengths[arm["start"]]]
        scores = {cell.epochs: bench.scored(cell)["validation"]["final"] for cell in cells}
        assert scores[arm["epochs"]] == max(scores.values())
        assert all("final" in cell["test"] and len(cell["test"]) > 1 for cell in arm["cells"]), "references too"
    from imbnas.training.checkpoint import load_meta

    metas = {
        start: load_meta(bench.place.root / "cells" / inheritance.Cell(start, "cRT", 1, 1).name / "final.safetensors")
        for start in (inheritance.HANDED, inheritance.JOINT)
    }
    assert metas[inheritance.HANDED]["init"]["source"]["shared"] == 10
    source = len(np.load(bench.place.root / "data/source/train/images.npy", mmap_mode="r"))
    assert sum(metas[inheritance.JOINT]["trained_counts"]) == sum(metas[inheritance.HANDED]["counts"]) + source
    page = inheritance_page.page(2, 1, {"digits": found})
    assert "Nothing yet" in page
    assert page.count("| handed minus scratch |") == 3


def test_defaults_follow_the_rule_on_inheritance_alone() -> None:
    import inheritance
    import inheritance_page

    rng = np.random.default_rng(3)

    def pair(shared: bool, **gains: float) -> dict[str, Any]:
        arms = []
        for start in (inheritance.SCRATCH, inheritance.HANDED, *([inheritance.JOINT] if shared else [])):
            for loss in inheritance.LOSSES:
                gain = gains.get("loss", 0.0) * (loss == "cRT") + gains.get(start.split(",")[-1].split()[0], 0.0)
                cells = [{"test": {"final": 0.4 + gain + 1e-4 * rng.normal()}} for _ in range(5)]
                arms.append({"start": start, "loss": loss, "cells": cells})
        return {"arms": arms}

    better = {"loss": 0.02, "handed": 0.03}
    three = {"a": pair(True, **better), "b": pair(True, **better), "c": pair(False, **better)}
    assert inheritance_page.decision(three) == ("cRT", "handed")
    assert inheritance_page.decision({**three, "c": pair(False, loss=0.02)})[1] == "scratch", "not on every pair"
    assert inheritance_page.decision({**three, "c": pair(False, handed=0.03)})[0] == "deferred re-weighting"
    assert inheritance_page.decision({**three, "a": pair(True, **better, source=0.05)})[1] == "scratch", "the rival won"


def test_the_page_of_a_truth_table_pairs_supernets_and_counts_regret(tmp_path: Path) -> None:
    from ranking_page import table_of, top

    rng = np.random.default_rng(7)
    truth = np.linspace(0.3, 0.4, 20)
    close = truth + 0.001 * rng.normal(size=(5, 20))
    scores = {
        "none": truth + 0.2 * rng.normal(size=(5, 20)),
        "head": close,
        "scratch": truth + 0.05 * rng.normal(size=(5, 20)),
        "macs": -truth[None],
    }
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in table_of(scores, truth).splitlines()[2:]}
    assert float(rows["head"][1].split()[0]) > 0.9
    assert float(rows["macs"][1].split()[0]) == -1.0
    assert rows["scratch"][2:4] == ["", ""]
    assert rows["macs"][2:4] == ["", ""], "what has no seed is not paired"
    assert float(rows["head"][2].split()[0]) > 0.2
    assert float(rows["head"][3]) < 0.05 < float(rows["none"][3]) * 20
    assert [rows[name][-1] for name in ("head", "scratch", "macs")] == [*["supernets and cells |"] * 2, "cells |"]
    # The most expensive cell is the worst: 10 points; the best of its five is at the fifth place from below.
    assert float(rows["macs"][4].split()[0]) == 10.0
    every = np.arange(20)
    assert top(-truth[None], truth, 5)(every) == pytest.approx([100 * (truth[19] - truth[4])])
    assert top(truth[None], truth, 1)(every) == pytest.approx([0.0])


def test_a_ranking_computes_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    sys.path.append(str(ROOT / "tests/truth"))
    from ranking import Ranking
    from tiny_table import write_spec

    from imbnas.truth.places import Table

    table = Table(write_spec(tmp_path), tmp_path)
    epochs = {"supernet": 1, "head": 1, "finetune": 1, "scratch": 1}
    asked: list[tuple[str, int]] = []

    def scored(self: Ranking, name: str, seed: int) -> list[float]:
        asked.append((name, seed))
        return [0.1, 0.2, 0.3]

    monkeypatch.setattr(Ranking, "_strategy", scored)
    first = Ranking(table, "longtail", epochs)
    assert first.scores("head", 0).tolist() == [0.1, 0.2, 0.3]
    again = Ranking(table, "longtail", epochs)
    again.scores("head", 0)
    again.scores("head", 1)
    next(again.root.glob("head-0.json")).write_text("{}")
    again.scores("head", 0)
    assert asked == [("head", 0), ("head", 1), ("head", 0)]
    assert Ranking(table, "longtail", {**epochs, "head": 2}).root != again.root
    params = again.params(3, "finetune")
    assert (params.seed, params.adapt.strategy, params.adapt.finetune.optimizer.lr) == (3, "finetune", 0.02)
    assert params.imbalance.ratio == 4.0


def test_the_ranking_page_knows_the_noise_ceiling(tmp_path: Path) -> None:

    sys.path.append(str(ROOT / "tests/truth"))
    from ranking_page import write_ranking
    from tiny_table import invented, write_spec

    from imbnas.truth.places import Table
    from imbnas.truth.trained_rows import write_rows

    rows = invented(seeds=2)
    cells = list(dict.fromkeys(row["architecture"] for row in rows))
    table = Table(write_spec(tmp_path, cells=cells), tmp_path)
    epochs = {"supernet": 1, "head": 2, "finetune": 3, "scratch": 4}
    scores = {name: np.tile(np.arange(12.0), (2, 1)) for name in ("none", "head", "finetune", "scratch")}
    for seeds, told in ((2, "the true means would have tau 0."), (1, "Noise ceiling: unknown")):
        kept = [row for row in rows if row["seed"] < seeds]
        write_rows(table.beside(".parquet"), table.beside(".csv"), kept)
        write_ranking(tmp_path / "page.md", table, "longtail", scores, epochs)
        text = (tmp_path / "page.md").read_text()
        assert told in text
        assert "12 cells of `tiny.parquet`" in text
        assert "| trained alone, balanced |" in text


def test_the_rule_on_multipliers_looks_at_each_step_and_at_the_ends() -> None:
    import approximation

    # Each mean of two seeds has a standard error of .01, a difference of two of them sqrt(2) times that.
    columns = [[0.79, 0.81], [0.69, 0.71], [0.71, 0.73]]
    found = approximation.rises(columns)
    assert [round(rise, 6) for rise, _ in found] == [-0.1, 0.02, -0.08]
    assert [round(error, 6) for _, error in found] == [round(2**0.5 * 0.01, 6)] * 3
    assert "1 rise(s) by more" in approximation.verdict(columns)
    assert "does not rise" in approximation.verdict([[0.79, 0.81], [0.69, 0.71], [0.70, 0.72]])
    # Each step within one standard error, and all of them together beyond it.
    assert "1 rise(s)" in approximation.verdict([[0.69, 0.71], [0.70, 0.72], [0.71, 0.73]])


def test_generated_heads_are_run_once_and_judged_by_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny features: what is kept is not run again, and only what beats both rivals on all datasets is recommended."""

    import latent_diffusion as experiment
    from latent_diffusion_page import Measured, compared, recommended

    from imbnas.params.synthesis_options import DiffusionParams

    rng = np.random.default_rng(0)
    counts = np.array([60, 20, 8])
    labels, truth = np.repeat(np.arange(3), counts), np.repeat(np.arange(3), 40)
    means = 2.0 * np.eye(3, 4)
    arrays = {
        "train_features": (means[labels] + rng.normal(size=(88, 4))).astype(np.float32),
        "train_labels": labels,
        "test_features": (means[truth] + rng.normal(size=(120, 4))).astype(np.float32),
        "test_labels": truth,
        "weight": means.astype(np.float32),
        "bias": np.log(counts).astype(np.float32),
        "counts": counts,
    }
    for name in experiment.FILES:
        np.savez(tmp_path / f"{name}.npz", **arrays)
    monkeypatch.setattr(experiment, "STEPS", 4)
    monkeypatch.setattr(experiment.latent_diffusion_page, "RESAMPLES", 40)
    monkeypatch.setattr(experiment, "DIFFUSION", DiffusionParams(epochs=1, timesteps=2))
    page, work = tmp_path / "page.md", tmp_path / "work"
    arguments = ["x", "--data", str(tmp_path), "--output", str(page), "--work", str(work), "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert experiment.main() == 0
    text, table = page.read_text(), page.with_suffix(".csv").read_text()
    assert len(table.splitlines()) == 1 + 2 * (4 + 2 * (len(experiment.METHODS) - 4))
    monkeypatch.setattr(experiment.Bench, "logits", lambda *a: pytest.fail("a run that is kept is made again"))
    assert experiment.main() == 0
    assert (page.read_text(), page.with_suffix(".csv").read_text()) == (text, table)

    def runs(right: float) -> list[tuple[np.ndarray, float]]:
        made = []
        for seed in range(5):
            wrong = np.random.default_rng(seed).random(120) > right
            made.append((np.where(wrong, (truth + 1) % 3, truth), 1.0))
        return made

    given = {"balanced softmax": runs(0.5), "logit adjustment": runs(0.5)[:1], "good": runs(0.9), "same": runs(0.5)}
    scored = Measured(truth, counts, given).resampled()
    one = {rival: compared(scored, ["good", "same"], rival) for rival in ("balanced softmax", "logit adjustment")}
    assert one["balanced softmax"]["same"].value == 0.0
    assert recommended([one, one], ["good", "same"]) == ["good"]
    other = {**one, "logit adjustment": {**one["logit adjustment"], "good": one["balanced softmax"]["same"]}}
    assert recommended([one, other], ["good", "same"]) == [], "not on every dataset"


@pytest.mark.parametrize(
    ("shifts", "said"),
    [
        ({"cells": 5.0, "adapters": 2.0}, "Implanted cells are recommended."),
        ({"cells": 2.0, "adapters": 5.0}, "Adapters are recommended in place of cells."),
        ({"cells": 5.0, "adapters": 5.0}, "Finetuning is named first"),
        ({"cells": -5.0, "adapters": -7.0}, "Finetuning is named first"),
    ],
)
def test_the_page_of_implants_says_what_its_rule_says(shifts: dict[str, float], said: str) -> None:
    import implants

    rng = np.random.default_rng(0)
    noise = {arm: rng.normal(scale=0.2, size=5) for arm in implants.ARMS}
    values = {arm: (80.0 + shifts.get(arm, 0.0) + noise[arm]) / 100.0 for arm in implants.ARMS}
    cells = {
        arm: [
            {"test": {"final": value, **({"random-1": 0.5} if arm == implants.CELLS else {})}, "params": 900.0 + seed}
            | {"seconds": 1.0, "processor": "one"}
            for seed, value in enumerate(values[arm].tolist())
        ]
        for arm in implants.ARMS
    }
    content = implants.page(cells, 272, 40, 24)
    assert said in content
    assert f"| cells | {100.0 * values['cells'].mean():.1f} | 902 | 1 |" in content
    assert "| random cells | 50.0 | | |" in content
    assert "both for 64 epochs" in " ".join(content.split())


def test_searches_seed_by_seed_are_resumed_and_share_rows_with_the_first_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rehearsal on digits: a killed run goes on, cells of the first table are not trained, the page has all rows."""

    sys.path.append(str(ROOT / "tests/truth"))
    import seeds_methods
    import seeds_results
    import seeds_search
    import seeds_table
    import shared_steps
    from tiny_table import write_spec

    from imbnas.truth import shards
    from imbnas.truth.trained_rows import read_rows

    approximate = "ApproxDARTS, truncated-1"
    kept = ("macs", "single-stage", approximate, "random cells")
    every = seeds_methods.methods
    monkeypatch.setattr(seeds_search, "methods", lambda *a: {name: every(*a)[name] for name in kept})
    monkeypatch.setattr(seeds_search, "DRAWS", 1)
    # The cell with the most MACs is in the first table, trained with its first seed.
    spec = write_spec(tmp_path, cells=["3-3-3-3-3-3"], seeds=1, retrain={"epochs": 1})
    first = seeds_table.Table(spec, tmp_path)
    seeds_table.prepare(first)
    seeds_table.train_shard(first, 0, 0, 1, seeds_table.Log("test", silent=True))
    steps: list[str] = []
    trained: list[tuple[int, str]] = []
    run_step, train = shared_steps.run_step, shards.trained

    def counted(step: str, *a: Any, **k: Any) -> int:
        steps.append(step)
        return run_step(step, *a, **k)

    def seen(records: Any, cell: Any, *a: Any, **k: Any) -> dict[str, Any]:
        if len(trained) == 1:
            trained.append((-1, "killed"))
            raise KeyboardInterrupt
        trained.append((cell.seed, "-".join(map(str, cell.architecture))))
        return train(records, cell, *a, **k)

    monkeypatch.setattr(shared_steps, "run_step", counted)
    monkeypatch.setattr(shards, "trained", seen)
    page = tmp_path / "page.md"
    arguments = ["x", str(spec), "--root", str(tmp_path), "--seeds", "2", "--trainings", "2", "--search", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(page)])
    assert seeds_results.main() == 143
    assert (steps.count("search"), steps.count("retrain")) == (2 * 3, 2), "each search once, the mixtures' own networks"
    steps.clear()
    assert seeds_results.main() == 0
    assert steps == ["retrain"] * 2, "under the multiplier, and nothing of what was there"
    made = [one for one in trained if one[0] >= 0]
    assert len(made) == len(set(made)), "nothing is trained twice"
    assert (0, "3-3-3-3-3-3") not in made, "a row of the first table"
    rows = read_rows(tmp_path / "tables/tiny-seeds.parquet")
    assert {(row["seed"], row["architecture"]) for row in rows} == {*made, (0, "3-3-3-3-3-3")}
    text = page.read_text()
    main, under = text.split("## Cells trained under")
    assert [line.split(" | ")[0][2:] for line in main.splitlines() if line.startswith("| ")] == ["search", *kept]
    assert under.count(f"| {approximate} |") == 1
    steps.clear()
    assert seeds_results.main() == 0
    assert (steps, [one for one in trained if one[0] >= 0], page.read_text()) == ([], made, text)
    monkeypatch.setattr(sys, "argv", [*arguments, "--plan"])
    assert seeds_results.main() == 0


def test_trainings_of_cells_that_two_methods_share_add_no_noise_to_their_difference() -> None:
    import seeds_page

    rng = np.random.default_rng(0)
    true = {"a": 0.40, "b": 0.42, "c": 0.30, "d": 0.31, "e": 0.29, "m": 0.35}
    rows = [
        {"architecture": cell, "seed": seed, "test": score + 0.002 * rng.normal(), "macs": 1000}
        for cell, score in true.items()
        for seed in range(3)
    ]

    def searches(*cells: str) -> list[dict[str, Any]]:
        return [{"cells": [cell], "seconds": 1.0} for cell in cells]

    found = {
        "good": searches("a", "b", "a"),
        "same": searches("m", "m", "m"),
        "network": [{"cells": [], "test": 0.5 + 0.01 * k, "energy": 2.0} for k in range(3)],
        "macs": searches("m", "m", "m"),
        "random cells": searches("c", "d", "e"),
    }
    measured = seeds_page.Measured(found, rows)
    same = measured.gain("same", "macs")
    assert (float(same.value), float(same.error), float(same.p())) == (0.0, 0.0, 1.0)
    # One cell in all searches: no spread over seeds, but the noise of its own three trainings.
    own = measured.mean("macs", "test")
    assert float(own.error) ** 2 == pytest.approx(measured.variance("test") / 3)
    assert measured.weights("good") == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert measured.values("network", "test").tolist() == pytest.approx([0.5, 0.51, 0.52])
    assert measured.energy("network") == 2.0
    assert measured.energy("good") == pytest.approx(1000 * 4.6 / 1000)
    said = seeds_page.verdict(measured)
    assert "Better than random cells: good, same, network, macs." in said
    assert "Recommended at this size, since better than both: good, network." in said


def test_every_search_of_the_seeds_page_has_valid_parameters() -> None:
    from seeds_methods import Epochs
    from seeds_search import Searches

    from imbnas.truth.places import Table

    searches = Searches(Table(ROOT / "tables/cifar10-lt-16.yaml", ROOT), "longtail", Epochs())
    seen = {name: searches.params(name, 3) for name in searches.methods if name != "random cells"}
    assert len(seen) == 11
    assert {params.seed for params in seen.values()} == {3}
    assert seen["HLRS"].search.darts.branches == "bilateral"
    assert seen["FairDARTS, self-supervised"].search.darts.blind
    assert seen["ZO-DARTS+"].search.darts.order == "zeroth"
    assert seen["single-stage"].search.darts.epochs == 48
    evolution = seen["IMB-NAS' evolution"]
    assert seen["DARTS on the adapted head"].view("supernet") == evolution.view("supernet"), "one supernet for both"
    assert searches._folder("DARTS", 0) != searches._folder("HLRS", 0)


@pytest.mark.parametrize(
    ("trend", "skips", "said"),
    [
        (1.0, 0.0, "DARTS' gap is shown. That it grows with edge entropy is shown. That the splits differ in skip "),
        (
            -1.0,
            0.3,
            "DARTS' gap is shown. That it grows with edge entropy is not shown. That the splits differ in skip ",
        ),
    ],
)
def test_the_page_of_gaps_says_what_its_rule_says(trend: float, skips: float, said: str) -> None:
    import gap as gaps

    rng = np.random.default_rng(0)
    cells = {
        arm: [
            {"continuous": 0.8, "decoded": 0.5, "entropy": 0.9 - place / 20 + noise / 100, "zeros": 0.1}
            | {"gap": 0.3 - trend * place / 20 + trend * noise / 100, "processor": "one"}
            | {"skips": 0.4 + (skips + noise / 100) * (arm == gaps.REDRAWN)}
            for noise in rng.normal(size=5)
        ]
        for place, arm in enumerate(gaps.ARMS)
    }
    content = gaps.page(cells, {"commit": "c", "seeds": 5, "rows": 200, "epochs": 40, "train": 200, **gaps.PRUNING})
    assert said + ("connections is shown." if skips else "connections is not shown.") in content
    own = 100.0 * np.array([one["gap"] for one in cells[gaps.DARTS]])
    assert f"| DARTS, first order | 80.0 | 50.0 | {own.mean():.1f} [" in content
    assert content.count("| 0.10 [0.10, 0.10] |") == len(gaps.ARMS)


def test_the_correlation_of_gap_and_entropy_has_the_jackknifes_error() -> None:
    import gap as gaps

    found = gaps.jackknifed(lambda seeds: float(np.mean(seeds**2)), 4)
    # Of a mean the pseudo-values are the values themselves.
    assert (float(found.value), float(found.error)) == (3.5, pytest.approx(np.std([0, 1, 4, 9], ddof=1) / 2))
    cells = {arm: [{"gap": gap, "entropy": gap**3} for gap in own] for arm, own in (("a", [1, 2, 5]), ("b", [3, 4, 6]))}
    assert float(gaps.correlation(cells, ["a", "b"]).value) == pytest.approx(1.0)
    assert float(gaps.correlation({"a": [{"gap": 1.0, "entropy": 1.0}] * 3}, ["a"]).value) == 0.0


def test_every_search_of_the_gaps_page_is_valid_and_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import adaptation_place
    import gap as gaps

    monkeypatch.setattr(adaptation_place.Place, "prepare", lambda self: None)
    bench = gaps.Bench(tmp_path)
    arms = {arm: bench.params(arm, 3).search.darts for arm in gaps.ARMS}
    assert arms["ZO-DARTS+"].order == "zeroth"
    assert [arm for arm, darts in arms.items() if darts.outcome == "mixture"] == [gaps.FIXED, gaps.REDRAWN]
    assert (arms[gaps.ONE_LEVEL].optimization, arms[gaps.ONE_LEVEL].pruning.keep) == ("one-level", 6)
    assert {darts.relaxation for darts in arms.values()} == {"softmax", "sigmoid", "sparsemax"}
    row = {"alpha_cell": [0.0, 2.0, 0.0, 0.0, 0.0] * 6, "temperature": 1.0}
    assert (gaps.operation_weights("sparsemax", row) == 0.0).mean() == pytest.approx(0.8)
    assert (gaps.operation_weights("softmax", row) > 0.0).all()
    row = {"alpha_cell": [0.0] * 24, "kept_cell": [False] * 18 + [True] * 6}
    assert (gaps.operation_weights("sigmoid", row) == 0.0).mean() == 0.75
    assert (gaps.operation_weights("sigmoid", {**row, "kept_cell": None}) == 0.5).all()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("gap", ["--seeds", "2"], "--seeds 2: expected at least 3"),
        ("implants", ["--seeds", "1"], "--seeds 1: expected at least 2"),
        ("inheritance", ["--seeds", "1"], "--seeds 1: expected at least 2"),
        ("inheritance", ["--tuning", "6"], "--tuning 6: expected from 1 to 5"),
        ("approximation", ["--seeds", "1"], "--seeds 1: expected at least 2"),
        ("ranking", ["--seeds", "0"], "--seeds 0: expected at least 1"),
        ("ranking", ["--condition", "x"], "--condition x: expected one of balanced, longtail"),
        ("handmade", ["--seeds", "1"], "--seeds 1: expected at least 2"),
        ("wins", ["--finalists", "0"], "--finalists 0: expected at least 1"),
        ("seeds_results", ["--trainings", "1"], "--trainings 1: expected at least 2"),
        ("seeds_results", ["--head", "0"], "--head 0: expected at least 1 epoch"),
    ],
)
def test_options_are_refused_in_a_line_before_any_work(
    name: str, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    experiment = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    assert experiment.main() == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
