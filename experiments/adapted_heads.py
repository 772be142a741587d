"""Adaptations of a supernet whose source has other classes, on a truth table's cells: docs/results/adapted-heads.md.

    python experiments/adapted_heads.py tables/cifar10-lt-16.yaml --data DIR --plan
    python experiments/adapted_heads.py tables/cifar10-lt-16.yaml --data DIR

DIR holds CIFAR-100 beside the table's raw files. All adaptations of a seed share its supernet, and share it with the
change `other classes` of `ablation.py`. What is finished is not computed again; several processes may run at once. The
rule of the verdict was decided before any result: docs/decisions/0038.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ablation import measure, other_source
from ablation_changes import HEAD, OPTIMIZER, Change, Lengths, Tree
from ablation_plan import plan
from ablation_scores import Ablation
from experiment_command import run
from ranking_page import in_order
from shared_steps import turn
from table_options import check_names, check_options, table_parser

from imbnas.errors import UserError
from imbnas.progress import Log
from imbnas.truth.data_rows import prepare
from imbnas.truth.places import Table

CLAIMED, CROSS_ENTROPY, SCRATCH = "head, re-weighted", "head, cross-entropy", "scratch"


def adaptations(other: Tree, scratch: int) -> dict[str, Change]:
    """Return the adaptations by name, the claimed one first; `scratch` are the epochs of the one from scratch."""

    def way(section: Tree, work: float = 1.0) -> Change:
        return Change(HEAD, {"source": other, "adapt": section}, work=work)

    deferred = {"loss": "effective-number", "weighting": {"defer": 0.5}}
    recipe = {"epochs": scratch, "batch_size": 128, "optimizer": OPTIMIZER}
    return {
        CLAIMED: way({"loss": "effective-number", "weighting": {"defer": 0.0}}),
        CROSS_ENTROPY: way({"loss": "ce"}),
        "head, deferred": way(deferred),
        "head, balanced softmax": way({"loss": "balanced-softmax"}),
        "head, class-aware": way({"head": {"name": "crt"}}),
        "class means": way({"head": {"name": "ncm"}}, 0.3),
        "finetune, cross-entropy": way({"strategy": "finetune", "loss": "ce"}, 3.0),
        "finetune, deferred": way({"strategy": "finetune", **deferred}, 3.0),
        SCRATCH: way({"strategy": "scratch", **deferred, "scratch": recipe}),
    }


class Heads(Ablation):
    """The adaptations under one condition of a table."""

    def __init__(self, table: Table, condition: str, lengths: Lengths, other: Tree, scratch: int) -> None:
        """Take what an ablation takes, and the epochs of a supernet on the long tail."""
        super().__init__(table, condition, lengths, other)
        self.changes = adaptations(other, scratch)


def main() -> int:
    """Do what is missing and write the page, or print the plan."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Do what is missing and return the page, or the plan."""
    table, log = Table(options.table, options.root, options.data), Log("adapted heads")
    check_options(options, table, ("supernet", "head", "scratch"))
    other = other_source(options.data, table.spec.source.share)
    if other is None:
        raise UserError(f"--data {options.data}: no CIFAR-100 there, expected cifar100.npz or cifar-100-python")
    with turn(table.work / "prepare.lock"):
        prepare(table)
    lengths = Lengths(options.supernet, options.head)
    heads = Heads(table, options.condition, lengths, other, options.scratch)
    names, seeds = list(heads.changes), range(options.seeds)
    check_names("--only", options.only, names)
    if options.plan:
        return plan(heads, [(options.only or names, seeds)], log)
    if not options.only:
        # A page without a truth cannot be written: better known now than after hours.
        in_order(table)
    measure(heads, options.only or names, seeds, log)
    if options.only:
        return ""
    from adapted_heads_page import write_heads

    write_heads(options.output, heads, seeds)
    return options.output.read_text(encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = table_parser(__doc__, condition="that supernets are adapted to", seeds="supernets, two at the least")
    parser.add_argument("--supernet", type=int, default=Lengths.supernet, help="epochs on the source, with fair paths")
    parser.add_argument("--head", type=int, default=Lengths.head, help="epochs of a head and of finetuning")
    parser.add_argument("--scratch", type=int, default=40, help="epochs on the long tail, about as many steps in all")
    parser.add_argument("--only", nargs="+", metavar="ADAPTATION", help="compute these alone, and write no page")
    parser.add_argument("--plan", action="store_true", help="print what is left, with hours, and do nothing of it")
    parser.add_argument("--output", type=Path, default=Path("docs/results/adapted-heads.md"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
