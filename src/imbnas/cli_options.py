"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbnas.errors import UserError
from imbnas.run.graph import PATHS

ConfigFile = Annotated[Path, typer.Option("--config", help="Parameter file, YAML or JSON.")]
Root = Annotated[Path, typer.Option("--root", help="Project directory, to which paths are relative.")]
Moves = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="NAME=PATH", help="Move one file or directory of the chain, e.g. supernet=..."),
]
LogFile = Annotated[Path | None, typer.Option("--log", help="File that receives plain lines.")]


def moved_places(pairs: list[str]) -> dict[str, Path]:
    """Return the places that NAME=PATH pairs of `--path` give."""
    moved: dict[str, Path] = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark or name not in PATHS or not value:
            raise UserError(f"--path {pair}: expected NAME=PATH with a NAME of {', '.join(PATHS)}")
        moved[name] = Path(value)
    return moved
