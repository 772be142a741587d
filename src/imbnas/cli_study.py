"""`imbnas study`: the plan and the outcome of a grid of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbnas.cli_options import ConfigFile, LogFile, Outputs, RecordFile, Root, output_record

study_app = typer.Typer(help="The grid that `snakemake study` runs.", no_args_is_help=True)


@study_app.command()
def plan(config: ConfigFile = Path("params.yaml"), root: Root = Path()) -> None:
    """Print how many jobs the study has, what its cells share, and about how many hours it takes."""
    from rich.console import Console

    from imbnas.params.config import load
    from imbnas.study.estimate import print_plan

    print_plan(load(config), root, Console())


@study_app.command()
def collect(
    config: ConfigFile = Path("params.yaml"),
    root: Root = Path(),
    log: LogFile = None,
    missing: Annotated[
        Path | None, typer.Option("--missing", metavar="FILE", help="JSON: the jobs of each step that are not done.")
    ] = None,
    record: RecordFile = None,
    outputs: Outputs = None,
) -> None:
    """Make tables and figures of the study from its finished cells, and list the others."""
    from imbnas.files import read_json
    from imbnas.params.config import load
    from imbnas.progress import Log
    from imbnas.study import collect as cells

    recorded = output_record(record, outputs)
    jobs = {} if missing is None else read_json(missing, "jobs that are not done")
    cells.collect(load(config), root, Log("study", log), jobs)
    if recorded:
        recorded.write(root)
