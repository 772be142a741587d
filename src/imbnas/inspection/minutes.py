"""The time that a chain is expected to take on this machine: rows and epochs times the pace of a short trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imbnas.data.own_images import READERS
from imbnas.data.raw import Raw
from imbnas.errors import UserError, visible
from imbnas.inspection.image_findings import Images
from imbnas.inspection.split_plan import SplitPlan, plan_splits
from imbnas.inspection.trial import BUSY, Pace, trial
from imbnas.inspection.unestimated import in_words, unestimated
from imbnas.params.config import Params
from imbnas.params.dataset import PATH_DATASETS, PUBLISHED, DatasetParams, same_images
from imbnas.params.medmnist import MEDMNIST
from imbnas.run.graph import PATHS, STEPS, cost_details
from imbnas.sealed import DamagedError, read_record
from imbnas.seeds import stream
from imbnas.spaces.registry import make_space

START = 3.0
"""Seconds in which a step begins and ends, whatever it does: most of it imports torch."""
DRAWN = 1000
"""Random tuples of choices that tell how many of them are architectures."""
TESTED = 10_000
"""Published test rows of each dataset that torchvision reads."""


@dataclass(frozen=True)
class Expectation:
    """Seconds of each step, and the pace and rows of each split that they follow from."""

    seconds: dict[str, float]
    pace: Pace
    rows: dict[str, int]
    unknown: dict[str, str] = field(default_factory=dict)
    """Why a step is not among the `seconds`, for each such step."""

    @property
    def total(self) -> float:
        """Return the seconds of all steps that are estimated."""
        return sum(self.seconds.values())

    def line(self, root: Path) -> str:
        """Return what a person reads, with what a finished run has taken where there is one."""
        parts = ", ".join(f"{step} {spoken(taken)}" for step, taken in self.seconds.items() if taken > 2 * START)
        without = f" without {' and '.join(self.unknown)}" if self.unknown else ""
        text = f"expected on this machine ({self.pace.device}){without}: {spoken(self.total)}"
        text += f"; {parts or 'each step seconds'}" + f"; {in_words(self.unknown)}" * bool(self.unknown)
        if self.pace.busy > BUSY:
            text += f"; timed on one thread, as the machine is busy ({self.pace.busy:.1f} programs per processor)"
        before = finished(root, self.seconds)
        if before is not None:
            text += f"; the last run took {spoken(before)}{without}, {before / self.total:.2f} of that"
        return visible(text)


def spoken(seconds: float) -> str:
    """Return a time as a person says it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def finished(root: Path, wanted: Iterable[str] = STEPS) -> float | None:
    """Return the seconds of the `wanted` steps that a finished run has recorded, None where there is no record.

    It lies in results/cost-details.json.
    """
    try:
        steps = read_record(cost_details(root / PATHS["cost"]))["steps"]
        return sum(float(steps[step]["seconds"]) for step in wanted)
    except (OSError, DamagedError, KeyError, TypeError, ValueError, UserError):
        return None


def expect(params: Params, train: Raw, plan: SplitPlan, root: Path) -> Expectation:
    """Return what the chain takes on images that lie at hand, after a trial.

    UserError where a step would refuse the images, and where another dataset is the source and its rows are not known.
    """
    if plan.faults:
        raise UserError(plan.faults[0])
    rows = {name: int(counts.sum()) for name, counts in plan.rows.items()}
    if params.supernet.reuse is None and not same_images(params.source, params.target):
        rows["source"] = round(params.source.share * len(_unread(params.source, root, "source")["train"].raw))
    pace = trial(params, len(train.classes), train)
    return expectation(params, rows, pace)


def expectation(params: Params, rows: dict[str, int], pace: Pace) -> Expectation:
    """Return what the chain takes for so many rows of the source and the target's splits, by the pace of a trial."""
    unknown = unestimated(params)
    taken = seconds(params, rows, pace)
    return Expectation({step: taken[step] for step in STEPS if step not in unknown}, pace, rows, unknown)


def expect_unread(params: Params, root: Path) -> Expectation:
    """Return the same without opening an image: of files the names are counted, published datasets are known.

    UserError says what has to be there first.
    """
    found = _unread(params.target, root, "target")
    plan = plan_splits(params, found, root)
    return expect(params, found["train"].raw, plan, root)


