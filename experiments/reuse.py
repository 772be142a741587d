"""Seconds of a chain that reuses a supernet beside those of the full chain, on digits: docs/results/reuse.md.

    python experiments/reuse.py [--work DIR]

Three projects by the product's own steps. The first trains a supernet on half of the digits 0 to 4. The other two have
the digits 5 to 9 as a long-tailed target: one trains the supernet itself, from the same source; the other one has no
file of the source, and reuses the first project's. Everything is measured in one run, in one process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from adaptation_place import Place, Tree
from experiment_command import run
from sklearn.datasets import load_digits

from imbnas import page_record
from imbnas.run.graph import PATHS, STEPS
from imbnas.training.checkpoint import load_weights

FILE = "supernets/first.safetensors"
HALVES = {"first": range(5), "second": range(5, 10)}
CHANGES: Tree = {
    "source": {"dataset": "npz", "root": "datasets/first", "share": 0.5},
    "target": {"dataset": "npz", "root": "datasets/second", "image_size": 8, "channels": 1},
    "retrain": {"references": {"random": 1, "largest": False}},
}
"""What differs from the preset `digits`."""
Seconds = dict[str, float]


def bring(place: Place, *names: str) -> None:
    """Write halves of the digits, by class, as the raw files of a project."""
    images, labels = load_digits(return_X_y=True)
    for name in names:
        classes = HALVES[name]
        rows = np.isin(labels, list(classes))
        file = place.root / "datasets" / name / "digits.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        pictures = (images[rows].reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
        np.savez(file, train_images=pictures, train_labels=labels[rows] - classes.start)


def timed(place: Place, *steps: str) -> Seconds:
    """Run steps and return the processor's seconds of each."""
    found: Seconds = {}
    for step in steps:
        begin = time.process_time()
        place.step(step, place.params())
        found[step] = time.process_time() - begin
    return found


def measured(work: Path) -> tuple[Seconds, dict[str, Seconds], dict[str, Place]]:
    """Return the seconds of the first project and of both others, and where the latter lie."""
    for step in STEPS:
        importlib.import_module(f"imbnas.steps.{step}")
    first = Place(work / "first", "digits", {**CHANGES, "target": {**CHANGES["target"], "root": "datasets/first"}})
    bring(first, "first")
    spent = timed(first, "source", "supernet")
    places = {
        "full chain": Place(work / "full", "digits", CHANGES),
        "reused": Place(work / "reused", "digits", {**CHANGES, "supernet": {"reuse": FILE}}),
    }
    bring(places["full chain"], "first", "second")
    bring(places["reused"], "second")
    file = places["reused"].root / FILE
    file.parent.mkdir(parents=True)
    shutil.copy(first.root / PATHS["supernet"], file)
    shutil.copy(first.root / "results/cost-details.json", file.with_suffix(".cost.json"))
    return spent, {name: timed(place, *STEPS) for name, place in places.items()}, places


def same_network(one: Path, other: Path) -> bool:
    """Return whether two files hold the same tensors, bit for bit."""
    (ours, _), (theirs, _) = load_weights(one), load_weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def page(spent: Seconds, seconds: dict[str, Seconds], places: dict[str, Place]) -> str:
    """Return the page of results."""
    full, reused = seconds["full chain"], seconds["reused"]
    whole, rest = sum(full.values()), sum(reused.values())
    commit = page_record.commit()
    same = same_network(*(place.root / PATHS["final"] for place in places.values()))
    scores = {
        name: json.loads((place.root / PATHS["metrics"]).read_text())["balanced_accuracy"]
        for name, place in places.items()
    }
    cost = json.loads((places["reused"].root / PATHS["cost"]).read_text())
    rows = [f"| {step} | {full[step]:.2f} | {reused[step]:.2f} |" for step in STEPS]
    return f"""# A reused supernet: seconds of a second target

`make reuse` at commit {commit}, one run, one thread. The digits 5 to 9 are the long-tailed target, by the
preset `digits` with one random reference. The full chain trains its supernet on half of the digits 0 to 4. The other
project has no file of that source: it takes the supernet that a first project has trained on it (`supernet.reuse`).

| step | full chain, processor s | reused, processor s |
| --- | ---: | ---: |
{chr(10).join(rows)}
| total | {whole:.2f} | {rest:.2f} |

The second target took {rest / whole:.2f} of the full chain's seconds. Seconds are the processor's, without starting the
interpreter and importing torch, since the machine ran other work meanwhile; only their ratio means anything. The
first project spent {spent["supernet"]:.2f} processor seconds on the supernet, once for all targets to come.
`results/cost.json` of the second shows {cost["reused_supernet_seconds"]:.1f} wall seconds for it, apart from its own
{cost["seconds"]:.1f}.

{_outcome(same, scores)}
How much is saved depends on what the supernet's training is of the whole: on digits it is cheap, and `retrain` trains
two networks for 120 epochs each. With the preset `cifar10-lt` the supernet takes 150 epochs of four paths.
"""


def _outcome(same: bool, scores: dict[str, float]) -> str:
    """Return how the two chosen networks compare."""
    told = " and ".join(f"{100 * score:.1f} ({name})" for name, score in scores.items())
    if same:
        return f"Both chains ended in the same network, bit for bit: balanced accuracy in percent {told}.\n"
    return (
        "The chains ended in different networks, since the second one normalises images as the supernet's were:\n"
        f"balanced accuracy in percent {told}.\n"
    )


def main() -> int:
    """Measure and write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Measure, and write and return the page."""
    work = options.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    content = page(*measured(work))
    page_record.write_page(options.output, content, "make reuse")
    return content


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".imbnas/reuse"), help="where the projects go; begun anew")
    parser.add_argument("--output", type=Path, default=Path("docs/results/reuse.md"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
