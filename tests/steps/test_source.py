from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from trees import digest_tree

from imbnas.data.stored import read_split
from imbnas.errors import UserError
from imbnas.params.source import SourceView
from imbnas.params.target import TargetView
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.steps import source, target


def context(step: str, root: Path) -> Context:
    return Context(step, root, Log(step))


def run_source(root: Path, /, seed: int = 0, shape=(None, None), name: str = "digits", **params) -> None:
    tree = {
        "source": {"dataset": "digits", "seed": seed, **params},
        "target": {"dataset": name, "image_size": shape[0], "channels": shape[1]},
    }
    source.run(SourceView.model_validate(tree, strict=False), context("source", root))


def hashes(root: Path, *splits: str) -> list[set[bytes]]:
    """Return the distinct images of each split by their content."""
    found = []
    for split in splits:
        images = read_split(root / "data" / split, root).images
        assert images is not None
        found.append({hashlib.sha256(image.tobytes()).digest() for image in images})
    return found


def test_digits_are_halved(tmp_path: Path):
    run_source(tmp_path)
    train, validation = (read_split(tmp_path / "data/source" / name) for name in ("train", "validation"))
    # floor(n / 2) of 178, 182, 177, 183, 181, 182, 181, 179, 174 and 180 images, ten of each for validation.
    assert np.bincount(train.index["label"]).tolist() == [79, 81, 78, 81, 80, 81, 80, 79, 77, 80]
    assert np.bincount(validation.index["label"]).tolist() == [10] * 10
    assert (np.diff(train.index["row"]) > 0).all()
    assert (train.info.split, validation.info.split, train.info.photographs) == ("train", "validation", False)
    assert validation.info.mean == train.info.mean
    assert set(train.index["row"]).isdisjoint(validation.index["row"])
    seen = hashes(tmp_path, "source/train", "source/validation")
    assert [len(images) for images in seen] == [796, 100]
    assert seen[0].isdisjoint(seen[1])


def test_second_run_gives_the_same_bytes_and_another_seed_others(tmp_path: Path):
    run_source(tmp_path / "a")
    run_source(tmp_path / "b")
    run_source(tmp_path / "b")
    run_source(tmp_path / "c", seed=1)
    first, second, third = (digest_tree(tmp_path / name / "data") for name in "abc")
    assert first == second != third


def test_images_take_the_targets_shape(tmp_path: Path):
    run_source(tmp_path, name="cifar10")
    split = read_split(tmp_path / "data/source/train")
    assert split.images is not None
    assert split.images.shape == (796, 32, 32, 3)
    np.testing.assert_array_equal(split.images[:50, ..., 0], split.images[:50, ..., 2])
    assert len(split.info.mean) == 3


def test_of_a_small_share_a_quarter_is_validation(tmp_path: Path, capsys):
    run_source(tmp_path, share=0.05)
    train, validation = (read_split(tmp_path / "data/source" / name) for name in ("train", "validation"))
    # floor(0.05 n) is 8 or 9 of a class, of which a quarter is 2.
    assert np.bincount(validation.index["label"]).tolist() == [2] * 10
    assert np.bincount(train.index["label"]).tolist() == [6, 7, 6, 7, 7, 7, 7, 6, 6, 7]
    assert "warning: 10 of 10 classes have fewer than 5 validation rows, class '0' 2" in capsys.readouterr().err


def test_too_small_a_share_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"source\.validation\.per_class: 10 rows .* no class has more than 3 distinct"):
        run_source(tmp_path, share=0.02)


@pytest.mark.data
def test_real_mnist_in_the_shape_of_cifar10(tmp_path: Path, real_data: Path):
    (tmp_path / "raw").symlink_to(real_data)
    run_source(tmp_path, name="cifar10", dataset="mnist", root="raw", share=0.1)
    split = read_split(tmp_path / "data/source/train")
    assert len(split) == sum(n // 10 for n in (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)) - 100
    assert split.info.shape == [32, 32, 3]


@pytest.mark.data
def test_real_mnist_is_in_one_place_only(tmp_path: Path, real_data: Path):
    (tmp_path / "raw").symlink_to(real_data)
    run_source(tmp_path, name="mnist", dataset="mnist", root="raw")
    params = {"dataset": "mnist", "root": "raw"}
    tree = {"target": params, "source": {**params, "share": 0.5, "seed": 0}}
    target.run(TargetView.model_validate(tree, strict=False), context("target", tmp_path))
    names = ["source/train", "source/validation", "target/train", "target/validation"]
    seen = hashes(tmp_path, *names)
    assert len(set.union(*seen)) == sum(len(images) for images in seen) == 60_000
