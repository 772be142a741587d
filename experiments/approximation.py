"""Accuracy by multiplier and the time that its emulation takes, on digits: docs/results/approximation.md.

    python experiments/approximation.py [--seeds 3] [--epochs 20] [--work DIR]

One cell of NAS-Bench-201 is trained on the long tail in float32 and under each multiplier, with the product's own
steps, and measured on the test rows once. The network of exact 8 bits is also measured under the other multipliers
without further training, its BatchNorm statistics measured anew. What is finished is not computed again.

The rule of decision, made before any figure was seen: multipliers are ordered by mean absolute error. Each one's
balanced accuracy, mean over seeds, must not be above that of the one before it by more than one standard error of the
difference, and the last one's not above the first one's. The standard error is that of two independent means over
seeds, both variances with their own n - 1. Trained and untrained networks are judged apart. The table shows all
differences whatever comes out.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from adaptation_place import Place, Tree
from experiment_command import run
from inheritance import CIFAR

from imbnas import page_record
from imbnas.approximate.families import FAMILIES
from imbnas.approximate.placement import Placement
from imbnas.data.stored import read_split
from imbnas.energy import network_energy
from imbnas.errors import UserError
from imbnas.params.approximate import EnergyParams
from imbnas.params.recipe import CalibrationParams
from imbnas.progress import Log
from imbnas.report.scores import Answers
from imbnas.run.context import Context, processor_model
from imbnas.run.graph import PATHS
from imbnas.saved import Network, load_subnet
from imbnas.spaces.registry import make_space
from imbnas.steps.answers import answer
from imbnas.steps.recalibration import calibrate
from imbnas.steps.rows import read_tail
from imbnas.steps.workbench import TrainingStep
from imbnas.training.runtime import Runtime

FLOAT = "float32"
ARMS = (FLOAT, *FAMILIES)
CHANGES: Tree = {
    "space": CIFAR["space"],
    "supernet": {"epochs": 0},
    "adapt": {"strategy": "none"},
    "search": {"method": "fixed", "architecture": [3, 1, 3, 1, 2, 3], "max_macs": None},
    "retrain": {"references": False},
}
"""A cell of three 3x3 convolutions, one 1x1 and two skip connections, and no network beside it."""
PAGE = """# Approximate multipliers: accuracy and emulation

`make approximation` at commit {commit}, {processor}, one thread. Digits, {rows} long-tailed training rows, {test} test
rows, one cell of NAS-Bench-201 (`3-1-3-1-2-3`, 8, 16 and 32 channels), {epochs} epochs, {seeds} seeds. All convolutions
of the cell's operations are approximate; stem, reductions and head are in float32. Decided beforehand, in
`experiments/approximation.py`: in order of the mean absolute error (MAE), balanced accuracy must not rise by more than
one standard error (SE) of the difference, from one multiplier to the next and from the first to the last.

{table}

Trained under each multiplier: {trained}. Trained in exact 8 bits, measured under each multiplier with BatchNorm
statistics measured anew: {switched}.

Balanced accuracy in percent, mean and standard error over seeds; every network was measured on the test rows once,
after its last epoch. Energy is that of multiplications and additions alone, by the default table (Horowitz 2014);
shares of the whole network, skeleton included. Slow-down is the processor time of the whole step `retrain` over that
in float32: medians over seeds. Other programs ran on the same machine.

