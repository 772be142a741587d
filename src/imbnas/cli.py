"""The command line: one thin command per step, and commands that use or describe a result."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imbnas.cli_params import params_app
from imbnas.cli_truth import truth_app
from imbnas.errors import UserError, naming_files, prints_unicode, visible, visible_json
from imbnas.run.graph import PATHS, STEPS, cost_details

LARGEST_IMAGE = 178_956_970
"""The same limit as in `params.dataset`, whose import would slow down every command."""


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

ConfigFile = Annotated[Path, typer.Option("--config", help="Parameter file, YAML or JSON.")]
Root = Annotated[Path, typer.Option("--root", help="Project directory, to which paths are relative.")]
Moves = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="NAME=PATH", help="Move one file or directory of the chain, e.g. supernet=..."),
]
Code = Annotated[
    str | None,
    typer.Option("--code", metavar="DIGEST", help="Refuse to run unless the step's code begins with this digest."),
]
Cell = Annotated[
    int | None, typer.Option("--cell", metavar="NUMBER", help="Take the parameters of this cell of the study.")
]
LogFile = Annotated[Path | None, typer.Option("--log", help="File that receives plain lines.")]


def _add_step(step: str) -> None:
    """Register `imbnas <step>`."""

    def command(
        config: ConfigFile = Path("params.yaml"),
        root: Root = Path(),
        path: Moves = None,
        log: LogFile = None,
        code: Code = None,
        cell: Cell = None,
    ) -> None:
        from imbnas.params.config import load
        from imbnas.run.runner import run_step
        from imbnas.study.plan import cell as cell_params

        params = load(config) if cell is None else cell_params(load(config), cell, str(config))
        raise SystemExit(run_step(step, params, root, _moves(path or []), log, code))

    command.__doc__ = STEPS[step].summary
    app.command(step, help=STEPS[step].summary)(command)


def _moves(pairs: list[str]) -> dict[str, Path]:
    moved: dict[str, Path] = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark or name not in PATHS or not value:
            raise UserError(f"--path {pair}: expected NAME=PATH with a NAME of {', '.join(PATHS)}")
        moved[name] = Path(value)
    return moved


for _step in STEPS:
    _add_step(_step)


@app.command()
def check(config: ConfigFile = Path("params.yaml")) -> None:
    """Check a parameter file and print what it describes."""
    from imbnas.params.config import load
    from imbnas.params.dvc import missing

    params = load(config)
    tail: str = params.imbalance.profile
    if tail not in ("natural", "counts"):
        tail = f"{tail} ratio {params.imbalance.ratio:g}"
    print(
        f"{visible(config)}: {params.source.dataset} -> {params.target.dataset}, {tail}, {params.space.name}, "
        f"adapt {params.adapt.strategy}, search {params.search.method}"
    )
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
study = typer.Typer(help="The grid that `snakemake study` runs.", no_args_is_help=True)
app.add_typer(study, name="study")


@study.command("plan")
def study_plan(config: ConfigFile = Path("params.yaml"), root: Root = Path()) -> None:
    """Print how many jobs the study has, what its cells share, and about how many hours it takes."""
    from rich.console import Console

    from imbnas.params.config import load
    from imbnas.study.estimate import print_plan

    print_plan(load(config), root, Console())


@study.command("collect")
def study_collect(
    config: ConfigFile = Path("params.yaml"),
    root: Root = Path(),
    log: LogFile = None,
    missing: Annotated[
        Path | None, typer.Option("--missing", metavar="FILE", help="JSON: the jobs of each step that are not done.")
    ] = None,
) -> None:
    """Make tables and figures of the study from its finished cells, and list the others."""
    from imbnas.files import read_json
    from imbnas.params.config import load
    from imbnas.progress import Log
    from imbnas.study.collect import collect

    jobs = {} if missing is None else read_json(missing, "jobs that are not done")
    collect(load(config), root, Log("study", log), jobs)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A network, such as models/final.safetensors.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Classes to name for each image.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="N", min=1, help="Refuse larger images: width times height.")
    ] = LARGEST_IMAGE,
) -> None:
    """Predict the classes of images, as a table on a terminal, else tab-separated image, class, probability.

    Images that cannot be used are listed on standard error, and the exit code is then 2; the others are answered.
    """
    from imbnas.predict import predict, print_predictions

    found, faults = predict(model, images, top, max_pixels)
    print_predictions(found, as_json)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if faults:
        raise SystemExit(2)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A network, such as models/final.safetensors.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.pt2", help="Default: beside the network.")
    ] = None,
) -> None:
    """Write a network and its preprocessing as a torch.export program that runs without imbnas."""
    from imbnas.export import export

    print(f"{visible(export(model, output))}: written; its logits equal the network's bit by bit")


@app.command()
def table(
    root: Root = Path(),
    path: Moves = None,
    front: Annotated[
        bool, typer.Option("--front", help="Show the candidates that no other beats in score and cost instead.")
    ] = False,
) -> None:
    """Show the results, the cost of each step, and what to try next."""
    from imbnas.report.terminal import show_front, show_results

    places = {name: root / place for name, place in PATHS.items()} | _moves(path or [])
    if front:
        show_front(places)
    else:
        show_results(places, cost_details(places["cost"]), (root / "Snakefile").exists())


@app.command()
def lookup(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet of architectures and what each scores alone.")],
    column: Annotated[
        str | None,
        typer.Option("--column", metavar="NAME", help="Which score; default: test, or cifar10's published one."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="The same for NAS-Bench-201: cifar10, cifar100, ...")
    ] = None,
    condition: Annotated[str | None, typer.Option("--condition", metavar="NAME", help="Of `make table`'s.")] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="Where rows of several are there.")
    ] = None,
    precision: Annotated[str | None, typer.Option("--precision", metavar="NAME", help="The same.")] = None,
    root: Root = Path(),
    path: Moves = None,
) -> None:
    """Look up how well a found network and its references do when trained alone, in a table of any column and cells."""
    from imbnas.search.lookup import found_cells
    from imbnas.search.scored_cells import Selection, default_column

    if column is not None and dataset is not None:
        raise UserError(f"--column {column} --dataset {dataset}: found both, expected one of them")
    places = {name: root / place for name, place in PATHS.items()} | _moves(path or [])
    selection = Selection(column or dataset or default_column(table), condition, device, precision)
    cells, candidates = found_cells(places["architecture"], places["references"], table, selection)
    for cell in cells:
        score = "not in the table"
        if cell.score is not None and cell.regret is not None:
            value, lost = (
                (f"{100 * cell.score:5.2f} %", f"{100 * cell.regret:5.2f}")
                if candidates.share
                else (f"{cell.score:g}", f"{cell.regret:g}")
            )
            score = f"{value}  rank {cell.rank:5}  regret {lost}"
        print(f"{visible(cell.name):9} {score}  {cell.cell}")
    seeds = f", mean of {candidates.seeds} seeds" if candidates.seeds > 1 else ""
    print(f"{candidates.column} of {len(candidates.scores):,} cells in {visible(table)}{seeds}")


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Finished projects, or groups of seeds as NAME=DIR,DIR,...")
    ],
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="NAME", help="Compare with this group; default: the first.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="Show many-, medium- or few-shot accuracy too.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option("--margin", metavar="SHARE", help="Test for differences below it: 0.01 is a point. Default: no."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every score as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Compare finished projects: mean and deviation over seeds, and paired differences with intervals."""
    import json

    from rich.console import Console

    from imbnas.report import compare, compare_tables

    if as_json and markdown:
        raise UserError("--json and --markdown: found both, expected one of them")
    if margin is not None and not 0.0 < margin < 1.0:
        raise UserError(f"--margin {margin:g}: expected a share above 0 and below 1, as 0.01 for one point")
    found = compare.compare(runs, PATHS["details"], PATHS["predictions"], baseline, margin)
    scores = compare_tables.shown_scores(found, group)
    if as_json:
        values = compare_tables.comparison_json(found)
        print(visible_json(json.dumps(values, indent=2, ensure_ascii=not prints_unicode())))
    elif markdown:
        print(compare_tables.comparison_markdown(found, scores), end="")
    else:
        Console().print(compare_tables.comparison_tables(found, scores))


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
