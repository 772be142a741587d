from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imbnas.data.datasets import Shape, is_path_dataset, load_dataset, native_shape, same_dataset
from imbnas.errors import UserError


def write_idx(file: Path, values: np.ndarray) -> None:
    """Write uint8 values in the format of MNIST."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, values.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in values.shape)
    file.write_bytes(header + values.tobytes())


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A small dataset in MNIST's files, 40 training and 20 test images."""
    rng = np.random.default_rng(0)
    for stem, count in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / f"MNIST/raw/{stem}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"MNIST/raw/{stem}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("digits", None, None), Shape(8, 8, 1)),
        (("mnist", None, 3), Shape(28, 28, 3)),
        (("fashion-mnist", 32, None), Shape(32, 32, 1)),
        (("cifar100", None, None), Shape(32, 32, 3)),
        (("cifar10", 16, 1), Shape(16, 16, 1)),
        (("folder", 224, None), Shape(224, 224, 3)),
        (("list", 64, 1), Shape(64, 64, 1)),
    ],
)
def test_native_shape(arguments, expected):
    assert native_shape(*arguments) == expected


def test_files_have_no_size_of_their_own():
    with pytest.raises(UserError, match=r"target\.image_size: null for folder"):
        native_shape("folder", None, None)


def test_digits_are_spread_over_the_grey_levels(tmp_path: Path):
    dataset = load_dataset("digits", tmp_path / "absent")
    raw = dataset.train
    assert raw.images is not None
    assert (raw.images.shape, raw.images.dtype, len(raw.classes)) == ((1797, 8, 8, 1), np.uint8, 10)
    assert np.unique(raw.images).tolist() == [round(v * 255 / 16) for v in range(17)]
    assert np.bincount(raw.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (dataset.validation, dataset.test, dataset.photographs) == (None, None, False)


def test_mnist_files(mnist: Path):
    dataset = load_dataset("mnist", mnist)
    assert dataset.test is not None
    assert dataset.train.images is not None
    assert dataset.train.images.shape == (40, 28, 28, 1)
    assert dataset.train.labels.tolist() == [k % 10 for k in range(40)]
    assert len(dataset.test) == 20
    assert dataset.photographs is False


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_missing_files_say_what_to_do(tmp_path: Path, name):
    with pytest.raises(
        UserError, match=rf"source\.root: the files of {name} are missing in .*source\.download"
    ) as caught:
        load_dataset(name, tmp_path, section="source")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_corrupt_mnist_is_named(mnist: Path):
    file = mnist / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"target\.root: the files of mnist are corrupt in") as caught:
        load_dataset("mnist", mnist)
    assert "\n" not in str(caught.value)


def test_corrupt_cifar_is_named(tmp_path: Path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"no pickle")
    with pytest.raises(UserError, match=r"target\.root: the files of cifar10 are corrupt in"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.data
def test_real_cifar10(real_data: Path):
    dataset = load_dataset("cifar10", real_data)
    assert dataset.train.images is not None
    assert dataset.train.images.shape == (50_000, 32, 32, 3)
    assert dataset.train.classes[0] == "airplane"
    assert dataset.test is not None
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.photographs is True


def test_same_dataset_whatever_way_the_root_is_written(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert same_dataset("folder", tmp_path / "a", "folder", tmp_path / "b")
    assert same_dataset("mnist", tmp_path / "a", "mnist", tmp_path / "x/../a")
    assert same_dataset("digits", tmp_path / "a", "digits", tmp_path / "c")
    assert same_dataset("mnist", tmp_path / "a", "mnist", tmp_path / "c")
    assert not same_dataset("folder", tmp_path / "a", "folder", tmp_path / "c")
    assert not same_dataset("mnist", tmp_path, "fashion-mnist", tmp_path)


def test_path_datasets():
    assert [name for name in ("digits", "folder", "cifar10", "list") if is_path_dataset(name)] == ["folder", "list"]


def test_torch_is_left_alone_where_it_is_not_needed():
    code = (
        "import sys, pathlib, imbnas.steps.source, imbnas.steps.target;"
        "from imbnas.data.datasets import load_dataset; load_dataset('digits', pathlib.Path());"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
