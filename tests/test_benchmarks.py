"""The benchmarks' own arithmetic: fixtures, the share that a trie saves, the page of results."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from imbnas.longtail.resampling import Resampled
from imbnas.params.space_options import SpaceParams
from imbnas.spaces.registry import make_space

ROOT = Path(__file__).resolve().parents[1]


def load(name: str) -> ModuleType:
    """Import a script of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / f"benchmarks/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.append(str(ROOT / "benchmarks"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def fixture() -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks/generations.json").read_text())


def test_the_generations_are_fifty_different_paths_of_the_published_space() -> None:
    found = fixture()
    space = make_space(SpaceParams.model_validate(found["space"]))
    assert space.size == 4**20
    saved = {}
    for name in ("early", "converged"):
        paths = [space.check(path) for path in found[name]]
        assert len(set(paths)) == len(paths) == 50
        nodes = sum(len({path[:k] for path in paths}) for k in range(1, 21))
        saved[name] = 1 - nodes / (20 * 50)
    assert 0.15 < saved["early"] < saved["converged"] < 0.8


def test_repeated_seconds_are_those_of_nodes_that_were_run_before() -> None:
    measures = load("measures")
    paths = [(0, 1), (0, 2), (1, 2), (0, 1)]
    # One pass over the paths, in which block 0 takes 3 s, block 1 takes 5 s plus its choice, and the stem 2 s.
    seconds: dict[tuple[int, int], list[float]] = {(-1, 0): [2.0] * 4}
    for path in paths:
        seconds.setdefault((0, path[0]), []).append(3.0)
        seconds.setdefault((1, path[1]), []).append(5.0 + path[1])
    seen: Counter[tuple[int, ...]] = Counter()
    expected = 2.0 * 3
    for path in paths:
        for depth, cost in ((1, 3.0), (2, 5.0 + path[1])):
            expected += cost if seen[path[:depth]] else 0.0
            seen[path[:depth]] += 1
    assert measures.repeated(paths, seconds) == pytest.approx(expected)


def test_the_page_holds_ratios_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = load("report")
    monkeypatch.setattr(report, "PAGE", tmp_path / "speed.md")
    machine = {
        **{"processor": "P", "cores": 2, "threads": 2, "device": "cpu", "versions": {"torch": "1"}},
        **{"clock": "wall", "rounds": 3, "load_at_start": 0.1},
    }
    rates = {"xautodl": 50.0, "nni": 40.0, "imbnas": 100.0, "subnet": 80.0, "imbnas-bf16": 160.0, "subnet-bf16": 200.0}
    speed = {"batch": 64, "images_per_second": rates}
    report.write({"cpu": {"peers": {"machine": machine, "train": speed, "evaluate": {**speed, "batch": 500}}}})
    page = (tmp_path / "speed.md").read_text()
    assert "| imbnas | 100 | 2 | 2.5 | 1.25 |" in page
    assert "| imbnas-bf16 | 160 | 3.2 | 4 | 0.8 |" in page
    assert "training, batch 64" in page
    assert "evaluation, batch 500" in page


def test_the_page_says_how_far_a_step_is_from_its_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = load("report")
    monkeypatch.setattr(report, "PAGE", tmp_path / "speed.md")
    machine = {
        **{"processor": "P", "cores": 16, "threads": 4, "device": "G", "versions": {"torch": "1"}},
        **{"clock": "wall", "rounds": 1, "load_at_start": 0.1},
    }
    case = {
        **{"what": "supernet", "space": "shufflenet", "precision": "tf32", "batch": 96, "milliseconds_a_step": 50.0},
        **{"images_per_second": 7680.0, "share_of_input": 0.021, "speed_up_by_recordings": 2.5},
        **{"allowed_by_arithmetic": 400000.0, "allowed_by_memory": 30720.0},
    }
    scored = {**case, "what": "evaluation", "allowed_by_arithmetic": 15360.0}
    del scored["share_of_input"], scored["speed_up_by_recordings"]
    rates = {"tf32": {"flops": 4e14, "bytes": 3e12}}
    report.write({"cuda": {"throughput": {"machine": machine, "rates": rates, "cases": [case, scored]}}})
    page = (tmp_path / "speed.md").read_text()
    assert "| supernet | shufflenet | tf32 | 96 | 50 | 7,680 | 0.25 | memory | 2.1 % | 2.5 |" in page
    assert "| evaluation | shufflenet | tf32 | 96 | 50 | 7,680 | 0.5 | arithmetic |  |  |" in page
    assert "tf32 400 TFLOP/s and 3,000 GB/s" in page


