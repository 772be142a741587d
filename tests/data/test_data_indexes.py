"""Indexes of images: tables with names, numbers, splits and groups, iNaturalist's JSON, and files beside folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imbnas.data import fingerprints
from imbnas.data.datasets import load_dataset
from imbnas.data.indexes import count_listed, read_index
from imbnas.data.own_images import read_list
from imbnas.errors import UserError
from imbnas.params.config import parse

PATHS = ["a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"]
CSV = """path,label,split,group,taken
a/1.png,wren,train,p1,2020
a/2.png,owl,train,p1,2021
b/3.png,wren,val,,2021
b/4.png,owl,test,p3,2022
b/5.png,owl,test,p3,2022
"""


@pytest.fixture
def images(tmp_path: Path, save_image) -> Path:
    for k, name in enumerate(PATHS):
        save_image(name, k)
    return tmp_path / "images"


def listings(root: Path, section: str = "target", **names: str) -> dict:
    return read_list(root, {"train": None, "validation": None, "test": None, **names}, section)


def test_a_table_holds_names_splits_and_groups(images: Path) -> None:
    (images / "all.csv").write_text(CSV)
    data = load_dataset("list", images, splits={"train": "all.csv"})
    assert data.train.classes == ["owl", "wren"]
    assert data.train.labels.tolist() == [1, 0]
    assert data.validation is not None
    assert data.test is not None
    assert (data.validation.paths, data.validation.groups) == (["b/3.png"], ["b/3.png"])
    assert (data.test.labels.tolist(), data.test.groups) == ([0, 0], ["p3", "p3"])


@pytest.mark.parametrize("label", [["wren", "owl", "wren", "owl", "owl"], [1, 0, 1, 0, 0]])
def test_parquet_says_the_same_as_csv(images: Path, label: list) -> None:
    column = pa.array(label).dictionary_encode() if isinstance(label[0], str) else pa.array(label, pa.int16())
    pq.write_table(pa.table({"path": PATHS, "label": column}), images / "all.parquet")
    (images / "all.csv").write_text("path,label\n" + "".join(f"{p},{k}\n" for p, k in zip(PATHS, label, strict=True)))
    found = [listings(images, train=f"all.{kind}")["train"].raw for kind in ("parquet", "csv")]
    for raw in found:
        assert raw.classes == (["owl", "wren"] if isinstance(label[0], str) else ["0", "1"])
        assert raw.labels.tolist() == [1, 0, 1, 0, 0]
        assert raw.paths == PATHS
    assert count_listed(images / "all.parquet") == 5
    assert count_listed(images / "all.csv") == 6


def test_class_names_stand_beside_numbers_and_order_names(images: Path) -> None:
    (images / "names.txt").write_text("wren\nowl\n")
    (images / "train.txt").write_text("".join(f"{path} {k % 2}\n" for k, path in enumerate(PATHS)))
    raw = listings(images, train="train.txt", class_names="names.txt")["train"].raw
    assert (raw.classes, raw.labels.tolist()) == (["wren", "owl"], [0, 1, 0, 1, 0])
    (images / "all.csv").write_text(CSV)
    raw = listings(images, train="all.csv", class_names="names.txt")["train"].raw
    assert (raw.classes, raw.labels.tolist()) == (["wren", "owl"], [0, 1])
    (images / "names.txt").write_text("wren\nowl\ntit\n")
    with pytest.raises(UserError, match=r"all\.csv: class 'tit' has no image, .* 3 classes that .*names\.txt names"):
        listings(images, train="all.csv", class_names="names.txt")
    (images / "names.txt").write_text("wren\n")
    with pytest.raises(UserError, match=r"train\.txt:2: label 1 is not in the training list, expected 0\.\.0"):
        listings(images, train="train.txt", class_names="names.txt")
    (images / "names.txt").write_text("wren\nowl\nwren\n")
    with pytest.raises(UserError, match=r"names\.txt:3: 'wren' is the name of line 1 too"):
        listings(images, train="train.txt", class_names="names.txt")


def annotations(**change: object) -> str:
    """Return iNaturalist's JSON of the images, with categories numbered with gaps."""
    tree = {
        "info": {"year": 2018},
        "images": [{"id": 10 + k, "file_name": path, "height": 1} for k, path in enumerate(PATHS)],
        "categories": [{"id": 7, "name": "Strix aluco"}, {"id": 3, "name": "Troglodytes"}],
        "annotations": [{"id": k, "image_id": 10 + k, "category_id": (3, 7)[k % 2]} for k in (4, 3, 2, 1, 0)],
    }
    return json.dumps({**tree, **change})


