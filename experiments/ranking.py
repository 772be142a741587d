"""How well cheap scores rank the cells of a truth table: adapted supernets, proxies and costs, into one page.

    python experiments/ranking.py tables/cifar10-lt-16.yaml --data DIR --seeds 5

Each seed trains a supernet on the table's source, which shares no row with the table's target, and adapts it to the
long-tailed condition by each strategy. Scores are balanced accuracies on the validation rows, as the search gives them;
the truth are the table's accuracies on the test rows. What is finished is not computed again.
"""

from __future__ import annotations

import argparse
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from experiment_command import run
from longtail import merged
from ranking_page import in_order, write_ranking
from table_options import check_condition, table_parser

from imbnas.closure import step_digest
from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_bytes
from imbnas.params.config import Params, parse
from imbnas.params.search import SearchView
from imbnas.params.truth import text_of
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.run.runner import run_step
from imbnas.sealed import DamagedError, read_record, write_record
from imbnas.search.proxies import PROXIES
from imbnas.seeds import derive
from imbnas.spaces.registry import make_space
from imbnas.steps.path_scorer import calibration_rows, path_scorer
from imbnas.steps.rows import read_tail, read_validation
from imbnas.steps.workbench import TrainingStep
from imbnas.training.scoring import Batches
from imbnas.truth.data_rows import prepare
from imbnas.truth.places import Table

Tree = dict[str, Any]
STRATEGIES = ("none", "head", "finetune", "scratch")
PROXY_ROWS = 64
"""Training rows that a proxy sees, as in the search."""
RECIPE: Tree = {"batch_size": 128, "optimizer": {"lr": 0.1, "weight_decay": 5.0e-4}}


class Ranking:
    """The scores of a table's cells under one condition, kept below the table's working files."""

    def __init__(self, table: Table, condition: str, epochs: dict[str, int]) -> None:
        """Take the table, the condition that supernets are adapted to, and the epochs of each training by its name."""
        self.table, self.condition, self.epochs = table, condition, epochs
        self.cells = table.spec.architectures
        code = {step: step_digest(step) for step in ("supernet", "adapt", "search")}
        made = [condition, epochs, [text_of(cell) for cell in self.cells], code]
        own = digest_bytes(canonical_json(made).encode())[:8]
        self.root = table.work / f"ranking-{own}"

    def params(self, seed: int, strategy: str = "head") -> Params:
        """Return the parameters of a supernet of a seed and its adaptation."""
        tree = self.table.tree(self.condition, seed)
        recipes = {name: {**deepcopy(RECIPE), "epochs": self.epochs[name]} for name in ("head", "finetune", "scratch")}
        recipes["finetune"]["optimizer"]["lr"] = 0.02
        changes: Tree = {
            "supernet": {**deepcopy(RECIPE), "epochs": self.epochs["supernet"], "sampling": "uniform"},
            "adapt": {"strategy": strategy, "sampling": "uniform", **recipes},
            "search": {"method": "random"},
        }
        return parse(merged(tree, changes), str(self.table.file))

    def scores(self, name: str, seed: int) -> np.ndarray:
        """Return what one way to score gives to the cells, now or in an earlier call."""
        file = self.root / f"{name}-{seed}.json"
        try:
            kept = read_record(file)["scores"]
        except (FileNotFoundError, DamagedError, KeyError):
            kept = self._proxy(name, seed) if name in PROXIES else self._strategy(name, seed)
            write_record(file, {"scores": kept})
        return np.array(kept, dtype=float)

    def _strategy(self, strategy: str, seed: int) -> list[float]:
        """Adapt the seed's supernet, which is trained when the first strategy asks for it, and score the cells."""
        supernet = self.root / f"supernet-{seed}.safetensors"
        params = self.params(seed, strategy)
        if not supernet.exists():
            self._step("supernet", params, supernet=supernet, supernet_losses=self.root / "losses.csv")
        adapted = self.root / f"adapted-{strategy}-{seed}.safetensors"
        if not adapted.exists():
            self._step("adapt", params, supernet=supernet, adapted=adapted)
        step, view, context = self._bench(params, adapted)
        _, held_out = read_tail(context)
        found = dict(path_scorer(step, view, read_validation(context, held_out, "ranking"))(self.cells))
        return [found[cell].balanced_accuracy for cell in self.cells]

    def _proxy(self, name: str, seed: int) -> list[float]:
        step, view, _ = self._bench(self.params(seed), self.root / "no-supernet")
        rows = calibration_rows(step, view.search.calibration)
        images, _ = next(iter(Batches(step.store(rows.at(np.arange(min(PROXY_ROWS, len(rows))))), PROXY_ROWS)))
        prepared = step.runtime.lay_out(step.augment(None)(images, None))
        values = []
        for cell in self.cells:
            step.runtime.seed(derive(seed, "search", name, *cell))
            network = step.space.build_subnet(cell, step.classes, step.shape[2])
            values.append(float(PROXIES[name](step.runtime.place(network), prepared)))
        return values

    def _bench(self, params: Params, adapted: Path) -> tuple[TrainingStep, SearchView, Context]:
        view = params.view("search")
        assert isinstance(view, SearchView)
        moved = {**self.table.files(self.condition), "adapted": adapted}
        context = Context("search", self.table.root, Log("ranking"), moved)
        tail, _ = read_tail(context)
        return TrainingStep.start(context, view.runtime, make_space(view.space), tail, view.seed), view, context

    def _step(self, step: str, params: Params, **own: Path) -> None:
        moved = {**self.table.files(self.condition), **own, "cost": self.root / "cost.json"}
        code = run_step(step, params, self.table.root, moved, self.root / "logs" / f"{step}.log")
        if code:
            raise SystemExit(code)


def main() -> int:
    """Compute what is missing and write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Compute what is missing, and write and return the page."""
    table = Table(options.table, options.root, options.data)
    check_condition(options, table)
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds}: expected at least 1")
    # A page without a truth cannot be written: better known now than after hours.
    in_order(table)
    prepare(table)
    epochs = {name: getattr(options, name) for name in ("supernet", "head", "finetune", "scratch")}
    ranking = Ranking(table, options.condition, epochs)
    names = (*STRATEGIES, *PROXIES)
    # Supernet by supernet: what is there at any time is a whole comparison.
    rows = [{name: ranking.scores(name, seed) for name in names} for seed in range(options.seeds)]
    scores = {name: np.array([row[name] for row in rows]) for name in names}
    write_ranking(options.output, table, options.condition, scores, epochs)
    return options.output.read_text(encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = table_parser(__doc__, condition="that supernets are adapted to", seeds="supernets")
    parser.add_argument("--supernet", type=int, default=48, help="epochs on the source")
    parser.add_argument("--head", type=int, default=12, help="epochs")
    parser.add_argument("--finetune", type=int, default=12, help="epochs")
    parser.add_argument(
        "--scratch", type=int, default=240, help="epochs: the long tail has a fifth of the source's rows"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/results/ranking.md"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