def test_the_ceiling_counts_each_layer_s_operations_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch import nn

    work = load("ceilings").work
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Flatten(), nn.Linear(8 * 16, 5))
    images = torch.zeros(4, 3, 8, 8)
    operations = 2 * (27 * 8 * 16 + 8 * 16 * 5)
    there = 3 * 64 + 8 * 16 + 2 * 8 * 16 + 8 * 16 + 5
    assert work(model, images, False, 4, operations // 2) == (operations, 4 * there)
    back = 2 * (3 * 64 + 2 * 8 * 16) + 8 * 16 + 8 * 16 + 5
    assert work(model, images, True, 2, operations // 2) == (3 * operations, 2 * (there + back))


def test_a_part_says_what_it_was_measured_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    run = load("run")
    options = argparse.Namespace(peers=["xautodl"], clock="cpu", rounds=6)
    assert run.conditions("trie", options)["rounds"] == 2
    assert run.conditions("workflow", options)["rounds"] == 3
    assert run.conditions("throughput", options) == {**run.conditions("head", options), "clock": "wall"}
    assert set(run.conditions("peers", options)["versions"]) == {"torch", "xautodl"}


def test_every_measurement_has_a_section_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    run, report = load("run"), load("report")
    assert set(report.SECTIONS) == {"peers", "single-path", "throughput", *run.MEASURES, *run.COMMANDS}


def test_the_plain_loop_of_single_path_computes_what_the_space_does() -> None:
    import torch

    plain, single_path = load("single_path_plain"), load("single_path")
    model = plain.SinglePathPlain(10)
    outline = {"channels": [*plain.WIDTHS], "repeats": [*plain.REPEATS], "strides": [*plain.STRIDES]}
    stem = {"channels": plain.STEM, "stride": 1}
    space = make_space(
        SpaceParams.model_validate({"name": "shufflenet", "stem": stem, "stages": outline, "last_channels": plain.LAST})
    )
    assert len(single_path.PATHS[0]) == len(space.choices)
    assert {len(set(choices)) for choices in zip(*single_path.PATHS, strict=True)} == {4}, "a fair step"

    def weights(module: torch.nn.Module) -> Counter[tuple[int, ...]]:
        return Counter(tuple(p.shape) for p in module.parameters() if p.ndim > 1)

    path = single_path.PATHS[1]
    chosen = [candidates[choice] for candidates, choice in zip(model.blocks, path, strict=True)]
    used = torch.nn.ModuleList([model.stem, *chosen, model.last, model.head])
    assert weights(used) == weights(space.subnet_on_meta(path, 10, 3))
    assert model.eval()(torch.zeros(2, 3, 32, 32), path).shape == (2, 10)


def test_ratios_of_the_single_path_loop_are_medians_of_turns() -> None:
    single_path = load("single_path")
    seconds = {"plain": [4.0, 8.0, 6.0], "before": [3.0, 9.0, 3.0], "imbnas": [2.0, 2.0, 3.0]}
    turns = [dict(zip(seconds, values, strict=True)) for values in zip(*seconds.values(), strict=True)]
    found = single_path.figures(turns, 12)
    assert found["images_per_second"] == {"plain": 2.0, "before": 4.0, "imbnas": 6.0}
    assert found["over"] == {"imbnas": {"plain": 2.0, "before": 1.5}}
    assert single_path.table(found) == [["plain", 2.0, "", ""], ["before", 4.0, "", ""], ["imbnas", 6.0, 2.0, 1.5]]


def results(rows: str = "", spread: float = 0.0, **scores: list[float]) -> dict[str, list[Any]]:
    """Return results of searches, on test rows of each seed's own, or shared ones that move a score by `spread`."""
    search = load("long_tailed_search")
    moves = np.random.default_rng(0).normal(0.0, 1.0, 4000)

    def found(score: float, seed: int, name: str) -> Any:
        draws = score + (spread * moves if name != "darts" else 0.0 * moves)
        scores = Resampled({"balanced_accuracy": score}, {"balanced_accuracy": draws})
        return search.Found(scores, rows or str(seed), 10.0)

    return {
        method: [found(score, seed, name) for seed, score in enumerate(scores.get(name, scores["darts"]))]
        for name, method in {**{m: m for m in search.METHODS}, "hlrs": search.HLRS_NAME}.items()
    }


def test_the_page_of_searches_says_what_the_intervals_say() -> None:
    search = load("long_tailed_search")
    # Paired: darts gains 1, 2 and 3 points over each seed of the reversed sampling; mean 2, half-width 4.303 / sqrt(3).
    found = results(
        darts=[0.81, 0.72, 0.93], hlrs=[0.80, 0.74, 0.92], **{"darts, reversed sampling": [0.80, 0.70, 0.90]}
    )
    page = search.table(found, 20.0)
    assert "| darts, reversed sampling | 80.0 ± 24.8 | -2.0 ± 2.5 |" in page
    assert "- reversed sampling: -2.0 ± 2.5 points, no difference is shown (p = 0.223)." in page, "0.0742 times three"
    assert "within ±1 point, is not shown" in page
    found = results(
        darts=[0.81, 0.72, 0.93], **{"darts, reversed sampling": [0.80, 0.70, 0.92]}, hlrs=[0.83, 0.75, 0.95]
    )
    page = search.table(found, 20.0)
    assert "reversed sampling: -1.3 ± 1.4 points, no difference is shown (p = 0.172)." in page
    assert f"{search.HLRS_NAME}: 2.3 ± 1.4 points, it is better (p = 0.020)." in page


def test_a_difference_that_stands_alone_does_not_stand_among_three() -> None:
    search = load("long_tailed_search")
    found = results(darts=[0.81, 0.72, 0.93], **{"darts, reversed sampling": [0.79, 0.695, 0.918]})
    one = search.gain(found, "darts, reversed sampling")
    assert one.p < 0.05 < 3 * one.p
    assert one.excludes_zero
    assert "reversed sampling: -1.9 ± 1.6 points, no difference is shown (p = 0.1" in search.table(found, 20.0)


def test_methods_are_comparable_where_the_interval_is_within_the_margin() -> None:
    search = load("long_tailed_search")
    page = search.table(results(darts=[0.81, 0.72, 0.93], hlrs=[0.811, 0.719, 0.930]), 20.0)
    assert "within ±1 point, is shown (two one-sided tests, p = 0.00" in page


def test_test_rows_that_the_seeds_share_widen_the_intervals() -> None:
    search, scores = load("long_tailed_search"), {"hlrs": [0.83, 0.75, 0.95]}
    own = search.gain(results(darts=[0.81, 0.72, 0.93], **scores), search.HLRS_NAME)
    shared = search.gain(results("all", 0.01, darts=[0.81, 0.72, 0.93], **scores), search.HLRS_NAME)
    assert (own.covers, shared.covers) == ("seeds", "seeds and rows")
    assert shared.p > own.p
    assert "test\nrows that all share" in search.table(results("all", darts=[0.8, 0.7], hlrs=[0.7, 0.7]), 20.0)


def test_every_search_that_is_compared_has_valid_parameters() -> None:
    search = load("long_tailed_search")
    trees = {method: search.parameters(method, 3, 20.0, None).tree() for method in search.METHODS}
    assert len({json.dumps(tree, sort_keys=True) for tree in trees.values()}) == len(trees)
    assert {tree["search"]["method"] for tree in trees.values()} == {"darts", "fixed"}
    regret = load("regret_darts")
    for ratio in regret.RATIOS:
        params = regret.parameters(Path("somewhere"), 1, ratio, 7)
        assert (params.space.name, params.search.darts.epochs, params.imbalance.ratio) == ("nasbench201", 7, ratio)


def test_regret_falls_with_the_budget_and_a_search_costs_about_one_training(tmp_path: Path) -> None:
    regret = load("regret")
    # An accuracy that counts 3x3 convolutions: the best cell has six of them, and is the most expensive one.
    accuracies = {path: sum(choice == 3 for choice in path) / 6 for path in regret.SPACE.enumerate()}
    found = {
        name: np.array([regret.curve(accuracies, method, 60, seed) for seed in range(4)])
        for name, method in regret.METHODS.items()
    }
    assert set(found) == {"random", "evolution", "tpe", "nsga2", "macs", "params"}
    for name, regrets in found.items():
        assert regrets.shape == (4, 60), name
        assert (np.diff(regrets, axis=1) <= 0.0).all(), name
    assert (found["macs"] == 0.0).all()
    assert (found["params"] == 0.0).all()
    assert found["random"][:, 0].mean() > found["random"][:, -1].mean() >= found["evolution"][:, -1].mean()
    assert not (found["random"][0] == found["random"][1]).all(), "seeds differ"
    page = regret.document(
        "cifar10", accuracies, found, {"commit": "c", "seconds": 1.0, "computed": 2.0, "jobs": 2, "processor": "p"}
    )
    assert "| macs | 0.00 ± 0.00 |" in page
    regret.draw(tmp_path / "regret.png", found)
    assert (tmp_path / "regret.png").read_bytes().startswith(b"\x89PNG")
    darts = load("regret_darts")
    # All five operations of an edge cost five times the mean of them; what is fixed is the same for both.
    assert darts.equivalents(200) == pytest.approx(4 * darts.equivalents(50))
    assert 3.5 < darts.equivalents(200) < 5
