"""The discretisation gap of the differentiable searches beside edge entropy, skip connections and zeros: a page.

    python experiments/gap.py

Everything is the product's own steps in the relaxation of NAS-Bench-201's cell, on digits. A search that is finished is
not run again, so that the command may be killed and given again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from adaptation_place import Place, Tree
from experiment_command import run

from imbnas import page_record
from imbnas.cell_graph import EDGES, OPERATIONS
from imbnas.data.stored import read_split
from imbnas.differentiable.sparsemax import sparsemax
from imbnas.errors import UserError
from imbnas.longtail.student import Estimate, holm, mean_of_runs
from imbnas.params.config import Params
from imbnas.run.context import processor_model
from imbnas.run.graph import PATHS, STEPS
from imbnas.search.rank_correlation import kendall

DARTS, FIXED, REDRAWN = "DARTS, first order", "single-stage, fixed half", "single-stage, redrawn part"
ONE_LEVEL = "one-level, pruned"
EPOCHS, SHORT = 40, (10, 20)
CHANGES: Tree = {
    "space": {"stages": {"repeats": [1, 1]}},
    "target": {"validation": {"per_class": 20}},
    "retrain": {"references": False},
}
"""What all arms change in the preset `zo-darts-digits`: half of its cells, twice its validation rows."""
MIXTURE: Tree = {"outcome": "mixture", "order": "first", "relaxation": "sparsemax", "temperature": {"factor": 0.75}}
PRUNING: Tree = {"per_epoch": 2, "penalty": 1e-3, "keep": 6}
FIRST: Tree = {"order": "first", "relaxation": "softmax"}
ARMS: dict[str, Tree] = {
    DARTS: FIRST,
    **{f"{DARTS}, {epochs} epochs": {**FIRST, "epochs": epochs} for epochs in SHORT},
    "ZO-DARTS+": {},
    "FairDARTS": {"order": "first", "relaxation": "sigmoid", "zero_one": 10.0},
    FIXED: MIXTURE,
    REDRAWN: {**MIXTURE, "split": "redrawn", "share": 0.85},
    ONE_LEVEL: {"optimization": "one-level", "order": "first", "relaxation": "sigmoid", "pruning": PRUNING},
}
"""What each arm changes in `search.darts`."""
PAGE = """# The discretisation gap of the differentiable searches

`make gap` at commit {commit}, {processor}, {seeds} seeds, on digits in the space `nasbench201`.

**Rule, fixed before the first result.** DARTS' gap is said to be there if it is above 0; to grow with edge entropy if
the rank correlation over its seeds and lengths is above 0; the redrawn part is said to leave another share of skip
connections than the fixed half if their difference is not 0. Each needs p < 0.05 after Holm's correction for these
three. Otherwise the page says that it is not shown.

The gap is the search network's balanced accuracy as a mixture, less that of the derived operations alone with the
search's own weights, BatchNorm statistics measured anew for both: the figure of `results/search.json`. It is in points,
on {rows} validation rows that decide nothing. All searches have one cell in each of two stages of 8 and 16 channels,
batches of 32, weights' rate 0.1, architecture's rate 0.015 and {epochs} epochs unless the arm says otherwise, {train}
training rows at ratio 20, and nothing is tuned. The single-stage arms search with sparsemax in the first half of the
epochs, and learn weights in the second: nothing of them is decoded, and their gap is what decoding would lose. The
one-level arm prunes at most {per_epoch} operations after each epoch until {keep} are left.

Entropy is the mean over edges, or for sigmoids over operations, as a share of the largest possible one. Zeros are the
share of weights of operations that are exactly 0, those of `none` included where it has one; skip connections are of
the six edges of the derived cell. Intervals are Student's of 95 % over the seeds, which draw weights and batches; the
rows are the same for all of them.
"""


class Bench:
    """The experiment's directory: first weights per seed, and the searches that begin with them."""

    def __init__(self, root: Path, changes: Tree | None = None) -> None:
        """Run the steps before the searches, unless they are done."""
        self.place = Place(root, "zo-darts-digits", {**CHANGES, **(changes or {})})
        self.place.prepare()

    def params(self, arm: str, seed: int) -> Params:
        """Return an arm's parameters."""
        darts: Tree = {"epochs": EPOCHS, **ARMS[arm]}
        given: Tree = {"init": "handed", "finetune": {"epochs": 0}} if "outcome" in darts else {}
        return self.place.params(seed, search={"darts": darts}, retrain=given)

    def found(self, arm: str, seed: int) -> Tree:
        """Return what a search has left behind, now or in an earlier call."""
        return self.place.kept(f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}", lambda: self._run(arm, seed))

    def _run(self, arm: str, seed: int) -> Tree:
        params, folder = self.params(arm, seed), self.place.root / "searches" / f"{arm}-{seed}"
        files = {name: folder / Path(PATHS[name]).name for name in (*STEPS["search"].outputs, "cost")}
        adapted = self.place.adapted("scratch", {}, seed, self.place.supernet(seed))
        self.place.step("search", params, adapted=adapted, **files)
        gap = json.loads(files["search_facts"].read_text())["discretisation"]
        last = pq.read_table(files["search"]).to_pylist()[-1]
        weights = operation_weights(params.search.darts.relaxation, last)
        print(f"{arm}, seed {seed}: gap {gap['gap']:.4f}, entropy {gap['entropy']:.4f}", flush=True)
        return {
            **{name: gap[name] for name in ("continuous", "decoded", "gap")},
            "entropy": gap["entropy"] / float(np.log(2 if params.search.darts.relaxation == "sigmoid" else 5)),
            "zeros": float(np.mean(weights == 0.0)),
            "skips": last["skips_cell"] / len(EDGES),
            "processor": processor_model(),
        }


