"""Rankings of subnets: those of adapted supernets, and the one that training each subnet alone gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from adaptation_place import Place, Tree

from imbnas.files import write_json
from imbnas.longtail.heads import LINEAR, make_head
from imbnas.params.space_options import SpaceParams
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.saved import load_subnet
from imbnas.search.trie import TrieScorer
from imbnas.seeds import stream
from imbnas.spaces.constraints import largest, smallest
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.steps.recalibration import calibration_rows
from imbnas.steps.rows import all_rows, make_augment, make_store, read_tail, read_validation
from imbnas.steps.workbench import TrainingStep
from imbnas.training.checkpoint import load_weights
from imbnas.training.scoring import Batches

Scores = dict[str, np.ndarray]

CELLS: Tree = {
    "name": "nasbench201",
    "stem": {"channels": 8},
    "stages": {"channels": [8], "repeats": [2], "strides": [1]},
    "last_channels": None,
}
"""A space in which subnets differ by more than the seeds of their trainings: a cell of NAS-Bench-201, twice.

No reduction block is between, whose convolutions would do what a bad cell does not."""


def drawn_cells(place: Place, count: int) -> list[Architecture]:
    """Return different connected cells, drawn uniformly."""
    space, rng = make_space(place.params().space), stream(0, "experiment", "adaptation")
    cells: list[Architecture] = []
    while len(cells) < count:
        cell = space.sample(rng)
        if cell not in cells:
            cells.append(cell)
    return cells


def spread_subnets(place: Place, count: int) -> list[Architecture]:
    """Return different subnets, the smallest and the largest and others evenly spread over the MACs between."""
    space = make_space(place.params().space)
    table, rng = space.cost_table((8, 8, 1), 10), stream(0, "experiment", "adaptation")
    drawn = {space.sample(rng) for _ in range(500)} - {smallest(table), largest(table, Limits())}
    order = sorted(drawn, key=lambda path: (table.cost(path).macs, path))
    places = np.linspace(0, len(order) - 1, count - 2).round().astype(int)
    return [smallest(table), *(order[k] for k in places), largest(table, Limits())]


class Judge:
    """Scores networks by balanced accuracy: supernets' paths on the validation rows, trained subnets on the test rows.

    A supernet and the truth about it thus share no row that one of them might get right by chance.
    """

    def __init__(self, place: Place) -> None:
        """Read the rows."""
        params = place.params()
        context, search = Context("search", place.root, Log("judge")), params.search
        tail, held_out = read_tail(context)
        step = TrainingStep.start(context, params.runtime, make_space(params.space), tail, 0)
        calibration = calibration_rows(step, search.calibration)
        self.runtime, self.augment, self.classes = step.runtime, make_augment(tail.split, None), 10
        size = search.calibration.batch_size
        self.calibration = Batches(make_store(calibration, self.runtime, context), size)
        rows, test = read_validation(context, held_out, "the experiment"), all_rows(context, "target_test")
        self.validation = Batches(make_store(rows, self.runtime, context), search.batch_size)
        self.test = Batches(make_store(test, self.runtime, context), search.batch_size)

    def supernet(self, file: Path, paths: list[Architecture]) -> list[float]:
        """Return the scores of paths of an adapted supernet on the validation rows, as the search gives them."""
        state, meta = load_weights(file, "supernet")
        space = make_space(SpaceParams.model_validate_json(json.dumps(meta["space"])))
        supernet = space.build_supernet(self.classes, meta["shape"][2])
        supernet.head = make_head(meta.get("head", LINEAR), space.num_features, self.classes)
        supernet.load_state_dict(state)
        rows = (self.calibration, self.validation)
        scorer = TrieScorer(self.runtime, supernet, *rows, self.augment, self.classes, 2**30)
        found = {path: tally.balanced_accuracy for path, tally in scorer(paths)}
        return [found[path] for path in paths]

    def subnet(self, file: Path) -> float:
        """Return the score of a trained network on the test rows."""
        model, right, support = load_subnet(file).model, np.zeros(self.classes), np.zeros(self.classes)
        with torch.no_grad():
            for images, labels in self.test:
                truth = labels.numpy()
                hits = model(self.augment(images)).argmax(dim=1).numpy() == truth
                support += np.bincount(truth, minlength=self.classes)
                right += np.bincount(truth[hits], minlength=self.classes)
        return float((right / support).mean())


def retrained(place: Place, judge: Judge, path: Architecture, seed: int) -> float:
    """Return the score of a subnet trained from scratch on the long tail with the retrain recipe."""
    folder = place.root / "retrained"
    moved = {"architecture": folder / "architecture.json", "final": folder / "final.safetensors"}
    moved |= {"references": folder / "references.safetensors", "cost": folder / "cost.json"}
    record = {"architecture": list(path), "blocks": [], "macs": 0, "params": 0}
    name = place.params().space.name
    write_json(
        moved["architecture"], {"space": name, "chosen": record, "limits": {"max_macs": None, "max_params": None}}
    )
    place.step("retrain", place.params(seed, retrain={"references": False}), **moved)
    return judge.subnet(moved["final"])


def truths(place: Place, judge: Judge, paths: list[Architecture], seeds: int) -> np.ndarray:
    """Return the scores (seeds, subnets) of subnets trained alone."""
    return np.array([[_kept_truth(place, judge, path, seed) for path in paths] for seed in range(seeds)])


def _kept_truth(place: Place, judge: Judge, path: Architecture, seed: int) -> float:
    name = f"retrained-{'-'.join(map(str, path))}-{seed}"
    score: float = place.kept(name, lambda: retrained(place, judge, path, seed))
    return score


def rankings(
    place: Place, judge: Judge, variants: dict[str, Tree], paths: list[Architecture], supernets: int, seeds: int
) -> Scores:
    """Return the scores (seeds, subnets) that each variant's supernets give; seed s adapts supernet s of so many."""
    scores: Scores = {}
    for variant, change in variants.items():
        rows = []
        for seed in range(seeds):
            file = place.adapted(variant, change, seed, place.supernet(seed % supernets))
            rows.append(place.kept(f"scores-{file.stem}", lambda file=file: judge.supernet(file, paths)))  # type: ignore[misc]
        scores[variant] = np.array(rows)
    return scores
