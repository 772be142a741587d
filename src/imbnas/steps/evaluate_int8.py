"""The chosen network in 8 bits on the test rows, as `imbnas export --int8` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imbnas.data.stored import Split
from imbnas.errors import UserError
from imbnas.files import digest_bytes
from imbnas.params.evaluate import EvaluateView
from imbnas.report.int8_facts import compare_int8
from imbnas.report.scores import Answers, Protocol, score
from imbnas.run.context import Context
from imbnas.saved import load_subnet
from imbnas.steps.answers import collected
from imbnas.steps.project_rows import calibration_rows, store_of
from imbnas.steps.rows import read_tail


@dataclass(frozen=True)
class EightBits:
    """The answers of the file, its SHA-256, and the number of training rows that calibrated it."""

    answers: Answers
    digest: str
    calibration_rows: int

    def described(self, names: list[str], protocol: Protocol, final: Answers) -> dict[str, Any]:
        """Return what results/details.json says of it, beside the `final` network in float."""
        return {
            "sha256": self.digest,
            "calibration_rows": self.calibration_rows,
            **compare_int8(final, self.answers, protocol),
            "scores": score(self.answers, names, protocol),
        }


def answer_int8(view: EvaluateView, context: Context, test: Split) -> EightBits:
    """Return the answers of the network's 8-bit copy on all rows of the test split.

    The rows that calibrate it are training rows, and its bits are those of `imbnas export --int8`. Raises UserError
    where the network was trained on others, and where ONNX Runtime cannot run it.
    """
    # Tracing needs the compiler, whose import takes longer than a step without it.
    from imbnas.deploy import eight_bits, onnx_file
    from imbnas.deploy.deployed import Deployed, trace

    path = context.path("final")
    # Read anew: the other one may lie on a GPU, in another memory layout.
    network = load_subnet(path)
    tail, _ = read_tail(context)
    calibration = calibration_rows(network, tail, context.path("target_train"))
    program = trace(Deployed(network).eval().requires_grad_(False), network)
    try:
        content = eight_bits.quantise(onnx_file.onnx_model(program, network), store_of(calibration))
        opened = onnx_file.session(content, view.runtime.threads)
    except UserError:
        raise
    # ONNX Runtime has exceptions of its own.
    except Exception as error:
        raise _cannot(path, error) from None

    def logits(images: Tensor) -> Tensor:
        return onnx_file.run(opened, images)

    params = view.evaluate
    found = collected(logits, network, test, torch.device("cpu"), context, params.batch_size, params.logit_adjustment)
    return EightBits(found, digest_bytes(content), len(calibration))


def _cannot(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{path}: cannot be had in 8 bits ({reason}), expected evaluate.int8 false")
