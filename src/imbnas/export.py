"""Handing a finished network on: a torch.export program that needs torch alone, with its preprocessing inside."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from imbnas.errors import UserError
from imbnas.files import canonical_json, replacing
from imbnas.saved import Network, load_subnet

EXTRA = "imbnas.json"
"""Name of the metadata inside the file: `torch.export.load(path, extra_files={EXTRA: ""})` fills it in."""
VERIFIED = (1, 2, 7)
"""Batch sizes for which the saved program is compared with the network."""


class Deployed(nn.Module):
    """A network behind its preprocessing: uint8 images (N, C, S, S) to logits (N, classes), S being `load_side`."""

    def __init__(self, network: Network) -> None:
        """Take a network in evaluation mode."""
        super().__init__()
        self._preprocess = network.preprocess()
        self.network = network.model

    def forward(self, images: Tensor) -> Tensor:
        """Map images to logits."""
        logits: Tensor = self.network(self._preprocess(images))
        return logits


def export(model: Path, output: Path | None = None) -> Path:
    """Write the network in `model` as a torch.export program and return the file's path.

    `output` is by default `model` with the suffix .pt2. Before it gets its name the file is read back, and its logits
    must equal the network's bit by bit for several batch sizes. Raises UserError for a file that is not a single
    network, for another suffix, and when the logits differ.
    """
    target = output or model.with_suffix(".pt2")
    if target.suffix != ".pt2":
        raise UserError(f"{target}: expected a name that ends in .pt2, the suffix of torch.export programs")
    network = load_subnet(model)
    # An exported program is only used, so gradients of its weights would waste memory.
    deployed = Deployed(network).eval().requires_grad_(False)
    program = _trace(deployed, network)
    with replacing(target) as part:
        # Not to the file: torch loses the error of a full disk.
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={EXTRA: _metadata(network)})
        part.write_bytes(content.getbuffer())
        _verify(part, target, deployed, network)
    return target


def _trace(deployed: Deployed, network: Network) -> ExportedProgram:
    # Two images: with one, the tracer would take the batch size for a constant.
    example = torch.zeros(2, network.shape.channels, network.load_side, network.load_side, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(deployed, (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for node in program.graph.nodes:
        # Lines of source with this machine's paths.
        node.meta.pop("stack_trace", None)
    return program


def _metadata(network: Network) -> str:
    meta, side = network.meta, network.load_side
    return canonical_json(
        {
            "classes": meta["classes"],
            "input": {"dtype": "uint8", "shape": ["batch", network.shape.channels, side, side]},
            "files": {
                "exif_rotation": network.reading.upright,
                "square": "padded with black" if network.reading.pad else "central",
                "scaling": "bilinear",
            },
            "output": {"dtype": "float32", "shape": ["batch", len(meta["classes"])], "meaning": "logits"},
            "dataset": meta.get("dataset"),
            "space": meta["space"],
            "architecture": meta["architecture"],
            "macs": meta["macs"],
            "params": meta["params"],
            **({"approximate": meta["approximate"]} if meta.get("approximate") else {}),
        }
    )


def _verify(part: Path, target: Path, deployed: Deployed, network: Network) -> None:
    """Raise UserError when the saved program's logits are not the network's."""
    with part.open("rb") as stream:
        program = torch.export.load(cast(Any, stream)).module()
    generator = torch.Generator().manual_seed(0)
    for batch in VERIFIED:
        shape = (batch, network.shape.channels, network.load_side, network.load_side)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            expected, found = network.finite(deployed(images)), program(images)
        if not torch.equal(expected, found):
            gap = (expected - found).abs().max().item()
            raise UserError(
                f"{target}: not written, its logits differ from the network's by {gap:g}, expected equality"
            )
