"""Samplers and schedules reach the data loader and the loss: what a training really sees, epoch by epoch.

The published code of LDAM-DRW has a sampler that never takes effect, because its loader exists before the sampler does.
These tests look at the batches that arrive at the optimiser step, and at the loss that is applied to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chain
import torch
from scipy.stats import chisquare

from imbnas.longtail.samplers import power_probabilities, progressive_probabilities
from imbnas.longtail.weights import effective_number_weights, inverse_frequency_weights
from imbnas.training import loop

EPOCHS = 10
RECIPE = {"epochs": EPOCHS, "batch_size": 16}


class Seen:
    """The labels of every optimiser step, and its loss, in order."""

    def __init__(self) -> None:
        self.labels: list[np.ndarray] = []
        self.losses: list[Any] = []

    def epochs(self, rows: int, batch_size: int = 16) -> list[np.ndarray]:
        """Return the labels of each epoch."""
        per_epoch = len(loop.batches_of(np.arange(rows), batch_size))
        return [
            np.concatenate(self.labels[start : start + per_epoch]) for start in range(0, len(self.labels), per_epoch)
        ]

    def loss_of_epoch(self, rows: int, epoch: int) -> Any:
        per_epoch = len(loop.batches_of(np.arange(rows), 16))
        losses = self.losses[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert len({id(loss) for loss in losses}) == 1
        return losses[0]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found, step = Seen(), loop.Trainer.step

    def noting(self: loop.Trainer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        # Batches that are made by numbers come with positions in place of labels.
        seen = labels if self._resident is None else self.training.store.labels[labels]
        found.labels.append(seen.numpy().copy())
        found.losses.append(self.loss_of)
        return step(self, images, labels)

    monkeypatch.setattr(loop.Trainer, "step", noting)
    return found


@pytest.fixture
def root(chain: Path, tmp_path: Path) -> Path:
    return tiny_chain.copy(chain, tmp_path)


def counts(root: Path) -> np.ndarray:
    from imbnas.training.checkpoint import load_meta

    return np.asarray(load_meta(root / "models/adapted.safetensors")["counts"])


def fits(labels: np.ndarray, probabilities: np.ndarray) -> bool:
    """Say whether observed labels agree with class chances (chi-square at 1e-4)."""
    observed = np.bincount(labels, minlength=len(probabilities))
    return bool(chisquare(observed, probabilities * len(labels)).pvalue > 1e-4)


def retrain(root: Path, **change: Any) -> None:
    common = {"retrain__references": False, "retrain__epochs": EPOCHS, "retrain__batch_size": 16}
    assert tiny_chain.run(root, "retrain", **{**common, **change}) == 0


CHANCES = {"class-balanced": 0.0, "square-root": 0.5, "reversed": -1.0}


@pytest.mark.parametrize("name", CHANCES)
def test_drawn_classes_have_the_sampler_s_chances_from_the_switch_on(seen: Seen, root: Path, name: str) -> None:
    retrain(root, retrain__sampler={"name": name, "defer": 0.4})
    tail, expected = counts(root), power_probabilities(counts(root), CHANCES[name])
    epochs = seen.epochs(tail.sum())
    assert len(epochs) == EPOCHS
    for labels in epochs[:4]:
        assert np.array_equal(np.bincount(labels), tail), "before the switch every row is seen once"
    after = np.concatenate(epochs[4:])
    assert fits(after, expected)
    assert not fits(after, tail / tail.sum())
    assert all(fits(labels, expected) for labels in epochs[4:])


def test_progressive_goes_from_one_to_the_other(seen: Seen, root: Path) -> None:
    retrain(root, retrain__sampler={"name": "progressive"})
    tail = counts(root)
    epochs = seen.epochs(tail.sum())
    for number, labels in enumerate(epochs):
        assert fits(labels, progressive_probabilities(tail, number / (EPOCHS - 1)))
    assert not fits(epochs[0], power_probabilities(tail, 0.0))
    assert not fits(epochs[-1], power_probabilities(tail, 1.0))


@pytest.mark.parametrize("length", ["natural", "longest"])
def test_class_aware_gives_every_class_its_turn(seen: Seen, root: Path, length: str) -> None:
    retrain(root, retrain__sampler={"name": "class-aware", "per_class": 4, "length": length})
    tail = counts(root)
    rows = int(tail.sum() if length == "natural" else tail.max() * len(tail))
    epochs = seen.epochs(rows)
    assert [len(labels) for labels in epochs] == [rows] * EPOCHS
    everything = np.bincount(np.concatenate(epochs))
    assert everything.max() - everything.min() <= 4


@pytest.mark.parametrize("strategy", ["head", "finetune", "scratch"])
def test_the_sampler_reaches_every_strategy_of_adapt(seen: Seen, root: Path, strategy: str) -> None:
    change = {f"adapt__{strategy}": RECIPE, "adapt__strategy": strategy}
    assert tiny_chain.run(root, "adapt", adapt__sampler={"name": "class-balanced", "defer": 0.5}, **change) == 0
    epochs = seen.epochs(counts(root).sum())
    assert np.array_equal(np.bincount(epochs[4]), counts(root))
    assert fits(np.concatenate(epochs[5:]), np.full(10, 0.1))


def test_crt_and_lws_take_class_aware_batches_and_plain_cross_entropy(seen: Seen, root: Path) -> None:
    for name in ("crt", "lws"):
        seen.labels.clear()
        seen.losses.clear()
        change = {"adapt__head": {**RECIPE, "name": name}, "adapt__weighting": {"defer": 0.0}}
        assert tiny_chain.run(root, "adapt", **change) == 0
        tail = counts(root)
        epochs = seen.epochs(tail.sum())
        if name == "lws":
            assert np.array_equal(np.bincount(epochs[0]), tail), "the head that is scaled was trained on the rows"
        last = np.bincount(np.concatenate(epochs[-EPOCHS:]))
        assert last.max() - last.min() <= 4
        assert all(loss.weight is None for loss in seen.losses)


@pytest.mark.parametrize("name", ["inverse-frequency", "effective-number"])
def test_deferred_weights_reach_the_loss_at_the_switch(seen: Seen, root: Path, name: str) -> None:
    retrain(root, retrain__loss=name, retrain__weighting={"defer": 0.8, "beta": 0.99})
    tail = counts(root)
    weigh = inverse_frequency_weights if name == "inverse-frequency" else lambda n: effective_number_weights(n, 0.99)
    expected = torch.from_numpy(weigh(tail))
    logits, labels = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    plain = torch.nn.functional.cross_entropy(logits, labels)
    weighted = torch.nn.functional.cross_entropy(logits, labels, weight=expected.float())
    for epoch in range(EPOCHS):
        loss = seen.loss_of_epoch(tail.sum(), epoch)(logits, labels)
        torch.testing.assert_close(loss, weighted if epoch >= 8 else plain)
    assert abs(plain - weighted) > 1e-3


def test_ldam_drw_keeps_its_margins_and_weighs_late(seen: Seen, root: Path) -> None:
    retrain(root, retrain__loss="ldam", retrain__weighting={"weights": "effective-number", "defer": 0.8})
    tail = counts(root)
    first, last = seen.loss_of_epoch(tail.sum(), 7), seen.loss_of_epoch(tail.sum(), 8)
    margins = 30.0 * 0.5 * tail**-0.25 / (tail**-0.25).max()
    np.testing.assert_allclose(first.margins, margins, rtol=1e-12)
    np.testing.assert_allclose(last.margins, margins, rtol=1e-12)
    assert first.weight is None
    np.testing.assert_allclose(last.weight, effective_number_weights(tail, 0.9999), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "kind", "change", "attribute", "value"),
    [
        ("focal", "Focal", {"focal": {"gamma": 1.5}}, "gamma", 1.5),
        ("seesaw", "Seesaw", {"seesaw": {"p": 0.3, "q": 1.0}}, "p", 0.3),
        ("seql", "SoftmaxEqualization", {"seql": {"gamma": 0.5, "threshold": 0.03}}, "gamma", 0.5),
    ],
)
def test_options_reach_the_loss(
    seen: Seen, root: Path, name: str, kind: str, change: dict[str, Any], attribute: str, value: float
) -> None:
    retrain(root, retrain__loss=name, retrain__losses=change, retrain__epochs=1)
    assert type(seen.losses[0]).__name__ == kind
    assert getattr(seen.losses[0], attribute) == value


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vs", {"vs": {"gamma": 0.15, "tau": 0.5}}),
        ("cdt", {"cdt": {"gamma": 0.4}}),
        ("logit-adjustment", {"logit_adjustment": {"tau": 2.0}}),
        ("label-aware-smoothing", {"label_aware_smoothing": {"head": 0.2, "tail": 0.0}}),
    ],
)
def test_other_options_change_the_value_of_the_loss(seen: Seen, root: Path, name: str, change: Any) -> None:
    logits, labels = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    values = []
    for losses in ({}, change):
        seen.losses.clear()
        retrain(root, retrain__loss=name, retrain__losses=losses, retrain__epochs=1)
        values.append(float(seen.losses[0](logits, labels)))
    assert abs(values[0] - values[1]) > 1e-3


def test_bbn_feeds_two_samplers_and_a_falling_factor(seen: Seen, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retrain(root, retrain__branches="bilateral", retrain__loss="ce")
    tail = counts(root)
    conventional, reversed_ = [], []
    per_epoch = -(-int(tail.sum()) // 16)
    for number, labels in enumerate(seen.labels):
        half = len(labels) // 2
        conventional.append(labels[:half])
        reversed_.append(labels[half:])
        loss = seen.losses[number]
        assert loss.alpha == pytest.approx(1.0 - (number // per_epoch / EPOCHS) ** 2, abs=1e-12)
    assert len(seen.labels) == EPOCHS * per_epoch
    assert np.array_equal(np.bincount(np.concatenate(conventional)), EPOCHS * tail)
    assert fits(np.concatenate(reversed_), power_probabilities(tail, -1.0))
