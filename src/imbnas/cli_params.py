"""`imbnas params`: looking at parameters, setting them in the file, and their reference page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imbnas.cli_options import ConfigFile, printed_or_written
from imbnas.errors import visible

if TYPE_CHECKING:
    from imbnas.params.reference import Parameter

params_app = typer.Typer(help="Look at the parameters of a project, and set them.", no_args_is_help=True)
COLUMNS = 120


@params_app.command()
def show(
    section: Annotated[str | None, typer.Argument(metavar="[SECTION]", help="As adapt, adapt.head or seed.")] = None,
    config: ConfigFile = Path("params.yaml"),
    changed: Annotated[bool, typer.Option("--changed", help="Only those that differ from the defaults.")] = False,
) -> None:
    """Print the effective parameters, defaults included; * marks what differs from its default."""
    from imbnas.params.config import load
    from imbnas.params.reference import chosen, leaves

    found, values = chosen(section), leaves(load(config).tree())
    if len(found) == 1:
        _explain(found[0], values[found[0].name])
        return
    for each in found:
        value = values[each.name]
        if value != each.default:
            print(f"* {each.name} = {_text(value)}  # default {_text(each.default)}")
        elif not changed:
            line = f"  {each.name} = {_text(value)}  # {each.summary}"
            print(line if len(line) <= COLUMNS else f"{line[: COLUMNS - 3]}...")


def _explain(each: Parameter, value: Any) -> None:
    print(f"{each.name} = {_text(value)}\n\n{each.meaning}\n\ndefault: {_text(each.default)}\nvalues: {each.values}")
    if each.source:
        print(f"source: {each.source}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@params_app.command("set")
def set_(
    assignments: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="As adapt.head.epochs=30.")],
    config: ConfigFile = Path("params.yaml"),
) -> None:
    """Set parameters in the file, whose comments stay; a wrong value leaves it as it is."""
    from imbnas.params.edit import flow, set_parameters

    done = set_parameters(config, assignments)
    for name, value in done.items():
        print(f"{name}: {flow(value) or 'null'}")
    if not done:
        print(f"{visible(config)}: holds that already")


@params_app.command()
def reference(
    write: Annotated[Path | None, typer.Option("--write", metavar="FILE", help="Write it there instead.")] = None,
) -> None:
    """Print the page that explains every parameter, docs/parameters.md."""
    from imbnas.params.reference import page

    printed_or_written(page(), write)
