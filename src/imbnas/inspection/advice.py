"""Recommendations from what was found: preset, image size, validation rows, loss, each with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from imbnas.inspection.image_findings import Images
from imbnas.inspection.split_plan import SplitPlan
from imbnas.params.config import Params
from imbnas.params.dataset import OWN_DATASETS

SIZES = (32, 64, 96, 128, 224)
"""Sides in pixels that are recommended."""
LARGEST_ON_CPU = 64
PER_CLASS = (5, 10, 20, 50)
"""Validation rows of each class that are recommended: fewer than 5 tell hardly anything of a class."""
AIM = 0.02
"""Standard error of balanced accuracy on the validation rows that is good enough to search by."""
TYPICAL = 0.7
"""Recall for which that error is worked out."""
BALANCED = 2.0
"""Imbalance ratio below which plain cross-entropy has nothing to correct."""


@dataclass(frozen=True)
class Advice:
    """One recommendation: which parameter, its value, the one that holds now, and why."""

    name: str
    value: str
    now: str
    why: str

    @property
    def differs(self) -> bool:
        """Whether following it would change anything."""
        return self.value != self.now


def advise(params: Params, train: Images, plan: SplitPlan, gpu: bool, preset: str | None) -> list[Advice]:
    """Return what is recommended for the images; `preset` is the one that holds, None for a parameter file."""
    found = []
    if params.target.dataset in OWN_DATASETS and len(train.short_sides):
        size, why = _size(train, gpu)
        name = "own-224" if size > 2 * LARGEST_ON_CPU else "own-64"
        known = "" if preset is None else preset
        reason = "sized for a GPU" if name == "own-224" else "sized for a CPU, or for a GPU in a fraction of the time"
        found.append(Advice("preset", name, known, f"images of {size} pixels; {reason}"))
        found.append(Advice("target.image_size", str(size), str(params.target.image_size or ""), why))
    if params.target.validation.from_ == "reserve":
        found.append(_validation(params, plan))
    found.append(_loss(params, plan))
    return found


def _size(train: Images, gpu: bool) -> tuple[int, str]:
    """Return the image size that is recommended, and why."""
    middle = int(np.median(train.short_sides))
    most = SIZES[-1] if gpu else LARGEST_ON_CPU
    size = max([side for side in SIZES if side <= min(middle, most)], default=SIZES[0])
    text = f"half of the images have a short side of {middle} pixels or more"
    if middle < SIZES[0]:
        return size, f"{text}; they are enlarged, as a network halves its maps several times"
    if middle > most and not gpu:
        times = (224 / size) ** 2
        return size, f"{text}, but 224 pixels take {times:.0f} times as long, which is for a GPU"
    return size, text


def _validation(params: Params, plan: SplitPlan) -> Advice:
    """Return how many validation rows of each class give a usable score."""
    classes = len(plan.training)
    available = plan.available

    def error(rows: int) -> float:
        each = np.minimum(rows, available // 4)
        each = each[each > 0]
        return math.sqrt(float(np.sum(TYPICAL * (1 - TYPICAL) / each))) / len(each) if len(each) else math.inf

    # More rows than a quarter of most classes would change nothing.
    enough = max(AIM, 1.05 * error(PER_CLASS[-1]))
    rows = next(rows for rows in PER_CLASS if error(rows) <= enough)
    short = int((available // 4 < rows).sum())
    why = f"a standard error of about {100 * error(rows):.1f} points of balanced accuracy over {classes} classes"
    if not math.isfinite(error(rows)):
        why = "no class has the four images of which one could be a validation row"
    if short:
        why += f"; {short} classes give fewer, a quarter of what they have"
    return Advice("target.validation.per_class", str(rows), str(params.target.validation.per_class), why)


def _loss(params: Params, plan: SplitPlan) -> Advice:
    """Return the loss of the final training."""
    now = params.retrain.loss
    if plan.ratio < BALANCED:
        return Advice("retrain.loss", "ce", now, f"ratio {plan.ratio:.3g}: there is hardly anything to correct")
    return Advice(
        "retrain.loss",
        "balanced-softmax",
        now,
        f"ratio {plan.ratio:.3g}; 1.3 to 2.6 points above effective-number on three pairs of data, though on none "
        "beyond chance (docs/results/inheritance.md)",
    )
