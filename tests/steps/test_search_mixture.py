"""The single-stage protocol: a mixture that is searched, frozen, handed on and used, and never decoded or retrained."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_chain
import torch
from torch import Tensor

from imbnas.cell_graph import live_cell
from imbnas.differentiable.descent import Descent
from imbnas.differentiable.relaxation import zero_one_loss
from imbnas.errors import UserError
from imbnas.export import export
from imbnas.params.config import parse
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.saved import load_subnet
from imbnas.spaces.cost import count
from imbnas.steps import search_mixture
from imbnas.steps.recalibration import calibration_rows
from imbnas.steps.rows import make_store, read_tail
from imbnas.steps.workbench import TrainingStep
from imbnas.training.batchnorm import averaged, batchnorms
from imbnas.training.checkpoint import load_weights, save_weights
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import Batches
from imbnas.training.state import ResumeState

HANDED, FINAL = "models/handed.safetensors", "models/final.safetensors"
CHAIN: dict[str, Any] = {
    **tiny_chain.CELLS,
    "retrain__init": "handed",
    "retrain__finetune": {"epochs": 0},
}
SEARCH: dict[str, Any] = {
    "outcome": "mixture",
    "split": "redrawn",
    "share": 0.8,
    "epochs": 4,
    "batch_size": 70,
    "architecture": {"lr": 0.3},
}


# With a divergence below log 2 always the architecture settles after two epochs, ahead of its time.
SETTLED: dict[str, Any] = {"epochs": 6, "stability": {"divergence": 1.0, "patience": 1}}


@pytest.fixture(scope="module")
def undisturbed(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], tuple[Path, Sequence[int]]]:
    """Return a function that searches once: where, and how many rows the weights saw in each step."""

    @cache
    def search(settled: bool) -> tuple[Path, Sequence[int]]:
        root = tiny_chain.copy(cells, tmp_path_factory.mktemp("undisturbed") / "project")
        lengths: list[int] = []
        step = Descent.step

        def counted(self: Descent, train: Any, *rest: Any, **named: Any) -> None:
            lengths.append(sum(len(draw.labels) for draw in train))
            step(self, train, *rest, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Descent, "step", counted)
            assert searched(root, **(SETTLED if settled else {})) == 0
        return root, tuple(lengths)

    return search


@pytest.fixture(scope="module")
def finished(
    undisturbed: Callable[[bool], tuple[Path, Sequence[int]]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a project that has run to the end."""
    root = tiny_chain.copy(undisturbed(False)[0], tmp_path_factory.mktemp("finished") / "project")
    assert searched(root, "retrain", "evaluate") == 0
    return root


def searched(root: Path, *steps: str, **options: Any) -> int:
    return tiny_chain.run(root, *(steps or ("search",)), **{**CHAIN, "search__darts": {**SEARCH, **options}})


def chosen(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "results/architecture.json").read_text())["chosen"]
    return found


def logits_of_the_search(root: Path, monkeypatch: pytest.MonkeyPatch, images: Tensor, **options: Any) -> Tensor:
    """Search anew and return the logits of the search network itself, as it is judged, before it is handed on."""
    found: list[Tensor] = []
    make = search_mixture.make_mixture

    def watched(step: TrainingStep, view: Any, learner: Any, relaxed: Any) -> Any:
        mixture = make(step, view, learner, relaxed)
        layers = batchnorms(learner)
        for layer in layers:
            layer.track_running_stats = True
        learner.train()
        calibration = view.search.calibration
        rows, runtime, augment = calibration_rows(step, calibration), step.runtime, step.augment(None)
        with torch.no_grad():
            for batch, _ in averaged(learner, Batches(step.store(rows), calibration.batch_size)):
                learner(runtime.lay_out(augment(batch, None)), relaxed)
            found.append(learner.eval()(runtime.lay_out(augment(images, None)), relaxed))
        return mixture

    monkeypatch.setattr("imbnas.steps.search_darts.make_mixture", watched)
    assert searched(root, "search", "retrain", **options) == 0
    return found[0]


def raw_images(root: Path) -> Tensor:
    tail, _ = read_tail(Context("search", root, Log("test")))
    runtime = Runtime(parse(tiny_chain.changed(**CHAIN), "test").view("search").runtime)  # type: ignore[attr-defined]
    images, _ = next(iter(make_store(tail, runtime, Context("search", root, Log("test"))).ordered(32)))
    return images


