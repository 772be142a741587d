"""A user's own images, as a folder and as lists, through all eight steps."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_chain
import yaml
from PIL import Image

from imbnas.data.raw import Reading
from imbnas.params.config import parse
from imbnas.predict import predict
from imbnas.saved import load_subnet

CLASSES = ["ant", "bee", "cat", "dog", "eel", "fox"]
STEPS = ("source", "target", "imbalance", "supernet", "adapt", "search", "retrain", "evaluate")
TRAINED = {
    "supernet__epochs": 1,
    "adapt__head": {"epochs": 1},
    "retrain__epochs": 1,
    "retrain__references": False,
    "search__candidates": 2,
}


def make_photos(root: Path, rows: int = 300) -> list[tuple[str, int]]:
    """Write JPEG and PNG files of random sizes; brightness and hue hint at the class."""
    rng = np.random.default_rng(0)
    files = []
    for k in range(rows):
        label = k % len(CLASSES)
        height, width = rng.integers(18, 60, 2)
        pixels = rng.integers(0, 120, (height, width, 3)) + np.array([20 * label, 130 - 20 * label, 60])
        name = f"{CLASSES[label]}/{k:03d}.{'jpg' if k % 2 else 'png'}"
        (root / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(root / name)
        files.append((name, label))
    return files


def check_results(root: Path) -> None:
    metrics = json.loads((root / "results/metrics.json").read_text())
    assert 0.0 <= metrics["balanced_accuracy"] <= 1.0
    assert json.loads((root / "data/target/test/info.json").read_text())["kind"] == "paths"
    assert np.load(root / "data/target/train/images.npy").shape[0] == 0


@pytest.mark.slow
def test_a_folder_runs_through_all_steps(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos")
    target = {
        "dataset": "folder",
        "root": "photos",
        "image_size": 16,
        "validation": {"per_class": 4},
        "test_fraction": 0.2,
    }
    source = {"dataset": "folder", "root": "photos", "share": 0.4, "validation": {"per_class": 3}}
    change = {"target": target, "source": source, "imbalance__ratio": 4.0, **TRAINED}
    assert tiny_chain.run(tmp_path, *STEPS, **change) == 0
    check_results(tmp_path)
    paths = {
        split: set(pd.read_parquet(tmp_path / "data" / split / "index.parquet")["path"].tolist())
        for split in ("source/train", "source/validation", "target/train", "target/validation", "target/test")
    }
    assert sum(map(len, paths.values())) == len(set().union(*paths.values())) == 300


@pytest.mark.slow
def test_lists_run_through_all_steps(tmp_path: Path) -> None:
    files = make_photos(tmp_path / "photos")
    parts = {"train": files[:210], "val": files[210:240], "test": files[240:]}
    for name, rows in parts.items():
        (tmp_path / "photos" / f"{name}.txt").write_text("".join(f"{path} {label}\n" for path, label in rows))
    splits = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
    target = {
        "dataset": "list",
        "root": "photos",
        "image_size": 16,
        "splits": splits,
        "validation": {"from": "published"},
    }
    source = {"dataset": "list", "root": "photos", "splits": {"train": "train.txt"}, "share": 0.4}
    wanted = {"target": target, "source": source, "imbalance__profile": "natural"}
    change = {**wanted, "retrain__rows": "train+validation", **TRAINED}
    assert tiny_chain.run(tmp_path, *STEPS, **change) == 0
    check_results(tmp_path)
    details = json.loads((tmp_path / "results/details.json").read_text())
    assert details["imbalance"]["counts"] == [21] * 6
    assert details["test_rows"] == 60


@pytest.mark.slow
def test_the_block_of_the_readme_works_when_typed(tmp_path: Path) -> None:
    """Only the trainings are shorter; one class has as few images as a source, a test and a training row need."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").split("## Your own data")[1]
    block = re.search(r"\n((?:    .*\n)+)", text)
    assert block
    own = yaml.safe_load(textwrap.dedent(block[1]))
    make_photos(tmp_path / own["target"]["root"], 93)
    for k in range(3):
        rare = tmp_path / own["target"]["root"] / f"rare/{k}.png"
        rare.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (70 * k, 20, 30)).save(rare)
    sections = {f"{section}__{name}": value for section, part in own.items() for name, value in part.items()}
    change = {**sections, "target__image_size": 16, **TRAINED}
    assert tiny_chain.run(tmp_path, *STEPS, **change) == 0
    check_results(tmp_path)
    for step in ("source", "target"):
        assert "warning: " in (tmp_path / f"logs/{step}.log").read_text()
    parse(own, "README.md")


