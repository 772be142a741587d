"""One image under two roots, names or kinds is in the source or in the target, never in both without a word."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import datasets
from source_index import write_source_index

from imbnas.data.contents import pixel_digest
from imbnas.data.stored import read_split
from imbnas.errors import UserError
from imbnas.params.source import SourceView
from imbnas.params.target import TargetView
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.steps import source, target
from imbnas.steps.target import LIMIT

SPLITS = ("source/train", "source/validation", "target/train", "target/validation", "target/test")
FOLDER = {"dataset": "folder", "root": "photos"}


def run(root: Path, origin: dict, wanted: dict) -> None:
    """Run both steps on a source and a target of 8 pixels."""
    wanted = {"image_size": 8, "validation": {"per_class": 2}, **wanted}
    origin = {"share": 0.5, "validation": {"per_class": 2}, **origin}
    shape = {"dataset": wanted["dataset"], "image_size": 8, "channels": wanted.get("channels")}
    view = SourceView.model_validate({"source": origin, "target": shape}, strict=False)
    source.run(view, Context("source", root, Log("source")))
    aim(root, origin, wanted)


def aim(root: Path, origin: dict, wanted: dict) -> None:
    """Run the step `target` alone."""
    view = TargetView.model_validate({"target": wanted, "source": origin}, strict=False)
    target.run(view, Context("target", root, Log("target", root / "logs/target.log")))


def pixels(root: Path, split: str) -> list[bytes]:
    """Return each row's image by its pixels, whatever it is kept as (arrays of 8 pixels are not resized)."""
    opened = read_split(root / "data" / split, root)
    if opened.images is not None:
        return [pixel_digest(image) for image in opened.images]
    assert opened.root is not None
    return [pixel_digest(np.asarray(Image.open(opened.root / path).convert("RGB"))) for path in opened.index["path"]]


def check_apart(root: Path, images: int) -> None:
    """Check that no image is in two splits, and how many there are in all."""
    seen = {split: set(pixels(root, split)) for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert seen[one].isdisjoint(seen[other]), (one, other)
    assert len(set().union(*seen.values())) == images


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of two classes with 30 images each."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(30):
            Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(
                tmp_path / f"photos/{name}/{k:02}.png"
            )
    return tmp_path


def copied(root: Path) -> dict:
    shutil.copytree(root / "photos", root / "copy/deep")
    return {"dataset": "folder", "root": "copy", "splits": {"train": "deep"}}


def linked(root: Path) -> dict:
    (root / "link").symlink_to("photos")
    return {"dataset": "folder", "root": "link"}


def listed(root: Path) -> dict:
    """Name the same files in a list, in another order and with the labels exchanged."""
    lines = [f"{name}/{k:02}.png {label}\n" for label, name in enumerate(("dog", "cat")) for k in range(29, -1, -1)]
    (root / "photos/all.txt").write_text("".join(lines))
    return {"dataset": "list", "root": "photos", "splits": {"train": "all.txt"}}


@pytest.mark.parametrize(("other", "dropped"), [(copied, 30), (linked, 0), (listed, 30)])
def test_the_same_files_under_another_root_or_kind(project: Path, other, dropped) -> None:
    run(project, other(project), FOLDER)
    check_apart(project, 60)
    # 15 of each class are the source's; of the others a quarter (3.75) is test, two are validation.
    assert len(read_split(project / "data/target/test")) == 8
    assert len(read_split(project / "data/target/validation")) == 4
    assert len(read_split(project / "data/target/train")) == 18
    # Through a link it is the same root, and the two draw their shares; else it is found out from the contents.
    log = (project / "logs/target.log").read_text()
    assert ("train: 30 rows left out, whose images the source has too" in log) == bool(dropped)
    overlap = read_split(project / "data/target/test").info.overlap
    assert overlap == ({"train": 30, "validation": 0, "source": 0, "training": 0} if dropped else None)
    assert read_split(project / "data/target/train").info.overlap is None


def test_rows_are_numbered_as_before(project: Path) -> None:
    """The index still names each row's place in the raw split, so that what was left out can be told."""
    run(project, copied(project), FOLDER)
    names = sorted(str(path.relative_to(project / "photos")) for path in (project / "photos").rglob("*.png"))
    index = pd.read_parquet(project / "data/target/train/index.parquet")
    assert index["path"].tolist() == [names[row] for row in index["row"]]


def write_digits(root: Path) -> None:
    """Write scikit-learn's digits as files, those that are twice among them included."""
    bunch = datasets.load_digits()
    images = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)
    for k, (image, label) in enumerate(zip(images, bunch.target, strict=True)):
        place = root / f"digits/{label}/{k:04}.{'png' if k % 2 else 'bmp'}"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image)
        (picture.convert("RGB") if k % 3 else picture).save(place)


@pytest.mark.parametrize("array_is", ["source", "target"])
def test_an_array_meets_files(tmp_path: Path, array_is) -> None:
    write_digits(tmp_path)
    array, files = {"dataset": "digits", "root": "x"}, {"dataset": "folder", "root": "digits"}
    run(tmp_path, *((array, files) if array_is == "source" else (files, array)))
    check_apart(tmp_path, 1797)


