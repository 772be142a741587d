"""Commands that use a finished network or hand it on."""

from __future__ import annotations

import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from imbnas.cli_options import ConfigFile, Moves, Root, moved_places
from imbnas.errors import UserError, visible

LARGEST_IMAGE = 178_956_970
"""The same limit as in `params.dataset`, whose import would slow down every command."""


class Format(StrEnum):
    """Formats of `imbnas export`."""

    PT2 = "pt2"
    ONNX = "onnx"


class Device(StrEnum):
    """Devices of `imbnas predict`."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def predict(
    model: Annotated[Path, typer.Argument(help="A network: models/final.safetensors, or an exported .onnx or .pt2.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE...", help="Files, directories, patterns in quotes, - for paths on stdin."),
    ] = None,
    lists: Annotated[
        list[Path] | None, typer.Option("--list", metavar="FILE", help="A file with a path per line.")
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Classes to name for each image.")] = 3,
    abstain: Annotated[
        float | None,
        typer.Option("--abstain", metavar="P", min=0.0, max=1.0, help="Abstain below this calibrated probability."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write there instead: .csv, .json or .parquet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Annotated[Device, typer.Option("--device", help="auto takes a GPU where there is one.")] = Device.AUTO,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="N", min=1, help="Refuse larger images: width times height.")
    ] = LARGEST_IMAGE,
) -> None:
    """Predict the classes of images, as a table on a terminal, else tab-separated image, class, probability.

    Images that cannot be used are listed on standard error, and the exit code is then 2; the others are answered.
    """
    if not images and not lists:
        raise typer.BadParameter("found no IMAGE and no --list, expected image files", param_hint="IMAGE...")
    from imbnas.deploy.answers_file import check_output, write_predictions
    from imbnas.deploy.image_list import image_files
    from imbnas.predict import predict, print_predictions

    if output is not None:
        if as_json:
            raise UserError("--json and --output: found both, expected one of them; a name that ends in .json is JSON")
        check_output(output)
    files, absent = image_files(images or [], lists or [])
    found, faults = predict(model, files, top, max_pixels, abstain, device.value)
    if output is None:
        print_predictions(found, as_json)
    else:
        write_predictions(output, found)
        count = f"{len(found):,} image{'s' * (len(found) != 1)}"
        less = f", {sum(bool(one.abstained) for one in found):,} abstained" if abstain is not None else ""
        print(f"{visible(output)}: {count} answered{less}")
    for fault in (*absent, *faults):
        print(f"error: {fault}", file=sys.stderr)
    if absent or faults:
        raise SystemExit(2)


def export(
    model: Annotated[Path, typer.Argument(help="A network, such as models/final.safetensors.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Default: beside the network, with its suffix.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: what the suffix of --output says, else pt2.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write ONNX in 8 bits too, calibrated and judged on the project's rows.")
    ] = False,
    config: ConfigFile = Path("params.yaml"),
    root: Root = Path(),
    path: Moves = None,
) -> None:
    """Write a network and its preprocessing as a torch.export program or an ONNX file that runs without imbnas.

    Before a file gets its name, its logits are compared with the network's. ONNX needs the extra `deploy`:
    pip install 'imbnas[deploy]'. --config, --root and --path say where the rows for --int8 are, and how classes are
    grouped into shots (evaluate.shots).
    """
    from imbnas.export import export

    if int8:
        if (form or Format.ONNX) is not Format.ONNX or (output and output.suffix != ".onnx"):
            raise UserError("--int8: found without ONNX, expected --format onnx or an --output that ends in .onnx")
        form = Format.ONNX
        params = _load(config)
    written = export(model, output, None if form is None else form.value)
    print(f"{visible(written.path)}: written; {written.proof}\n{written.figures}")
    if int8:
        _export_int8(model, written.path, params, root, path or [])


def _load(config: Path) -> Any:
    from imbnas.params.config import load

    return load(config)


def _export_int8(model: Path, source: Path, params: Any, root: Path, moves: list[str]) -> None:
    from imbnas.deploy.int8 import AGREEMENT, write_int8
    from imbnas.deploy.project_rows import project_rows
    from imbnas.longtail.shots import make_rule
    from imbnas.saved import load_subnet

    shots = params.evaluate
    rule = make_rule(shots.shots, shots.thresholds.many, shots.thresholds.few)
    network = load_subnet(model)
    rows = project_rows(network, root, moved_places(moves))
    found = write_int8(source, network, rows, rule)
    print("\n".join(found.lines))
    if found.agreement < AGREEMENT:
        print(
            f"warning: {visible(found.path)}: 8 bits change the likeliest class of {1 - found.agreement:.1%} of the "
            f"rows, expected at most {1 - AGREEMENT:.0%}",
            file=sys.stderr,
        )


def demo(
    model: Annotated[Path, typer.Argument(help="A network: models/final.safetensors, or an exported .onnx or .pt2.")],
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: a free one.")] = 8000,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Classes to name for each image.")] = 5,
    shots: Annotated[
        str, typer.Option("--shots", metavar="RULE", help="kang, oltr or thirds, as evaluate.shots.")
    ] = "kang",
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="N", min=1, help="Refuse larger images: width times height.")
    ] = LARGEST_IMAGE,
) -> None:
    """Show a page on this machine: drop images, see class, probability and shot group.

    Nobody else can open it, and nothing leaves the machine. Ctrl-C ends it.
    """
    from imbnas.data.verify import SizeLimit
    from imbnas.deploy.classifier import open_classifier
    from imbnas.deploy.demo import LOCAL, Demo, make_server

    served = Demo(open_classifier(model), top, shots, SizeLimit(max_pixels, "--max-pixels"))
    with make_server(served, port) as server:
        print(f"http://{LOCAL}:{server.server_port}/: {visible(model)}; Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


COMMANDS = (predict, export, demo)
