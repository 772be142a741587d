"""Handing a finished network on: a torch.export program, or an ONNX file, with its preprocessing inside."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch.export import ExportedProgram

from imbnas.deploy import onnx_file, speed
from imbnas.deploy.deployed import EXTRA, Deployed, metadata, random_images, trace
from imbnas.deploy.libraries import NAMES, needed, usable_cores
from imbnas.errors import UserError
from imbnas.files import check_writable, replacing
from imbnas.saved import Network, load_subnet

__all__ = ["EXTRA", "Deployed", "Format", "Written", "export", "output_file"]
Format = Literal["pt2", "onnx"]
SUFFIXES: dict[str, str] = {"pt2": "torch.export programs", "onnx": "ONNX files"}
VERIFIED = (1, 2, 7)
"""Batch sizes for which a saved torch.export program is compared with the network."""


@dataclass(frozen=True)
class Written:
    """A file that was written, in words how its logits are the network's, and its size and speed."""

    path: Path
    proof: str
    figures: str


def export(model: Path, output: Path | None = None, form: Format | None = None) -> Written:
    """Write the network in `model` as a torch.export program or an ONNX file.

    `form` follows from the suffix of `output`, .pt2 or .onnx, and `output` is by default `model` with that suffix.
    Before the file gets its name it is read back: logits of a torch.export program must equal the network's bit by bit
    for several batch sizes, those of ONNX Runtime to `onnx_file.TOLERANCE` on a thousand images. Raises UserError for a
    file that is not a single network, for another suffix, for a library that is not installed, for a place that cannot
    be written, and when the logits differ.
    """
    target = output_file(model, output, form)
    check_writable(target)
    if target.suffix == ".onnx":
        needed(*NAMES)
    network = load_subnet(model)
    # An exported program is only used, so gradients of its weights would waste memory.
    deployed = Deployed(network).eval().requires_grad_(False)
    program = trace(deployed, network)
    if target.suffix == ".onnx":
        return _write_onnx(target, program, deployed, network)
    return _write_program(target, program, deployed, network)


def output_file(model: Path, output: Path | None = None, form: Format | None = None) -> Path:
    """Return the file that `export` writes; UserError where its suffix is not that of its format."""
    if output is None:
        return model.with_suffix(f".{form or 'pt2'}")
    expected = [form] if form else list(SUFFIXES)
    if output.suffix.removeprefix(".") not in expected:
        named = ", or in ".join(f".{name}, the suffix of {SUFFIXES[name]}" for name in expected)
        raise UserError(f"{output}: expected a name that ends in {named}")
    return output


def _write_program(target: Path, program: ExportedProgram, deployed: Deployed, network: Network) -> Written:
    with replacing(target) as part:
        # Not to the file: torch loses the error of a full disk.
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={EXTRA: metadata(network)})
        part.write_bytes(content.getbuffer())
        saved = _verify(part, target, deployed, network)
    image = _one_image(network)
    with torch.no_grad():
        took = speed.milliseconds(lambda: saved(image))
    figures = speed.in_words(target, took, torch.get_num_threads())
    return Written(target, "its logits equal the network's bit by bit", figures)


def _one_image(network: Network) -> torch.Tensor:
    return random_images(network, 1, torch.Generator().manual_seed(0))


def _verify(part: Path, target: Path, deployed: Deployed, network: Network) -> torch.nn.Module:
    """Return the saved program; UserError when its logits are not the network's."""
    with part.open("rb") as stream:
        program = torch.export.load(cast(Any, stream)).module()
    generator = torch.Generator().manual_seed(0)
    for batch in VERIFIED:
        images = random_images(network, batch, generator)
        with torch.no_grad():
            expected, found = network.finite(deployed(images)), program(images)
        if not torch.equal(expected, found):
            gap = (expected - found).abs().max().item()
            raise UserError(
                f"{target}: not written, its logits differ from the network's by {gap:g}, expected equality"
            )
    return program


def _write_onnx(target: Path, program: ExportedProgram, deployed: Deployed, network: Network) -> Written:
    content = onnx_file.onnx_model(program, network).SerializeToString(deterministic=True)
    with replacing(target, wanted=len(content)) as part:
        part.write_bytes(content)
        compared = onnx_file.verify(part.read_bytes(), target, deployed, network)
    image, opened = _one_image(network), compared.session
    took = speed.milliseconds(lambda: onnx_file.run(opened, image))
    proof = (
        f"on {onnx_file.COMPARED:,} random images ONNX Runtime's logits are the network's to {compared.gap:.1g}, of "
        f"logits up to {compared.largest:.3g}"
    )
    return Written(target, proof, speed.in_words(target, took, usable_cores()))