def test_the_chain_ends_in_the_network_that_was_searched(finished: Path) -> None:
    found, table = chosen(finished), pd.read_parquet(finished / "results/search.parquet")
    # Two of four epochs: after them the architecture stands still, and only the weights learn.
    alphas = np.stack(table["alpha_cell"].to_list())
    assert not np.array_equal(alphas[0], alphas[1])
    assert (alphas[1:] == alphas[1]).all()
    assert table["search_loss"].notna().tolist() == [True, True, False, False]
    assert table["architecture_rate"].tolist() == [0.3, 0.3, 0.0, 0.0]
    assert (table["rate"].diff().iloc[1:] < 0).all(), "the weights' schedule goes on"
    weights = torch.tensor(alphas[-1].reshape(6, 5)).float().softmax(dim=1)
    assert torch.allclose(torch.tensor(found["mixture"]["weights"]), weights, atol=1e-6)
    state, meta = load_weights(finished / FINAL)
    handed, before = load_weights(finished / HANDED)
    assert state.keys() == handed.keys()
    assert all(torch.equal(state[name], handed[name]) for name in state), "nothing is trained again"
    assert meta["mixture"] == before["mixture"] == found["mixture"]["weights"]
    assert meta["recipe"]["outcome"] == "mixture"
    cost = count(load_subnet(finished / FINAL).model, (8, 8, 1))
    assert (found["macs"], found["params"]) == (meta["macs"], meta["params"]) == (cost.macs, cost.params)
    assert found["macs"] > table["macs"].iloc[-1], "all operations count, not those of the decoded cell"
    details = json.loads((finished / "results/details.json").read_text())
    assert details["networks"]["final"]["blocks"][0].startswith("edge 0 -> 1: 0.")
    assert details["mixture"]["acting"] == found["mixture"]["acting"] == 24
    assert list(details["networks"]) == ["final"]
    assert "single-stage" in (finished / "results/model-card.md").read_text()


@pytest.mark.parametrize("zeros", [False, True], ids=["all", "pruned"])
def test_logits_are_the_same_before_hand_on_after_it_and_exported(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zeros: bool
) -> None:
    """Operations that weigh exactly 0, and edges that lead nowhere, are left out without loss."""
    root, judged = tiny_chain.copy(cells, tmp_path), Descent.judged

    def sparse(self: Descent, epoch: int) -> Any:
        relaxed = judged(self, epoch)
        weights = relaxed.operations["cell"].clone()
        weights[0, 3] = weights[1, 1:] = weights[3, 2] = 0.0
        # Nothing leaves node 2, so that what enters it does not act.
        weights[5, 1:] = 0.0
        return type(relaxed)({"cell": weights})

    if zeros:
        monkeypatch.setattr(Descent, "judged", sparse)
    images = raw_images(root)
    before = logits_of_the_search(root, monkeypatch, images)
    network = load_subnet(root / FINAL)
    with torch.no_grad():
        after = network.model.to(memory_format=torch.channels_last)(  # type: ignore[call-overload]
            network.preprocess()(images).contiguous(memory_format=torch.channels_last)
        )
        exported = torch.export.load(export(root / FINAL).path).module()(images)
    assert before.std() > 1e-2, "logits that are all alike would make this test empty"
    assert (before - after).abs().max() < 1e-5
    assert (before - exported).abs().max() < 1e-5
    found, names = chosen(root)["mixture"], set(load_weights(root / FINAL)[0])
    assert found["zeros"] == ((1 + 4 + 1 + 4) / 30 if zeros else 0.0)
    # Of 24: one on edge 0, all of edges 1, 2 and 5, one on edge 3.
    assert found["acting"] == (24 - 1 - 4 - 4 - 4 - 1 if zeros else 24)
    assert ("blocks.0.edges.0.3.conv.weight" in names) is not zeros
    assert ("blocks.0.edges.2.3.conv.weight" in names) is not zeros
    assert "blocks.0.edges.0.2.conv.weight" in names


