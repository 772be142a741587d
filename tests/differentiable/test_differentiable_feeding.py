"""The views of each step's draws: functions of the step, however they are made and whichever steps are left out."""

from __future__ import annotations

from contextlib import closing
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch

from imbnas.data.augment import Augment
from imbnas.data.images import ImageStore
from imbnas.data.materialise import write_split
from imbnas.data.order import InstanceSampler
from imbnas.data.policy import Policy
from imbnas.data.raw import Raw, Shape
from imbnas.data.stored import read_split
from imbnas.differentiable.feeding import Views
from imbnas.differentiable.feeds import Feed
from imbnas.params.shared import Numerics
from imbnas.training.runtime import Runtime

SHAPE = Shape(8, 8, 3)


@pytest.mark.parametrize("policy", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_has_the_same_views_whoever_makes_them_and_when(tmp_path: Path, policy: bool, workers: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    raw = Raw(np.arange(20) % 3, list("abc"), images, None, tmp_path)
    options = {"dataset": "cifar10", "split": "train", "root": "x", "photographs": True}
    write_split(tmp_path / "s", raw, np.arange(20), SHAPE, **options)  # type: ignore[arg-type]
    store = ImageStore(read_split(tmp_path / "s"), workers=workers)
    change = Policy("randaugment") if policy else None
    augment = Augment(SHAPE, "pad", 2, True, 3, [0.5] * 3, [0.25] * 3, change)
    # The second feed has fewer rows and begins anew within an epoch.
    halves = np.arange(0, 14), np.arange(14, 20)
    feeds = [Feed(rows, InstanceSampler(rows, number), 4) for number, rows in enumerate(halves)]

    def seed(number: int, view: int, step: int) -> int:
        return 100 * step + 10 * number + view

    def views() -> Views:
        return Views(store, augment, Runtime(Numerics(device="cpu", threads=1)), feeds, 4, 2, seed)

    found = views()
    for step in (2, 3, 4, 9):
        draws = found.take(step)
        # None is left of those that made other steps ahead.
        assert len(active_children()) == (workers if policy else 0)
        assert len(draws) == 4
        for number, feed in enumerate(feeds):
            (batch,) = feed.batches(step // 4, step % 4, step % 4 + 1)
            ((plain, labels),) = store.batches([batch])
            for view, draw in enumerate(draws[2 * number : 2 * number + 2]):
                wanted = augment(plain, torch.Generator().manual_seed(seed(number, view, step)))
                assert torch.equal(draw.images, wanted), (step, number, view)
                assert torch.equal(draw.labels, labels)
    found.close()
    assert not active_children()
    with closing(views()) as other:
        again = other.take(9)
        # The step that was taken last begins a new stream.
        assert all(torch.equal(a.images, b.images) for a, b in zip(again, other.take(9), strict=True))
    runtime = Runtime(Numerics(device="cpu", threads=1))
    with closing(Views(store, augment, runtime, feeds, 4, 2, seed, stride=3)) as strided, closing(views()) as other:
        for step in (2, 5, 8, 11, 14):
            for draw, wanted in zip(strided.take(step), other.take(step), strict=True):
                assert torch.equal(draw.images, wanted.images), step
                assert torch.equal(draw.labels, wanted.labels)
