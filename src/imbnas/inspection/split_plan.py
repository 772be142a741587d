"""The splits that the steps would make of a dataset's rows, class by class, before any of them runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imbnas.data.class_sizes import class_counts
from imbnas.data.datasets import check_classes
from imbnas.data.grouping import with_groups
from imbnas.data.partition import few, hold_out, source_parts, target_parts
from imbnas.data.published_rows import published_validation
from imbnas.errors import UserError
from imbnas.inspection.image_findings import Images
from imbnas.longtail.shots import make_rule, rule_text, shot_groups
from imbnas.params.config import Params
from imbnas.params.dataset import same_images

SPLITS = ("source", "training", "validation", "test")


@dataclass(frozen=True)
class SplitPlan:
    """Rows of each class in each of SPLITS, and what is wrong with them; `groups` are those of the training rows.

    Where the steps would refuse the dataset, the counts are of what came before the refusal.
    """

    rows: dict[str, np.ndarray]
    groups: list[str]
    rule: str
    available: np.ndarray
    """Rows of each class for training and validation together, before the imbalance."""
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def training(self) -> np.ndarray:
        """Return the long-tailed training rows of each class."""
        return self.rows["training"]

    @property
    def ratio(self) -> float:
        """Return the rows of the largest class over those of the smallest; infinite where one has none."""
        least = int(self.training.min())
        return float(self.training.max() / least) if least else float("inf")


def plan_splits(params: Params, found: dict[str, Images], root: Path) -> SplitPlan:
    """Return the rows that each split gets of the target's images; what is refused is told in `faults`."""
    train = found["train"]
    none = np.zeros(len(train.raw.classes), dtype=np.int64)
    rows: dict[str, np.ndarray] = {**dict.fromkeys(SPLITS, none), "training": train.counts}
    faults: list[str] = []
    warnings: list[str] = []
    available = train.counts
    try:
        check_classes(train.raw, root / params.target.root, "target")
        _draw(params, found, rows, warnings)
        available = rows["training"] + rows["validation"]
        rows["training"], held = _tail(params, rows["training"], train, root)
        rows["validation"] = rows["validation"] + held
    except UserError as error:
        faults.append(str(error))
    thresholds = params.evaluate.thresholds
    rule = make_rule(params.evaluate.shots, thresholds.many, thresholds.few)
    return SplitPlan(rows, shot_groups(rows["training"], rule), rule_text(rule), available, faults, warnings)


def _draw(params: Params, found: dict[str, Images], rows: dict[str, np.ndarray], warnings: list[str]) -> None:
    """Fill in the rows of each split before the imbalance, as the steps `source` and `target` draw them."""
    train, target, source = found["train"], params.target, params.source
    raw = train.raw
    groups = with_groups(raw, train.first)[1]
    shared = params.supernet.reuse is None and same_images(source, target)
    taken = np.zeros(0, dtype=np.int64)
    if shared:
        parts = source_parts(
            raw.labels,
            train.first,
            raw.classes,
            share=source.share,
            per_class=source.validation.per_class,
            seed=source.seed,
            groups=groups,
        )
        taken = np.concatenate([parts.train, parts.validation])
        rows["source"] = _counts(raw.labels[taken], raw.classes)
    drawn = target_parts(
        raw.labels,
        train.first,
        raw.classes,
        source_share=source.share if shared else None,
        source_seed=source.seed,
        test_fraction=None if "test" in found else target.test_fraction,
        per_class=target.validation.per_class if target.validation.from_ == "reserve" else 0,
        seed=target.seed,
        groups=groups,
    )
    for split, chosen in (("training", drawn.train), ("validation", drawn.validation), ("test", drawn.test)):
        rows[split] = _counts(raw.labels[chosen], raw.classes)
    if warning := few(raw.labels[drawn.validation], raw.classes):
        warnings.append(warning.removeprefix("warning: "))
    if target.validation.from_ == "published" and "validation" in found:
        judging = found["validation"]
        gone = np.concatenate([drawn.test, taken])
        kept = published_validation(
            np.isin(judging.content, train.content[gone]),
            {split: images.content for split, images in found.items()},
            {split: images.raw for split, images in found.items()},
        )
        rows["validation"] = _counts(judging.raw.labels[kept], raw.classes)
    if "test" in found:
        rows["test"] = found["test"].counts


def _tail(params: Params, available: np.ndarray, train: Images, root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the training rows that the imbalance leaves to each class, and those held out of them."""
    options = params.imbalance
    counts = class_counts(
        options.profile,
        options.ratio,
        available,
        options.n_max,
        options.order,
        options.seed,
        None if options.counts is None else root / params.target.root / options.counts,
        train.raw.classes,
    )
    held = np.zeros_like(counts)
    if params.target.validation.from_ == "longtail":
        held = hold_out(counts, params.target.validation.fraction, train.raw.classes)
    return counts - held, held


def _counts(labels: np.ndarray, classes: list[str]) -> np.ndarray:
    return np.bincount(labels, minlength=len(classes))
