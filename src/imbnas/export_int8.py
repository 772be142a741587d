"""The ONNX file in 8 bits beside the one in float32, and what it costs each shot group on the project's rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imbnas.deploy import onnx_file, speed
from imbnas.deploy.deployed import input_shape
from imbnas.deploy.eight_bits import BATCH, quantise, refuse_approximate
from imbnas.deploy.libraries import needed, usable_cores
from imbnas.errors import visible
from imbnas.files import replacing
from imbnas.longtail.metrics import summarise
from imbnas.longtail.shots import GROUPS, Rule, rule_text
from imbnas.saved import Network
from imbnas.steps.project_rows import ProjectRows, store_of

AGREEMENT = 0.97
"""The share of rows whose likeliest class should be the same in 8 bits."""
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

    Raises UserError for a network whose convolutions are in 8 bits already.
    """
    refuse_approximate(network, "--int8")
    (onnx,) = needed("onnx")
    target = int8_path(source)
    content = quantise(onnx.load(source), store_of(rows.calibration))
    with replacing(target, wanted=len(content)) as part:
        part.write_bytes(content)
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