@pytest.mark.slow
def test_decoding_does_not_depend_on_workers(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 120)
    target = {"dataset": "folder", "root": "photos", "image_size": 16, "validation": {"per_class": 2}}
    source = {"dataset": "folder", "root": "photos", "share": 0.5, "validation": {"per_class": 2}}
    change = {"target": target, "source": source, "imbalance__ratio": 2.0, **TRAINED}
    found = []
    for workers in (0, 2):
        assert tiny_chain.run(tmp_path, "source", "supernet", **change, runtime__workers=workers) == 0
        found.append(tiny_chain.digests(tmp_path, "supernet"))
    assert found[0] == found[1]


@pytest.mark.data
@pytest.mark.slow
def test_medmnist_by_name_runs_through_all_steps(tmp_path: Path, retina: Path) -> None:
    (tmp_path / "medmnist").mkdir()
    shutil.copy(retina, tmp_path / "medmnist/retinamnist.npz")
    target = {
        "dataset": "medmnist",
        "name": "retinamnist",
        "root": "medmnist",
        "image_size": 14,
        "validation": {"from": "published"},
    }
    source = {"dataset": "digits", "root": "digits", "share": 0.3}
    change = {"target": target, "source": source, "imbalance__profile": "natural", **TRAINED, "supernet__epochs": 0}
    assert tiny_chain.run(tmp_path, *STEPS, **change) == 0
    splits = {
        name: json.loads((tmp_path / f"data/target/{name}/info.json").read_text())
        for name in ("train", "validation", "test")
    }
    assert [splits[name]["rows"] for name in splits] == [1080, 120, 400]
    assert splits["train"]["shape"] == [14, 14, 3]
    assert splits["train"]["dataset"] == "retinamnist"
    longtail = pd.read_parquet(tmp_path / "data/longtail.parquet")
    labels = pd.read_parquet(tmp_path / "data/target/train/index.parquet")["label"]
    assert np.bincount(labels.to_numpy()[longtail["row"]]).tolist() == [486, 128, 206, 194, 66]
    assert len(pd.read_parquet(tmp_path / "results/predictions.parquet")) == 400
    assert "MedMNIST's (Yang et al. 2023), licence CC BY 4.0." in (tmp_path / "results/dataset-card.md").read_text()


def test_training_and_predict_read_photographs_alike(tmp_path: Path) -> None:
    """A network carries how its images were read; a rotated copy of a photograph gives the same answer."""
    make_photos(tmp_path / "photos", 120)
    target = {"dataset": "folder", "root": "photos", "image_size": 16, "resize": "pad", "test_fraction": 0.2}
    target["validation"] = {"per_class": 3}
    source = {"dataset": "folder", "root": "photos", "share": 0.4, "validation": {"per_class": 3}}
    change = {"target": target, "source": source, "imbalance__ratio": 2.0, **TRAINED}
    assert tiny_chain.run(tmp_path, *STEPS, **change) == 0
    network = load_subnet(tmp_path / "models/final.safetensors")
    assert network.reading == Reading(16, 3, pad=True, upright=True)
    photo = tmp_path / "photos/ant/000.png"
    with Image.open(photo) as opened:
        exif = Image.Exif()
        exif[0x0112] = 6
        # What a viewer turns clockwise is stored turned the other way.
        opened.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    first, second = predict(tmp_path / "models/final.safetensors", [photo, tmp_path / "turned.png"], 6)[0]
    assert first.classes == second.classes
    info = json.loads((tmp_path / "data/source/train/info.json").read_text())
    assert (info["resize"], info["exif_rotation"]) == ("exact", True)
