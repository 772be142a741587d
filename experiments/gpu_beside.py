"""Ratios of `make gpu`: trainings side by side in one process, beside one after another.

Images are counted from the moment at which all are recorded and race; on a GPU also what the host spends on a step,
the share of time in which kernels run, and how many run at once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_setting import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import throughput
import torch
from torch.profiler import ProfilerActivity, profile

from imbnas.params.recipe import RecipeParams
from imbnas.params.space_options import SpaceParams
from imbnas.progress import Log
from imbnas.spaces.registry import make_space
from imbnas.training.definition import Training
from imbnas.training.lanes import Lanes, lanes
from imbnas.training.loop import Trainer
from imbnas.training.state import ResumeState
from imbnas.training.turns import Job, in_turn

WARM, TIMED = 2, 3
"""Epochs before the race is timed, and those that are."""
ASKED, SEEN = 16, 4
"""Turns of which the host's time is taken, right after a wait for the GPU, and turns that the profiler sees."""
CASES = ("resnet", "nasbench201, one cell a stage")
"""ResNet-32, and networks of three cells, of 16, 32 and 64 channels."""


def beside(bench: throughput.Bench, case: str, precision: Any, batch: int, count: int) -> dict[str, Any]:
    """Return images per second of one training and of `count` side by side, their ratio, and what the race was like."""
    name = case.partition(",")[0]
    options = dict(throughput.SPACES[name])
    if name != case:
        options["stages"] = {**options["stages"], "repeats": [1, 1, 1]}
    space, runtime = make_space(SpaceParams.model_validate({"name": name, **options})), bench.runtime(precision)
    jobs = [throughput._job(bench, "retrain", space, batch) for _ in range(count + 1)]
    alone = batch / bench.seconds_a_step(jobs.pop(), runtime)
    race = Race(bench, jobs[0])
    with tempfile.TemporaryDirectory() as folder:
        trainings = [race.watched, *(replace(job, recipe=race.watched.recipe) for job in jobs[1:])]
        trainers = [
            Trainer(training, runtime, ResumeState(Path(folder) / "state", str(number), 1e9), Log("x", silent=True))
            for number, training in enumerate(trainings)
        ]
        places: Lanes = lanes(count, bench.device, count)
        in_turn([Job(str(number), one.turns) for number, one in enumerate(trainers)], places, print)
    together = TIMED * bench.steps * batch * count / (race.end - race.begin)
    found = {"batch": batch, "trainings": count, "one_after_another": alone, "side_by_side": together}
    return {**found, "ratio": together / alone, **race.figures(count)}


class Race:
    """The first of several trainings that take turns, which notes when epochs and turns begin."""

    def __init__(self, bench: throughput.Bench, training: Training) -> None:
        self._bench, self._inner = bench, training
        self.begin = self.end = 0.0
        self._asked: list[float] = []
        self._profile: profile | None = None
        recipe: RecipeParams = training.recipe.model_copy(update={"epochs": WARM + TIMED + 1})
        self.watched = replace(training, recipe=recipe, objective=self._objective, passes=self._passes)

    def _objective(self, epoch: int) -> Any:
        if epoch == WARM:
            self.begin = self._bench.now()
        elif epoch == WARM + TIMED:
            self.end = self._bench.now()
        return self._inner.objective(epoch)

    def _passes(self, step: int) -> Sequence[tuple[Any, ...]]:
        turn = step - WARM * self._bench.steps
        if turn in (0, min(ASKED, self._bench.steps)):
            self._asked.append(time.perf_counter())
        last = step - (WARM + TIMED) * self._bench.steps
        if self._bench.device.type == "cuda" and last == 0:
            self._profile = profile(activities=[ProfilerActivity.CUDA])
            self._profile.start()
        elif self._profile is not None and last == SEEN:
            torch.cuda.synchronize()
            self._profile.stop()
        return [()]

    def figures(self, count: int) -> dict[str, float]:
        """Return the host's milliseconds for a step, and on a GPU the share of time with kernels and their number."""
        begin, end = self._asked[:2]
        found = {"host_milliseconds_a_step": 1e3 * (end - begin) / min(ASKED, self._bench.steps) / count}
        if self._profile is None:
            return found
        spans = sorted(
            (event.time_range.start, event.time_range.end)
            for event in self._profile.events() or ()
            if event.device_type == torch.autograd.DeviceType.CUDA
        )
        return {**found, **overlap(spans)}


def overlap(spans: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return the share of time in which one of the spans (begin, end), in order, lasts, and how many last then."""
    if not spans:
        return {}
    busy, until = 0.0, spans[0][0]
    for begin, end in spans:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    whole = until - spans[0][0]
    return {"busy": busy / whole, "kernels_at_once": sum(end - begin for begin, end in spans) / busy}
