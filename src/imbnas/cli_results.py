"""Commands that describe a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbnas.cli_latency import latency
from imbnas.cli_options import Moves, Root, moved_places
from imbnas.errors import UserError, prints_unicode, visible, visible_json
from imbnas.run.graph import PATHS, cost_details


def energy(
    model: Annotated[Path, typer.Argument(help="A network, such as models/final.safetensors.")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Take approximate.energy from there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the energy of a network's arithmetic for one image, layer by layer, beside float32 and exact 8 bits."""
    import json

    from imbnas.energy import energy_lines, network_energy
    from imbnas.params.approximate import EnergyParams
    from imbnas.params.config import load
    from imbnas.saved import load_subnet

    network = load_subnet(model)
    energies = EnergyParams() if config is None else load(config).approximate.energy
    relative = (network.meta.get("approximate") or {}).get("relative_energy")
    found = network_energy(network.model, network.meta["shape"], energies, relative)
    if as_json:
        print(visible_json(json.dumps(found.described(), indent=2, ensure_ascii=not prints_unicode())))
    else:
        print("\n".join(energy_lines(found)))


def table(
    root: Root = Path(),
    path: Moves = None,
    front: Annotated[
        bool, typer.Option("--front", help="Show the candidates that no other beats in score and cost instead.")
    ] = False,
) -> None:
    """Show the results, the cost of each step, and what to try next."""
    from imbnas.report.terminal import show_front, show_results

    places = {name: root / place for name, place in PATHS.items()} | moved_places(path or [])
    if front:
        show_front(places)
    else:
        show_results(places, cost_details(places["cost"]), (root / "Snakefile").exists())


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
    places = {name: root / place for name, place in PATHS.items()} | moved_places(path or [])
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


COMMANDS = (energy, table, lookup, compare, latency)
