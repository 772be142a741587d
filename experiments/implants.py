"""Implanted cells beside adapters of as many parameters, finetuning and a new head, on digits: a page.

    python experiments/implants.py

Everything is the product's own steps, from one trained backbone per seed. What is finished is not computed again, so
that the command may be killed and given again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from adaptation_place import Place, Tree
from experiment_command import run
from inheritance_rows import Judge

from imbnas import page_record
from imbnas.errors import UserError
from imbnas.longtail.student import Estimate, holm, mean_of_runs
from imbnas.params.config import Params
from imbnas.run.graph import PATHS, cost_details
from imbnas.spaces.registry import make_space
from imbnas.training.checkpoint import load_weights, save_weights

CELLS, ADAPTERS, FINETUNING, HEAD = "cells", "adapters", "finetuning", "head"
ARMS = (CELLS, ADAPTERS, FINETUNING, HEAD)
CELLS_AT_RANDOM = "random cells"
PAGE = """# Implanted cells beside adapters, finetuning and a new head

`make implants` at commit {commit}, {processor}, {seeds} seeds, on digits.

**Rule, fixed before the first result.** Implanted cells are recommended only if cells minus finetuning and cells minus
adapters are both above 0; adapters in place of cells only if cells minus adapters is below 0 and adapters minus
finetuning is above 0. Above and below 0 mean p < 0.05 after Holm's correction for the four differences below. Otherwise
the documentation names finetuning first, and implants as what keeps the network as it is.

Each seed trains one backbone on the balanced source, and all arms begin with its bits. Cells are adapted for {adapted}
epochs on sampled paths, searched by evolution, and trained for {final} more, the backbone frozen. Adapters have the
parameters that the seed's chosen cells have, up to half a channel of width, but one channel per stage at the least,
which most chosen cells stay below; their epochs are the same. Finetuning trains the backbone, and the head alone is
trained on the frozen one, both for {all} epochs. All arms have the loss, the rate and the batches of the preset
`implant-digits`; nothing is tuned. Random cells have the MACs of the chosen ones and their weights from the same
adaptation. Figures are balanced accuracy on {rows:,} test rows in percent, means over seeds. Differences are paired by
seed, with Student's 95 % intervals over the seeds on these test rows; source and target have the same classes, so that
the source held balanced rows of the tail's classes, for all arms alike.
"""


class Bench:
    """The experiment's directory: a backbone per seed, and the arms that begin with it."""

    def __init__(self, root: Path, changes: Tree | None = None) -> None:
        """Run the steps before the backbone, unless they are done."""
        self.place = Place(root, "implant-digits", changes or {})
        self.place.prepare()
        self.judge = Judge(self.place)

    def scored(self, arm: str, seed: int) -> Tree:
        """Return the balanced accuracies of an arm's networks, its implants' parameters and what it took."""
        return self.place.kept(f"{arm}-{seed}", lambda: self._run(arm, seed))  # type: ignore[no-any-return]

    def _run(self, arm: str, seed: int) -> Tree:
        params, folder = self.params(arm, seed), self.place.root / arm / str(seed)
        files = {name: folder / Path(PATHS[name]).name for name in ("adapted", "search", "architecture", "handed")}
        files |= {name: folder / Path(PATHS[name]).name for name in ("final", "references", "retrain_losses", "cost")}
        backbone = self._backbone(seed, params, folder)
        self.place.step("adapt", params, supernet=backbone, **_some(files, "adapted", "cost"))
        self.place.step("search", params, **_some(files, "adapted", "search", "architecture", "handed", "cost"))
        self.place.step("retrain", params, **{name: file for name, file in files.items() if name != "adapted"})
        spent = json.loads(cost_details(files["cost"]).read_text())["steps"]
        return {
            **self.judge.scores(files["final"], files["references"]),
            "params": self._added(params, json.loads(files["architecture"].read_text())["chosen"]["architecture"]),
            "seconds": sum(spent[step]["seconds"] for step in ("adapt", "search", "retrain")),
            "processor": spent["retrain"]["processor"],
        }

    def params(self, arm: str, seed: int) -> Params:
        """Return an arm's parameters; adapters are as large as the seed's cells."""
        stages = len(self.place.params().space.stages.channels)
        frozen = self.place.params().retrain.finetune.epochs
        whole: Tree = {"epochs": frozen + self.place.params().adapt.implant.epochs}
        fixed: Tree = {"method": "fixed", "max_params": None}
        alone: Tree = {"adapt": {"strategy": "none"}, "search": {**fixed, "architecture": [0] * 6 * stages}}
        changes: dict[str, Tree] = {
            CELLS: {"retrain": {"references": {"random": 1, "largest": False}}},
            FINETUNING: {**alone, "retrain": {"references": False, "finetune": {**whole, "backbone": "trained"}}},
            HEAD: {**alone, "retrain": {"references": False, "finetune": whole}},
        }
        if arm == ADAPTERS:
            budget = max(1, self.scored(CELLS, seed)["params"])
            changes[ADAPTERS] = {
                "space": {"implant": {"kind": "adapters", "budget": budget}},
                "search": {**fixed, "architecture": [1] * stages},
                "retrain": {"references": False},
            }
        return self.place.params(seed, **changes[arm])

    def _backbone(self, seed: int, params: Params, folder: Path) -> Path:
        """Return a supernet with the seed's backbone; adapters get it in place of their own."""
        file = self.place.supernet(seed)
        if params.space.implant.kind == "cells":
            return file
        trained, meta = load_weights(file, "supernet")
        new = make_space(params.space).build_supernet(len(meta["classes"]), meta["shape"][2]).state_dict()
        kept = {name: value for name, value in trained.items() if ".implant." not in name}
        moved = folder / "supernet.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(moved, {**new, **kept}, {**meta, "space": params.space.described})
        return moved

    def _added(self, params: Params, architecture: list[int]) -> int:
        """Return the parameters of the implants."""
        space, info = make_space(params.space), self.judge.test.split.info
        chosen, none = (space.cost(a, info.shape, len(info.classes)) for a in (architecture, [0] * len(architecture)))
        return chosen.params - none.params