@pytest.mark.parametrize(("array_is", "section"), [("source", "target"), ("target", "source")])
def test_under_headers_files_and_arrays_are_not_compared_and_that_is_said(tmp_path: Path, array_is, section) -> None:
    write_digits(tmp_path)
    array = {"dataset": "digits", "root": "x"}
    files = {"dataset": "folder", "root": "digits", "verify": "headers"}
    run(tmp_path, *((array, files) if array_is == "source" else (files, array)))
    assert f"warning: {section}.verify is headers" in (tmp_path / "logs/target.log").read_text()


def published(root: Path, count: int, **more: str) -> dict:
    """Return a target of lists whose test list has `count` images, and copies of others where `more` names them."""
    rng = np.random.default_rng(1)
    lines = {"train": [f"cat/{k:02}.png 0\ndog/{k:02}.png 1\n" for k in range(20)], "test": []}
    (root / "photos/test").mkdir(exist_ok=True)
    for k in range(count):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(root / f"photos/test/{k}.png")
        lines["test"].append(f"test/{k}.png {k % 2}\n")
    for split, images in more.items():
        for image in images.split():
            copy = root / f"photos/{split}-of/{image}.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / f"photos/{image}.png", copy)
            lines.setdefault(split, []).append(f"{split}-of/{image}.png {int(image.startswith('dog'))}\n")
    for split, found in lines.items():
        (root / f"photos/{split}.txt").write_text("".join(found))
    return {"dataset": "list", "root": "photos", "splits": {split: f"{split}.txt" for split in lines}}


def sourced(root: Path, *images: str) -> dict:
    """Let the source have these of the photos, whatever it is called, and return what the target knows of it."""
    digests = [hashlib.sha256((root / "photos" / image).read_bytes()).digest() for image in images]
    write_source_index(root, np.array(digests, dtype="S32"))
    return {"dataset": "folder", "root": "elsewhere", "share": 1.0}


def test_a_published_test_split_stays_and_one_row_in_a_thousand_is_counted(project: Path) -> None:
    wanted = {**published(project, 1000, test="cat/29"), "image_size": 8, "validation": {"per_class": 2}}
    aim(project, sourced(project, "cat/29.png", "cat/00.png"), wanted)
    test = read_split(project / "data/target/test")
    assert len(test) == 1001
    assert test.info.overlap == {"train": 1, "validation": 0, "source": 1, "training": 0}
    assert "warning: 1 of the published test rows are among the source too" in (project / "logs/target.log").read_text()
    assert LIMIT >= 1 / 1001


def test_more_than_one_in_a_thousand_is_refused(project: Path) -> None:
    wanted = {**published(project, 998, test="cat/29"), "image_size": 8, "validation": {"per_class": 2}}
    expected = r"source\.dataset: the source has 1 of the target's 999 published test images \(the first: test-of"
    with pytest.raises(UserError, match=expected):
        aim(project, sourced(project, "cat/29.png"), wanted)
    assert not (project / "data/target").exists()


def test_published_validation_rows_are_left_out_and_test_rows_among_the_training_rows_counted(project: Path) -> None:
    more = published(project, 10, test="cat/03 dog/25", validation="cat/25 cat/26 dog/25")
    wanted = {**more, "image_size": 8, "validation": {"from": "published"}}
    aim(project, sourced(project, "cat/26.png"), wanted)
    rows = read_split(project / "data/target/validation").index
    assert rows[["row", "path"]].to_dict("list") == {
        "row": [0, 2],
        "path": ["validation-of/cat/25.png", "validation-of/dog/25.png"],
    }
    overlap = {"train": 0, "validation": 1, "source": 0, "training": 2, "near": 2}
    assert json.loads((project / "data/target/test/info.json").read_text())["overlap"] == overlap


def test_a_drawn_test_row_judges_no_subnet(project: Path) -> None:
    """Published validation images that the drawn test split has too are left out of the validation rows."""
    validation = " ".join(f"cat/{k:02} dog/{k:02}" for k in range(30))
    wanted = {**published(project, 0, validation=validation), "image_size": 8, "validation": {"from": "published"}}
    wanted["splits"] = {**wanted["splits"], "test": None}
    aim(project, sourced(project), wanted)
    seen = {split: set(pixels(project, split)) for split in ("target/test", "target/validation")}
    assert len(seen["target/test"]) == 10
    assert seen["target/test"].isdisjoint(seen["target/validation"])
    assert len(seen["target/validation"]) == 50


def test_all_images_in_the_source_is_one_line(project: Path) -> None:
    names = [f"{name}/{k:02}.png" for name in ("cat", "dog") for k in range(30)]
    wanted = {**FOLDER, "image_size": 8, "validation": {"per_class": 2}}
    with pytest.raises(UserError, match=r"class 'cat' has 30 distinct images, of which the source has 30, expected at"):
        aim(project, sourced(project, *names), wanted)
    wanted = {
        **published(project, 3, validation="cat/29"),
        "image_size": 8,
        "validation": {"from": "published"},
    }
    with pytest.raises(UserError, match=r"target\.splits\.validation: all 1 rows are in the source"):
        aim(project, sourced(project, "cat/29.png"), wanted)


@pytest.mark.parametrize("content", [None, b"not parquet"])
def test_a_source_that_is_missing_or_foreign_is_named(project: Path, content) -> None:
    origin = sourced(project)
    place = project / "data/source/validation/index.parquet"
    place.unlink()
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(UserError, match=r"data/source/validation/index\.parquet: "):
        aim(project, origin, {**FOLDER, "image_size": 8})
