"""Where the ranking of a truth table's cells is lost, one change of the default at a time: docs/results/ablation.md.

    python experiments/ablation.py tables/cifar10-lt-16.yaml --data DIR --plan
    python experiments/ablation.py tables/cifar10-lt-16.yaml --data DIR

Changes are paired by the seed of the supernet, and share supernets and heads that they do not touch. What is finished
is not computed again, so that the command may be killed and given again; given several times at once, each process
takes what no other one has begun. The rule of what becomes a default was decided before any result, in decision 36.
`--together CHANGE...` then tries the changes that the rule takes as one, with as many new supernets.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ablation_changes import DEFAULT, TOGETHER, Lengths, Tree, together
from ablation_plan import plan
from ablation_scores import Ablation
from experiment_command import run
from ranking_page import in_order
from shared_steps import turn
from table_options import check_names, check_options, table_parser

from imbnas.files import read_json, write_json
from imbnas.progress import Log
from imbnas.truth.data_rows import prepare
from imbnas.truth.places import Table


def measure(ablation: Ablation, names: list[str], seeds: range, log: Log) -> None:
    """Compute the answers that are missing, seed by seed; what another process has begun comes last."""
    left = [(seed, name) for seed in seeds for name in names if ablation.kept(name, seed) is None]
    later = [task for task in left if not _told(ablation, *task, log, wait=False)]
    for task in later:
        _told(ablation, *task, log, wait=True)


def _told(ablation: Ablation, seed: int, name: str, log: Log, wait: bool) -> bool:
    found = ablation.answers(name, seed, wait)
    if found is not None:
        log(f"seed {seed}, {name}: {found['seconds']:.0f} s")
    return found is not None


def other_source(data: Path | None, share: float) -> Tree | None:
    """Return CIFAR-100 as a source of other classes, where the directory of raw data holds it."""
    if data is None:
        return None
    archive = data.resolve() / "cifar100.npz"
    if archive.is_file():
        return {"dataset": "npz", "root": str(archive), "share": share}
    if (data / "cifar-100-python").is_dir():
        return {"dataset": "cifar100", "root": str(data.resolve()), "share": share}
    return None


def chosen_together(ablation: Ablation, names: list[str] | None, keep: bool) -> list[str]:
    """Return the changes that are tried as one: those given, which `keep` notes, or those of an earlier call."""
    file = ablation.noted("together")
    if names:
        if keep:
            write_json(file, names)
    elif file.exists():
        names = read_json(file, "the changes that were tried as one")
    if names:
        ablation.changes[TOGETHER] = together(ablation.changes, names)
    return list(names or [])


def main() -> int:
    """Do what is missing and write the page, or print the plan."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Do what is missing and return the page, or the plan."""
    table, log = Table(options.table, options.root, options.data), Log("ablation")
    check_options(options, table, ("supernet", "head"))
    with turn(table.work / "prepare.lock"):
        prepare(table)
    other = other_source(options.data, table.spec.source.share)
    ablation = Ablation(table, options.condition, Lengths(options.supernet, options.head), other)
    names, seeds = list(ablation.changes), range(options.seeds)
    check_names("--only", options.only, names)
    check_names("--together", options.together, names)
    joined, anew = (
        chosen_together(ablation, options.together, not options.plan),
        range(options.seeds, 2 * options.seeds),
    )
    wanted = [] if options.together else [(options.only or names, seeds)]
    if options.together or (joined and not options.only):
        wanted.append(([DEFAULT, TOGETHER], anew))
    if options.plan:
        return plan(ablation, wanted, log)
    if not options.only:
        # A page without a truth cannot be written: better known now than after hours.
        in_order(table)
    if other is None:
        log("no CIFAR-100 in the directory of raw data: the change `other classes` is left out")
    for some, own in wanted:
        measure(ablation, some, own, log)
    if options.only:
        return ""
    from ablation_page import write_page

    write_page(options.output, ablation, seeds, joined, anew)
    return options.output.read_text(encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = table_parser(__doc__, condition="that supernets are adapted to", seeds="supernets of each change")
    parser.add_argument("--supernet", type=int, default=Lengths.supernet, help="epochs on the source, with fair paths")
    parser.add_argument("--head", type=int, default=Lengths.head, help="epochs of the new head, with fair paths")
    parser.add_argument("--only", nargs="+", metavar="CHANGE", help="compute these changes alone, and write no page")
    parser.add_argument("--together", nargs="+", metavar="CHANGE", help="try these as one, with new supernets")
    parser.add_argument("--plan", action="store_true", help="print what is left, with hours, and do nothing of it")
    parser.add_argument("--output", type=Path, default=Path("docs/results/ablation.md"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