def test_the_json_of_inaturalist(images: Path) -> None:
    (images / "train2018.json").write_text(annotations())
    raw = listings(images, train="train2018.json")["train"].raw
    assert (raw.classes, raw.labels.tolist()) == (["Troglodytes", "Strix aluco"], [0, 1, 0, 1, 0])
    assert raw.paths == PATHS
    assert count_listed(images / "train2018.json") == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, "image 10 has no annotation"),
        ({"categories": [{"id": 7}]}, r"KeyError \(3\)"),
        ({"images": [{"id": 10, "file_name": "../x.png"}]}, r"image 10: '\.\./x\.png': contains"),
        ({"images": [{"id": 10, "file_name": 7}]}, "image 10: file_name is 7, expected iNaturalist's JSON"),
        ({"images": 5}, "TypeError"),
        ({"annotations": [{"image_id": 10, "category_id": c} for c in (3, 7)]}, "image 10 has several categories"),
    ],
)
def test_other_json_is_refused(images: Path, change: dict[str, object], message: str) -> None:
    (images / "train.json").write_text(annotations(**change))
    with pytest.raises(UserError, match=rf"train\.json: {message}"):
        listings(images, train="train.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na/1.png,x\n", r"no column 'path' among file, label, expected a table with the columns path and"),
        ("path,label\n", "no rows found"),
        ("path,label,Group\na/1.png,x,y\n", "a column 'Group', expected 'group' for it, or another name"),
        ("path, label\na/1.png,x\n", "a column ' label', expected 'label' for it"),
        ("path,label,groups\na/1.png,x,y\n", "a column 'groups', expected 'group' for it, or another name"),
        ("path,label,Group-ID\na/1.png,x,y\n", "a column 'Group-ID', expected 'group' for it"),
        ("path,label,spilt\na/1.png,x,test\n", "a column 'spilt', expected 'split' for it"),
        ("path,lable\na/1.png,x\n", "a column 'lable', expected 'label' for it"),
        ("Paths,label\na/1.png,x\n", "a column 'Paths', expected 'path' for it"),
        ("path,label,label\na/1.png,x,y\n", "2 columns 'label', expected one"),
        ("path,label\na/1.png,x,y\n", r"cannot be read as CSV \(.*Expected 2 columns, got 3"),
        ("path,label\n../1.png,x\n", r"row 1: '\.\./1\.png': contains"),
        ("path,label\na/1.png,x\n,x\n", "row 2: '': names the root"),
        ("path,label\na/1.png,x\na/1.png,x\n", r"row 2: a/1\.png is listed twice \(before in row 1\)"),
        ("path,label\na/1.png,x\na/2.png,\n", "row 2: no label, expected a class"),
        ("path,label\na/1.png,0\na/2.png,2\n", r"class 1 has no image, expected one for each of 0\.\.2"),
        ("path,label,split\na/1.png,x,train\na/2.png,x,dev\n", "row 2: split 'dev', expected train, validation"),
        ("path,label,split\na/1.png,x,test\n", "no row of the split train"),
        ("path,label,split\na/1.png,x,train\na/2.png,y,test\n", r"row 2: a/2\.png: label 'y' is not a class.* of x$"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(images: Path, text: str, message: str) -> None:
    (images / "all.csv").write_text(text)
    with pytest.raises(UserError, match=rf"all\.csv: {message}") as caught:
        listings(images, train="all.csv")
    assert "\n" not in str(caught.value)


def test_a_table_of_splits_stands_alone(images: Path) -> None:
    (images / "all.csv").write_text(CSV)
    (images / "test.csv").write_text("path,label\nb/5.png,owl\n")
    with pytest.raises(UserError, match=r"all\.csv: has a column split and is target\.splits\.train, one of 2 files"):
        listings(images, train="all.csv", test="test.csv")


def test_a_damaged_parquet_file_is_refused(images: Path) -> None:
    (images / "all.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"all\.parquet: cannot be read as PARQUET"):
        listings(images, train="all.parquet")
    pq.write_table(pa.table({"path": PATHS, "label": [0.5] * 5}), images / "all.parquet")
    with pytest.raises(UserError, match=r"all\.parquet: column 'label' is double, expected texts or whole numbers"):
        listings(images, train="all.parquet")


def test_groups_of_a_folder_come_from_a_table(images: Path) -> None:
    (images / "groups.csv").write_text("path,group,age\n" + "".join(f"{path},{path[0]},1\n" for path in PATHS[:4]))
    splits = {"groups": "groups.csv"}
    with pytest.raises(UserError, match=r"groups\.csv: no row for b/5\.png, expected one per image"):
        load_dataset("folder", images, splits=splits)
    with (images / "groups.csv").open("a") as stream:
        stream.write("b/5.png,,1\n")
    assert load_dataset("folder", images, splits=splits).train.groups == ["a", "a", "b", "b", "b/5.png"]
    (images / "groups.csv").write_text("path,group\na/1.png,x\na/1.png,y\n")
    with pytest.raises(UserError, match=r"groups\.csv: a/1\.png is in the groups 'x' and 'y', expected one"):
        load_dataset("folder", images, splits=splits)


@pytest.mark.parametrize("name", ["patient", "class", "blood_group", "subset", "age group", "path2", "Label"])
def test_other_columns_are_told_of_once_and_not_read(images: Path, name: str) -> None:
    rows = [f"{path},{'xy'[k // 2 % 2]},{('train', 'test')[k % 2]},p,7" for k, path in enumerate(PATHS)]
    (images / "all.csv").write_text("\n".join([f"path,label,split,{name},", *rows]))
    data = load_dataset("list", images, splits={"train": "all.csv"}) if name == "patient" else None
    if data is not None:
        assert data.notes == (f"{images / 'all.csv'}: columns that are not read: patient, one without a name",)
    found = listings(images, train="all.csv")
    assert found["train"].unread == ((images / "all.csv", (name, "one without a name")),)
    assert (found["test"].unread, found["train"].raw.groups) == ((), None)


def test_other_columns_of_a_group_file_are_told_of(images: Path) -> None:
    (images / "g.csv").write_text("path,group,label,age\n" + "".join(f"{path},{path[0]},x,9\n" for path in PATHS))
    notes = load_dataset("folder", images, splits={"groups": "g.csv"}).notes
    assert notes == (f"{images / 'g.csv'}: columns that are not read: label, age",)
    (images / "g.csv").write_text("path,group_name\n" + "".join(f"{path},x\n" for path in PATHS))
    with pytest.raises(UserError, match=r"g\.csv: a column 'group_name', expected 'group' for it, or another name"):
        load_dataset("folder", images, splits={"groups": "g.csv"})


def test_spaces_around_a_group_part_nothing(images: Path) -> None:
    (images / "all.csv").write_text("path,label,group\na/1.png,x,p1\na/2.png,x, p1 \nb/3.png,x, \n")
    assert listings(images, train="all.csv")["train"].raw.groups == ["p1", "p1", "b/3.png"]
    (images / "g.csv").write_text("path,group\n" + "".join(f"./{path},{path[0]} \n" for path in PATHS))
    assert load_dataset("folder", images, splits={"groups": "g.csv"}).train.groups == ["a", "a", "b", "b", "b"]


def test_published_splits_with_a_group_in_common_are_refused(images: Path) -> None:
    (images / "all.csv").write_text(CSV.replace("b/5.png,owl,test,p3", "b/5.png,owl,test,p1"))
    with pytest.raises(
        UserError, match=r"^target\.splits: group 'p1' is in train \(a/1\.png\) and in test \(b/5\.png\)"
    ):
        listings(images, train="all.csv")
    (images / "g.csv").write_text("path,group\na/1.png,x\n")
    with pytest.raises(UserError, match=r"^target\.groups: .*g\.csv, but the index has a column group"):
        listings(images, train="all.csv", groups="g.csv")


@pytest.mark.parametrize("name", ["all.csv", "groups.csv"])
def test_another_group_or_class_name_is_another_reading(images: Path, name: str) -> None:
    """Snakemake compares the reading; DVC hashes the whole root."""
    (images / "all.csv").write_text(CSV)
    (images / "groups.csv").write_text("path,group\n" + "".join(f"{path},x\n" for path in PATHS))
    kind = "list" if name == "all.csv" else "folder"
    splits = {"train": "all.csv"} if kind == "list" else {"groups": "groups.csv"}

    def look() -> str:
        found = fingerprints.files_read(kind, images, splits)
        assert found is not None
        return found.listing

    before = look()
    text = (images / name).read_text()
    (images / name).write_text(
        text.replace("b/5.png,owl,test,p3", "b/5.png,owl,test,p4").replace("b/5.png,x", "b/5.png,y")
    )
    assert look() != before
    (images / name).write_text(text)
    assert look() == before


def test_rows_keep_their_order_and_numbers(images: Path) -> None:
    (images / "all.csv").write_text(CSV)
    index = read_index(images / "all.csv")
    assert index.part(np.array([3, 1])).lines.place(0) == f"{images / 'all.csv'}: row 4: b/4.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "npz", "groups": "g.csv"}, "target.groups is text 'g.csv' for npz, expected null"),
        ({"dataset": "folder", "class_names": "c"}, "target.class_names is text 'c' for folder, expected null"),
        ({"dataset": "folder", "groups": "g.csv"}, "source.groups is null and target.groups text 'g.csv' for the same"),
    ],
)
def test_parameters_are_checked(change: dict[str, object], message: str) -> None:
    source = {"dataset": "folder", "root": "photos"}
    with pytest.raises(UserError) as caught:
        parse({"source": source, "target": {"root": "photos", "image_size": 8, **change}}, "params.yaml")
    assert str(caught.value).startswith(f"params.yaml: {message}")


def test_a_table_may_hold_the_validation_rows() -> None:
    target = {"dataset": "list", "root": "photos", "image_size": 8, "validation": {"from": "published"}}
    source = {"dataset": "folder", "root": "balanced"}
    parse({"source": source, "target": {**target, "splits": {"train": "all.csv"}}}, "params.yaml")
    with pytest.raises(UserError, match=r"target\.validation\.from is published and splits\.validation is null"):
        parse({"source": source, "target": {**target, "splits": {"train": "all.txt"}}}, "params.yaml")
