"""What reaches the steps of a training: each batch with its own draws, however it was made and wherever it begins."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imbnas.data.augment import Augment
from imbnas.data.images import ImageStore
from imbnas.data.materialise import write_split
from imbnas.data.order import InstanceSampler
from imbnas.data.policy import Policy
from imbnas.data.raw import Raw, Shape
from imbnas.data.stored import Split, read_split
from imbnas.params.recipe import RecipeParams
from imbnas.seeds import derive
from imbnas.training.definition import Training
from imbnas.training.inputs import batches_of, inputs
from imbnas.training.ranks import ALONE

SHAPE = Shape(8, 8, 3)


@pytest.fixture
def splits(tmp_path: Path) -> dict[str, Split]:
    """Thirteen images as an array, and as files."""
    images = np.random.default_rng(0).integers(0, 256, (13, 8, 8, 3), dtype=np.uint8)
    paths = [f"{k}.png" for k in range(13)]
    (tmp_path / "images").mkdir()
    for name, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(tmp_path / "images" / name)
    for kind, raw in (
        ("array", Raw(np.arange(13) % 3, list("abc"), images, None, tmp_path)),
        ("files", Raw(np.arange(13) % 3, list("abc"), None, paths, tmp_path / "images")),
    ):
        options = {"dataset": "list", "split": "train", "root": "images", "photographs": True}
        write_split(tmp_path / kind, raw, np.arange(13), SHAPE, **options)  # type: ignore[arg-type]
    return {kind: read_split(tmp_path / kind, tmp_path) for kind in ("array", "files")}


def a_job(store: ImageStore, policy: Policy | None) -> Training:
    return Training(
        name="a",
        model=nn.Identity(),
        recipe=RecipeParams(epochs=3, batch_size=4),
        store=store,
        augment=Augment(SHAPE, "pad", 2, True, 3, [0.5] * 3, [0.25] * 3, policy),
        sampler=InstanceSampler(np.arange(13), 1),
        objective=lambda epoch: nn.functional.cross_entropy,
        seed=5,
    )


@pytest.mark.parametrize("kind", ["array", "files"])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_each_step_has_its_own_draws_from_wherever_a_training_goes_on(
    splits: dict[str, Split], kind: str, changed: bool, workers: int
) -> None:
    store = ImageStore(splits[kind], workers=workers)
    training = a_job(store, Policy("randaugment") if changed else None)
    # 13 rows are 4, 4 and 4: a last one by itself has no variance.
    batches = [batch for epoch in range(3) for batch in batches_of(training.sampler.epoch(epoch), 4)]
    assert [len(batch) for batch in batches] == [4] * 9
    for first in (0, 1, 3, 5, 8):
        found = list(inputs(training, ALONE, first, 3))
        assert len(found) == 9 - first
        for step, (images, labels) in enumerate(found, first):
            ((plain, wanted),) = ImageStore(splits[kind]).batches([batches[step]])
            assert torch.equal(labels, wanted)
            generator = torch.Generator().manual_seed(derive(5, "a", "augment", step))
            assert torch.equal(images, training.augment(plain, generator)), (first, step)


def test_files_are_decoded_ahead_across_the_ends_of_epochs(splits: dict[str, Split]) -> None:
    """Processes that are started anew at each epoch cost more than a small epoch."""
    starts = 0

    class Counting(ImageStore):
        def ahead(self, tasks, early):  # type: ignore[no-untyped-def]
            nonlocal starts
            starts += 1
            return super().ahead(tasks, early)

    assert len(list(islice(inputs(a_job(Counting(splits["files"]), None), ALONE, 0, 3), 9))) == 9
    assert starts == 1