def seconds(params: Params, rows: Mapping[str, int], pace: Pace) -> dict[str, float]:
    """Return the seconds of each step for so many rows of the source and the target's splits, as if it knew only paths.

    Candidates of a search that begin alike are counted in full, so that a search may take less.
    """
    supernet, adapt, search = params.supernet, params.adapt, params.search
    workers = max(1, params.runtime.workers)
    reused = supernet.reuse is not None
    width = _paths(pace, supernet.sampling)
    trained = 0 if reused else rows["source"]
    opened = rows["training"] + rows["validation"] + rows["test"]
    found = dict.fromkeys(STEPS, START)
    found["source"] += (trained + opened if trained else 0) * pace.decoding / 2
    found["target"] += (trained + opened) * pace.decoding / 2
    if not reused:
        found["supernet"] += supernet.epochs * trained * (width * pace.training + pace.decoding / workers)
        found["supernet"] += supernet.probe_paths * 512 * pace.evaluation if supernet.epochs else 0.0
    if adapt.strategy != "none":
        recipe = getattr(adapt, adapt.strategy)
        each = pace.evaluation if adapt.strategy == "head" else pace.training
        paths, epochs = _paths(pace, adapt.sampling), recipe.epochs
        if adapt.strategy == "head" and adapt.feature_cache.paths:
            # Features are computed once; the head alone learns from them, in no time.
            paths, epochs = adapt.feature_cache.paths, max(1, adapt.feature_cache.views)
        found["adapt"] += epochs * rows["training"] * (paths * each + pace.decoding / workers)
    if search.judged:
        scored = min(search.calibration.rows, rows["training"]) + rows["validation"]
        found["search"] += candidates(params) * scored * pace.evaluation + scored * pace.decoding
    recipe = params.retrain.acting
    networks = 1 + params.retrain.references.count
    own = rows["training"] + (0 if params.retrain.rows == "train" else rows["validation"])
    own += trained if params.retrain.rows == "all" else 0
    found["retrain"] += networks * recipe.epochs * own * (pace.training + pace.decoding / workers)
    found["evaluate"] += networks * rows["test"] * pace.evaluation + rows["test"] * pace.decoding
    return found


def candidates(params: Params) -> int:
    """Return how many architectures a search scores at the most."""
    search = params.search
    if search.method == "exhaustive":
        return _architectures(params)
    bred = search.method in ("evolution", "nsga2")
    return search.population * search.generations if bred else search.candidates


def _architectures(params: Params) -> int:
    """Return about how many architectures a space has: the tuples of choices, times the share of a few that are one."""
    space, rng = make_space(params.space), stream(params.seed, "minutes")
    drawn = [tuple(rng.integers(space.choices).tolist()) for _ in range(DRAWN)]
    return max(1, round(space.size * sum(map(space.is_one, drawn)) / DRAWN))


def _paths(pace: Pace, sampling: str) -> int:
    """Return the paths of one optimiser step."""
    return {"fair": pace.choices, "sandwich": 4}.get(sampling, 1)


def _unread(given: DatasetParams, root: Path, section: str) -> dict[str, Images]:
    """Return the splits of the dataset of `section`, no image opened; UserError where its rows are not known."""
    if given.dataset in PATH_DATASETS:
        read = READERS[given.dataset](root / given.root, given.named, section)
        return _apart({split: listing.raw for split, listing in read.items() if listing is not None})
    if given.name is not None:
        published = MEDMNIST[given.name]
        splits = zip(("train", "validation", "test"), published.rows, strict=True)
        return _apart({split: _even(count, len(published.classes)) for split, count in splits})
    if given.dataset not in PUBLISHED:
        raise UserError(
            f"{section}.dataset: rows of {given.dataset} are not known before they are read: imbnas inspect"
        )
    known = PUBLISHED[given.dataset]
    if given.dataset == "digits":
        return _apart({"train": _even(known.rows, known.classes)})
    return _apart({"train": _even(known.rows - TESTED, known.classes), "test": _even(TESTED, known.classes)})


def _even(rows: int, classes: int) -> Raw:
    labels = np.sort(np.arange(rows, dtype=np.int64) % classes)
    return Raw(labels, [str(k) for k in range(classes)], None, None, Path())


def _apart(splits: Mapping[str, Raw]) -> dict[str, Images]:
    """Return splits whose images were not opened, no two taken for the same."""
    none: Any = np.zeros(0, dtype=np.int64)
    ends = np.cumsum([len(raw) for raw in splits.values()]).tolist()
    return {
        split: Images(raw, np.arange(end - len(raw), end), none, none)
        for (split, raw), end in zip(splits.items(), ends, strict=True)
    }
