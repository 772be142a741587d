from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from imbnas.data.datasets import load_dataset
from imbnas.data.decode import decode_file
from imbnas.data.own_images import read_list
from imbnas.data.raw import Reading, relative_path
from imbnas.errors import UserError


@pytest.fixture
def tree(tmp_path: Path, save_image) -> Path:
    """A folder dataset: train and test with the classes cat and dog, and a hidden file."""
    for k, name in enumerate(["train/dog/1.png", "train/dog/sub/0.JPG", "train/cat/b.webp", "train/cat/a.bmp"]):
        save_image(name, k)
    save_image("test/dog/7.jpeg", 9)
    root = tmp_path / "images"
    (root / "train/cat/.DS_Store").write_text("x")
    return root


def folder(root: Path, **splits):
    return load_dataset("folder", root, splits=splits)


def test_folder_is_sorted_by_class_and_path(tree: Path):
    dataset = folder(tree, train="train", test="test")
    assert dataset.train.classes == ["cat", "dog"]
    assert dataset.train.paths == ["train/cat/a.bmp", "train/cat/b.webp", "train/dog/1.png", "train/dog/sub/0.JPG"]
    assert dataset.train.labels.tolist() == [0, 0, 1, 1]
    assert dataset.test is not None
    assert (dataset.test.paths, dataset.test.labels.tolist()) == (["test/dog/7.jpeg"], [1])
    assert dataset.validation is None


def test_root_itself_may_be_the_training_tree(tmp_path: Path, save_image):
    for name in ("cat/1.png", "dog/1.png", "held/out/cat/1.png"):
        save_image(name)
    dataset = folder(tmp_path / "images", test="held/out")
    assert dataset.train.classes == ["cat", "dog"]
    assert dataset.test is not None
    assert dataset.test.paths == ["held/out/cat/1.png"]


def test_a_linked_root_and_linked_images_are_followed(tree: Path, tmp_path: Path):
    link, farm = tmp_path / "link", tmp_path / "farm"
    link.symlink_to(tree / "train", target_is_directory=True)
    subprocess.run(["cp", "-rs", tree / "train", farm], check=True)
    assert (farm / "cat/a.bmp").is_symlink()
    for root in (link, farm):
        assert folder(root).train.paths == ["cat/a.bmp", "cat/b.webp", "dog/1.png", "dog/sub/0.JPG"]


def away(path: Path) -> None:
    """Put a link in a directory's place."""
    moved = path.parents[2] / f"{path.name}-elsewhere"
    path.rename(moved)
    path.symlink_to(moved, target_is_directory=True)


@pytest.mark.parametrize("linked", ["train", "train/dog", "train/dog/sub", "test"])
def test_a_linked_directory_below_the_root_is_refused(tree: Path, linked: str):
    away(tree / linked)
    with pytest.raises(UserError, match=rf"^{tree / linked}: a link to a directory, expected a directory: DVC "):
        folder(tree, train="train", test="test")


def test_hidden_links_are_passed_over(tree: Path):
    (tree / "train/.all").symlink_to(tree)
    (tree / "train/cat/.none").symlink_to(tree / "nothing")
    assert folder(tree, train="train").train.classes == ["cat", "dog"]


