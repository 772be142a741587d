"""A network behind its preprocessing, its metadata for others, and the images on which its copies are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from imbnas.files import canonical_json
from imbnas.saved import Network

EXTRA = "imbnas.json"
"""Name of the metadata inside a file: an extra file of a torch.export program, an entry of ONNX's `metadata_props`."""
INPUT, OUTPUT = "images", "logits"
"""Names of what an ONNX file takes and gives."""


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


def trace(deployed: Deployed, network: Network) -> ExportedProgram:
    """Return the network as a program whose batch dimension is free, without this machine's paths."""
    # Two images: with one, the tracer would take the batch size for a constant.
    example = torch.zeros(2, *input_shape(network), dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(deployed, (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for node in program.graph.nodes:
        # Lines of source with this machine's paths.
        node.meta.pop("stack_trace", None)
    return program


def input_shape(network: Network) -> tuple[int, int, int]:
    """Return channels, height and width of an image that is handed to the network as it was read."""
    return network.shape.channels, network.load_side, network.load_side


def random_images(network: Network, count: int, generator: torch.Generator) -> Tensor:
    """Return so many random images uint8 (N, C, S, S)."""
    return torch.randint(0, 256, (count, *input_shape(network)), generator=generator, dtype=torch.uint8)


def metadata(network: Network) -> str:
    """Return as JSON how a file becomes the program's input, and what the output means."""
    meta = network.meta
    return canonical_json(
        {
            "classes": meta["classes"],
            "input": {"dtype": "uint8", "shape": ["batch", *input_shape(network)]},
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
            **{name: meta[name] for name in ("approximate", "counts", "temperature") if meta.get(name)},
        }
    )
