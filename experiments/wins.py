"""Whether found networks beat random and free ones of their cost, by whole chains: docs/results/wins.md.

    python experiments/wins.py --data DIR --plan
    python experiments/wins.py --data DIR

`DIR` holds CIFAR-10 as torchvision reads it, and CIFAR-100 as cifar100.npz. The chains are the jobs of a study, run by
the product's own steps in the places where `snakemake study` has them. What is finished is not run again, so that the
command may be killed and given again; given several times at once, each process takes what no other one has begun.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiment_command import run
from study_jobs import Tree
from wins_chain import Setting, Wins
from wins_plan import plan

from imbnas import page_record
from imbnas.errors import UserError


def data_changes(data: Path) -> Tree:
    """Return where the raw data are; UserError where they are not."""
    archive, batches = data.resolve() / "cifar100.npz", data.resolve() / "cifar-10-batches-py"
    for path in (archive, batches):
        if not path.exists():
            raise UserError(
                f"--data {data}: {path.name} not found there, expected cifar-10-batches-py and cifar100.npz"
            )
    return {"source": {"root": str(archive)}, "target": {"root": str(data.resolve())}}


def main() -> int:
    """Run what is missing and write the page, or print the plan."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Do what is missing and return the page, or the plan."""
    names = ("random", "finalists", "supernet")
    check_counts(options, names)
    setting = Setting(options.seeds, tuple(options.limits), **{name: getattr(options, name) for name in names})
    wins = Wins(options.work.resolve(), setting, data_changes(options.data))
    if options.plan:
        return plan(wins)
    wins.run()
    from wins_page import page

    content = page(wins)
    page_record.write_page(options.output, content, "make wins")
    return content


def chains_parser(description: str | None, output: str, seeds: int, supernet: int) -> argparse.ArgumentParser:
    """Return a parser of the options that experiments on whole chains share, some with these defaults."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("datasets"), help="where CIFAR-10 and CIFAR-100 are")
    parser.add_argument("--work", type=Path, default=Path(".imbnas/wins"), help="where the jobs go, all chains' alike")
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument("--seeds", type=int, default=seeds, help="chains, two at the least")
    parser.add_argument("--supernet", type=int, default=supernet, help="epochs on the source")
    parser.add_argument("--plan", action="store_true", help="print what is left, with hours, and do nothing of it")
    return parser


def check_counts(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse fewer than two seeds, and fewer than one of what else is counted."""
    if options.seeds < 2:
        raise UserError(f"--seeds {options.seeds}: expected at least 2, one has no interval")
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: expected at least 1")


def _options() -> argparse.Namespace:
    parser = chains_parser(__doc__, "docs/results/wins.md", Setting.seeds, Setting.supernet)
    parser.add_argument("--limits", nargs="+", default=list(Setting.limits), metavar="LIMIT", help="of MACs, as 0.4x")
    parser.add_argument("--random", type=int, default=Setting.random, help="references of equal cost for each chain")
    parser.add_argument("--finalists", type=int, default=Setting.finalists, help="cells that stand for the best")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
