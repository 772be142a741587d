"""ONNX files: a network's program as one, and the proof that ONNX Runtime computes the same."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from imbnas.deploy.deployed import EXTRA, INPUT, OUTPUT, Deployed, metadata, random_images
from imbnas.deploy.libraries import needed, quiet, usable_cores
from imbnas.errors import UserError
from imbnas.saved import Network

TOLERANCE = 1e-4
"""The largest difference of an image's logits, as a share of its largest logit where that is above 1."""
COMPARED = 1000
"""Images on which ONNX Runtime and torch are compared."""
BATCHES = (1, 2, 7, 30)
"""Sizes of their batches, in turn: the batch dimension is free."""


def onnx_model(program: ExportedProgram, network: Network) -> Any:
    """Return a program as an ONNX model with the network's metadata, its nodes stripped of what the tracer noted."""
    _, onnx, _ = needed("onnxscript", "onnx", "onnxruntime")
    with quiet():
        made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT])
    assert made is not None  # it is None for a file alone
    model = made.model_proto
    graph = model.graph
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
    for value in (*graph.input, *graph.output):
        # The tracer's own symbol.
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    model.metadata_props.add(key=EXTRA, value=metadata(network))
    onnx.checker.check_model(model)
    return model


def session(content: bytes | Path, threads: int | None = None) -> Any:
    """Return ONNX Runtime's session of a model on the CPU; UserError where it does not run it."""
    (runtime,) = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4
    # Threads that spin while they wait make a shared machine slow.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = content if isinstance(content, bytes) else str(content)
    return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(opened: Any, images: Tensor) -> Tensor:
    """Return a session's logits (N, classes) for images uint8 (N, C, S, S)."""
    return torch.from_numpy(opened.run([OUTPUT], {INPUT: images.numpy()})[0])


@dataclass(frozen=True)
class Compared:
    """A model that ONNX Runtime runs: how far its logits are from the network's, and the largest of these."""

    session: Any
    gap: float
    largest: float


def verify(content: bytes, target: Path, deployed: Deployed, network: Network) -> Compared:
    """Return the model, compared with the network.

    Raises UserError where ONNX Runtime cannot run the model, and where the difference is too large.
    """
    try:
        opened = session(content)
    except UserError:
        raise
    # Its own exceptions, of which one says that an operation has no implementation for a type.
    except Exception as error:
        raise UserError(
            f"{target}: not written, ONNX Runtime cannot run it ({_first_line(error)}), expected --format pt2"
        ) from None
    generator = torch.Generator().manual_seed(0)
    worst, largest, other, done = 0.0, 0.0, 0, 0
    for size in cycle(BATCHES):
        if done == COMPARED:
            break
        batch = random_images(network, min(size, COMPARED - done), generator)
        done += len(batch)
        with torch.no_grad():
            expected = network.finite(deployed(batch))
        gaps, sizes = (run(opened, batch) - expected).abs().amax(dim=1), expected.abs().amax(dim=1)
        # NaN is a difference, too.
        other += int((~(gaps <= TOLERANCE * sizes.clamp(min=1.0))).sum())
        worst, largest = max(worst, gaps.max().item()), max(largest, sizes.max().item())
    if other:
        raise UserError(
            f"{target}: not written, ONNX Runtime's logits differ from the network's by up to {worst:.2g} for {other} "
            f"of {COMPARED:,} images, expected at most {TOLERANCE:g} of an image's largest{_why(network)}"
        )
    return Compared(opened, worst, largest)


def _why(network: Network) -> str:
    if network.meta.get("approximate"):
        return ": its convolutions round to 8 bits, and other last bits round otherwise; --format pt2 keeps them"
    return ""


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
