"""ONNX files in 8 bits: static quantisation by ONNX Runtime, and what it costs each shot group."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imbnas.deploy import onnx_file, speed
from imbnas.deploy.deployed import EXTRA, INPUT, input_shape
from imbnas.deploy.libraries import needed, quiet, usable_cores
from imbnas.deploy.project_rows import ProjectRows, store_of
from imbnas.errors import UserError, visible
from imbnas.files import replacing
from imbnas.longtail.metrics import summarise
from imbnas.longtail.shots import GROUPS, Rule, rule_text
from imbnas.saved import Network

AGREEMENT = 0.97
"""The share of rows whose likeliest class should be the same in 8 bits."""
BATCH = 64
SCORES = ("accuracy", "balanced_accuracy", *GROUPS)


@dataclass(frozen=True)
class Quantised:
    """A file in 8 bits beside the one in float32, judged on the same rows."""

    path: Path
    agreement: float
    lines: list[str]


def int8_path(path: Path) -> Path:
    """Return the name of the 8-bit file beside an ONNX file."""
    return path.with_suffix(".int8.onnx")


def write_int8(source: Path, network: Network, rows: ProjectRows, rule: Rule) -> Quantised:
    """Write the ONNX file `source` of a network in 8 bits beside it, and compare both on rows of its project.

    Weights have a scale per channel and 7 bits, as sums of 8-bit products overflow on processors without VNNI;
    activations have 8 bits, whose range is that of the calibration rows. What comes before the first convolution stays.
    Raises UserError for a network whose convolutions are in 8 bits already.
    """
    if network.meta.get("approximate"):
        raise UserError(
            f"{network.path}: its convolutions are in 8 bits already (approximate), expected none with --int8"
        )
    target = int8_path(source)
    with replacing(target) as part:
        _quantise(source, part, rows)
        answers = {name: _labels(onnx_file.session(path), rows) for name, path in (("float", source), ("int8", part))}
        took = _milliseconds(part, network)
    agreement = float((answers["float"] == answers["int8"]).mean())
    judged = f"{len(rows.judges):,} {rows.words}"
    lines = [
        f"{visible(target)}: written; the likeliest class is the same for {agreement:.1%} of {judged}",
        speed.in_words(target, took, usable_cores()),
        *_losses(answers, rows, network.meta["counts"], rule),
    ]
    return Quantised(target, agreement, lines)


def _quantise(source: Path, target: Path, rows: ProjectRows) -> None:
    onnx, quantization = needed("onnx", "onnxruntime.quantization")
    batches = store_of(rows.calibration).ordered(BATCH)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(batches, None)
            return None if images is None else {INPUT: images[0].numpy()}

    model = onnx.load(source)
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
    target.write_bytes(found.SerializeToString(deterministic=True))


def _before_convolutions(graph: Any) -> Iterator[str]:
    """Yield the names of the nodes that prepare the image."""
    for node in graph.node:
        if node.op_type == "Conv":
            return
        yield node.name


def _labels(opened: Any, rows: ProjectRows) -> np.ndarray:
    """Return the likeliest class of each judging row."""
    found = [onnx_file.run(opened, images).argmax(dim=1) for images, _ in store_of(rows.judges).ordered(BATCH)]
    return torch.cat(found).numpy()


def _milliseconds(path: Path, network: Network) -> float:
    opened, image = onnx_file.session(path), torch.zeros(1, *input_shape(network), dtype=torch.uint8)
    return speed.milliseconds(lambda: onnx_file.run(opened, image))


def _losses(answers: dict[str, np.ndarray], rows: ProjectRows, counts: list[int], rule: Rule) -> Iterator[str]:
    """Yield a line per score: in float32, in 8 bits, and the difference in points."""
    scores = {name: summarise(rows.judges.labels, found, counts, rule) for name, found in answers.items()}
    yield f"{'on ' + rows.words.partition(',')[0]:24} float32    int8   change"
    for name in SCORES:
        before, after = scores["float"][name], scores["int8"][name]
        if before is not None:
            label = name.replace("_", " ") + "-shot" * (name in GROUPS)
            yield f"  {label:22} {100 * before:7.2f} {100 * after:7.2f} {100 * (after - before):+8.2f}"
    yield f"  {rule_text(rule)}"
