"""A finished project in miniature, made by the real writers without training: what `evaluate` and its users read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from imbnas.data.augment import Augment
from imbnas.data.class_sizes import index_digest
from imbnas.data.materialise import write_split
from imbnas.data.raw import Raw, Shape
from imbnas.data.stored import Info, write_table
from imbnas.data.tail import LongTail, write_longtail
from imbnas.files import write_json
from imbnas.longtail.heads import make_head
from imbnas.params.shared import Numerics
from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.run.graph import PATHS
from imbnas.spaces.registry import make_space
from imbnas.training.checkpoint import save_weights

CLASSES = ["ant", "bee", "cat [1]", "dog"]
COUNTS = [150, 60, 19, 10]
SPACE = SpaceParams(
    stem=Stem(channels=4), stages=Stages(channels=[8, 8], repeats=[1, 1], strides=[1, 2]), last_channels=8
)
NUMERICS = Numerics(device="cpu", threads=1)
_SPACE = make_space(SPACE)
GREY = Shape(8, 8, 1)
KINDS: list[tuple[dict[str, Any], int]] = [
    ({"name": "linear"}, 1),
    ({"name": "cosine", "scale": 16.0}, 1),
    ({"name": "etf", "scale": 16.0}, 1),
    ({"name": "ncm"}, 1),
    ({"name": "linear"}, 2),
    ({"name": "ncm"}, 2),
]
"""Heads and numbers of branches that a network's file may describe."""
ARCHITECTURES = {"final": (0, 1), "random-1": (3, 2), "random-2": (1, 1), "random-3": (0, 2), "largest": (2, 2)}
REFERENCES = [name for name in ARCHITECTURES if name != "final"]


def subnet_meta(architecture: tuple[int, ...], info: Info, load_side: int | None = None) -> dict[str, Any]:
    """Return the metadata of a subnet as the step `retrain` writes it."""
    return {
        "step": "retrain",
        "space": SPACE.described,
        "classes": info.classes,
        "shape": info.shape,
        "mean": info.mean,
        "std": info.std,
        "load_side": load_side or info.shape[0],
        "dataset": info.dataset,
        "digests": {"target_train": "0" * 64},
        "counts": COUNTS,
        "trained_counts": COUNTS,
        "seed": 3,
        "recipe": {"epochs": 0, "loss": "ce"},
        "epoch_rule": "last",
        **described(architecture, info),
    }


def described(architecture: tuple[int, ...], info: Info) -> dict[str, Any]:
    """Return what architecture.json says of an architecture."""
    cost = _SPACE.cost(architecture, info.shape, len(info.classes))
    return {
        "architecture": list(architecture),
        "blocks": _SPACE.describe(architecture),
        "macs": cost.macs,
        "params": cost.params,
    }


def subnet_weights(architecture: tuple[int, ...], info: Info, seed: int) -> dict[str, torch.Tensor]:
    """Return random weights with a head that tells classes apart by their mean features, rightly for some images."""
    torch.manual_seed(seed)
    model = _SPACE.build_subnet(architecture, len(CLASSES), info.shape[2]).eval()
    images, labels = graded_images(60, Shape(*info.shape))
    preprocess = Augment(Shape(*info.shape), "none", 0, False, 0, info.mean, info.std)
    with torch.no_grad():
        features = model.features(preprocess(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())))
        means = torch.stack([features[labels == label].mean(dim=0) for label in range(len(CLASSES))])
        scale = features.std(dim=0).square() + 1e-3
        model.head.weight.copy_(means / scale)
        model.head.bias.copy_(-(means.square() / scale).sum(dim=1) / 2)
    return model.state_dict()


