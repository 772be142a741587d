"""Commands that use a finished network or hand it on."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imbnas.errors import visible

LARGEST_IMAGE = 178_956_970
"""The same limit as in `params.dataset`, whose import would slow down every command."""


class Format(StrEnum):
    """Formats of `imbnas export`."""

    PT2 = "pt2"
    ONNX = "onnx"


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


def export(
    model: Annotated[Path, typer.Argument(help="A network, such as models/final.safetensors.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Default: beside the network, with its suffix.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: what the suffix of --output says, else pt2.")
    ] = None,
) -> None:
    """Write a network and its preprocessing as a torch.export program or an ONNX file that runs without imbnas.

    Before a file gets its name, its logits are compared with the network's. ONNX needs the extra `deploy`:
    pip install 'imbnas[deploy]'.
    """
    from imbnas.export import export

    written = export(model, output, None if form is None else form.value)
    print(f"{visible(written.path)}: written; {written.proof}\n{written.figures}")


COMMANDS = (predict, export)
