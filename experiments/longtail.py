"""Long-tailed methods side by side: one small fixed network on CIFAR-10-LT, some seeds each, into one table.

    python experiments/longtail.py --data DIR

`DIR` holds torchvision's `cifar-10-batches-py` (`--download` fetches it). Every cell is the product's own steps
`retrain` and `evaluate`; what comes before them runs once. Cells that are finished are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from imbnas import page_record
from imbnas.errors import UserError
from imbnas.params import presets
from imbnas.params.config import parse
from imbnas.run.graph import PATHS, cost_details
from imbnas.run.runner import run_step

Tree = dict[str, Any]

SHARED = ("source", "target", "imbalance", "supernet", "adapt", "search")
OWN = ("final", "references", "metrics", "details", "classes", "predictions", "figures", "plots", "cost")
LDAM: Tree = {"loss": "ldam", "weighting": {"defer": 0.8, "weights": "effective-number"}}
METHODS: dict[str, Tree] = {
    "CE": {"loss": "ce"},
    "post-hoc LA": {"loss": "ce", "head": {"name": "logit-adjustment"}},
    "cRT": {"loss": "ce", "head": {"name": "crt"}},
    "LWS": {"loss": "ce", "head": {"name": "lws"}},
    "tau-norm": {"loss": "ce", "head": {"name": "tau-norm"}},
    "CE-DRW": {"loss": "effective-number", "weighting": {"defer": 0.8}},
    "LDAM-DRW": LDAM,
    "LDAM-DRW, scale 10": {**LDAM, "classifier": {"scale": 10.0}},
    "balanced softmax": {"loss": "balanced-softmax"},
}
"""What each method changes in `retrain`. Those of plain cross-entropy share one training of a seed."""
TITLE = """# CIFAR-10-LT of ratio 100: long-tailed methods side by side, {seeds} seeds

`make longtail` at commit {commit}, {processor}: {minutes:.0f} minutes with {jobs} processes, which computed for
{computed:.0f} minutes together.

A ResNet of three basic blocks (16, 32 and 64 channels; {params:,} parameters) on images of {side} x {side} pixels,
{epochs} epochs, batches of {batch}, SGD with rate 0.1 that falls by 100 at 0.8 and 0.9 of them, random crops and
mirrors. This is far from the literature's ResNet-32 and 200 epochs, so the figures only compare methods with each
other. {reserved} rows of each class are held out first, and tau is chosen on them, which leaves {n_max:,} to {n_min}
training rows per class. Shot groups are thirds of the classes, because the usual thresholds find no few-shot class
here.

"""


def merged(tree: Tree, more: Tree) -> Tree:
    """Return a copy of `tree` with `more` put over it, section by section."""
    result = deepcopy(tree)
    for key, value in more.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return result


def base(data: Path, download: bool, epochs: int, side: int) -> Tree:
    """Return the parameters that all cells share."""
    changes: Tree = {
        "space": {
            "name": "resnet",
            "stages": {"channels": [16, 32, 64], "repeats": [1, 1, 1], "strides": [1, 2, 2]},
            "last_channels": None,
        },
        "runtime": {"device": "auto", "threads": 1},
        "source": {"validation": {"per_class": 1}},
        "target": {
            "dataset": "cifar10",
            "root": str(data.resolve()),
            "download": download,
            "image_size": side,
            "validation": {"per_class": 100},
        },
        "imbalance": {"ratio": 100.0},
        "supernet": {"epochs": 0, "probe_paths": 1},
        "adapt": {"strategy": "scratch", "scratch": {"epochs": 0}},
        "search": {"method": "fixed", "architecture": [0, 0, 0], "max_macs": None},
        "retrain": {
            "references": False,
            "epochs": epochs,
            "batch_size": 64,
            "optimizer": {"nesterov": False, "weight_decay": 5.0e-4},
            "schedule": {"name": "step", "warmup": 0.025, "milestones": [0.8, 0.9], "gamma": 0.01},
            "head": {"epochs": max(1, epochs // 3), "views": 4, "optimizer": {"nesterov": False}},
        },
        "evaluate": {"shots": "thirds"},
    }
    return merged(presets.params("digits").tree(), changes)


def run(step: str, tree: Tree, root: Path, moved: dict[str, Path]) -> None:
    """Run one step, or raise UserError."""
    log = (moved["details"].parents[1] if moved else root) / "logs" / f"{step}.log"
    if run_step(step, parse(tree, "experiments/longtail.py"), root, moved, log) != 0:
        raise UserError(f"{step}: failed, see {log}")


def cells(tree: Tree, root: Path, seed: int, methods: list[str]) -> list[str]:
    """Train and evaluate some methods of one seed, one after the other; return their names."""
    for method in methods:
        place = cell(root, method, seed)
        moved = {name: place / PATHS[name] for name in OWN}
        if moved["metrics"].exists():
            continue
        own = merged(tree, {"seed": seed, "retrain": METHODS[method]})
        for step in ("retrain", "evaluate"):
            run(step, own, root, moved)
    return methods


def cell(root: Path, method: str, seed: int) -> Path:
    """Return where a cell's results lie."""
    return root / "cells" / f"{method.replace(' ', '-')}-{seed}"


