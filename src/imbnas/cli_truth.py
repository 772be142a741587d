"""`imbnas truth`: tables of architectures that were each trained alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbnas.cli_options import LogFile, Root
from imbnas.errors import Interrupted
from imbnas.files import check_writable

if TYPE_CHECKING:
    from imbnas.progress import Log
    from imbnas.truth.places import Table

truth_app = typer.Typer(help="Tables of architectures, each trained alone (`make table`).", no_args_is_help=True)
Spec = Annotated[Path, typer.Argument(help="The file that describes the table, such as tables/cifar10-lt-16.yaml.")]
Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Raw files, in place of target.root.")]


@truth_app.command()
def prepare(spec: Spec, root: Root = Path(), data: Data = None, log: LogFile = None) -> None:
    """Make the table's rows, and compare this code with the one that made the rows that are finished."""
    from imbnas.progress import Log
    from imbnas.truth import data_rows, shards
    from imbnas.truth.places import Table

    table, told = Table(spec, root, data), Log("truth", log)
    data_rows.prepare(table)
    _stoppable(lambda: shards.agree(table, told), table, told)


@truth_app.command()
def train(
    spec: Spec,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the trainings.")] = 0,
    part: Annotated[int, typer.Option("--part", min=0, help="Which part of the seed's trainings.")] = 0,
    parts: Annotated[int, typer.Option("--parts", min=1, help="How many parts there are.")] = 1,
    root: Root = Path(),
    data: Data = None,
    log: LogFile = None,
) -> None:
    """Train a part of one seed's cells, as far as they are not finished; run it again to go on."""
    from imbnas.errors import UserError
    from imbnas.progress import Log
    from imbnas.truth.places import Table
    from imbnas.truth.shards import train_shard

    table = Table(spec, root, data)
    if seed >= table.spec.seeds or part >= parts:
        raise UserError(
            f"--seed {seed} --part {part}: expected a seed below {table.spec.seeds}, as {spec} says, and a part below "
            f"{parts}"
        )
    told = Log("truth", log)
    _stoppable(lambda: train_shard(table, seed, part, parts, told), table, told)


@truth_app.command()
def collect(
    spec: Spec,
    page: Annotated[Path | None, typer.Option("--page", metavar="FILE", help="Write the page there too.")] = None,
    root: Root = Path(),
    data: Data = None,
    log: LogFile = None,
) -> None:
    """Write the table, its seconds and its card from what is finished."""
    if page is not None:
        check_writable(page)
    from imbnas.progress import Log
    from imbnas.truth.collecting import collect
    from imbnas.truth.places import Table

    collect(Table(spec, root, data), Log("truth", log), page)


@truth_app.command()
def plan(spec: Spec, root: Root = Path(), data: Data = None) -> None:
    """Print how many trainings are left and about how many hours they take, after making the rows and a short trial."""
    from imbnas.progress import Log
    from imbnas.truth import data_rows
    from imbnas.truth.places import Table
    from imbnas.truth.planning import plan

    table, told = Table(spec, root, data), Log("truth")
    data_rows.prepare(table)
    _stoppable(lambda: print(plan(table, told)), table, told)


def _stoppable(work: Callable[[], None], table: Table, log: Log) -> None:
    """Run trainings on a GPU that no other step has, or the share of one that the table's file says.

    They may be asked to stop: the state is saved, and the exit code says so.
    """
    import signal
    import sys
    from contextlib import nullcontext
    from functools import partial
    from types import FrameType

    from imbnas.run import lease, machine
    from imbnas.run.launch import EXIT_STOPPED

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Interrupted("asked to stop; nothing was half-written, run the same command again")

    signal.signal(signal.SIGTERM, stop)
    params = table.spec.params(next(iter(table.spec.conditions)), 0)
    runtime, check = params.runtime, partial(machine.check_gpu, "retrain", params)
    try:
        with nullcontext() if runtime.device == "cpu" else lease.leased(log, 1, runtime.gpu_share, check):
            work()
    except (Interrupted, KeyboardInterrupt) as stopped:
        print(f"stopped: {stopped or 'asked to stop'}", file=sys.stderr)
        raise SystemExit(EXIT_STOPPED) from None