@pytest.mark.parametrize("linked", ["b", "lists"])
def test_a_list_through_a_linked_directory_is_refused(listed: Path, linked: str):
    (listed / "lists").mkdir()
    (listed / "train.txt").rename(listed / "lists/train.txt")
    assert len(load_dataset("list", listed, splits={"train": "lists/train.txt"}).train) > 0
    away(listed / linked)
    with pytest.raises(UserError, match=rf"^{listed / linked}: a link to a directory, expected a directory: DVC "):
        load_dataset("list", listed, splits={"train": "lists/train.txt"})


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda t: (t / "train/bird").mkdir(), r"train/bird: no image of class 'bird' found"),
        (lambda t: (t / "train/x.png").write_text("x"), r"train/x.png: an image outside any class"),
        (lambda t: (t / "test/bird").mkdir(), r"test/bird: class 'bird' is not in the training images"),
        (lambda t: (t / "train/cat/loop").symlink_to(t / "train/cat"), r"train/cat/loop: a link to a directory"),
        (
            lambda t: (t / "train/cat/no.png").symlink_to(t / "none.png"),
            r"cat/no.png: a link to .*, which is not there",
        ),
        (lambda t: (t / "train/bird").symlink_to("../gone"), r"train/bird: a link to \.\./gone, which is not"),
        (lambda t: (t / "test/dog/7.jpeg").unlink(), r"test: no images found"),
    ],
)
def test_bad_trees_are_refused_by_name(tree: Path, prepare, message):
    prepare(tree)
    with pytest.raises(UserError, match=message):
        folder(tree, train="train", test="test")


def misnamed(path: Path, name: bytes) -> None:
    path.rename(path.with_name(os.fsdecode(name)))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda t: misnamed(t / "train/dog/1.png", b"\xff\xfe.png"), r"train/dog/\xff\xfe.png: the name is not valid"),
        (
            lambda t: misnamed(t / "train/dog/sub", b"\xff"),
            r"train/dog/\xff: the name is not valid UTF-8, expected one",
        ),
        (lambda t: misnamed(t / "train/dog", b"d\xf6g"), r"train/d\xf6g: the name is not valid UTF-8, expected one"),
        (lambda t: misnamed(t / "test/dog", b"d\xf6g"), r"test/d\xf6g: the name is not valid UTF-8, expected one"),
        (lambda t: (t / "train/cat/a\n\tb.png").write_text(""), r"train/cat/a\n\tb.png: not an image by its content"),
        (
            lambda t: (t / "train/cat/x.png").symlink_to("x.png"),
            r"train/cat/x.png: Too many levels of symbolic links, ",
        ),
        (
            lambda t: (t / "train/x").symlink_to("x"),
            r"train/x: Too many levels of symbolic links, expected an image or",
        ),
    ],
)
def test_odd_names_and_links_are_refused_in_one_line(tree: Path, prepare, message):
    prepare(tree)
    with pytest.raises(UserError) as caught:
        folder(tree, train="train", test="test")
    told = str(caught.value)
    assert told.startswith(f"{tree}/{message}")
    assert told.isascii()
    assert told.isprintable()


def test_other_files_beside_the_classes_may_have_any_name(tree: Path):
    (tree / "train/notes").write_text("x")
    misnamed(tree / "train/notes", b"\xff")
    (tree / "train/cat/.hidden").write_text("x")
    misnamed(tree / "train/cat/.hidden", b".\xff")
    assert folder(tree, train="train").train.classes == ["cat", "dog"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "a directory with one directory per class"),
        ("train/cat", "a directory of images"),
        ("train/dog/sub", "a directory of images"),
    ],
)
def test_directories_that_may_not_be_read_are_named(tree: Path, permissions_count, name, expected):
    (tree / name).chmod(0)
    with pytest.raises(UserError) as caught:
        folder(tree, train="train")
    (tree / name).chmod(0o700)
    assert str(caught.value) == f"{tree / name}: Permission denied, expected {expected}"


def test_images_that_may_not_be_read_are_named(tree: Path, permissions_count):
    (tree / "train/cat/b.webp").chmod(0)
    with pytest.raises(UserError) as caught:
        folder(tree, train="train")
    assert str(caught.value).startswith(f"{tree}/train/cat/b.webp: cannot be read as an image (Permission denied), ")


