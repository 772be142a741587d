"""Near-duplicates that are planted across splits are named, and nothing else is."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import tiny_chain
from PIL import Image, ImageEnhance

from imbnas.data import close_hashes, near_duplicates
from imbnas.data.near_duplicates import as_words, hashes_of, pairs_across, perceptual_hash
from imbnas.data.raw import Raw


def picture(seed: int, size: int = 64) -> Image.Image:
    """Return a smooth picture: noise of 12 x 12 blown up."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)


def saved_again(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=60)
    return Image.open(stream).convert("RGB")


CHANGES = [
    saved_again,
    lambda image: image.resize((48, 48)),
    lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    lambda image: image.convert("L"),
]


def test_planted_copies_and_only_they_are_found() -> None:
    train = as_words([perceptual_hash(picture(seed)) for seed in range(20)])
    test = [perceptual_hash(change(picture(seed))) for seed, change in enumerate(CHANGES)]
    test += [perceptual_hash(picture(seed)) for seed in range(100, 110)]
    found = pairs_across({"train": train, "test": as_words(test)}, 24)
    assert {(row[2], row[4]) for row in found.rows.tolist()} == {(k, k) for k in range(len(CHANGES))}
    assert (found.count, found.near) == (4, 4)
    assert found.rows[:, 0].tolist() == sorted(found.rows[:, 0].tolist())


@pytest.mark.parametrize("chunk", [1, 7, 1 << 22])
def test_pairs_are_those_of_a_comparison_of_all(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(close_hashes, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, (12, 4), dtype=np.uint64)
    near = words ^ (rng.random((12, 4)) < 0.5).astype(np.uint64)
    splits = {"source": words[:3], "train": near[:9], "validation": words[9:], "test": near[6:]}
    names, expected = list(splits), []
    for a, one in enumerate(names):
        for b in range(a + 1, 4):
            for i, left in enumerate(splits[one]):
                for j, right in enumerate(splits[names[b]]):
                    bits = int(sum(int(x).bit_count() for x in left ^ right))
                    expected += [(bits, a, i, b, j)] if bits <= 3 else []
    found = pairs_across(splits, 3)
    assert list(map(tuple, found.rows.tolist())) == sorted(expected)
    assert found.near == len({row[4] for row in expected if row[3] == 3})


def test_many_pairs_are_counted_and_the_most_alike_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "LISTED", 5)
    monkeypatch.setattr(close_hashes, "_CHUNK", 40)
    words = np.zeros((40, 4), dtype=np.uint64)
    words[::2, 0] = 1
    found = pairs_across({"train": words, "test": words[:10]}, 8)
    assert (found.count, found.near, len(found.rows)) == (400, 10, 5)
    assert found.rows[:, 0].tolist() == [0] * 5


def test_arrays_have_hashes_too() -> None:
    images = np.stack([np.asarray(picture(seed, 28)) for seed in (1, 2)])
    raw = Raw(np.zeros(2, np.int64), ["a", "b"], images, None, Path())
    found = hashes_of(raw)
    assert found is not None
    assert found.tolist() == as_words([perceptual_hash(picture(seed, 28)) for seed in (1, 2)]).tolist()
    grey = hashes_of(Raw(raw.labels, raw.classes, images[..., :1], None, Path()))
    assert grey is not None
    assert grey.shape == (2, 4)


def test_the_step_names_them_in_log_report_and_description(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for split, seeds in (("train", range(24)), ("test", range(30, 36))):
        for seed in seeds:
            (root / split / "ab"[seed % 2]).mkdir(parents=True, exist_ok=True)
            picture(seed).save(root / split / "ab"[seed % 2] / f"{seed}.png")
    saved_again(picture(4)).save(root / "test/a/copy.png")
    splits = {"train": "train", "test": "test"}
    change = {
        "source": {"dataset": "digits", "root": "digits"},
        "target": {"dataset": "folder", "root": "photos", "image_size": 8, "splits": splits},
        "supernet__epochs": 0,
    }
    change["target"]["validation"] = {"per_class": 2}
    report = tmp_path / "data/target/test/near_duplicates.csv"
    assert tiny_chain.run(tmp_path, "source", "target", **change) == 0
    rows = list(csv.DictReader(report.open()))
    assert len(rows) == 1
    assert (rows[0]["image"], rows[0]["other_split"], rows[0]["other_image"]) == (
        "train/a/4.png",
        "test",
        "test/a/copy.png",
    )
    log = (tmp_path / "logs/target.log").read_text()
    assert "warning: 1 pair of images in different splits look alike (at most 24 of 256 bits" in log
    assert "train/a/4.png and test test/a/copy.png" in log
    assert '"near": 1' in (tmp_path / "data/target/test/info.json").read_text()
    change["target"]["near_duplicates"] = None
    assert tiny_chain.run(tmp_path, "target", **change) == 0
    assert report.read_text() == "bits,split,image,other_split,other_image\n"
    change["target"] |= {"near_duplicates": 24, "verify": "headers"}
    assert tiny_chain.run(tmp_path, "target", **change) == 0
    assert "near-duplicates are not looked for: target.verify is headers" in (tmp_path / "logs/target.log").read_text()
