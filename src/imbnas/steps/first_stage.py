"""The first stage of each network of `retrain`: trained here, or taken from where an earlier run has kept it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from imbnas.params.distill_options import DistillParams
from imbnas.params.reference_options import ReferencesParams
from imbnas.params.retrain import RetrainView, SecondStageParams
from imbnas.spaces.bilateral import BilateralSubnet
from imbnas.spaces.cost import Cost, count
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.steps.handed_mixture import HandedMixture
from imbnas.steps.inherit import Inheritance
from imbnas.steps.retrain_network import new_network, train_network
from imbnas.steps.trained import Kept, Trained
from imbnas.steps.workbench import TrainingStep
from imbnas.training.state import ResumeState
from imbnas.training.turns import Trainings, finished


@dataclass
class Outcome:
    """The result of training: each network's state, cost, losses and kind of head, and training states on disk."""

    costs: dict[Architecture, Cost] = field(default_factory=dict)
    inherited: Inheritance | None = None
    """The weights with which the networks begin; None: new ones."""
    mixture: HandedMixture | None = None
    """The network that a single-stage search has trained, which is the chosen one; None: there is none."""
    networks: dict[Architecture, dict[str, Tensor]] = field(default_factory=dict)
    losses: dict[Architecture, list[float]] = field(default_factory=dict)
    """Of each epoch of the first stage."""
    head: dict[str, Any] = field(default_factory=lambda: {"name": "linear"})
    states: list[ResumeState] = field(default_factory=list)
    final: nn.Module | None = None
    """The chosen network, once it is trained."""
    temperature: dict[str, Any] = field(default_factory=dict)
    """Its temperature, as `fitted_temperature` describes it."""
    seconds: float = 0.0
    """That the networks so far have taken of the run's own cost."""


class FirstStage(NamedTuple):
    """A network after its first stage, its tag, and the loss of each epoch."""

    model: Subnet | BilateralSubnet
    tag: str
    losses: list[float]


class Teacher(NamedTuple):
    """The network that the others follow, its tag, and what metadata tell of it."""

    network: nn.Module
    tag: str
    described: dict[str, Any]


def make_teacher(
    step: TrainingStep, view: RetrainView, architecture: Architecture | None, outcome: Outcome
) -> Teacher | None:
    """Return the network of that architecture after its own first stage, by the same recipe; None where none teaches.

    It is the network that a run without distillation keeps, and is taken from there.
    """
    if architecture is None:
        return None
    alone = view.retrain.model_copy(update={"distill": DistillParams()})
    view = view.model_copy(update={"retrain": alone})
    spent = partial(unassigned, step, outcome)
    model, tag, _ = finished(first_stage(step, view, architecture, outcome, spent, role="teacher-"))
    cost = count(model, step.shape)
    step.context.log(f"teacher trained: {tag}")
    described = {"architecture": list(architecture), "macs": cost.macs, "params": cost.params}
    return Teacher(model.requires_grad_(False).eval(), tag, described)


def unassigned(step: TrainingStep, outcome: Outcome) -> float:
    """Return the seconds of this run that no network so far has taken."""
    return float(step.context.cost()["seconds"]) - outcome.seconds


def first_stage(
    step: TrainingStep,
    view: RetrainView,
    architecture: Architecture,
    outcome: Outcome,
    spent: Callable[[], float],
    role: str = "",
    teacher: Teacher | None = None,
) -> Trainings[FirstStage]:
    """Return a network after its first stage; add to the outcome what that has brought.

    `spent` returns the seconds that it has taken, `role` tells states apart.

    A mixture has its training behind it. A network whose first stage an earlier run has trained with the same
    parameters is taken from there: other heads then cost seconds, and another number of references those that are new.
    What this very run has trained is taken only where a second stage is to be done: to force a run is to train anew.
    States stay on disk until the step's outputs are written, so that a step that is killed during the next network
    repeats nothing.
    """
    context, recipe, tag = step.context, view.retrain.acting, "-".join(map(str, architecture))
    if outcome.mixture is not None:
        outcome.head = outcome.mixture.head
        return FirstStage(step.placed(outcome.mixture.network()), tag, [])
    model, outcome.head = new_network(step, recipe, architecture)
    kept = kept_network(step, view, tag, teacher)
    # One process looks for all: a file that the first is writing must not be there for some and absent for others.
    look, own = step.runtime.ranks.shared, context.state_path.name
    found = look(kept.load)
    if found is not None and (recipe.head.name != "none" or found.run != own):
        outcome.states.append(step.state(role + tag))
        model.load_state_dict(found.state)
        left = "; only the head stage is left" if recipe.head.name != "none" and not role else ""
        context.log(f"{role}{tag}: trained by an earlier run in {found.seconds:.0f} s{left}")
        # What an earlier attempt of this run has spent is in its cost already.
        if found.run == own and context.cost()["attempts"] > 1:
            outcome.seconds += found.seconds
        else:
            context.reused_seconds += found.seconds
        return FirstStage(model, tag, found.losses)
    if outcome.inherited is not None:
        assert isinstance(model, Subnet)  # the parameters refuse to inherit two branches
        outcome.inherited.give(step, recipe, model, architecture)
    follows = None if teacher is None else teacher.network
    losses, states = yield from train_network(step, recipe, model, role + tag, follows)
    outcome.states += states
    if found is None:
        found = Kept(model.state_dict(), spent(), own, losses)
        if step.runtime.ranks.first:
            kept.save(found)
    outcome.seconds += found.seconds if found.run == own else spent()
    return FirstStage(model, tag, losses)


def kept_network(step: TrainingStep, view: RetrainView, tag: str, teacher: Teacher | None) -> Trained:
    """Return where the network is kept after its first stage, whatever the references are and what follows.

    Its teacher counts: which architecture that is follows from the limits of the search, which this step does not see.
    """
    first = view.retrain.model_copy(
        update={"head": SecondStageParams(epochs=0), "references": ReferencesParams(random=0, largest=False)}
    )
    view_json = view.model_copy(update={"retrain": first}).model_dump_json(by_alias=True)
    taught = "" if teacher is None else f" taught by {teacher.tag}"
    return Trained(step.context.kept_path(view_json + taught, apart=("architecture",)), tag)
