"""Tells how many trainings of a truth table are left, and about how long they take."""

from __future__ import annotations

import time
from statistics import mean

from imbnas.progress import Log
from imbnas.spaces.registry import make_space
from imbnas.truth.data_rows import groups
from imbnas.truth.places import Table
from imbnas.truth.records import Records
from imbnas.truth.shards import opened


def plan(table: Table, log: Log) -> str:
    """Return what is done and left, with the hours on one thread: by what finished trainings took, or by a trial."""
    records, spec = opened(table), table.spec
    cells = list(records.cells())
    spent = [kept.spent["seconds"] for cell in cells if (kept := records.of(cell)) is not None]
    left = len(cells) - len(spent)
    each = mean(spent) if spent else trial(records, log)
    source = f"mean of {len(spent)} finished ones" if spent else "by a trial of the cell with median MACs"
    return (
        f"{table.file}: {len(spec.cells)} cells x {len(spec.conditions)} conditions x {spec.seeds} seeds = "
        f"{len(cells)} trainings, {len(spent)} done, {left} to do\n"
        f"{each:.1f} s a training ({source}): {left * each / 3600:.1f} hours with {spec.runtime.threads} thread(s) on "
        f"{records.device}, divided by the shards that run at a time"
    )


def trial(records: Records, log: Log) -> float:
    """Return the seconds that a training of the cell with median MACs takes, from short ones.

    The first pays for what happens once; of the others one has two epochs more, which tells what an epoch takes.
    """
    from imbnas.run.context import Context
    from imbnas.training.turns import finished
    from imbnas.truth.train_cell import train_cell

    table = records.table
    spec = table.spec
    space = make_space(spec.space)
    condition = max(spec.conditions, key=lambda name: sum(records.rows[name].counts))
    info_shape = _shape(table, condition)
    costs = space.cost_table(info_shape, len(records.rows[condition].counts))
    middle = sorted(spec.architectures, key=lambda cell: costs.cost(cell).macs)[len(spec.architectures) // 2]
    view = spec.view(condition, 0)
    took = {}
    for epochs in (1, 1, 3):
        recipe = view.retrain.model_copy(update={"epochs": epochs})
        context = Context("retrain", table.root, Log("trial", silent=True), table.files(condition))
        context.identify_as(f"trial-{epochs}-{time.monotonic_ns()}")
        begin = time.monotonic()
        done = finished(train_cell(view.model_copy(update={"retrain": recipe}), context, middle, groups(table)))
        took[epochs] = time.monotonic() - begin
        for state in done.states:
            state.finish()
        context.forget_cost()
    epoch = max(0.0, took[3] - took[1]) / 2
    rows = sum(records.rows[condition].counts)
    log(f"{epoch:.2f} s an epoch, {rows / max(epoch, 1e-9):.0f} images/s, {took[1] - epoch:.1f} s around the epochs")
    return took[1] + (spec.retrain.epochs - 1) * epoch


def _shape(table: Table, condition: str) -> tuple[int, int, int]:
    from imbnas.data.stored import read_info

    height, width, channels = read_info(table.files(condition)["target_train"]).shape
    return height, width, channels
