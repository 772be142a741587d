"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbnas.errors import UserError, visible
from imbnas.files import check_writable, write_bytes
from imbnas.run.graph import PATHS
from imbnas.run.output_record import OutputRecord

ConfigFile = Annotated[Path, typer.Option("--config", help="Parameter file, YAML or JSON.")]
Root = Annotated[Path, typer.Option("--root", help="Project directory, to which paths are relative.")]
Moves = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="NAME=PATH", help="Move one file or directory of the chain, e.g. supernet=..."),
]
LogFile = Annotated[Path | None, typer.Option("--log", help="File that receives plain lines.")]
RecordFile = Annotated[
    Path | None, typer.Option("--record", metavar="FILE", help="When done, write the digest of each OUTPUT there.")
]
Outputs = Annotated[list[str] | None, typer.Argument(metavar="[OUTPUT]...", help="The files that --record names.")]


def moved_places(pairs: list[str]) -> dict[str, Path]:
    """Return the places that NAME=PATH pairs of `--path` give."""
    moved: dict[str, Path] = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark or name not in PATHS or not value:
            raise UserError(f"--path {pair}: expected NAME=PATH with a NAME of {', '.join(PATHS)}")
        moved[name] = Path(value)
    return moved


def output_record(file: Path | None, outputs: list[str] | None) -> OutputRecord | None:
    """Return the record that `--record` and its files ask for, if they do; UserError for one without the other."""
    if (file is None) == bool(outputs):
        given = f"no file, but {visible(outputs[0])}" if outputs else "no output"
        raise UserError(f"--record: found {given}, expected --record FILE OUTPUT...")
    if not (file and outputs):
        return None
    check_writable(file)
    return OutputRecord(file, outputs)


def printed_or_written(text: str, file: Path | None) -> None:
    """Write a text to the file of `--write`, or print it where there is none."""
    if file is None:
        print(text, end="")
    else:
        write_bytes(file, text.encode())
