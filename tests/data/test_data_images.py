from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from imbnas.data.augment import Augment, Crop
from imbnas.data.decode import decode_file
from imbnas.data.images import ImageStore
from imbnas.data.loading import Task, unchanged
from imbnas.data.materialise import write_split
from imbnas.data.policy import Policy
from imbnas.data.raw import Raw, Reading, Shape
from imbnas.data.stored import Split, read_split
from imbnas.errors import UserError

torch.set_num_threads(1)


@pytest.fixture
def array_split(tmp_path: Path) -> Split:
    """Thirty grey images of 5 x 4 pixels."""
    images = np.random.default_rng(0).integers(0, 256, (30, 5, 4, 1), dtype=np.uint8)
    raw = Raw(np.arange(30) % 3, list("abc"), images, None, tmp_path)
    options = {"dataset": "digits", "split": "train", "root": "x", "photographs": False}
    write_split(tmp_path / "s", raw, np.arange(30), Shape(5, 4, 1), **options)
    return read_split(tmp_path / "s")


@pytest.fixture
def file_split(tmp_path: Path, save_image) -> Split:
    """Twenty images of different sizes and formats, as 8 x 8 colour."""
    paths = []
    for k in range(20):
        name = f"a/{k}." + ("jpg", "png", "webp", "bmp")[k % 4]
        save_image(name, k, (9 + k, 12), "L" if k % 5 == 0 else "RGB")
        paths.append(name)
    raw = Raw(np.arange(20) % 2, list("ab"), None, paths, tmp_path / "images")
    options = {"dataset": "list", "split": "train", "root": "images", "photographs": True}
    write_split(tmp_path / "s", raw, np.arange(20), Shape(8, 8, 3), **options)
    return read_split(tmp_path / "s", tmp_path)


def test_arrays_are_gathered(array_split: Split):
    rows = np.array([7, 3, 20, 11])
    store = ImageStore(array_split, rows)
    assert (len(store), store.shape, store.labels.tolist()) == (4, Shape(5, 4, 1), [1, 0, 2, 2])
    batches = list(store.batches([np.array([2, 0]), np.array([3]), np.array([1, 1, 2])]))
    assert [tuple(images.shape) for images, _ in batches] == [(2, 1, 5, 4), (1, 1, 5, 4), (3, 1, 5, 4)]
    assert array_split.images is not None
    for (images, labels), wanted in zip(batches, ([20, 7], [11], [3, 3, 20]), strict=True):
        assert images.dtype == torch.uint8
        np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), array_split.images[wanted])
        assert labels.tolist() == [row % 3 for row in wanted]


def test_all_rows_in_order(array_split: Split):
    store = ImageStore(array_split)
    batches = list(store.ordered(8))
    assert [len(labels) for _, labels in batches] == [8, 8, 8, 6]
    assert torch.cat([labels for _, labels in batches]).tolist() == [k % 3 for k in range(30)]
    assert list(store.batches([])) == []


@pytest.mark.parametrize("position", [-1, 4])
def test_a_position_outside_the_store_is_refused(array_split: Split, position):
    store = ImageStore(array_split, torch.arange(4))
    with pytest.raises(IndexError, match=r"expected 0\.\.3"):
        list(store.batches([np.array([0, position])]))


def test_arrays_have_one_size(array_split: Split):
    with pytest.raises(ValueError, match="load_size is 6"):
        ImageStore(array_split, load_size=6)


def test_files_give_the_same_bytes_for_any_number_of_workers(file_split: Split):
    lists = [np.array([3, 1, 4]), np.array([15, 9, 2]), np.array([6]), np.array([5, 3, 5])]
    rows = np.arange(20)[::-1].copy()
    results = []
    for workers in (0, 1, 2):
        store = ImageStore(file_split, rows, workers=workers, load_size=9)
        assert store.shape == Shape(9, 9, 3)
        before = torch.get_rng_state()
        results.append(list(store.batches(lists)))
        assert torch.equal(torch.get_rng_state(), before)
    for result in results:
        for (images, labels), (expected, _), wanted in zip(result, results[0], lists, strict=True):
            assert images.dtype == torch.uint8
            assert torch.equal(images, expected)
            assert labels.tolist() == [(19 - k) % 2 for k in wanted]
    assert file_split.root is not None
    file = file_split.root / file_split.index["path"][19 - 15]
    np.testing.assert_array_equal(results[0][1][0][0].permute(1, 2, 0).numpy(), decode_file(file, Reading(9, 3)))