def groups() -> list[list[str]]:
    """Return the methods that share a training, together and first, and each of the others by itself."""
    plain = [name for name, change in METHODS.items() if change["loss"] == "ce"]
    return [plain, *([name] for name in METHODS if name not in plain)]


def table(root: Path, seeds: int, head: dict[str, Any]) -> str:
    """Return the page: how it was made, and the comparison with CE."""
    from imbnas.report.compare import compare
    from imbnas.report.compare_tables import comparison_markdown, shown_scores

    arguments = [f"{name}={','.join(str(cell(root, name, seed)) for seed in range(seeds))}" for name in METHODS]
    found = compare(arguments, PATHS["details"], PATHS["predictions"], "CE")
    details = found.details
    counts = details["imbalance"]["counts"]
    filled = {**head, "params": details["networks"]["final"]["params"], "n_max": max(counts), "n_min": min(counts)}
    digests = ", ".join(f"{name} `{value[:16]}`" for name, value in sorted(details["digests"].items()))
    markdown = comparison_markdown(found, shown_scores(found, "few"))
    return TITLE.format(**filled) + markdown + f"\nDigests: {digests}.\n"


def main() -> int:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("datasets/cifar10"), help="where CIFAR-10 is")
    parser.add_argument("--download", action="store_true", help="let torchvision download it")
    parser.add_argument("--work", type=Path, default=Path(".imbnas/longtail"), help="where the cells go")
    parser.add_argument("--output", type=Path, default=Path("docs/results/cifar10-lt.md"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--side", type=int, default=16, help="of the images, in pixels")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    started, root = time.monotonic(), options.work
    try:
        tree = base(options.data, options.download, options.epochs, options.side)
        (root / tree["source"]["root"]).mkdir(parents=True, exist_ok=True)
        # Each worker is a process of its own: a step sets threads and signals for all of its process.
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            pool.submit(prepare, tree, root).result()
            tasks = [pool.submit(cells, tree, root, seed, names) for names in groups() for seed in range(options.seeds)]
            for task in tasks:
                task.result()
        cost = json.loads(cost_details(cell(root, "CE", 0) / PATHS["cost"]).read_text())
        step = cost["steps"]["retrain"]
        head = {
            "seeds": options.seeds,
            "epochs": options.epochs,
            "side": options.side,
            "jobs": options.jobs,
            "batch": tree["retrain"]["batch_size"],
            "reserved": tree["target"]["validation"]["per_class"],
            "minutes": (time.monotonic() - started) / 60,
            "computed": sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) / 60,
            "commit": page_record.commit(),
            "processor": step["processor"] if step["device"] == "cpu" else step["device"],
        }
        page = table(root, options.seeds, head)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    page_record.write_page(options.output, page, "make longtail")
    print(page)
    return 0


def prepare(tree: Tree, root: Path) -> None:
    """Run the steps that all cells share, unless they are done."""
    if not (root / PATHS["architecture"]).exists():
        for step in SHARED:
            run(step, tree, root, {})


if __name__ == "__main__":
    sys.exit(main())