@pytest.mark.parametrize("at", ["before", "after", "settled"])
def test_a_search_killed_about_the_freeze_ends_with_the_same_bytes(
    cells: Path,
    undisturbed: Callable[[bool], tuple[Path, Sequence[int]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    options = SETTLED if at == "settled" else {}
    whole, lengths = undisturbed(at == "settled")
    cut, tick = tiny_chain.copy(cells, tmp_path / "cut"), ResumeState.tick
    table = pd.read_parquet(whole / "results/search.parquet")
    frozen = int(table["search_loss"].notna().sum())
    assert frozen == 2
    rows = pd.read_parquet(whole / "data/longtail.parquet")["split"].eq("train").sum()
    first = next(place for place, length in enumerate(lengths, 1) if length < SEARCH["batch_size"])
    assert rows * 0.75 < sum(lengths[:first]) < rows * 0.85, "before the freeze the weights see their share"
    left = lengths[frozen * first :]
    assert sum(left) == rows * (len(table) - frozen), "and all rows after it"
    ticks, last = 0, {"before": frozen * first - 1, "after": frozen * first + 1, "settled": frozen * first}[at]

    def interrupted(self: ResumeState, state: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == last:
            self._note(signal.SIGTERM, None)
        tick(self, state)

    monkeypatch.setattr(ResumeState, "tick", interrupted)
    assert searched(cut, **options) != 0
    assert searched(cut, **options) == 0
    for name in ("results/search.parquet", "results/architecture.json", HANDED):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_a_head_is_put_on_a_mixture(finished: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(finished, tmp_path)
    head = {"retrain__head": {"name": "tau-norm", "tau": 1.0}, "retrain__loss": "ce"}
    assert tiny_chain.run(root, "retrain", **{**CHAIN, "search__darts": SEARCH, **head}) == 0
    (state, meta), (before, _) = load_weights(root / FINAL), load_weights(finished / FINAL)
    assert [name for name in state if not torch.equal(state[name], before[name])] == ["head.bias", "head.weight"]
    assert state["head.weight"].norm(dim=1).allclose(torch.ones(10), atol=1e-5)
    assert meta["recipe"]["head"]["name"] == "tau-norm"


def test_files_that_do_not_go_together_are_refused_in_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(finished, tmp_path)
    trained = {**CHAIN, "retrain__finetune": {"epochs": 3}}
    assert tiny_chain.run(root, "retrain", **trained) == 2
    assert "chosen is a mixture, and retrain.finetune.epochs is 3, expected 0" in capsys.readouterr().err
    record = json.loads((root / "results/architecture.json").read_text())
    record["chosen"]["mixture"]["weights"][0][1] = 0.5
    (root / "results/architecture.json").write_text(json.dumps(record))
    assert tiny_chain.run(root, "retrain", **{**CHAIN, "search__darts": SEARCH}) == 2
    assert "another mixture than that of" in capsys.readouterr().err
    for wrong, message in (
        ([[0.2] * 5] * 5, "mixture: has rows of [5, 5, 5, 5, 5] weights, expected 6 rows of 5"),
        ([[0.2] * 5] * 5 + [[1e300] * 5], "mixture: has weights that are not finite numbers of 32 bits"),
    ):
        state, meta = load_weights(root / FINAL)
        save_weights(root / FINAL, state, {**meta, "mixture": wrong})
        with pytest.raises(UserError) as refused:
            load_subnet(root / FINAL)
        assert message in str(refused.value)
        meta["mixture"] = chosen(finished)["mixture"]["weights"]
        save_weights(root / FINAL, state, meta)


def test_a_settled_search_stops_and_tells_how_far_it_had_moved(cells: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    options = {**SEARCH, "outcome": "cell", "split": "fixed", "epochs": 8, "architecture": {"lr": 0.01, "warmup": 2}}
    options["stability"] = {"divergence": 1e-3, "back": 2, "patience": 2}
    cells = {**CHAIN, "retrain__init": "scratch", "search__darts": options}
    assert tiny_chain.run(root, "search", **cells) == 0
    table = pd.read_parquet(root / "results/search.parquet")
    # The end of the warmup is the first to be compared with, two epochs later; two small divergences in a row suffice.
    assert table["divergence"].isna().tolist() == [True, True, True, False, False]
    assert table["chosen"].tolist() == [False] * 4 + [True]
    p, q = (torch.tensor(table["alpha_cell"].iloc[place].reshape(6, 5)).softmax(dim=1) for place in (-3, -1))
    middle = (p + q) / 2
    expected = ((p * (p / middle).log() + q * (q / middle).log()).sum(dim=1) / 2).mean()
    assert table["divergence"].iloc[-1] == pytest.approx(float(expected), rel=1e-2)
    assert 0 < table["divergence"].iloc[-1] < 1e-3
    assert "the architecture has settled" in (root / "logs/search.log").read_text()


ONE_LEVEL: dict[str, Any] = {
    "optimization": "one-level",
    "split": "fixed",
    "share": 0.5,
    "relaxation": "sigmoid",
    "pruning": {"per_epoch": 12, "threshold": 0.08, "penalty": 0.5, "keep": 9},
}


def test_one_level_moves_both_by_one_gradient_on_all_rows(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, step = tiny_chain.copy(cells, tmp_path), Descent.step
    seen: list[int] = []

    def watched(self: Descent, train: Any, valid: Any, epoch: int, *rest: Any, learns: bool) -> None:
        seen.append(sum(len(draw.labels) for draw in train))
        assert (learns, valid) == (epoch > 0, [])
        weights, relaxed = list(self.optimizer.parameters), self.relaxed(epoch)  # type: ignore[union-attr]
        loss, both = self.loss(train, relaxed, self.setting(epoch)), weights
        if learns:
            both = [*self.parameters.parameters(), *weights]
            loss = loss + 3.0 * zero_one_loss(relaxed, "l2") + self.strategy.penalty(relaxed)
            loss = loss + self.search.cost(relaxed, epoch).float()  # type: ignore[misc,union-attr]
        expected = torch.autograd.grad(loss, both)
        assert expected[0].any()
        step(self, train, valid, epoch, *rest, learns=learns)
        for parameter, gradient in zip(both, expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)

    monkeypatch.setattr(Descent, "step", watched)
    options = {**SEARCH, **ONE_LEVEL, "outcome": "cell", "epochs": 3, "zero_one": 3.0, "optimizer": {"clip": 0.0}}
    options |= {"architecture": {"lr": 0.3, "warmup": 1}, "cost": {"name": "params", "upper": 1500}}
    assert tiny_chain.run(root, "search", **{**CHAIN, "retrain__init": "scratch", "search__darts": options}) == 0
    rows = pd.read_parquet(root / "data/longtail.parquet")["split"].eq("train").sum()
    assert sum(seen) == 3 * rows


def test_what_is_pruned_stays_so_and_is_in_no_network(cells: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    assert searched(root, "search", "retrain", **ONE_LEVEL, epochs=6) == 0
    table, found = pd.read_parquet(root / "results/search.parquet"), chosen(root)
    kept = np.stack(table["kept_cell"].to_list()).reshape(6, 6, 4)
    assert not (kept[1:] & ~kept[:-1]).any(), "nothing comes back"
    assert table["pruned"].tolist() == (24 - kept.sum(axis=(1, 2))).tolist()
    assert 0 < table["pruned"].iloc[0] < table["pruned"].iloc[2] <= 15
    assert (kept[2:] == kept[2]).all(), "the architecture is frozen after three epochs"
    assert table["penalty"].iloc[0] == 0.0 < table["penalty"].iloc[1]
    last = torch.tensor(table["alpha_cell"].iloc[-1].reshape(6, 4)).float().sigmoid() * torch.tensor(kept[-1])
    weights = torch.tensor(found["mixture"]["weights"])
    assert (weights[:, 0] == 0.0).all()
    assert torch.equal(weights[:, 1:], last)
    names = set(load_weights(root / FINAL)[0])
    for edge, choice in ((edge, choice) for edge in range(6) for choice in (2, 3)):
        if not kept[-1, edge, choice - 1]:
            assert not any(name.startswith(f"blocks.0.edges.{edge}.{choice}.") for name in names)
    best = [int(row.argmax()) + 1 if row.any() else 0 for row in last]
    assert found["architecture"] == list(live_cell(best)), "of what is left, whatever it weighs"


def test_a_one_level_search_killed_after_pruning_ends_with_the_same_bytes(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tiny_chain.copy(cells, tmp_path / "whole"), tiny_chain.copy(cells, tmp_path / "cut")
    decoded = {**CHAIN, "retrain__init": "scratch", "search__darts": {**SEARCH, **ONE_LEVEL, "outcome": "cell"}}
    assert tiny_chain.run(whole, "search", **decoded) == 0
    table = pd.read_parquet(whole / "results/search.parquet")
    steps = -(-pd.read_parquet(whole / "data/longtail.parquet")["split"].eq("train").sum() // SEARCH["batch_size"])
    assert 0 < table["pruned"].iloc[1] < table["pruned"].iloc[3]
    ticks, tick = 0, ResumeState.tick

    def interrupted(self: ResumeState, state: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 2 * steps + 1:
            self._note(signal.SIGTERM, None)
        tick(self, state)

    monkeypatch.setattr(ResumeState, "tick", interrupted)
    assert tiny_chain.run(cut, "search", **decoded) != 0
    assert tiny_chain.run(cut, "search", **decoded) == 0
    for name in ("results/search.parquet", "results/search.json", "results/architecture.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