@pytest.mark.parametrize("fixture", ["array_split", "file_split"])
@pytest.mark.parametrize("crop", ["pad", "resized"])
def test_what_is_done_ahead_is_what_an_augmentation_does(request: pytest.FixtureRequest, fixture: str, crop: Crop):
    split = request.getfixturevalue(fixture)
    height, width, channels = split.info.shape
    shape, pad = Shape(height, width, channels), 1 if crop == "pad" else 0
    augment = Augment(shape, crop, pad, True, 2, [0.5] * channels, [0.25] * channels, Policy("randaugment"))
    lists = [np.array([3, 1, 4, 1]), np.array([15, 9, 2]), np.array([6])]
    for workers in (0, 1, 2):
        store = ImageStore(split, workers=workers)
        tasks = (Task(batch, 7 + number) for number, batch in enumerate(lists))
        found = list(store.ahead(tasks, augment.early))
        for (early, labels, generator), (images, wanted), number in zip(
            found, store.batches(lists), count(7), strict=False
        ):
            assert torch.equal(labels, wanted)
            expected = augment(images, torch.Generator().manual_seed(number))
            assert torch.equal(augment.late(early, generator), expected)
            assert not torch.equal(expected, augment(images, torch.Generator().manual_seed(number + 1)))


def test_tasks_are_asked_for_as_they_are_wanted(array_split: Split):
    asked = 0

    def endless() -> Iterator[Task]:
        nonlocal asked
        for asked in count(1):
            yield Task(np.array([asked % 3]), asked)

    for workers, most in ((0, 5), (2, 5 + 2 * 2)):
        found = ImageStore(array_split, workers=workers).ahead(endless(), unchanged)
        labels = [int(next(found)[1]) for _ in range(5)]
        assert labels == array_split.index["label"].to_numpy()[[1, 2, 0, 1, 2]].tolist()
        assert asked <= most
    with pytest.raises(IndexError, match=r"positions 99\.\.99, expected 0"):
        next(ImageStore(array_split).ahead(iter([Task(np.array([99]), 0)]), unchanged))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanished_is_named_in_one_line(file_split: Split, workers):
    assert file_split.root is not None
    (file_split.root / "a/4.jpg").unlink()
    store = ImageStore(file_split, workers=workers)
    with pytest.raises(UserError, match=r"a/4\.jpg: cannot be read as an image") as caught:
        list(store.ordered(4))
    assert "\n" not in str(caught.value)


def test_an_abandoned_iterator_does_no_harm(file_split: Split):
    store = ImageStore(file_split, workers=1)
    for _ in store.ordered(2):
        break
    first = torch.cat([images for images, _ in store.ordered(7)])
    assert len(first) == 20


def test_workers_outlive_a_signal_to_the_whole_job(file_split: Split):
    # A scheduler signals all processes at once; the main process then still finishes its step and saves its state.
    reader = ImageStore(file_split, workers=2).ordered(1)
    # Each worker has given a batch, so each has begun.
    next(reader)
    next(reader)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for number in (signal.SIGTERM, signal.SIGINT):
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, number)
    assert len(list(reader)) == 18


@pytest.mark.cuda
def test_the_gpu_holds_the_same_bytes(array_split: Split, file_split: Split):
    for split in (array_split, file_split):
        lists = [np.array([3, 1]), np.array([9])]
        cpu, gpu = ImageStore(split), ImageStore(split, device="cuda", workers=1)
        for (a, la), (b, lb) in zip(cpu.batches(lists), gpu.batches(lists), strict=True):
            assert b.is_cuda
            assert lb.is_cuda
            assert torch.equal(a, b.cpu())
            assert torch.equal(la, lb.cpu())
