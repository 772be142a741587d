"""The command line: one thin command per step, checks and presets of parameters, and all other commands by name."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imbnas.cli_deploy import COMMANDS as DEPLOY_COMMANDS
from imbnas.cli_inspect import inspect
from imbnas.cli_options import ConfigFile, LogFile, Moves, Outputs, RecordFile, Root, moved_places, output_record
from imbnas.cli_params import params_app
from imbnas.cli_results import COMMANDS
from imbnas.cli_study import study_app
from imbnas.cli_truth import truth_app
from imbnas.errors import UserError, naming_files, visible
from imbnas.run.graph import STEPS


class WholeSummaries(TyperGroup):
    """Commands whose summaries in the help are wrapped, not cut."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, its summary set."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.help and not command.short_help:
            command.short_help = command.help.partition("\n\n")[0]
        return command


app = typer.Typer(
    cls=WholeSummaries,
    help="Architectures for long-tailed data, found reproducibly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Drawing frames around the help takes three times as long as everything else in it.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

Code = Annotated[
    str | None,
    typer.Option("--code", metavar="DIGEST", help="Refuse to run unless the step's code begins with this digest."),
]
Cell = Annotated[
    int | None, typer.Option("--cell", metavar="NUMBER", help="Take the parameters of this cell of the study.")
]


def _add_step(step: str) -> None:
    """Register `imbnas <step>`."""

    def command(
        config: ConfigFile = Path("params.yaml"),
        root: Root = Path(),
        path: Moves = None,
        log: LogFile = None,
        code: Code = None,
        cell: Cell = None,
        record: RecordFile = None,
        outputs: Outputs = None,
    ) -> None:
        from imbnas.params.config import load
        from imbnas.run.runner import run_step
        from imbnas.study.plan import cell as cell_params

        recorded = output_record(record, outputs)
        params = load(config) if cell is None else cell_params(load(config), cell, str(config))
        raise SystemExit(run_step(step, params, root, moved_places(path or []), log, code, recorded))

    command.__doc__ = STEPS[step].summary
    app.command(step, help=STEPS[step].summary)(command)


for _step in STEPS:
    _add_step(_step)


@app.command()
def check(config: ConfigFile = Path("params.yaml")) -> None:
    """Check a parameter file and print what it describes."""
    from imbnas.approximate.chosen_table import chosen_table
    from imbnas.data.latency_file import read_latencies
    from imbnas.data.supernet_fit import check_reused
    from imbnas.files import check_named
    from imbnas.params.config import load
    from imbnas.params.dvc import missing
    from imbnas.params.idle import idle

    params = load(config)
    search, target = params.search, params.target
    if search.table is not None:
        check_named(Path(search.table), "search.table")
    if search.latency is not None:
        read_latencies(Path(search.latency), params.space, target.shape, target.classes)
    chosen_table(params.approximate, Path())
    check_reused(params.supernet, params.space, target, Path())
    limits = (search.max_macs, search.max_params, search.max_latency)
    bounded = search.method == "darts" and search.darts.cost.name != "none"
    if bounded or any(limit is not None for limit in limits):
        from imbnas.steps.search_limits import check_limits

        check_limits(params, Path())
    tail: str = params.imbalance.profile
    if tail not in ("natural", "counts"):
        tail = f"{tail} ratio {params.imbalance.ratio:g}"
    print(
        f"{visible(config)}: {params.supernet.reuse or params.source.dataset} -> {target.dataset}, {tail}, "
        f"{params.space.name}, "
        f"adapt {params.adapt.strategy}, search {params.search.method}"
    )
    for line in idle(params):
        print(line)
    if absent := missing(config):
        print(f"for DVC it lacks {', '.join(absent)}, which dvc.yaml names: write them with `imbnas params set`")


@app.command()
def init(
    preset: Annotated[str, typer.Option("--preset", help="Which preset; --list names them.")] = "digits",
    root: Root = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite another params.yaml.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Write a line for every parameter, defaults included.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Only list the presets.")] = False,
) -> None:
    """Write a preset as params.yaml and create the dataset directories that it names."""
    from imbnas.params import presets

    if show:
        width = max(map(len, presets.names()))
        for name in presets.names():
            print(f"{name:{width}}  {presets.summary(name)}")
        return
    done = presets.initialise(preset, root, force, full)
    print(f"{visible(done.params)}: preset {preset} {'written' if done.changed else 'was there already'}")
    for directory in done.roots:
        print(f"{visible(root / directory)}: {'bring its files' if directory in done.to_fill else 'ready'}")
    if not (root / "Snakefile").exists():
        print(
            f"no Snakefile in {visible(root)}: run the steps one by one (imbnas {', imbnas '.join(STEPS)}), or clone "
            "the repository, whose workflow runs them with Snakemake or DVC"
        )


@app.command()
def schema(
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Write it there instead.")] = None,
) -> None:
    """Print the JSON schema of params.yaml, which editors use for completion and checks."""
    from imbnas.files import write_bytes
    from imbnas.params.schema import schema_text

    if write is None:
        print(schema_text(), end="")
    else:
        write_bytes(write, schema_text().encode())


app.add_typer(params_app, name="params")
app.add_typer(truth_app, name="truth")
app.add_typer(study_app, name="study")
for _command in (*DEPLOY_COMMANDS, *COMMANDS, inspect):
    app.command()(_command)


def main() -> None:
    """Run the command line: exit code 2 and one line for bad input, never a traceback for it."""
    # Threads that spin while they wait make a shared machine ten times slower. torch reads this when it is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # In an ASCII locale, names with other letters are escaped instead of ending the program.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with naming_files():
            app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
