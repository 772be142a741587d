from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trees import digest_tree

from imbnas.data import materialise
from imbnas.data.decode import decode_file
from imbnas.data.materialise import statistics, write_split
from imbnas.data.raw import Raw, Reading, Shape
from imbnas.data.stored import read_labels, read_split
from imbnas.errors import UserError

OPTIONS = {"dataset": "digits", "split": "train", "root": "datasets/x", "photographs": False}


def array_raw(count: int = 50, channels: int = 1) -> Raw:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 6, 6, channels), dtype=np.uint8)
    return Raw(np.arange(count) % 5, list("abcde"), images, None, Path("nowhere"))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A written split of 20 array images."""
    write_split(tmp_path / "train", array_raw(), np.arange(20), Shape(6, 6, 1), **OPTIONS)
    return tmp_path / "train"


@pytest.fixture
def files(tmp_path: Path, save_image) -> Path:
    """A written split of three image files below tmp_path/images."""
    for k in range(3):
        save_image(f"a/{k}.png", k)
    raw = Raw(np.array([0, 1, 1]), ["a", "b"], None, [f"a/{k}.png" for k in range(3)], tmp_path / "images")
    options = {**OPTIONS, "dataset": "list", "root": "images"}
    write_split(tmp_path / "train", raw, np.arange(3), Shape(5, 5, 3), **options)
    return tmp_path / "train"


def test_array_round_trip(tmp_path: Path):
    raw, rows = array_raw(channels=3), np.array([4, 40, 7])
    info = write_split(tmp_path / "s", raw, rows, Shape(6, 6, 3), **OPTIONS)
    split = read_split(tmp_path / "s")
    assert raw.images is not None
    assert isinstance(split.images, np.memmap)
    np.testing.assert_array_equal(split.images, raw.images[rows])
    assert split.index.to_dict("list") == {"label": [4, 0, 2], "row": [4, 40, 7]}
    assert split.info == info
    assert (split.root, len(split), info.kind, info.rows, info.shape) == (None, 3, "array", 3, [6, 6, 3])
    assert "root" not in json.loads((tmp_path / "s/info.json").read_text())
    labels, _ = read_labels(tmp_path / "s")
    assert labels.tolist() == [4, 0, 2]


def test_statistics_are_those_of_the_pixels():
    raw = array_raw(count=3000, channels=3)
    assert raw.images is not None
    histogram = np.stack([np.bincount(raw.images[..., c].ravel(), minlength=256) for c in range(3)])
    mean, std = statistics(histogram)
    scaled = raw.images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 1, 2)), rtol=1e-12)
    constant = np.zeros((1, 256), dtype=np.int64)
    constant[0, 51] = 7
    assert statistics(constant) == ([0.2], [1.0])


def test_chunks_do_not_show(tmp_path: Path, monkeypatch):
    raw, rows = array_raw(), np.arange(50)[::-1].copy()
    for name, size in (("whole", 1024), ("pieces", 7)):
        monkeypatch.setattr(materialise, "_CHUNK", size)
        write_split(tmp_path / name, raw, rows, Shape(9, 9, 3), **OPTIONS)
    assert digest_tree(tmp_path / "whole") == digest_tree(tmp_path / "pieces")
    loaded = np.load(tmp_path / "whole/images.npy")
    assert (loaded.shape, loaded.dtype) == ((50, 9, 9, 3), np.uint8)


def test_other_splits_repeat_the_training_statistics(tmp_path: Path):
    raw = array_raw()
    train = write_split(tmp_path / "a", raw, np.arange(30), Shape(6, 6, 1), **OPTIONS)
    test = write_split(tmp_path / "b", raw, np.arange(30, 50), Shape(6, 6, 1), **OPTIONS, train=train)
    assert (test.mean, test.std) == (train.mean, train.std)
    assert test.digest != train.digest
    empty = write_split(tmp_path / "c", raw, np.arange(0), Shape(6, 6, 1), **OPTIONS, train=train)
    assert (empty.rows, len(read_split(tmp_path / "c"))) == (0, 0)


def test_digest_depends_on_pixels_and_labels(tmp_path: Path):
    raw = array_raw()
    assert raw.images is not None
    digests = set()
    pixel = raw.images.copy()
    pixel[3, 0, 0, 0] ^= 1
    for name, other in (
        ("same", raw),
        ("label", Raw(np.roll(raw.labels, 1), raw.classes, raw.images, None, raw.root)),
        ("pixel", Raw(raw.labels, raw.classes, pixel, None, raw.root)),
    ):
        digests.add(write_split(tmp_path / name, other, np.arange(9), Shape(6, 6, 1), **OPTIONS).digest)
    assert len(digests) == 3


def test_files_stay_files(files: Path, tmp_path: Path):
    split = read_split(files, tmp_path)
    assert split.images is None
    assert split.root == tmp_path / "images"
    assert split.index["path"].tolist() == ["a/0.png", "a/1.png", "a/2.png"]
    assert (split.info.kind, split.info.root, np.load(files / "images.npy").shape) == ("paths", "images", (0, 5, 5, 3))
    pixels = np.stack([decode_file(tmp_path / f"images/a/{k}.png", Reading(5, 3)) for k in range(3)]) / 255
    np.testing.assert_allclose(split.info.mean, pixels.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(split.info.std, pixels.std(axis=(0, 1, 2)))
    for file in files.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()


def test_statistics_of_many_files_use_evenly_spaced_ones(tmp_path: Path, save_image, monkeypatch):
    monkeypatch.setattr(materialise, "_SAMPLED", 3)
    paths = [save_image(f"{k}.png", k).name for k in range(5)]
    raw = Raw(np.array([0, 1, 0, 1, 0]), ["a", "b"], None, paths, tmp_path / "images")
    info = write_split(tmp_path / "s", raw, np.arange(5), Shape(4, 4, 1), **OPTIONS)
    pixels = np.stack([decode_file(tmp_path / f"images/{k}.png", Reading(4, 1)) for k in (0, 2, 4)]) / 255
    assert math.isclose(info.mean[0], pixels.mean())


@pytest.mark.parametrize("change", [lambda data: data + b"\0", lambda data: data[:-1] + b"\0"])
def test_another_file_of_whatever_size_changes_the_digest(files: Path, tmp_path: Path, change):
    raw = Raw(np.array([0, 1]), ["a", "b"], None, ["a/0.png", "a/1.png"], tmp_path / "images")
    before = write_split(tmp_path / "x", raw, np.arange(2), Shape(5, 5, 3), **OPTIONS).digest
    file = tmp_path / "images/a/1.png"
    file.write_bytes(change(file.read_bytes()))
    assert write_split(tmp_path / "x", raw, np.arange(2), Shape(5, 5, 3), **OPTIONS).digest != before
    file.unlink()
    with pytest.raises(UserError, match=r"a/1\.png: cannot be read \(No such file or directory\), expected an image"):
        write_split(tmp_path / "x", raw, np.arange(2), Shape(5, 5, 3), **OPTIONS)


def test_bytes_repeat_and_hold_no_metadata(written: Path, tmp_path: Path):
    write_split(tmp_path / "again", array_raw(), np.arange(20), Shape(6, 6, 1), **OPTIONS)
    assert digest_tree(written) == digest_tree(tmp_path / "again")
    assert pq.ParquetFile(written / "index.parquet").metadata.metadata is None


def test_an_interrupted_rewrite_is_no_split(written: Path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(materialise, "write_index", stop)
    with pytest.raises(KeyboardInterrupt):
        write_split(written, array_raw(), np.arange(20, 40), Shape(6, 6, 1), **OPTIONS)
    with pytest.raises(UserError, match=r"info\.json: not found"):
        read_split(written)
    assert sorted(file.name for file in written.iterdir()) == ["images.npy", "index.parquet"]


def truncate(name):
    def change(directory: Path) -> None:
        file = directory / name
        file.write_bytes(file.read_bytes()[:-30])

    return change


def rewrite_info(**changes):
    def change(directory: Path) -> None:
        value = json.loads((directory / "info.json").read_text())
        (directory / "info.json").write_text(json.dumps({**value, **changes}))

    return change


def rewrite_index(**columns):
    return lambda directory: pq.write_table(pa.table(columns), directory / "index.parquet")


def save_pickle(directory: Path) -> None:
    np.save(directory / "images.npy", np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "info.json").unlink(), r"info\.json: not found"),
        (lambda d: (d / "images.npy").unlink(), r"images\.npy: not found"),
        (lambda d: (d / "index.parquet").unlink(), r"index\.parquet: not found"),
        (truncate("info.json"), r"info\.json: not valid JSON"),
        (truncate("images.npy"), r"images\.npy: truncated or not an \.npy file"),
        (truncate("index.parquet"), r"index\.parquet: truncated or not parquet"),
        (lambda d: (d / "images.npy").write_bytes(b""), r"images\.npy: truncated"),
        (lambda d: (d / "images.npy").write_bytes(b"rubbish"), r"images\.npy: truncated"),
        (save_pickle, r"images\.npy: truncated or not an \.npy file"),
        (lambda d: np.save(d / "images.npy", np.zeros((20, 6, 6, 1))), r"images\.npy: found float64"),
        (lambda d: np.save(d / "images.npy", np.zeros((19, 6, 6, 1), np.uint8)), r"images\.npy: found uint8 \(19"),
        (rewrite_info(rows=19), r"index\.parquet: 20 rows, expected 19"),
        (rewrite_info(shape=[6, 5, 1]), r"images\.npy: found uint8 \(20, 6, 6, 1\), expected uint8 \(20, 6, 5, 1\)"),
        (rewrite_info(kind="other"), r"info\.json: not the description of a split \(kind is 'other'\)"),
        (rewrite_info(rows="20"), r"info\.json: .*rows is '20'"),
        (rewrite_info(std=[0.0]), r"info\.json: .*std is \[0\.0\]"),
        (rewrite_info(mean=["0.5"]), r"info\.json: .*mean is \['0\.5'\]"),
        (rewrite_info(mean=None), r"info\.json: not the description"),
        (rewrite_info(more=1), r"info\.json: not the description"),
        (lambda d: (d / "info.json").write_text("[]"), r"info\.json: not the description"),
        (rewrite_index(label=np.zeros(20, np.int64)), r"index\.parquet: column 'row' is none, expected int64"),
        (rewrite_index(label=np.zeros(20), row=np.arange(20)), r"index\.parquet: column 'label' is double"),
        (
            rewrite_index(label=np.full(20, 5), row=np.arange(20)),
            r"index\.parquet: labels from 5 to 5, expected 0\.\.4",
        ),
        (rewrite_index(label=np.full(20, -1), row=np.arange(20)), r"index\.parquet: labels from -1"),
        (rewrite_index(label=pa.array([None] * 20, pa.int64()), row=np.arange(20)), r"'label' has 20 empty values"),
    ],
)
def test_bad_splits_are_refused_by_name(written: Path, change, message):
    change(written)
    with pytest.raises(UserError, match=message) as caught:
        read_split(written)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [-1, -360, -719])
def test_one_flipped_byte_is_noticed(written: Path, place: int):
    file = written / "images.npy"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{file}: images or labels are not those whose digest info\.json holds"):
        read_split(written)


def test_exchanged_labels_are_noticed(written: Path):
    table = pq.read_table(written / "index.parquet").to_pydict()
    table["label"][0], table["label"][1] = table["label"][1], table["label"][0]
    pq.write_table(pa.table(table), written / "index.parquet")
    with pytest.raises(UserError, match="images or labels are not those"):
        read_split(written)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/x.png", "a/../../x.png", "a/.."])
def test_an_index_cannot_leave_the_root(files: Path, tmp_path: Path, path):
    rewrite_index(label=np.array([0, 1, 1]), row=np.arange(3), path=["a/0.png", path, "a/2.png"])(files)
    with pytest.raises(UserError, match=r"index\.parquet: path '"):
        read_split(files, tmp_path)


def test_directory_names_are_no_columns(tmp_path: Path):
    directory = tmp_path / "label=3"
    write_split(directory, array_raw(), np.arange(5), Shape(6, 6, 1), **OPTIONS)
    assert read_split(directory).index["label"].tolist() == [0, 1, 2, 3, 4]
