"""The plan of `ablation.py`: what is left, with hours on one thread."""

from __future__ import annotations

from pathlib import Path

from ablation_changes import OPERATIONS, SANDWICH_PATHS, SUPERNET
from ablation_scores import Ablation
from seeds_table import each_training

from imbnas.data.stored import read_info
from imbnas.params.config import Params
from imbnas.progress import Log
from imbnas.run.graph import cost_details
from imbnas.truth.data_rows import digests

PATHS = {"fair": OPERATIONS, "sandwich": SANDWICH_PATHS, "uniform": 1}
FORWARD = 1 / 3
"""A pass without gradients, as a share of one with them."""


class Passes:
    """What an image's pass through a cell takes, and how many of them the steps of a change make."""

    def __init__(self, ablation: Ablation, each: float) -> None:
        """Take the seconds of a training of the table."""
        spec, condition = ablation.table.spec, ablation.condition
        self.tail = sum(digests(ablation.table, condition).counts)
        self.source = read_info(ablation.table.files(condition)["source_train"]).rows
        self.share, self.cells = spec.source.share, len(spec.cells)
        self.judges = len(ablation.labels)
        self.second = each / (spec.retrain.epochs * self.tail)

    def seconds(self, params: Params, step: str) -> float:
        """Return about how long a step of a change takes."""
        if step == "supernet":
            section = params.supernet
            rows = self.source * params.source.share / self.share
            return self.second * rows * section.epochs * PATHS[section.sampling]
        if step == "adapt":
            adapt = params.adapt
            if adapt.strategy == "none":
                return 0.0
            whole = {"finetune": adapt.finetune, "scratch": adapt.scratch}
            recipe, part = (whole[adapt.strategy], 1.0) if adapt.strategy in whole else (adapt.head, FORWARD)
            return self.second * self.tail * recipe.epochs * PATHS[adapt.sampling] * part
        search = params.search
        scored = self.cells + (2 * search.population * search.generations if search.shifting.updates else 0)
        return self.second * FORWARD * scored * (self.judges + search.calibration.rows)


def plan(ablation: Ablation, wanted: list[tuple[list[str], range]], log: Log) -> str:
    """Return what is done and left of some changes with some seeds; what they share counts for the first of them."""
    each, source = each_training(ablation.table, ablation.condition, log)
    passes, seen, lines, hours = Passes(ablation, each), set[Path](), [], 0.0
    for name, seeds in [(name, seeds) for names, seeds in wanted for name in names]:
        change, left = ablation.changes[name], 0.0
        for seed in seeds:
            params, record = ablation.params(name, seed), ablation.record(name, seed)
            todo = {} if ablation.kept(name, seed) else {"answers": record.parent / record.stem}
            if todo:
                folders = ablation.folders(name, seed)
                todo |= {step: folders[step] for step in ("supernet", "adapt")}
            for step, place in todo.items():
                if place in seen or (step != "answers" and cost_details(place / f"{step}-cost.json").exists()):
                    continue
                seen.add(place)
                work = change.work if change.family == SUPERNET or step == "adapt" else 1.0
                left += work * passes.seconds(params, step)
        done = sum(ablation.kept(name, seed) is not None for seed in seeds)
        anew = f", supernets {seeds[0]} to {seeds[-1]}" if seeds[0] else ""
        lines.append(f"{name}{anew}: {done} of {len(seeds)} done, {left / 60:.0f} minutes left")
        hours += left / 3600
    lines.append(f"in all about {hours:.1f} hours on one thread, by {each:.0f} s a training of the table ({source})")
    return "\n".join(lines)