def operation_weights(relaxation: str, row: Mapping[str, Any]) -> np.ndarray:
    """Return the weights (edges, operations) after an epoch, from its row of results/search.parquet."""
    values = torch.tensor(row["alpha_cell"]).float().reshape(len(EDGES), -1)
    if relaxation == "sigmoid":
        kept = row.get("kept_cell") or [True] * values.numel()
        return (values.sigmoid() * torch.tensor(kept).reshape(values.shape)).numpy()
    assert values.shape[1] == len(OPERATIONS)
    return (values.softmax(dim=1) if relaxation == "softmax" else sparsemax(values / row["temperature"])).numpy()


def jackknifed(statistic: Callable[[np.ndarray], float], seeds: int) -> Estimate:
    """Return a statistic of places of seeds with its error over them: Student's t on the jackknife's pseudo-values."""
    every = np.arange(seeds)
    whole = statistic(every)
    left = [seeds * whole - (seeds - 1) * statistic(every[every != seed]) for seed in range(seeds)]
    around = mean_of_runs(left)
    return Estimate(np.asarray(whole), around.error, around.freedom)


def correlation(cells: Mapping[str, Sequence[Tree]], arms: Sequence[str]) -> Estimate:
    """Return Kendall's rank correlation (tau-b) of gap and entropy over the seeds of some arms."""
    gap, entropy = (np.array([[one[name] for one in cells[arm]] for arm in arms]) for name in ("gap", "entropy"))
    # Where one of both has a single value there is nothing to rank.
    return jackknifed(lambda seeds: kendall(gap[:, seeds].ravel(), entropy[:, seeds].ravel()) or 0.0, gap.shape[1])


def claims(cells: Mapping[str, Sequence[Tree]]) -> dict[str, Estimate]:
    """Return the three figures that the rule looks at."""
    skips = {arm: np.array([one["skips"] for one in cells[arm]]) for arm in (FIXED, REDRAWN)}
    return {
        "DARTS' gap, points": mean_of_runs([100.0 * one["gap"] for one in cells[DARTS]]),
        "rank correlation of DARTS' gap and entropy": correlation(cells, [arm for arm in cells if DARTS in arm]),
        "share of skip connections, redrawn part minus fixed half": mean_of_runs(skips[REDRAWN] - skips[FIXED]),
    }


def verdict(found: Mapping[str, Estimate], p: Sequence[float]) -> str:
    """Return what the rule says."""
    gap, with_entropy, skips = (
        value < 0.05 and (one.value > 0 or place == 2)
        for place, (one, value) in enumerate(zip(found.values(), p, strict=True))
    )
    said = [
        f"DARTS' gap is {'shown' if gap else 'not shown'}.",
        f"That it grows with edge entropy is {'shown' if with_entropy else 'not shown'}.",
        f"That the splits differ in skip connections is {'shown' if skips else 'not shown'}.",
    ]
    return " ".join(said)


def told(one: Estimate, digits: int) -> str:
    """Return a figure with its interval, as text."""
    low, high = one.ends(0.95)
    return f"{float(one.value):.{digits}f} [{float(low):.{digits}f}, {float(high):.{digits}f}]"


def page(cells: Mapping[str, Sequence[Tree]], head: Mapping[str, Any]) -> str:
    """Return the page of all arms' searches, seed by seed in one order."""
    lines = ["| arm | as a mixture | decoded | gap, points | entropy | zeros | skip connections |"]
    lines.append("|---|" + "---:|" * 6)
    for arm, own in cells.items():
        values = {name: [one[name] for one in own] for name in own[0] if name != "processor"}
        means = [f"{100.0 * np.mean(values[name]):.1f}" for name in ("continuous", "decoded")]
        means.append(told(mean_of_runs([100.0 * value for value in values["gap"]]), 1))
        means += [told(mean_of_runs(values[name]), 2) for name in ("entropy", "zeros", "skips")]
        lines.append(f"| {arm} | " + " | ".join(means) + " |")
    found = claims(cells)
    p = holm([float(one.p()) for one in found.values()])
    lines += ["", "| figure of the rule | value | p |", "|---|---:|---:|"]
    lines += [f"| {name} | {told(one, 2)} | {value:.3f} |" for (name, one), value in zip(found.items(), p, strict=True)]
    lines += [
        "",
        f"Over all arms and seeds that rank correlation is {told(correlation(cells, list(cells)), 2)}.",
    ]
    lines += [
        "Its errors, as that of DARTS' alone, come from the jackknife over seeds.",
        "",
        "## What the rule says",
        "",
    ]
    return "\n".join([PAGE.format(**head, processor=cells[DARTS][0]["processor"]), *lines, verdict(found, p), ""])


def main() -> int:
    """Search what is missing and write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Search what is missing, and write and return the page."""
    if options.seeds < 3:
        raise UserError(f"--seeds {options.seeds}: expected at least 3, of which the jackknife leaves out one")
    bench = Bench(options.work.resolve())
    cells = {arm: [bench.found(arm, seed) for seed in range(options.seeds)] for arm in ARMS}
    root = bench.place.root
    head = {"commit": page_record.commit(), "seeds": options.seeds, "epochs": EPOCHS, **PRUNING}
    head["rows"] = read_split(root / PATHS["target_validation"], root).info.rows
    head["train"] = pq.read_table(root / PATHS["longtail"])["split"].to_pylist().count("train")
    content = page(cells, head)
    page_record.write_page(options.output, content, "make gap", {"searches": cells})
    return content


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".imbnas/gap"), help="where everything goes")
    parser.add_argument("--output", type=Path, default=Path("docs/results/discretisation-gap.md"))
    parser.add_argument("--seeds", type=int, default=5, help="searches of each arm")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
