"""RetinaMNIST with the supernet that ships: the chosen network beside others: docs/results/retina.md.

    python experiments/retina.py --data DIR --plan
    python experiments/retina.py --data DIR

`DIR` holds retinamnist.npz. Five chains reuse the shipped supernet (adaptation, search, final training); a search on
a supernet of the target's own rows, a fixed network, inherited weights and class means stand beside. All are the
product's own steps. What is finished is not run again; given several times at once, each process takes what no other
one has begun.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiment_command import run
from retina_arms import FIRST, JOBS, THEN, Arms, Setting
from study_jobs import Tree

from imbnas import page_record
from imbnas.errors import UserError
from imbnas.inspection.minutes import seconds
from imbnas.inspection.trial import trial
from imbnas.params.config import Params
from imbnas.params.medmnist import MEDMNIST

FILE = "retinamnist.npz"
SUPERNET = Path("supernets/cifar100-64.safetensors")


def data_changes(data: Path) -> Tree:
    """Return where the raw data are; UserError where they are not."""
    if not (data / FILE).is_file():
        raise UserError(f"--data {data}: {FILE} not found there, expected MedMNIST's file of 28 pixels")
    return {section: {"root": str(data.resolve())} for section in ("source", "target")}


def plan(arms: Arms) -> str:
    """Return the jobs that are left, with seconds by a trial; a shared job counts where it comes first."""
    params = arms.params()
    pace = trial(params, len(MEDMNIST["retinamnist"].classes))
    counted: set[str] = set()
    lines, total = [], 0.0
    for job in (*FIRST, *THEN):
        left, spent = 0, 0.0
        for seed in range(arms.setting.seeds):
            jobs = arms.expected(job, seed)
            own = {step: digest for step, digest in jobs.left(0).items() if digest not in counted}
            each = seconds(jobs.cells[0], rows(jobs.cells[0]), pace)
            left, spent = left + len(own), spent + sum(each[step] for step in own)
            counted |= set(own.values())
        total += spent
        names = " | ".join(arm for arm, trained in JOBS.items() if trained == job)
        lines.append(f"{names}: {left} jobs left, {spent:.0f} s")
    training, evaluation = 1000 * pace.training, 1000 * pace.evaluation
    head = f"a trial of a few steps: {training:.2f} ms for an image in training, {evaluation:.2f} without gradients"
    return "\n".join([head, *lines, f"in all {total / 3600:.2f} hours on one thread"])


def rows(params: Params) -> dict[str, int]:
    """Return the published rows of each split, as far as the source leaves them to the target."""
    train, validation, test = MEDMNIST["retinamnist"].rows
    source = round(params.source.share * train) if params.supernet.reuse is None else 0
    return {"source": source, "training": train - source, "validation": validation, "test": test}


def main() -> int:
    """Run what is missing and write the page, or print the plan."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Do what is missing and return the page, or the plan."""
    if options.seeds < 2:
        raise UserError(f"--seeds {options.seeds}: expected at least 2, one has no interval")
    for name in ("random", "epochs"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: expected at least 1")
    if not options.supernet.is_file():
        raise UserError(f"--supernet {options.supernet}: not found, expected a trained supernet of 64 pixels")
    setting = Setting(options.seeds, options.random, options.epochs)
    arms = Arms(options.work.resolve(), setting, options.supernet, data_changes(options.data))
    if options.plan:
        return plan(arms)
    arms.run()
    from retina_page import page

    content, figures = page(arms)
    page_record.write_page(options.output, content, "make retina", figures, [options.supernet])
    return content


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("datasets/medmnist"), help=f"where {FILE} is")
    parser.add_argument("--supernet", type=Path, default=SUPERNET, help="the file that is reused")
    parser.add_argument("--work", type=Path, default=Path(".imbnas/retina"), help="where the jobs go")
    parser.add_argument("--output", type=Path, default=Path("docs/results/retina.md"))
    parser.add_argument("--seeds", type=int, default=Setting.seeds, help="chains, two at the least")
    parser.add_argument("--random", type=int, default=Setting.random, help="references of equal cost for each chain")
    parser.add_argument("--epochs", type=int, default=Setting.epochs, help="of each final training")
    parser.add_argument("--plan", action="store_true", help="print what is left, with seconds, and do nothing of it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
