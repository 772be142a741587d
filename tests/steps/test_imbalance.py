from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from source_index import write_source_index
from trees import digest_tree

from imbnas.data.class_sizes import index_digest
from imbnas.data.materialise import write_split
from imbnas.data.raw import Raw, Shape
from imbnas.data.stored import read_labels
from imbnas.data.tail import read_longtail
from imbnas.errors import UserError
from imbnas.params.imbalance import ImbalanceView
from imbnas.params.target import TargetView
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.steps import imbalance, target


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose target training split has the labels 0..9 in turn, 5000 rows of each."""
    images = np.zeros((50_000, 1, 1, 1), np.uint8)
    raw = Raw(np.arange(50_000) % 10, [f"c{k}" for k in range(10)], images, None, tmp_path)
    write_split(
        tmp_path / "data/target/train",
        raw,
        np.arange(50_000),
        Shape(1, 1, 1),
        dataset="mnist",
        split="train",
        root="raw",
        photographs=False,
    )
    return tmp_path


def run(root: Path, validation: dict | None = None, log: Path | None = None, **params) -> dict:
    tree = {"imbalance": params, "target": {"root": "raw", "validation": validation or {}}}
    view = ImbalanceView.model_validate(tree, strict=False)
    imbalance.run(view, Context("imbalance", root, Log("imbalance", log)))
    return json.loads((root / "results/imbalance.json").read_text())


def test_the_published_subset(project: Path, tmp_path: Path):
    summary = run(project, log=tmp_path / "log", ratio=100.0)
    labels, info = read_labels(project / "data/target/train")
    tail = read_longtail(project / "data/longtail.parquet", labels)
    assert summary == {
        "profile": "exponential",
        "order": "native",
        "ratio": 100.0,
        "inverse": 0.01,
        "requested": 100.0,
        "measured_ratio": 100.0,
        "classes": [f"c{k}" for k in range(10)],
        "counts": [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
        "validation_counts": [0] * 10,
        "rows": 12406,
        "digest": "563055e23a86ca16",
        "target_digest": info.digest,
    }
    assert index_digest(tail.rows) == summary["digest"]
    assert not tail.validation.any()
    log = (tmp_path / "log").read_text()
    assert "ratio 100 (n_max / n_min), which is 0.01 as n_min / n_max; found 100" in log


def test_both_orientations_choose_the_same_rows(project: Path):
    first = run(project, ratio=50.0)
    rows = digest_tree(project / "data/longtail.parquet")
    second = run(project, ratio=0.02)
    assert digest_tree(project / "data/longtail.parquet") == rows
    assert (second.pop("requested"), first.pop("requested")) == (0.02, 50.0)
    assert first == second


def test_ratio_one_is_balanced(project: Path):
    assert run(project, ratio=1.0)["counts"] == [5000] * 10


def test_validation_is_held_out_of_the_tail(project: Path):
    whole = run(project, ratio=100.0)
    summary = run(project, {"from": "longtail", "fraction": 0.1}, ratio=100.0)
    assert summary["validation_counts"] == [500, 300, 180, 108, 65, 39, 24, 14, 9, 5]
    assert summary["counts"] == [4500, 2697, 1616, 969, 580, 348, 208, 125, 74, 45]
    # The same rows are chosen, and then divided.
    assert (summary["digest"], summary["rows"]) == (whole["digest"], whole["rows"])
    labels, _ = read_labels(project / "data/target/train")
    tail = read_longtail(project / "data/longtail.parquet", labels)
    assert index_digest(tail.rows) == whole["digest"]
    for validation, key in ((False, "counts"), (True, "validation_counts")):
        assert np.bincount(tail.part(validation)[1]).tolist() == summary[key]


def test_a_class_of_one_row_cannot_be_divided(project: Path):
    with pytest.raises(UserError, match=r"target\.validation\.fraction: 0\.1 takes 1 of the 1 rows of class 'c9'"):
        run(project, {"from": "longtail"}, ratio=5000.0)


def test_natural_and_counts_say_that_the_ratio_does_not_apply(project: Path, tmp_path: Path):
    (project / "raw").mkdir()
    (project / "raw/counts.txt").write_text("\n".join(str(10 * k) for k in range(1, 11)))
    summary = run(project, log=tmp_path / "log", profile="counts", counts="counts.txt")
    assert summary["counts"] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert (summary["ratio"], summary["inverse"], summary["requested"], summary["order"]) == (None, None, None, None)
    assert summary["measured_ratio"] == 10.0
    assert "counts: imbalance.ratio, n_max and order do not apply" in (tmp_path / "log").read_text()
    natural = run(project, profile="natural")
    assert (natural["rows"], natural["measured_ratio"]) == (50_000, 1.0)


@pytest.mark.parametrize("name", ["../counts.txt", "/counts.txt"])
def test_counts_stay_below_the_root(project: Path, name):
    with pytest.raises(UserError, match=r"imbalance\.counts: '"):
        run(project, profile="counts", counts=name)


def test_bytes_repeat(project: Path):
    run(project, {"from": "longtail"}, seed=3, order="shuffled")
    first = digest_tree(project / "data/longtail.parquet"), digest_tree(project / "results")
    run(project, {"from": "longtail"}, seed=3, order="shuffled")
    assert (digest_tree(project / "data/longtail.parquet"), digest_tree(project / "results")) == first
    run(project, {"from": "longtail"}, seed=4, order="shuffled")
    assert digest_tree(project / "data/longtail.parquet") != first[0]
    assert pq.ParquetFile(project / "data/longtail.parquet").metadata.metadata is None


def test_a_half_written_target_is_refused(project: Path):
    (project / "data/target/train/info.json").unlink()
    with pytest.raises(UserError, match=r"info\.json: not found, expected the description of a finished split"):
        run(project)


@pytest.mark.data
@pytest.mark.parametrize(
    ("profile", "ratio", "digest", "rows"),
    [
        ("exponential", 10.0, "a17d69f192b1cf6d", 20431),
        ("exponential", 50.0, "d7edcfaf02772bee", 13996),
        ("exponential", 100.0, "4bf45bff8878d278", 12406),
        ("exponential", 0.005, "a88004a1d1361093", 11203),
        ("step", 100.0, "7dde7b6c248f7ba6", 25250),
    ],
)
def test_cifar10_lt_is_the_published_one(cifar10: Path, profile, ratio, digest, rows):
    summary = run(cifar10, profile=profile, ratio=ratio)
    assert (summary["digest"], summary["rows"]) == (digest, rows)


@pytest.fixture(scope="module")
def cifar10(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the real CIFAR-10 as target, nothing reserved."""
    root = tmp_path_factory.mktemp("cifar10")
    (root / "raw").symlink_to(real_data)
    write_source_index(root)
    tree = {
        "target": {"dataset": "cifar10", "root": "raw", "validation": {"per_class": 0}},
        "source": {"dataset": "digits", "root": "x", "share": 0.5, "seed": 0},
    }
    target.run(TargetView.model_validate(tree, strict=False), Context("target", root, Log("target")))
    return root