The seeds draw weights and batches. One dataset, one cell and a small network: how much accuracy a multiplier costs
elsewhere, this page does not say.
"""


class Bench:
    """The experiment's directory, and the networks in it."""

    def __init__(self, work: Path, epochs: int) -> None:
        self.place = Place(work, "digits", CHANGES)
        self.epochs = epochs
        self.place.prepare()
        for step in ("supernet", "adapt", "search"):
            if not (work / PATHS["architecture"]).exists():
                self.place.step(step, self.place.params())
        self.runtime = Runtime(self.place.params().runtime)
        self.test = read_split(work / PATHS["target_test"], work)

    def trained(self, arm: str, seed: int) -> tuple[Path, float]:
        """Return a network's file and the processor's seconds of its training, now or in an earlier call."""
        final = self.place.root / "trained" / f"{arm}-{seed}-{self.epochs}.safetensors"
        moved = {name: final.with_name(f"{name}-{final.stem}") for name in ("references", "retrain_losses")}
        changes = {
            "retrain": {"epochs": self.epochs},
            "approximate": {"multiplier": None if arm == FLOAT else arm},
        }

        def train() -> float:
            begin = time.process_time()
            self.place.step("retrain", self.place.params(seed, **changes), final=final, **moved)
            return time.process_time() - begin

        return final, float(self.place.kept(f"seconds-{final.stem}", train))

    def accuracy(self, network: Network) -> float:
        """Return the balanced accuracy on the test rows."""
        context = Context("evaluate", self.place.root, Log("evaluate"))
        found: Answers = answer(network, self.test, self.runtime, context, 512, 0.0)
        right = found.actual == found.predicted
        return float(np.mean([right[found.actual == label].mean() for label in np.unique(found.actual)]))

    def switched(self, network: Network, arm: str, seed: int) -> Network:
        """Return a network under another multiplier, its BatchNorm statistics measured anew on training rows."""
        context = Context("retrain", self.place.root, Log("retrain"))
        rows, params = read_tail(context)[0], self.place.params()
        step = TrainingStep(context, self.runtime, make_space(params.space), rows, seed)
        model = copy.deepcopy(network.model)
        Placement(FAMILIES[arm].table(arm), None, False, {}).apply(model)
        calibrate(step, model, CalibrationParams())  # type: ignore[arg-type]
        return Network(model.eval(), network.meta, network.path)

    def measured(self, seeds: int) -> list[dict[str, Any]]:
        """Return for each arm its accuracies, trained and switched, seconds and energy."""
        found = []
        for arm in ARMS:
            row: dict[str, Any] = {"arm": arm, "trained": [], "switched": [], "seconds": []}
            for seed in range(seeds):
                path, seconds = self.trained(arm, seed)
                network = load_subnet(path)
                row["seconds"].append(seconds)
                row["trained"].append(self.accuracy(network))
                if arm != FLOAT:
                    exact = load_subnet(self.trained("exact", seed)[0])
                    row["switched"].append(self.accuracy(self.switched(exact, arm, seed)))
                print(f"{arm}, seed {seed}: {row['trained'][-1]:.4f}, {seconds:.1f} s", flush=True)
            share = (network.meta.get("approximate") or {}).get("relative_energy")
            energy = network_energy(network.model, network.meta["shape"], EnergyParams(), share)
            found.append({**row, "float32": energy.against_float32, "exact8": energy.against_exact8})
        return found


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of a mean over seeds."""
    return statistics.stdev(values) / math.sqrt(len(values))


def rises(columns: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Return differences and their standard errors: from each column of seeds to the next, and from first to last."""
    pairs = [*itertools.pairwise(columns), (columns[0], columns[-1])]
    return [
        (statistics.mean(b) - statistics.mean(a), math.hypot(standard_error(a), standard_error(b))) for a, b in pairs
    ]


def verdict(columns: Sequence[Sequence[float]]) -> str:
    """Return what the rule says of accuracies in ascending order of the multipliers' error."""
    found = rises(columns)
    broken = [(rise, error) for rise, error in found if rise > error]
    told = ", ".join(f"{100 * rise:+.1f} (SE {100 * error:.1f})" for rise, error in found)
    said = "accuracy does not rise by more than one standard error" if not broken else f"{len(broken)} rise(s) by more"
    return f"{said} ({told} points, the last from first to last)"


def page(found: Sequence[dict[str, Any]], head: dict[str, Any]) -> str:
    """Return docs/results/approximation.md."""
    base = statistics.median(found[0]["seconds"])
    titles = ["multiplier", "MAE", "trained under it", "SE", "only measured under it", "SE"]
    titles += ["energy, of float32", "of exact 8 bits", "slow-down"]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for row in found:
        arm = row["arm"]
        cells = [f"`{arm}`", "-" if arm == FLOAT else f"{FAMILIES[arm].table(arm).figures.mae:.1f}"]
        for values in (row["trained"], row["switched"]):
            cells += [f"{100 * statistics.mean(values):.1f}", f"{100 * standard_error(values):.1f}"] if values else "--"
        cells += ["1", "-"] if arm == FLOAT else [f"{row['float32']:.3f}", f"{row['exact8']:.3f}"]
        lines.append("| " + " | ".join([*cells, f"{statistics.median(row['seconds']) / base:.2f}"]) + " |")
    ordered = sorted(found[1:], key=lambda row: FAMILIES[row["arm"]].table(row["arm"]).figures.mae)
    verdicts = {name: verdict([row[name] for row in ordered]) for name in ("trained", "switched")}
    return PAGE.format(table="\n".join(lines), **verdicts, **head)


def main() -> int:
    """Measure what is missing and write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Measure what is missing, and write and return the page."""
    if options.seeds < 2:
        raise UserError(f"--seeds {options.seeds}: expected at least 2, one has no standard error")
    bench = Bench(options.work, options.epochs)
    found = bench.measured(options.seeds)
    rows = len(read_tail(Context("retrain", bench.place.root, Log("retrain")))[0])
    head = {"processor": processor_model(), "epochs": options.epochs, "seeds": options.seeds}
    content = page(found, {**head, "commit": page_record.commit(), "rows": rows, "test": bench.test.info.rows})
    page_record.write_page(options.output, content, "make approximation")
    return ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="two at the least")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path(".imbnas/approximation"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/approximation.md"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