def test_one_class_is_not_enough(tmp_path: Path, save_image):
    save_image("cat/1.png")
    with pytest.raises(UserError, match=r"target\.dataset: .* holds one class, expected at least two"):
        folder(tmp_path / "images")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": "../x"}, r"target\.splits\.train: '\.\./x': contains '\.\.'"),
        ({"test": "/x"}, r"target\.splits\.test: '/x': an absolute path"),
        ({"train": "train", "test": "train/cat"}, r"target\.splits\.test: 'train/cat' lies in splits\.train 'train'"),
        ({"train": "train", "test": "train"}, "lies in"),
        ({"train": "."}, "names the root itself"),
        ({"train": "absent"}, r"absent: No such file"),
    ],
)
def test_bad_split_names(tree: Path, splits, message):
    with pytest.raises(UserError, match=message):
        folder(tree, **splits)


@pytest.mark.parametrize(("text", "short"), [("a/b.png", "a/b.png"), ("./a//b.png", "a/b.png"), ("a..b/c", "a..b/c")])
def test_relative_path(text, short):
    assert relative_path(text) == short


@pytest.fixture
def listed(tmp_path: Path, save_image) -> Path:
    """A list dataset of four images, one with spaces in its name, and a test list."""
    for k, name in enumerate(["a/1.png", "a/2 of two.PNG", "b/1.jpg", "b/2.jpg", "c/1.png"]):
        save_image(name, k)
    root = tmp_path / "images"
    (root / "train.txt").write_text("a/1.png 0\n\n./a/2 of two.PNG\t0\r\nb//1.jpg 1\n")
    (root / "test.txt").write_text("b/2.jpg 1\n")
    return root


def test_list_keeps_its_order_and_takes_the_last_word_for_the_label(listed: Path):
    dataset = load_dataset("list", listed, splits={"train": "train.txt", "validation": None, "test": "test.txt"})
    assert dataset.train.paths == ["a/1.png", "a/2 of two.PNG", "b/1.jpg"]
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert dataset.train.classes == ["0", "1"]
    assert dataset.test is not None
    assert dataset.test.classes == ["0", "1"]
    assert dataset.test.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("a/1.png 0\nb/1.jpg -1\n", r"train\.txt:2: label '-1', expected a whole number from 0"),
        ("a/1.png 0\nb/1.jpg 1.0\n", r"train\.txt:2: label '1\.0'"),
        ("a/1.png 0\nb/1.jpg ²\n", r"train\.txt:2: label '²'"),
        ("a/1.png 0\n\nb/1.jpg\n", r"train\.txt:3: found 'b/1\.jpg', expected a path and a label"),
        ("a/1.png 0\nb/1.jpg 2\n", r"train\.txt: class 1 has no image, expected one for each of 0\.\.2"),
        ("a/1.png 1\nb/1.jpg 2\n", r"train\.txt: class 0 has no image"),
        ("a/1.png 0\nb/1.jpg 999999999\n", r"train\.txt: class 1 has no image"),
        ("a/1.png 0\nb/1.jpg 1\n./a/1.png 1\n", r"train\.txt:3: a/1\.png is listed twice \(before in line 1\)"),
        ("a/1.png 0\n../b/1.jpg 1\n", r"train\.txt:2: '\.\./b/1\.jpg': contains '\.\.'"),
        ("a/1.png 0\nb/../b/1.jpg 1\n", r"train\.txt:2: .*contains '\.\.'"),
        ("a/1.png 0\n/b/1.jpg 1\n", r"train\.txt:2: '/b/1\.jpg': an absolute path"),
        ("a/1.png 0\n\nb/9.jpg 1\n", r"train\.txt:3: b/9\.jpg: image not found"),
        ("a/1.png 0\nb/1.gif 1\n", r"train\.txt:2: b/1\.gif: not an image by its name"),
        ("a/1.png 0\nb\\1.jpg 1\n", r"train\.txt:2: .*: image not found, .*a backslash does not separate directories"),
        ("a/1.png 1\nb/1.jpg 2\n", r"train\.txt: class 0 has no image.*labels seem to begin at 1: subtract 1"),
        ("a/1.png 0\nb/2.jpg 1\n", r"test\.txt:1: b/2\.jpg is in .*train\.txt too"),
        ("\n", r"train\.txt: no lines found"),
        ("a/1.png 0\n", r"test\.txt:1: label 1 is not in the training list, expected 0\.\.0"),
    ],
)
def test_bad_lists_name_file_and_line(listed: Path, train, message):
    (listed / "train.txt").write_text(train)
    with pytest.raises(UserError, match=message) as caught:
        load_dataset("list", listed, splits={"train": "train.txt", "test": "test.txt"})
    assert "\n" not in str(caught.value)


