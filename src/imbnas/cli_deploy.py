"""Commands that use a finished network or hand it on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbnas.cli_options import ConfigFile, Moves, Root, moved_places
from imbnas.errors import UserError, visible

if TYPE_CHECKING:
    from imbnas.export_int8 import Quantised

LARGEST_IMAGE = 178_956_970
"""The same limit as in `params.dataset`, whose import would slow down every command."""


class Format(StrEnum):
    """Formats of `imbnas export`."""

    PT2 = "pt2"
    ONNX = "onnx"


class Shots(StrEnum):
    """Rules of `imbnas demo`, as `evaluate.shots` has them."""

    KANG = "kang"
    OLTR = "oltr"
    THIRDS = "thirds"


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
    context: typer.Context,
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
    _refuse_idle(context, int8)
    from imbnas.export import export, output_file

    quantise = None
    if int8:
        if (form or Format.ONNX) is not Format.ONNX or (output and output.suffix != ".onnx"):
            raise UserError("--int8: found without ONNX, expected --format onnx or an --output that ends in .onnx")
        form = Format.ONNX
        # What can be wrong is found before the first file is written.
        quantise = _int8(model, output_file(model, output, "onnx"), config, root, moved_places(path or []))
    written = export(model, output, None if form is None else form.value)
    print(f"{visible(written.path)}: written; {written.proof}\n{written.figures}")
    if quantise is not None:
        quantise()


def _refuse_idle(context: typer.Context, int8: bool) -> None:
    """Raise UserError for an option that says where the rows for --int8 are, without that."""
    for name in ("config", "root", "path"):
        source = context.get_parameter_source(name)
        if not int8 and source is not None and source.name == "COMMANDLINE":
            raise UserError(f"--{name}: found without --int8, expected both: a network needs no project otherwise")


def _int8(model: Path, source: Path, config: Path, root: Path, places: dict[str, Path]) -> Callable[[], None]:
    """Return what writes `source`, once it is there, in 8 bits, after a look at all that this takes."""
    from imbnas.deploy.eight_bits import refuse_approximate
    from imbnas.deploy.libraries import NAMES, needed
    from imbnas.export_int8 import int8_path, write_int8
    from imbnas.files import check_writable
    from imbnas.longtail.shots import make_rule
    from imbnas.params.config import load
    from imbnas.saved import load_subnet
    from imbnas.steps.project_rows import project_rows

    for file in (source, int8_path(source)):
        check_writable(file)
    needed(*NAMES)
    shots = load(config).evaluate
    rule = make_rule(shots.shots, shots.thresholds.many, shots.thresholds.few)
    network = load_subnet(model)
    refuse_approximate(network, "--int8")
    rows = project_rows(network, root, places)
    return lambda: _told(write_int8(source, network, rows, rule))


def _told(found: Quantised) -> None:
    """Print what became of a network in 8 bits, and warn where that is too much."""
    from imbnas.export_int8 import AGREEMENT

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
    shots: Annotated[Shots, typer.Option("--shots", help="As evaluate.shots.")] = Shots.KANG,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="N", min=1, help="Refuse larger images: width times height.")
    ] = LARGEST_IMAGE,
) -> None:
    """Show a page on this machine: drop images, see class, probability and shot group.

    Nobody else can open it, and nothing leaves the machine. Ctrl-C ends it.
    """
    from imbnas.data.verify import SizeLimit
    from imbnas.deploy.classifier import open_classifier
    from imbnas.deploy.demo import LOCAL, Demo, check_port, make_server

    check_port(port)
    served = Demo(open_classifier(model), top, shots.value, SizeLimit(max_pixels, "--max-pixels"))
    with make_server(served, port) as server:
        print(f"http://{LOCAL}:{server.server_port}/: {visible(model)}; Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


COMMANDS = (predict, export, demo)
