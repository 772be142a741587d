"""Training a truth table's cells, as many at a time as the table's file says, as far as they are not finished."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_bytes
from imbnas.params.retrain import RetrainView
from imbnas.params.truth import text_of
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.sealed import DamagedError, read_record, write_record
from imbnas.spaces.registry import make_space
from imbnas.training.lanes import lanes, workers_each
from imbnas.training.turns import Clock, Job, Trainings, finished, in_turn, stepwise
from imbnas.truth.data_rows import groups
from imbnas.truth.places import Table
from imbnas.truth.records import Cell, Kept, Records, differences, made_by
from imbnas.truth.train_cell import train_cell
from imbnas.truth.train_device import device_name, processor
from imbnas.truth.trained_rows import Row, named


def train_shard(table: Table, seed: int, part: int, parts: int, log: Log) -> None:
    """Train what is left of a seed's cells, each `parts`-th from number `part` on.

    Raises Interrupted after a signal, with the state of the training saved.
    """
    records = opened(table)
    cells = [cell for cell in records.cells() if cell.seed == seed][part::parts]
    left = [cell for cell in cells if records.of(cell) is None]
    log(f"seed {seed}, part {part + 1} of {parts}: {len(cells)} trainings, {len(left)} to do")
    if left:
        _check_torch(records)
        _check_agreement(records)
    runtime, ended = table.spec.runtime, 0
    places = lanes(runtime.together, "cpu" if records.device == "cpu" else "cuda", len(left), runtime.processes)

    def job(cell: Cell) -> Job[None]:
        clock, name = Clock(), f"{cell.condition} {text_of(cell.architecture)}"

        def told() -> Trainings[None]:
            nonlocal ended
            # What an attempt before took stands in its record.
            clock.seconds = 0.0
            row = yield from trained(records, cell, log, clock, workers_each(runtime.workers, places.count))
            ended += 1
            figures = f"validation {row['validation']:.4f}, test {row['test']:.4f}"
            log(f"{ended} of {len(left)}: {name}: {figures} ({clock():.0f} s)")

        return Job(name, partial(stepwise, told), clock)

    in_turn([job(cell) for cell in left], places, log)


def opened(table: Table) -> Records:
    """Return the finished trainings of a table on this machine's device."""
    check_cells(table)
    records = Records(table, device_name(table.spec.runtime.device))
    records.load()
    return records


def check_cells(table: Table) -> None:
    """Raise UserError for a cell that is not in its canonical form, or has no way from input to output."""
    space = make_space(table.spec.space)
    for number, architecture in enumerate(table.spec.architectures):
        try:
            space.check_canonical(architecture)
        except UserError as error:
            raise UserError(f"{table.file}: cells[{number}]: {error}") from None


def trained(
    records: Records, cell: Cell, log: Log, clock: Clock | None, workers: int, keep: bool = True
) -> Trainings[Row]:
    """Train a cell, and keep its record unless told otherwise; return its row.

    `clock` tells the seconds of a cell among others, None those of one that is alone; `workers` make its batches ahead.
    """
    table, described = records.table, records.described(cell)
    params = table.spec.params(cell.condition, cell.seed)
    view = params.view("retrain")
    assert isinstance(view, RetrainView)
    files = table.files(cell.condition)
    context = Context(
        "retrain",
        table.root,
        log,
        files,
        state_interval=params.runtime.state_interval,
        workers=workers,
        clock=clock,
    )
    lock = table.root / "requirements.lock"
    context.identify_as(digest_bytes(canonical_json({**described, "lock": _digest(lock), "keep": keep}).encode())[:32])
    found = yield from train_cell(view, context, cell.architecture, groups(table))
    row = {**described, **found.figures}
    spent = {name: described[name] for name in ("seed", "architecture", "condition", "device", "precision")}
    spent |= {"seconds": round(context.cost()["seconds"], 1), "processor": processor(records.device)}
    if keep:
        records.save(cell, row, spent)
    for state in found.states:
        state.finish()
    context.forget_cost()
    return row


def _digest(file: Path) -> str:
    return digest_bytes(file.read_bytes()) if file.is_file() else ""


def agree(table: Table, log: Log) -> None:
    """Let this code's figures be compared with the kept ones of other code, if something is left to train.

    The first kept row of each other code is trained anew. UserError where a figure differs: rows of both would not be
    comparable.
    """
    records = opened(table)
    if all(records.of(cell) is not None for cell in records.cells()):
        return
    _check_torch(records)
    for other, cell, kept in _others(records):
        if _agreed(records, other):
            continue
        log(f"kept rows were made by {_words(other)}: the first of them is trained anew ({named(kept.row)})")
        row = finished(trained(records, cell, log, None, table.spec.runtime.workers, keep=False))
        if found := differences(kept.row, row):
            raise UserError(
                f"{table.beside('.parquet')} or {table.work}: {named(kept.row)}, made by {_words(other)}, comes out "
                f"otherwise by {_words(made_by(row))}: {found}; expected the same figures. Go on with that code, or "
                f"give {table.file} another name to begin anew"
            )
        write_record(_agreement(records, other), {"agrees": True})
        log("the same figures came out: the kept rows stay")


def _check_torch(records: Records) -> None:
    """Raise UserError where kept rows are of another torch: no comparison takes both, whatever their figures."""
    for (_, torch), _, kept in _others(records):
        if torch != records.made["torch"]:
            raise UserError(
                f"{records.table.work}: {named(kept.row)} was made with torch {torch}, found torch "
                f"{records.made['torch']}, expected the same; install torch {torch}, or give {records.table.file} "
                "another name to begin anew"
            )


def _others(records: Records) -> list[tuple[tuple[str, ...], Cell, Kept]]:
    """Return each other code of the kept rows with its first cell."""
    seen: dict[tuple[str, ...], tuple[Cell, Kept]] = {}
    own = tuple(records.made.values())
    for cell in records.cells():
        kept = records.of(cell)
        if kept is not None and made_by(kept.row) != own:
            seen.setdefault(made_by(kept.row), (cell, kept))
    return [(made, cell, kept) for made, (cell, kept) in seen.items()]


def _agreement(records: Records, other: tuple[str, ...]) -> Path:
    names = sorted(["-".join(other), "-".join(records.made.values())])
    return records.table.work / "agreed" / f"{records.recipe}-{digest_bytes(' '.join(names).encode())[:16]}.json"


def _agreed(records: Records, other: tuple[str, ...]) -> bool:
    try:
        return bool(read_record(_agreement(records, other)).get("agrees"))
    except (FileNotFoundError, DamagedError):
        return False


def _check_agreement(records: Records) -> None:
    """Raise UserError where kept rows are of code that was not compared with this one."""
    for other, _, kept in _others(records):
        if not _agreed(records, other):
            raise UserError(
                f"{records.table.work}: {named(kept.row)} was made by {_words(other)}, which was not compared with "
                f"{_words(tuple(records.made.values()))}; run `imbnas truth prepare {records.table.file}` first"
            )


def _words(made: tuple[str, ...]) -> str:
    return f"code {made[0]} with torch {made[1]}"