def _some(files: dict[str, Path], *names: str) -> dict[str, Path]:
    return {name: files[name] for name in names}


def differences(scores: dict[str, np.ndarray]) -> dict[str, Estimate]:
    """Return the four differences that the rule looks at, paired by seed."""
    pairs = ((CELLS, ADAPTERS), (CELLS, FINETUNING), (ADAPTERS, FINETUNING), (CELLS, HEAD))
    return {f"{first} minus {second}": mean_of_runs(scores[first] - scores[second]) for first, second in pairs}


def verdict(found: dict[str, Estimate]) -> str:
    """Return what the rule says."""
    p = dict(zip(found, holm([float(one.p()) for one in found.values()]), strict=True))

    def sign(name: str) -> int:
        return int(np.sign(float(found[name].value))) if p[name] < 0.05 else 0

    if sign("cells minus finetuning") > 0 and sign("cells minus adapters") > 0:
        return "Implanted cells are recommended."
    if sign("cells minus adapters") < 0 and sign("adapters minus finetuning") > 0:
        return "Adapters are recommended in place of cells."
    return "Finetuning is named first; implants keep the network as it is."


def page(cells: dict[str, list[Tree]], rows: int, adapted: int, final: int) -> str:
    """Return the page of all arms' scores, seed by seed in one order."""
    commit = page_record.commit()
    scores = {arm: 100.0 * np.array([one["test"]["final"] for one in own]) for arm, own in cells.items()}
    head = PAGE.format(
        commit=commit,
        processor=cells[CELLS][0]["processor"],
        seeds=len(cells[CELLS]),
        rows=rows,
        adapted=adapted,
        final=final,
        all=adapted + final,
    )
    lines = ["| arm | balanced accuracy | implants' parameters | seconds |", "|---|---:|---:|---:|"]
    for arm, own in cells.items():
        size, seconds = (np.mean([one[name] for one in own]) for name in ("params", "seconds"))
        lines.append(f"| {arm} | {scores[arm].mean():.1f} | {size:,.0f} | {seconds:.0f} |")
    random = 100.0 * np.mean([one["test"][name] for one in cells[CELLS] for name in one["test"] if name != "final"])
    lines += [f"| {CELLS_AT_RANDOM} | {random:.1f} | | |", "", "| difference | points | p |", "|---|---:|---:|"]
    found = differences(scores)
    for (name, one), p in zip(found.items(), holm([float(one.p()) for one in found.values()]), strict=True):
        low, high = one.ends(0.95)
        lines.append(f"| {name} | {float(one.value):+.1f} [{float(low):+.1f}, {float(high):+.1f}] | {p:.3f} |")
    return "\n".join([head, *lines, "", "## What the rule says", "", verdict(found), ""])


def measured(bench: Bench, seeds: int) -> dict[str, list[Tree]]:
    """Return each arm's scores of all seeds."""
    return {arm: [bench.scored(arm, seed) for seed in range(seeds)] for arm in ARMS}


def main() -> int:
    """Measure what is missing and write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Measure what is missing, and write and return the page."""
    if options.seeds < 2:
        raise UserError(f"--seeds {options.seeds}: expected at least 2, one has no interval")
    bench = Bench(options.work.resolve())
    params: Any = bench.place.params()
    cells = measured(bench, options.seeds)
    content = page(cells, len(bench.judge.test), params.adapt.implant.epochs, params.retrain.finetune.epochs)
    page_record.write_page(options.output, content, "make implants")
    return content


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".imbnas/implants"), help="where everything goes")
    parser.add_argument("--output", type=Path, default=Path("docs/results/implants.md"))
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each arm, its backbone included")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
