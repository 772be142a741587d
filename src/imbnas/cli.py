"""The command line: one thin command per step, and all other commands by name."""

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
from imbnas.cli_options import (
    ConfigFile,
    LogFile,
    Moves,
    Outputs,
    RecordFile,
    Root,
    moved_places,
    output_record,
    printed_or_written,
)
from imbnas.cli_params import params_app
from imbnas.cli_project import check, init
from imbnas.cli_results import COMMANDS
from imbnas.cli_study import study_app
from imbnas.cli_truth import truth_app
from imbnas.errors import UserError, naming_files
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
def schema(
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Write it there instead.")] = None,
) -> None:
    """Print the JSON schema of params.yaml, which editors use for completion and checks."""
    from imbnas.params.schema import schema_text

    printed_or_written(schema_text(), write)


app.add_typer(params_app, name="params")
app.add_typer(truth_app, name="truth")
app.add_typer(study_app, name="study")
for _command in (*DEPLOY_COMMANDS, *COMMANDS, inspect, check, init):
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
