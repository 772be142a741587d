"""The networks of `retrain`, trained in turn: the chosen one and its references, each through all of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from imbnas.params.retrain import RetrainView
from imbnas.spaces.cost import count
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.steps.first_stage import Outcome, Teacher, first_stage, kept_network, unassigned
from imbnas.steps.retrain_head import SECOND_STAGES, SecondStage
from imbnas.steps.rows import Rows
from imbnas.steps.workbench import TrainingStep
from imbnas.training.lanes import lanes, workers_each
from imbnas.training.turns import Clock, Job, Trainings, finished, in_turn, stepwise


def train_all(
    step: TrainingStep,
    view: RetrainView,
    entries: Mapping[str, Mapping[str, Any]],
    outcome: Outcome,
    teacher: Teacher | None,
    judges: Rows | None,
) -> None:
    """Train the network of each entry, as many at a time as `runtime.together` says; the outcome takes them up.

    Of two entries of one architecture the first is trained. `judges` are the rows on which a head's tau is chosen.
    """
    context = step.context
    names: dict[Architecture, str] = {}
    for name, entry in entries.items():
        if names.setdefault(tuple(entry["architecture"]), name) != name:
            context.log(f"{name} is the same architecture as an earlier one and is not trained twice")
    places = lanes(context.together, step.runtime.device, len(names), step.runtime.ranks.count)
    train, clocks = _Networks(step, view, outcome, teacher, judges), [Clock() for _ in names]
    before = train.unassigned(names) / min(places.count, len(names))
    for clock in clocks[: places.count]:
        clock.seconds = before
    works = [partial(train, *each, clock) for each, clock in zip(names.items(), clocks, strict=True)]
    if places.count == 1:
        for work, clock in zip(works, clocks, strict=True):
            with clock.running():
                finished(work())
        return
    jobs = [
        Job(name, partial(stepwise, work), clock)
        for name, work, clock in zip(names.values(), works, clocks, strict=True)
    ]
    whole, context.workers = context.workers, workers_each(context.workers, places.count)
    try:
        in_turn(jobs, places, context.log)
    finally:
        context.workers = whole


@dataclass(frozen=True)
class _Networks:
    """The trainings of all networks, by one recipe on the same rows."""

    step: TrainingStep
    view: RetrainView
    outcome: Outcome
    teacher: Teacher | None
    judges: Rows | None

    def __call__(self, architecture: Architecture, name: str, clock: Clock) -> Trainings[None]:
        """Train one network, and its head anew where a second stage follows."""
        step, view, outcome = self.step, self.view, self.outcome
        first = first_stage(step, view, architecture, outcome, clock, teacher=self.teacher)
        model, tag, losses = yield from first
        if view.retrain.head.name != "none":
            assert isinstance(model, Subnet)  # the parameters refuse a second stage of two branches
            stage = SecondStage(step, view.retrain.acting, model, self.judges, tag)
            outcome.head = yield from SECOND_STAGES[view.retrain.head.name](stage)
            outcome.states += stage.states
        outcome.losses[architecture] = losses
        outcome.costs[architecture] = count(model, step.shape)
        outcome.networks[architecture] = {key: value.detach().cpu() for key, value in model.state_dict().items()}
        if name == "chosen":
            outcome.final = model
        done = "trained" if outcome.mixture is None else "taken as the search has trained it, a mixture that decodes to"
        step.context.log(f"{name} {done}: {tag}")

    def unassigned(self, architectures: Mapping[Architecture, str]) -> float:
        """Return the seconds of this run that no network has taken, those aside that earlier attempts have ended."""
        seconds, context = unassigned(self.step, self.outcome), self.step.context
        if self.outcome.mixture is not None or context.cost()["attempts"] == 1:
            return max(0.0, seconds)
        own = context.state_path.name
        for architecture in architectures:
            found = kept_network(self.step, self.view, "-".join(map(str, architecture)), self.teacher).load()
            if found is not None and found.run == own:
                seconds -= found.seconds
        return max(0.0, seconds)