def test_absent_and_binary_lists(listed: Path):
    with pytest.raises(UserError, match=r"none\.txt: No such file"):
        read_list(listed, {"train": "none.txt"}, "source")
    (listed / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"train\.txt: not UTF-8 text"):
        read_list(listed, {"train": "train.txt"}, "source")


def test_a_listed_link_to_itself_is_named(listed: Path):
    (listed / "b/1.jpg").unlink()
    (listed / "b/1.jpg").symlink_to("1.jpg")
    with pytest.raises(UserError, match=r"train\.txt:4: b/1\.jpg: .*\(Too many levels of symbolic links\), expected"):
        load_dataset("list", listed, splits={"train": "train.txt"})


@pytest.mark.parametrize("verify", ["headers", "full"])
def test_damaged_files_are_named(listed: Path, save_image, verify):
    save_image("b/1.jpg", size=(90, 80))
    whole = (listed / "b/1.jpg").read_bytes()
    options = {"splits": {"train": "train.txt"}, "verify": verify}
    (listed / "b/1.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"train\.txt:4: b/1\.jpg: not an image by its content"):
        load_dataset("list", listed, **options)
    (listed / "b/1.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    if verify == "headers":
        load_dataset("list", listed, **options)
        return
    with pytest.raises(UserError, match=r"train\.txt:4: b/1\.jpg: cannot be read as an image \(.*truncated"):
        load_dataset("list", listed, **options)


@pytest.mark.parametrize(
    "odd", ["", "\n", "a b.png 0\n", "./x.png 1\n", "\u00e9.png 0\n", "z.PNG  0\n", "t.jpeg\t1\r\n"]
)
@pytest.mark.parametrize("piece", [1, 40, 1 << 18])
def test_pieces_of_a_list_read_as_the_whole_line_by_line(tmp_path: Path, monkeypatch, odd: str, piece: int):
    monkeypatch.setattr("imbnas.data.image_lists._CHUNK", piece)
    before = "".join(f"c{k % 3}/{k}.jpg {k % 3}\n" for k in range(20))
    text = before + odd + before.replace("c", "d") + "last.bmp 2"
    (tmp_path / "train.txt").write_text(text, encoding="utf-8-sig", newline="")
    expected = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            path, label = line.strip().rsplit(None, 1)
            expected.append((path.removeprefix("./"), int(label), number))
    listing = read_list(tmp_path, {"train": "train.txt"}, "target")["train"]
    assert listing is not None
    assert list(zip(listing.raw.paths or [], listing.raw.labels.tolist(), strict=True)) == [e[:2] for e in expected]
    for place, (path, _, number) in enumerate(expected):
        assert listing.place(place) == f"{tmp_path / 'train.txt'}:{number}: {path}"


@pytest.mark.parametrize("piece", [1, 40, 1 << 18])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg", "found 'a.jpg', expected a path and a label"),
        ("1 a.jpg", "label 'a.jpg', expected a whole number"),
        ("a.jpg 1234567890", "label '1234567890', expected a whole number"),
        ("a.txt 0", "a.txt: not an image by its name"),
        ("/a.jpg 0", "'/a.jpg': an absolute path"),
        ("a/../b.jpg 0", "contains '..'"),
    ],
)
def test_a_wrong_line_is_named_by_its_number_in_the_file(
    tmp_path: Path, monkeypatch, piece: int, line: str, message: str
):
    monkeypatch.setattr("imbnas.data.image_lists._CHUNK", piece)
    rows = [f"{k}.jpg {k % 2}" for k in range(20)]
    (tmp_path / "train.txt").write_text("\n".join([*rows[:13], line, *rows[13:]]))
    with pytest.raises(UserError) as error:
        read_list(tmp_path, {"train": "train.txt"}, "target")
    assert str(error.value).startswith(f"{tmp_path / 'train.txt'}:14: ")
    assert message in str(error.value)


