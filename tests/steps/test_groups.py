"""Groups of a user's images through the steps that part rows: source, target and imbalance."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_chain
from PIL import Image

PARTS = ("source/train", "source/validation", "target/train", "target/validation", "target/test")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write 120 tiny images of 3 classes, two in a row per patient, some patients in two classes, and their table."""
    rng = np.random.default_rng(0)
    rows = ["path,group"]
    for k in range(120):
        name = f"{'abc'[k % 3]}/{k:03d}.png"
        (tmp_path / "photos" / name[0]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
        rows.append(f"{name},patient {k // 6 * 3 + k % 3 if k % 12 else 'zero'}")
    (tmp_path / "photos/patients.csv").write_text("\n".join(rows))
    return tmp_path


def test_no_patient_crosses_the_splits_of_a_chain(photos: Path) -> None:
    own = {"dataset": "folder", "root": "photos", "groups": "patients.csv"}
    change = {
        "source": {**own, "share": 0.3, "validation": {"per_class": 2}},
        "target": {**own, "image_size": 8, "test_fraction": 0.25, "validation": {"from": "longtail", "fraction": 0.3}},
        "imbalance__ratio": 2.0,
    }
    assert tiny_chain.run(photos, "source", "target", "imbalance", **change) == 0
    said = pd.read_csv(photos / "photos/patients.csv").set_index("path")["group"]
    index = {part: pd.read_parquet(photos / "data" / part / "index.parquet") for part in PARTS}
    patients = {part: set(said[table["path"]]) for part, table in index.items()}
    for one, other in itertools.combinations(PARTS, 2):
        assert patients[one].isdisjoint(patients[other])
    assert sum(map(len, index.values())) == 120
    longtail = pd.read_parquet(photos / "data/longtail.parquet")
    held = longtail["split"] == "validation"
    paths = index["target/train"]["path"].to_numpy()[longtail["row"]]
    assert set(said[paths[held]]).isdisjoint(said[paths[~held]])
    assert 0 < held.sum() < len(held) / 2
    summary = pd.read_json(photos / "results/imbalance.json", typ="series")
    assert summary["validation_counts"] == np.bincount(longtail["label"][held], minlength=3).tolist()
    assert "groups of 120 images, which no split parts" in (photos / "logs/target.log").read_text()


def test_a_group_of_published_validation_rows_leaves_whole(photos: Path) -> None:
    """One image of a patient is a drawn test row's, or a training row's, under another name."""
    paths = sorted(path.relative_to(photos / "photos").as_posix() for path in (photos / "photos").glob("*/*.png"))
    rows = [f"{path},{path[0]},{'val' if k % 4 == 0 else 'train'},{path}" for k, path in enumerate(paths)]
    rng = np.random.default_rng(1)
    for k, path in enumerate(paths[1:120:4]):
        (photos / "photos/again" / path).parent.mkdir(parents=True, exist_ok=True)
        (photos / "photos/again" / path).write_bytes((photos / "photos" / path).read_bytes())
        other = f"again/{path.replace('.png', '-beside.png')}"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(photos / "photos" / other)
        rows += [f"again/{path},{path[0]},val,p{k}", f"{other},{path[0]},val,p{k}"]
    (photos / "photos/all.csv").write_text("\n".join(["path,label,split,group", *rows]))
    own = {"dataset": "list", "root": "photos", "splits": {"train": "all.csv"}}
    change = {
        "source": {"dataset": "digits", "root": "digits"},
        "target": {**own, "image_size": 8, "near_duplicates": None, "validation": {"from": "published"}},
        "supernet__epochs": 0,
    }
    assert tiny_chain.run(photos, "source", "target", **change) == 0
    kept = pd.read_parquet(photos / "data/target/validation/index.parquet")["path"]
    assert sorted(kept) == paths[::4]
    log = (photos / "logs/target.log").read_text()
    assert "validation: 60 rows left out, whose images or groups the source, the training or the test split has" in log