def graded_images(rows: int, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images (N, H, W, C) and labels; brightness hints at the label."""
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % len(CLASSES)
    noise = rng.integers(0, 120, (rows, shape.height, shape.width, shape.channels))
    return (noise + 30 * labels[:, None, None, None]).astype(np.uint8), labels


def write_test_split(root: Path, rows: int = 60, shape: Shape = GREY, files: bool = False) -> Info:
    """Write data/target/test, as an array or as PNG files below `photos`."""
    images, labels = graded_images(rows, shape)
    paths = None
    if files:
        paths = [f"{CLASSES[label]}/{row}.png" for row, label in enumerate(labels)]
        for path, image in zip(paths, images, strict=True):
            (root / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image if shape.channels == 3 else image[..., 0]).save(root / "photos" / path)
    raw = Raw(labels, CLASSES, None if files else images, paths, root / "photos")
    return write_split(
        root / PATHS["target_test"],
        raw,
        np.arange(rows),
        shape,
        dataset="folder" if files else "digits",
        split="test",
        root="photos",
        photographs=False,
    )


def write_networks(root: Path, info: Info, references: bool = True, load_side: int | None = None) -> None:
    """Write models/final.safetensors and models/references.safetensors."""
    chosen = ARCHITECTURES["final"]
    meta = subnet_meta(chosen, info, load_side)
    save_weights(root / PATHS["final"], subnet_weights(chosen, info, 1), {"kind": "subnet", **meta})
    others = {name: ARCHITECTURES[name] for name in REFERENCES} if references else {}
    tensors = {
        f"{name}.{key}": value
        for seed, (name, architecture) in enumerate(others.items(), 2)
        for key, value in subnet_weights(architecture, info, seed).items()
    }
    macs = described(chosen, info)["macs"]
    networks = {name: described(architecture, info) for name, architecture in others.items()}
    for entry in networks.values():
        entry["gap"] = entry["macs"] / macs - 1.0
    common = {key: value for key, value in meta.items() if key not in described(chosen, info)}
    save_weights(root / PATHS["references"], tensors, {"kind": "references", "networks": networks, **common})


def write_other_network(path: Path, info: Info, head: dict[str, Any], branches: int = 1) -> torch.nn.Module:
    """Write a network with this head and branches, everything in it random, and return it in evaluation mode."""
    torch.manual_seed(4)
    architecture = ARCHITECTURES["final"]
    build = _SPACE.build_subnet if branches == 1 else _SPACE.build_bilateral
    model = build(architecture, len(CLASSES), info.shape[2])
    model.head = make_head(head, branches * _SPACE.num_features, len(CLASSES))
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if name.endswith("running_var") else value.normal_()
    meta = {"kind": "subnet", **subnet_meta(architecture, info), "head": head, "branches": branches}
    save_weights(path, model.state_dict(), meta)
    return model.eval()


def write_search(root: Path, info: Info, scored: bool = True) -> None:
    """Write results/search.parquet and results/architecture.json; not `scored` is what the method `fixed` writes."""
    chosen = ARCHITECTURES["final"]
    listed = [chosen, ARCHITECTURES["random-1"], (1, 1)] if scored else [chosen]
    costs = [described(architecture, info) for architecture in listed]
    scores = pa.array([0.5, 0.4, 0.3] if scored else [None], pa.float64())
    columns = {
        "evaluation": pa.array(range(len(listed)), pa.int64()),
        "generation": pa.array([0, 0, 1][: len(listed)], pa.int64()),
        "architecture": ["-".join(map(str, architecture)) for architecture in listed],
        **{name: scores for name in ("score", "standard_error", "balanced_accuracy", "accuracy", "worst_class")},
        "macs": pa.array([cost["macs"] for cost in costs], pa.int64()),
        "params": pa.array([cost["params"] for cost in costs], pa.int64()),
        "rank": pa.array(range(1, len(listed) + 1), pa.int64()),
        "chosen": [architecture == chosen for architecture in listed],
    }
    write_table(root / PATHS["search"], pa.table(columns))
    record = {
        "space": SPACE.name,
        "method": "evolution" if scored else "fixed",
        "objective": "balanced_accuracy",
        "validation_rows": 40 if scored else 0,
        "chosen": {
            "score": 0.5 if scored else None,
            "standard_error": 0.02 if scored else None,
            **described(chosen, info),
        },
        "limits": {"max_macs": None, "max_params": None},
    }
    write_json(root / PATHS["architecture"], record)
    write_facts(root, listed, costs, scored)


def write_facts(root: Path, listed: list[tuple[int, ...]], costs: list[dict[str, Any]], scored: bool) -> None:
    """Write results/search.json and results/front.parquet of the same search: all candidates are on the front."""
    kept = list(zip(listed, costs, (0.5, 0.4, 0.3), strict=False)) if scored else []
    columns = {
        "architecture": pa.array(["-".join(map(str, architecture)) for architecture, _, _ in kept], pa.string()),
        "score": pa.array([score for _, _, score in kept], pa.float64()),
        "standard_error": pa.array([0.02] * len(kept), pa.float64()),
        "macs": pa.array([cost["macs"] for _, cost, _ in kept], pa.int64()),
        "params": pa.array([cost["params"] for _, cost, _ in kept], pa.int64()),
        "chosen": pa.array([place == 0 for place in range(len(kept))], pa.bool_()),
    }
    write_table(root / PATHS["front"], pa.table(columns))
    best = {"architecture": list(listed[0]), "score": 0.5, "macs": costs[0]["macs"], "params": costs[0]["params"]}
    record = {
        "space": SPACE.name,
        "method": "evolution" if scored else "fixed",
        "objective": "balanced_accuracy",
        "evaluated": len(kept),
        "choose": "best",
        "validation_rows": 40 if scored else 0,
        "chosen": best if scored else None,
        "best": best if scored else None,
        "within_one_error": {"count": 2, "cheapest": best} if scored else None,
        "halves": {"rows": [20, 20], "tau": 0.25} if scored else None,
        "tau_macs": 0.5 if scored else None,
        "tau_params": None,
    }
    write_json(root / PATHS["search_facts"], record)


def write_tail(root: Path) -> None:
    """Write data/longtail.parquet, with two rows held out for validation, and results/imbalance.json."""
    labels = np.repeat(np.arange(len(CLASSES)), COUNTS)
    held = np.array([0, 3])
    rows = np.arange(len(labels) + len(held))
    tail = LongTail(rows, np.concatenate([labels, held]), rows >= len(labels))
    write_longtail(root / PATHS["longtail"], tail)
    summary = {
        "profile": "counts",
        "measured_ratio": max(COUNTS) / min(COUNTS),
        "classes": CLASSES,
        "counts": COUNTS,
        "order": "native",
        "ratio": 20.0,
        "rows": sum(COUNTS),
        "validation_counts": [2, 0, 0, 0],
        "digest": index_digest(rows),
    }
    write_json(root / PATHS["imbalance"], summary)


def write_project(root: Path, references: bool = True, scored: bool = True, files: bool = False) -> Info:
    """Write everything that `evaluate` reads and return the test split's description."""
    # Files are read a little larger than the network's input, from which the centre is cut.
    shape, load_side = (Shape(14, 14, 3), 16) if files else (GREY, None)
    info = write_test_split(root, shape=shape, files=files)
    # It has to be there, and is opened for `evaluate.int8` alone.
    shutil.copytree(root / PATHS["target_test"], root / PATHS["target_train"])
    write_tail(root)
    write_search(root, info, scored)
    write_networks(root, info, references, load_side)
    return info


def read(root: Path, name: str) -> Any:
    """Return the JSON content of a file of the chain."""
    return json.loads((root / PATHS[name]).read_text())