def test_what_lies_beside_images_is_passed_over_and_counted(tree: Path) -> None:
    plain = folder(tree, train="train", test="test").train
    for name in ("notes.txt", "labels.csv", "film.gif", "sub/x.xml"):
        (tree / "train/dog" / name).write_text("x")
    for name in ("train/dog/@eaDir/1.png", "train/__MACOSX/dog/._1.png", "train/@eaDir/2.png"):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text("no image")
    dataset = folder(tree, train="train", test="test")
    assert (dataset.train.classes, dataset.train.paths) == (plain.classes, plain.paths)
    assert dataset.notes == (
        f"{tree}: 4 files are not images by their names and are passed over (.gif 1, .csv 1, .txt 1, .xml 1)",
    )
    for file in (tree / "train/cat").iterdir():
        file.rename(file.with_suffix(".gif"))
    with pytest.raises(UserError, match=r"train/cat: no image of class 'cat' found among \d+ files \(\.gif \d+\)"):
        folder(tree, train="train", test="test")


@pytest.mark.parametrize("suffix", [".ppm", ".PGM", ".tif", ".tiff"])
def test_all_formats_of_torchvisions_folders_are_read(tree: Path, suffix: str) -> None:
    for name in ("cat", "dog"):
        Image.new("L", (5, 4), 77).save(tree / f"train/{name}/new{suffix}", format=None if "p" in suffix else "TIFF")
    assert sum(path.endswith(suffix) for path in folder(tree, train="train").train.paths) == 2


def test_pages_behind_the_first_are_counted(tree: Path) -> None:
    pages = [Image.new("RGB", (5, 4), (value, 0, 0)) for value in (10, 20, 30)]
    pages[0].save(tree / "train/cat/pages.tif", save_all=True, append_images=pages[1:])
    dataset = folder(tree, train="train")
    assert dataset.notes == (f"{tree}: 1 images have several pages or frames, of which the first is read",)
    assert decode_file(tree / "train/cat/pages.tif", Reading(4, 3))[0, 0].tolist() == [10, 0, 0]


@pytest.mark.parametrize("hard", [False, True], ids=["symbolic", "hard"])
def test_one_file_cannot_have_two_labels(tree: Path, hard: bool) -> None:
    image, link = tree / "train/cat/a.bmp", tree / "train/dog/a.bmp"
    link.hardlink_to(image) if hard else link.symlink_to(image)
    with pytest.raises(UserError, match=r"train/dog/a\.bmp: a link to the same file as .*train/cat/a\.bmp"):
        folder(tree, train="train")
    link.rename(tree / "train/cat/again.bmp")
    assert "train/cat/again.bmp" in folder(tree, train="train").train.paths


def test_carriage_returns_alone_end_lines(listed: Path) -> None:
    names = {"train": "train.txt", "validation": None, "test": "test.txt"}
    expected = load_dataset("list", listed, splits=names).train
    (listed / "train.txt").write_bytes(b"\xef\xbb\xbf" + (listed / "train.txt").read_bytes().replace(b"\n", b"\r"))
    found = load_dataset("list", listed, splits=names).train
    assert (found.paths, found.labels.tolist()) == (expected.paths, expected.labels.tolist())
    (listed / "train.txt").write_bytes(b"a/1.png 0\r" * 40_000 + b"b/1.jpg x\r")
    with pytest.raises(UserError, match=r"train\.txt:40001: label 'x'"):
        load_dataset("list", listed, splits=names)
