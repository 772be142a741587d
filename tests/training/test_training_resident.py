"""Batches made by numbers are those that are made of images, and so are the trainings on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.data.images import ImageStore
from imbnas.data.materialise import write_split
from imbnas.data.order import InstanceSampler
from imbnas.data.policy import Policy
from imbnas.data.raw import Raw, Shape
from imbnas.data.stored import read_split
from imbnas.errors import Interrupted
from imbnas.params.recipe import RecipeParams
from imbnas.params.shared import Numerics
from imbnas.progress import Log
from imbnas.training.definition import Training
from imbnas.training.inputs import inputs
from imbnas.training.loop import Trainer
from imbnas.training.ranks import ALONE
from imbnas.training.resident import Resident
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

ROWS, SIDE = 21, 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    folder = tmp_path_factory.mktemp("split")
    images = np.random.default_rng(0).integers(0, 256, (ROWS, SIDE, SIDE, 1), np.uint8)
    raw = Raw(np.arange(ROWS) % 3, list("abc"), images, None, folder)
    options = {"dataset": "digits", "split": "train", "root": "x", "photographs": False}
    write_split(folder / "s", raw, np.arange(ROWS), Shape(SIDE, SIDE, 1), **options)  # type: ignore[arg-type]
    return ImageStore(read_split(folder / "s"))


def augment(**options: object) -> Augment:
    chosen = {"crop": "pad", "pad": 1, "flip": True, "cutout": 3, **options}
    return Augment(Shape(SIDE, SIDE, 1), mean=[0.5], std=[0.25], **chosen)  # type: ignore[arg-type]


def described(store: ImageStore, **options: object) -> Training:
    torch.manual_seed(0)
    return Training(
        "retrain",
        nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)),
        RecipeParams(epochs=2, batch_size=8),
        store,
        augment(**options),
        InstanceSampler(np.zeros(ROWS), 0),
        lambda epoch: nn.functional.cross_entropy,
        0,
        capturable=True,
    )


@pytest.mark.parametrize("first", [0, 2, 4])
def test_the_batches_are_the_same_from_any_step_on(store: ImageStore, first: int) -> None:
    training = described(store)
    resident = Resident.of(training)
    assert resident is not None
    plain = list(inputs(training, ALONE, first, 3))
    made = [resident.made(codes) for codes, _ in inputs(training, ALONE, first, 3, resident)]
    assert len(made) == 6 - first
    pairs = list(zip(plain, made, strict=True))
    assert all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def test_a_training_ends_in_the_same_bytes_stopped_within_an_epoch_or_not(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[Tensor]] = []
    for capturable in (True, False):
        training = replace(described(store), capturable=capturable)
        assert (Resident.of(training) is None) is not capturable
        state = ResumeState(tmp_path / "state", str(capturable), 1e9)
        runtime, log = Runtime(Numerics(device="cpu", threads=1)), Log("test", silent=True)
        tick, ticks = ResumeState.tick, []

        def stopped(self: ResumeState, whole: Callable[[], dict], ticks: list = ticks, tick: Any = tick) -> None:
            ticks.append(self)
            if len(ticks) == 4:
                self.save(whole())
                raise Interrupted("stop")
            tick(self, whole)

        with monkeypatch.context() as patch:
            patch.setattr(ResumeState, "tick", stopped)
            with pytest.raises(Interrupted):
                Trainer(training, runtime, state, log).fit()
        again = replace(described(store), capturable=capturable)
        Trainer(again, runtime, state, log).fit()
        whole = replace(described(store), capturable=not capturable)
        Trainer(whole, runtime, ResumeState(tmp_path / "whole", str(capturable), 1e9), log).fit()
        found += [list(one.model.state_dict().values()) for one in (again, whole)]
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_what_more_than_numbers_makes_is_made_as_before(store: ImageStore) -> None:
    training = described(store)
    assert Resident.of(replace(training, views_in=2)) is None
    assert Resident.of(replace(training, mix=lambda images, labels, draws: (images, labels))) is None
    assert Resident.of(replace(training, augment=lambda images, draws: images.float())) is None
    assert Resident.of(replace(training, augment=augment(policy=Policy("randaugment")))) is None
    assert Resident.of(replace(training, augment=augment(crop="resized", pad=0))) is None


def test_a_position_outside_the_store_is_an_error(store: ImageStore) -> None:
    resident = Resident.of(described(store))
    assert resident is not None
    with pytest.raises(IndexError, match=r"positions 0\.\.21, expected 0\.\.20"):
        next(resident.codes([np.array([0, ROWS])], 0))
