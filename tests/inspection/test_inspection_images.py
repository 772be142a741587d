"""A folder of images, looked at before anything trains: what is counted, what is odd, and what is recommended."""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imbnas.cli import main
from imbnas.data.partition import source_parts, target_parts
from imbnas.errors import UserError
from imbnas.inspection import image_facts, minutes
from imbnas.inspection.advice import advise
from imbnas.inspection.image_facts import first_occurrences, look_at, misnamed
from imbnas.inspection.image_findings import Images, read_images
from imbnas.inspection.inspection_page import summary
from imbnas.inspection.own_directory import own_params
from imbnas.inspection.split_plan import plan_splits
from imbnas.inspection.trial import Pace
from imbnas.params.config import parse

SIZES = {"ant": 40, "bee": 24, "cat": 12, "dog": 6}


def photo(file: Path, seed: int, width: int = 40, height: int = 30) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes, and one image of each kind of oddity."""
    root = tmp_path_factory.mktemp("images") / "own"
    for number, (name, count) in enumerate(SIZES.items()):
        for k in range(count):
            photo(root / name / f"{k:02d}.png", 100 * number + k)
    (root / "bee/23.png").write_bytes((root / "ant/07.png").read_bytes())
    (root / "ant/39.png").write_bytes((root / "ant/03.png").read_bytes())
    whole = (root / "ant/01.png").read_bytes()
    (root / "ant/01.png").write_bytes(whole[: len(whole) // 2])
    photo(root / "ant/02.png", 7, 300, 200)
    whole = (root / "ant/02.png").read_bytes()
    (root / "ant/02.png").write_bytes(whole[: len(whole) // 2])
    (root / "cat/00.png").rename(root / "cat/00.jpg")
    Image.new("RGB", (40, 30), (9, 9, 9)).save(root / "cat/01.png")
    photo(root / "cat/02.png", 1, 90, 20)
    photo(root / "dog/00.png", 2, 12, 30)
    (root / "dog/notes.txt").write_text("seen in May")
    return root


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Images]:
    return read_images(own_params(folder).target, folder, "target")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["imbnas", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_each_oddity_is_found_once_and_named(found: dict[str, Images]) -> None:
    odd = {each.what: (each.count, each.examples) for each in found["train"].oddities}
    # The large one is damaged behind its header, which lacks nothing.
    assert [name.partition(":")[0] for name in odd.pop("cannot be read")[1]] == ["ant/01.png", "ant/02.png"]
    assert odd == {
        "one colour": (1, ("cat/01.png",)),
        "short side below 16 pixels": (1, ("dog/00.png: 12 x 30",)),
        "sides 4 to 1 or longer": (1, ("cat/02.png: 90 x 20",)),
        "another format than the name says": (1, ("cat/00.jpg: PNG",)),
        "the same image in two classes": (1, ("bee/23.png = ant/07.png",)),
        "not images by their names, passed over": (1, ("dog/notes.txt",)),
    }
    assert found["train"].duplicates == 2
    assert found["train"].counts.tolist() == [40, 24, 12, 6]
    assert found["train"].modes == {"RGB": 80}


def test_a_phones_jpeg_of_two_pictures_is_a_jpeg(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", size) for size in ((40, 30), (20, 15))]
    for name in ("a.jpg", "b.png"):
        pictures[0].save(tmp_path / name, format="MPO", save_all=True, append_images=pictures[1:])
    facts = look_at(tmp_path, ["a.jpg", "b.png"])
    assert [each.format for each in facts] == ["JPEG", "JPEG"]
    assert [misnamed(name, each) for name, each in zip(("a.jpg", "b.png"), facts, strict=True)] == [False, True]


def test_large_files_of_one_size_are_compared_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, colour in (("a", 1), ("b", 2), ("c", 1)):
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(tmp_path / f"{name}.bmp")
    photo(tmp_path / "d.png", 0)
    monkeypatch.setattr(image_facts, "WHOLE", 10)
    facts = look_at(tmp_path, ["a.bmp", "b.bmp", "c.bmp", "d.png"])
    assert first_occurrences(facts) == [0, 1, 0, 3]
    # The only file of its size needs no digest.
    assert facts[3].digest == b""


def test_processes_find_what_one_process_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"{name}/{k:02d}.png" for name in ("ant", "bee") for k in range(5)]
    alone = look_at(folder, paths)
    asked: list[Sequence[str]] = []

    class Executor:
        """The same calls, in this process: starting others takes seconds."""

        def __init__(self, *arguments: object) -> None: ...
        def __enter__(self) -> Executor:
            return self

        def __exit__(self, *arguments: object) -> None: ...
        def map(self, look: object, chunks: list[Sequence[str]]) -> list[object]:
            asked.extend(chunks)
            return [look(chunk) for chunk in chunks]  # type: ignore[operator]

    monkeypatch.setattr(image_facts, "ProcessPoolExecutor", Executor)
    monkeypatch.setattr(image_facts, "ALONE", 4)
    monkeypatch.setattr(image_facts, "_CHUNK", 3)
    assert look_at(folder, paths) == alone
    assert list(map(len, asked)) == [3, 3, 3, 1]


@pytest.mark.parametrize("reuse", [True, False], ids=["shipped supernet", "own supernet"])
def test_the_splits_are_those_that_the_steps_would_draw(folder: Path, found: dict[str, Images], reuse: bool) -> None:
    tree, train = own_params(folder).tree(), found["train"]
    assert tree["supernet"]["reuse"] is not None
    params = parse(tree if reuse else {**tree, "supernet": {**tree["supernet"], "reuse": None}}, "params.yaml")
    plan = plan_splits(params, found, Path())
    labels, classes = train.raw.labels, train.raw.classes
    share = None if reuse else 0.3
    source = source_parts(labels, train.first, classes, share=0.3, per_class=10, seed=0)
    target = target_parts(
        labels, train.first, classes, source_share=share, source_seed=0, test_fraction=0.25, per_class=10, seed=0
    )
    rows = {name: int(counts.sum()) for name, counts in plan.rows.items()}
    assert rows == {
        "source": 0 if reuse else len(source.train) + len(source.validation),
        "training": len(target.train),
        "validation": len(target.validation),
        "test": len(target.test),
    }
    assert plan.faults == []
    assert "fewer than 5 validation rows" in plan.warnings[0]


def test_groups_are_not_parted_in_the_plan(folder: Path, found: dict[str, Images]) -> None:
    params, train = own_params(folder), found["train"]
    # Pairs of neighbours; the first two images of each class stay alone.
    names = [f"{label}-{row // 2}" for row, label in enumerate(train.raw.labels.tolist())]
    grouped = replace(train, raw=replace(train.raw, groups=names))
    alone, paired = (plan_splits(params, {"train": one}, Path()) for one in (train, grouped))
    assert paired.faults == []
    assert {name: rows.tolist() for name, rows in alone.rows.items()} != {
        name: rows.tolist() for name, rows in paired.rows.items()
    }
    said = dict(row for row in summary({"train": grouped}, paired).rows)
    assert said["groups"] == f"{len(set(names))}, which no split parts"


def test_a_class_too_small_for_its_splits_is_a_fault_of_the_plan(tmp_path: Path) -> None:
    for k in range(20):
        photo(tmp_path / "ant" / f"{k}.png", k)
    photo(tmp_path / "bee/0.png", 99)
    params = own_params(tmp_path)
    found = read_images(params.target, tmp_path, "target")
    plan = plan_splits(params, found, Path())
    assert len(plan.faults) == 1
    assert "'bee' has 1 distinct image" in plan.faults[0]
    with pytest.raises(UserError, match="'bee' has 1 distinct image"):
        minutes.expect(params, found["train"].raw, plan, Path())


def test_one_class_is_refused_with_a_hint_where_the_root_is_one_too_high(tmp_path: Path) -> None:
    for name in ("birds/ant/0.png", "birds/bee/0.png"):
        photo(tmp_path / name, len(name))
    params = own_params(tmp_path)
    (fault,) = plan_splits(params, read_images(params.target, tmp_path, "target"), Path()).faults
    said = f"target.dataset: {tmp_path} holds one class, expected at least two, or the directories in {tmp_path}/birds"
    assert fault.startswith(said)
    inner = own_params(tmp_path / "birds")
    (fault,) = plan_splits(inner, read_images(inner.target, tmp_path / "birds", "target"), Path()).faults
    assert fault.startswith("target.test_fraction: class 'ant' has 1 distinct image")


def test_recommendations_follow_what_was_found(folder: Path, found: dict[str, Images]) -> None:
    params, train = own_params(folder), found["train"]
    plan = plan_splits(params, found, Path())
    advice = {each.name: each for each in advise(params, train, plan, gpu=False, preset="own-64")}
    assert advice["target.image_size"].value == "32"
    assert advice["retrain.loss"].value == "balanced-softmax"
    assert advice["target.validation.per_class"].value == "5"
    # Rows are reserved before a tail is cut: it has nothing to do with how many there can be.
    cut = own_params(folder).tree()
    cut["imbalance"] = {"profile": "exponential", "ratio": 6.0}
    cut["retrain"]["rows"] = "train"
    tail = parse(cut, "params.yaml")
    before, after = plan, plan_splits(tail, found, Path())
    assert after.training.sum() < before.training.sum()
    assert [each.why for each in advise(tail, train, after, False, None) if "per_class" in each.name] == [
        advice["target.validation.per_class"].why
    ]
    large = Images(train.raw, train.content, train.widths * 9, train.heights * 9)
    sized = {gpu: advise(params, large, plan, gpu, "own-64")[:2] for gpu in (False, True)}
    assert [each.value for each in sized[False]] == ["own-64", "64"]
    assert [each.value for each in sized[True]] == ["own-224", "224"]
    even = plan_splits(
        params, {"train": Images(*[getattr(large, name) for name in ("raw", "content", "widths", "heights")])}, Path()
    )
    even.rows["training"][:] = 10
    assert advise(params, large, even, False, "own-64")[-1].value == "ce"


def test_the_command_writes_one_page_without_links(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(minutes, "trial", lambda *arguments: Pace(1e-3, 1e-4, 0.0, "cpu", 64, 4))
    page = tmp_path / "page.html"
    assert run(monkeypatch, "inspect", folder, "--output", page) == 0
    said = capsys.readouterr().out
    assert "82 in 4 classes, 40 to 6 each" in said
    assert "refused: 2 cannot be read" in said
    text = page.read_text(encoding="utf-8")
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    # All of the six dogs, and eight of each other class but for what cannot be read: rows 1 and 2 are not among them.
    assert len(pictures) == 6 + 3 * 8
    sizes = [Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in pictures]
    assert max(max(size) for size in sizes) <= 96
    assert not re.search(r"https?:|src=\"(?!data:)|href=", text)
    assert "bee/23.png = ant/07.png" in text
    assert "expected on this machine (cpu): " in said
    assert "expected on this machine (cpu): " in text


def test_arrays_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(minutes, "trial", lambda *arguments: Pace(1e-3, 1e-4, 0.0, "cpu", 64, 4))
    pixels = np.random.default_rng(0).integers(0, 255, (40, 12, 12), dtype=np.uint8)
    pixels[5] = pixels[4]
    pixels[6] = 7
    labels = np.array([0] * 30 + [1] * 10)
    test = np.concatenate([pixels[:3], 255 - pixels[:1]])
    np.savez(tmp_path / "own.npz", train_images=pixels, train_labels=labels, test_images=test, test_labels=labels[:4])
    assert run(monkeypatch, "inspect", tmp_path / "own.npz", "--output", tmp_path / "page.html") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "40 in 2 classes, 30 to 10 each" in said
    assert "1 repeat an earlier image; 3 of the test images are training images too" in said
    assert "1 one colour" in said
    assert "all 12 x 12 pixels" in said


def test_published_splits_are_recognised_by_their_names(tmp_path: Path) -> None:
    for split, name in (("train", "ant"), ("train", "bee"), ("val", "ant"), ("test", "bee")):
        photo(tmp_path / split / name / "0.png", len(split + name))
    target = own_params(tmp_path).target
    assert (target.splits.train, target.splits.validation, target.splits.test) == ("train", "val", "test")
    assert target.validation.from_ == "published"
    photo(tmp_path / "fox/0.png", 0)
    assert own_params(tmp_path).target.splits.train is None


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A directory of things that are no images of classes."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "none/ant").mkdir(parents=True)
    photo(tmp_path / "bare/one.png", 0)
    photo(tmp_path / "alone/ant/one.png", 0)
    (tmp_path / "notes.pdf").write_text("no images")
    (tmp_path / "cut.npz").write_bytes(b"PK")
    (tmp_path / "all.csv").write_text("file,label\na.png,x\n")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


KINDS = (
    r"expected a directory with one directory per class, a \.npz file, or an index \(\.csv, \.parquet, \.json, \.txt\)"
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", rf"not found, {KINDS}"),
        ("bare/one.png", rf"one image, {KINDS}"),
        ("notes.pdf", rf"another file, {KINDS}"),
        ("pipe", rf"neither a directory nor a file, {KINDS}"),
        ("empty", "no class directories found, expected one directory per class"),
        ("none", r"no images found, expected \.jpg"),
        ("bare", r".*one\.png: an image outside any class, expected it in a class directory"),
        ("cut.npz", ".*expected"),
        ("all.csv", r"no column 'path' among file, label"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(
    wrong: Path, name: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "inspect", wrong / name, "--output", wrong / "page.html") == 2
    message = capsys.readouterr().err
    assert re.match(rf"error: (target\.dataset: )?{re.escape(str(wrong / name))}(: |/?){said}", message), message
    assert message.count("\n") == 1
    assert not (wrong / "page.html").exists()


def test_an_index_is_looked_at_from_where_one_is(
    wrong: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(minutes, "trial", lambda *arguments: Pace(1e-3, 1e-4, 0.0, "cpu", 64, 4))
    rows = [f"{label}{k}.png,{label},{('train', 'val')[k % 6 == 5]},{k}" for label in ("ant", "bee") for k in range(18)]
    for row in rows:
        photo(wrong / row.partition(",")[0], len(row) + hash(row) % 999)
    (wrong / "images.csv").write_text("\n".join(["path,label,split,taken", *rows]))
    (wrong / "project").mkdir()
    monkeypatch.chdir(wrong)
    assert run(monkeypatch, "inspect", "images.csv", "--root", "project") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "30 in 2 classes" in said
    assert "(published: validation)" in said
    assert "columns that are not read" in said
    assert (wrong / "project/inspection.html").exists()
