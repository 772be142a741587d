from __future__ import annotations

import hashlib
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from source_index import write_source_index
from trees import digest_tree

from imbnas.data.stored import read_split
from imbnas.errors import UserError
from imbnas.params.source import SourceView
from imbnas.params.target import TargetView
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.steps import source, target

OTHER = {"dataset": "mnist", "root": "elsewhere", "share": 0.5}


def run_target(root: Path, /, origin: dict | None = None, seed: int = 0, **params) -> None:
    if not (root / "data/source").exists():
        write_source_index(root)
    tree = {"target": {"dataset": "digits", "seed": seed, **params}, "source": {"seed": 0, **(origin or OTHER)}}
    target.run(TargetView.model_validate(tree, strict=False), Context("target", root, Log("target")))


def run_source(root: Path, /, size: int | None = None, **params) -> None:
    shape = {"dataset": params["dataset"], "image_size": size, "channels": None}
    tree = {"source": params, "target": shape}
    source.run(SourceView.model_validate(tree, strict=False), Context("source", root, Log("source")))


def contents(root: Path, split: str) -> list[bytes]:
    """Return the hash of each image of a split, read from the array or the file."""
    opened = read_split(root / "data" / split, root)
    if opened.images is not None:
        return [hashlib.sha256(image.tobytes()).digest() for image in opened.images]
    assert opened.root is not None
    return [hashlib.sha256((opened.root / path).read_bytes()).digest() for path in opened.index["path"]]


ALL = ["source/train", "source/validation", "target/train", "target/validation", "target/test"]


@pytest.mark.parametrize("root", ["datasets/digits", "another/root"])
def test_source_and_target_of_one_dataset_share_no_image(tmp_path: Path, root):
    run_source(tmp_path, dataset="digits", share=0.4)
    run_target(tmp_path, {"dataset": "digits", "root": "datasets/digits", "share": 0.4}, root=root)
    seen = [contents(tmp_path, split) for split in ALL]
    together = list(itertools.chain(*seen))
    assert len(set(together)) == len(together) == 1797
    rows = [row for split in ALL for row in read_split(tmp_path / "data" / split).index["row"]]
    assert sorted(rows) == list(range(1797))


def test_sizes_of_the_default(tmp_path: Path):
    # A source without a single image would take none from the target.
    write_source_index(tmp_path, np.array([b"x" * 32], dtype="S32"))
    run_target(tmp_path, {"dataset": "digits", "root": "x", "share": 0.5})
    train, validation, test = (read_split(tmp_path / f"data/target/{s}") for s in ("train", "validation", "test"))
    # Of 178 images the source has 89; of the other 89 a quarter is 22.25, so 22 for test; ten for validation.
    assert np.bincount(train.index["label"])[0] == 89 - 22 - 10
    assert np.bincount(test.index["label"])[0] == 22
    assert np.bincount(validation.index["label"]).tolist() == [10] * 10
    assert (len(train), len(validation), len(test)) == (574, 100, 227)
    assert train.info.digest.startswith("8a50c88def517139")


def test_nothing_reserved(tmp_path: Path):
    run_target(tmp_path, validation={"per_class": 0})
    run_target(tmp_path / "tail", validation={"from": "longtail"})
    assert len(read_split(tmp_path / "data/target/validation")) == 0
    assert len(read_split(tmp_path / "data/target/train")) + len(read_split(tmp_path / "data/target/test")) == 1797
    assert digest_tree(tmp_path / "data") == digest_tree(tmp_path / "tail/data")


def test_test_rows_do_not_depend_on_validation(tmp_path: Path):
    run_target(tmp_path / "a", validation={"per_class": 0})
    run_target(tmp_path / "b", validation={"per_class": 20})
    assert digest_tree(tmp_path / "a/data/target/test/index.parquet") == digest_tree(
        tmp_path / "b/data/target/test/index.parquet"
    )


def test_own_shape(tmp_path: Path):
    run_target(tmp_path, image_size=12, channels=3)
    assert read_split(tmp_path / "data/target/test").info.shape == [12, 12, 3]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"test_fraction": 0.999}, r"target\.test_fraction: 0\.999 takes 178 of the 178 rows of class '0'"),
        ({"dataset": "cifar10"}, r"target\.root: the files of cifar10 are missing"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, params, message):
    with pytest.raises(UserError, match=message):
        run_target(tmp_path, **params)
    assert not (tmp_path / "data/target").exists()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder dataset of two classes with 16 images each, of which some occur two or three times."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for k in range(16):
            Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(folder / f"{k:02}.png")
        for k in range(16, 24):
            shutil.copy(folder / f"{k % 6:02}.png", folder / f"{k:02}.png")
    return tmp_path


def test_copies_of_an_image_are_never_separated(pictures: Path):
    options = {"dataset": "folder", "root": "pictures"}
    run_source(pictures, 8, **options, validation={"per_class": 2})
    run_target(
        pictures, {**options, "share": 0.5}, **options, image_size=8, test_fraction=0.3, validation={"per_class": 2}
    )
    seen = {split: contents(pictures, split) for split in ALL}
    for one, other in itertools.combinations(ALL, 2):
        assert set(seen[one]).isdisjoint(seen[other])
    assert len(set(itertools.chain(*seen.values()))) == 32
    for split in ALL:
        if not split.endswith("train"):
            assert len(set(seen[split])) == len(seen[split])
    info = read_split(pictures / "data/target/train", pictures).info
    assert (info.kind, info.root, info.shape, info.photographs) == ("paths", "pictures", [8, 8, 3], True)


def test_list_with_published_splits_is_taken_as_it_is(pictures: Path):
    root = pictures / "pictures"
    (root / "train.txt").write_text("dog/03.png 1\ncat/01.png 0\ncat/00.png 0\n")
    (root / "val.txt").write_text("dog/04.png 1\n")
    # A copy of cat/00.png: what is published stays as it is.
    (root / "test.txt").write_text("dog/05.png 1\ncat/18.png 0\n")
    run_target(
        pictures,
        dataset="list",
        root="pictures",
        image_size=8,
        channels=1,
        splits={"train": "train.txt", "validation": "val.txt", "test": "test.txt"},
        validation={"from": "published"},
    )
    paths = [read_split(pictures / "data/target" / s, pictures).index["path"].tolist() for s in ("train", "validation")]
    assert paths == [["dog/03.png", "cat/01.png", "cat/00.png"], ["dog/04.png"]]
    test = read_split(pictures / "data/target/test", pictures)
    assert test.index.to_dict("list") == {"label": [1, 0], "row": [0, 1], "path": ["dog/05.png", "cat/18.png"]}


@pytest.mark.data
def test_real_cifar10_keeps_its_order(tmp_path: Path, real_data: Path):
    (tmp_path / "raw").symlink_to(real_data)
    run_target(tmp_path, dataset="cifar10", root="raw", validation={"per_class": 0})
    train = read_split(tmp_path / "data/target/train")
    assert train.index["row"].tolist() == list(range(50_000))
    assert len(read_split(tmp_path / "data/target/test")) == 10_000
    np.testing.assert_allclose(train.info.mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(train.info.std, [0.2470, 0.2435, 0.2616], atol=5e-5)
