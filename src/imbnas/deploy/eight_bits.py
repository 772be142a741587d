"""Static quantisation of an ONNX model by ONNX Runtime: weights and activations in 8 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imbnas.data.images import ImageStore
from imbnas.deploy.deployed import EXTRA, INPUT
from imbnas.deploy.libraries import needed, quiet
from imbnas.errors import UserError
from imbnas.saved import Network

BATCH = 64


def refuse_approximate(network: Network, wanted_by: str) -> None:
    """Raise UserError for a network whose convolutions are in 8 bits already."""
    if network.meta.get("approximate"):
        raise UserError(
            f"{network.path}: its convolutions are in 8 bits already (approximate), expected none with {wanted_by}"
        )


def quantise(model: Any, calibration: ImageStore) -> bytes:
    """Return an ONNX model in 8 bits, with its metadata.

    Weights have a scale per channel and 7 bits, as sums of 8-bit products overflow on processors without VNNI;
    activations have 8 bits, whose range is that of the calibration images. What comes before the first convolution
    stays.
    """
    onnx, quantization = needed("onnx", "onnxruntime.quantization")
    batches = calibration.ordered(BATCH)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(batches, None)
            return None if images is None else {INPUT: images[0].numpy()}

    with quiet(), tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            made,
            Reader(),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=list(_before_convolutions(model.graph)),
        )
        found = onnx.load(made)
    about = {entry.key: entry.value for entry in model.metadata_props}[EXTRA]
    del found.metadata_props[:]
    found.metadata_props.add(key=EXTRA, value=about)
    content: bytes = found.SerializeToString(deterministic=True)
    return content


def _before_convolutions(graph: Any) -> Iterator[str]:
    """Yield the names of the nodes that prepare the image."""
    for node in graph.node:
        if node.op_type == "Conv":
            return
        yield node.name
