"""Commands about a project before it runs: writing a preset as its parameters, and checking them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbnas.cli_options import ConfigFile, Root
from imbnas.errors import UserError, visible
from imbnas.run.graph import STEPS

if TYPE_CHECKING:
    from imbnas.params.config import Params


def check(config: ConfigFile = Path("params.yaml")) -> None:
    """Check a parameter file and print what it describes."""
    from imbnas.approximate.chosen_table import chosen_table
    from imbnas.data.latency_file import read_latencies
    from imbnas.data.supernet_fit import check_reused
    from imbnas.deploy.libraries import check_installed
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
    if params.evaluate.int8:
        check_installed("evaluate.int8")
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
    print(_minutes(params))
    if absent := missing(config):
        print(f"for DVC it lacks {', '.join(absent)}, which dvc.yaml names: write them with `imbnas params set`")


def init(
    preset: Annotated[str, typer.Option("--preset", help="Which preset; --list names them.")] = "digits",
    root: Root = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite another params.yaml.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Write a line for every parameter, defaults included.")] = False,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Fit epochs and candidates to a time here, such as 30m or 2h."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Only list the presets.")] = False,
) -> None:
    """Write a preset as params.yaml and create the dataset directories that it names."""
    from imbnas.params import presets
    from imbnas.params.budget_time import parse_budget

    time = None if budget is None else parse_budget(budget)
    if show:
        width = max(map(len, presets.names()))
        for name in presets.names():
            print(f"{name:{width}}  {presets.summary(name)}")
        return
    done = presets.initialise(preset, root, force, full)
    print(f"{visible(done.params)}: preset {preset} {'written' if done.changed else 'was there already'}")
    for directory in done.roots:
        print(f"{visible(root / directory)}: {'bring its files' if directory in done.to_fill else 'ready'}")
    if done.supernet is not None:
        print(f"{visible(root / done.supernet)}: {'ready' if (root / done.supernet).exists() else 'bring this file'}")
    if budget is not None and time is not None:
        from imbnas.inspection.budget import fit

        chosen, expected = fit(done.params, root, time, budget)
        print(f"{visible(done.params)}: {', '.join(f'{name} {value}' for name, value in chosen.items())}")
        print(expected.line(root))
    if not (root / "Snakefile").exists():
        print(
            f"no Snakefile in {visible(root)}: run the steps one by one (imbnas {', imbnas '.join(STEPS)}), or clone "
            "the repository, whose workflow runs them with Snakemake or DVC"
        )


def _minutes(params: Params) -> str:
    """Return how long the chain is expected to take here, or what has to be there before that is known."""
    from imbnas.inspection.minutes import expect_unread

    try:
        return expect_unread(params, Path()).line(Path())
    except UserError as error:
        return f"expected minutes: not known: {visible(error)}"
