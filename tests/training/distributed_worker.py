"""Small trainings in float64, in one process or in several: `python distributed_worker.py FOLDER PROCESSES`.

Each notes the loss and path of each step, and the weights at the end, in FOLDER/<rank>.pt.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imbnas.data.augment import Augment
from imbnas.data.draws import Draws
from imbnas.data.loading import Early, Task
from imbnas.data.order import InstanceSampler
from imbnas.data.policy import Policy
from imbnas.data.raw import Shape
from imbnas.differentiable.barlow import Projector, barlow_twins
from imbnas.longtail.mixing import Mixer
from imbnas.params.longtail import ClassifierParams, ClassifierTraining, WeightingParams
from imbnas.params.loss_options import LossesParams, LossName, SeqlParams
from imbnas.params.recipe import OptimizerParams, RecipeParams
from imbnas.params.shared import TrainingNumerics
from imbnas.params.space_options import DartsChoices, SpaceParams, Stages, Stem
from imbnas.progress import Log
from imbnas.spaces.paths import path_sampler
from imbnas.spaces.registry import make_space
from imbnas.steps.objective import make_objective
from imbnas.steps.retrain_cells import TwinNetwork, _two_views
from imbnas.training import RENDEZVOUS
from imbnas.training.definition import Training
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

COUNTS = [11, 6, 3]
LABELS = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
IMAGES = torch.randint(0, 256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
STAGES = Stages(channels=[8, 8], repeats=[1, 1], strides=[1, 2])
SPACE = SpaceParams(stem=Stem(channels=4), stages=STAGES, last_channels=8)
CELLS = SpaceParams(name="darts", darts=DartsChoices(channels=2, layers=3, operations=["skip_connect", "sep_conv_3x3"]))
AUGMENT = Augment(Shape(8, 8, 1), "pad", 1, True, 2, [0.5], [0.25])
# 20 rows in batches of 7: 7, 7 and 6, of which two processes take 4 and 3, or 3 and 3.
RECIPE = RecipeParams(epochs=2, batch_size=7, optimizer=OptimizerParams(lr=0.05, clip=1.0))


class Store:
    """Images in memory; `decodes` as if they came from files. It counts the rows that this process makes."""

    def __init__(self, decodes: bool = False) -> None:
        self.decodes, self.rows = decodes, 0

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            self.rows += len(batch)
            yield IMAGES[batch], LABELS[batch]

    def ahead(self, tasks: Iterable[Task], early: Early) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
        for task in tasks:
            self.rows += len(task.positions)
            generator = torch.Generator().manual_seed(task.seed)
            draws = Draws(generator, task.total or len(task.positions), task.rows)
            yield early(IMAGES[task.positions], draws), LABELS[task.positions], generator


def objective(loss: LossName) -> Callable[[int], Any]:
    return make_objective(
        ClassifierTraining(
            loss=loss,
            weighting=WeightingParams(defer=0.0),
            # All but the first class are rare.
            losses=LossesParams(seql=SeqlParams(gamma=0.5, threshold=0.4)),
            classifier=ClassifierParams(scale=16.0),
        ),
        RECIPE,
        COUNTS,
        torch.device("cpu"),
    )


def trainings() -> Iterator[Training]:
    """Yield the trainings, each with a model of its own."""
    space = make_space(SPACE)
    torch.manual_seed(1)
    training = Training(
        name="weighted",
        model=space.build_supernet(3, 1),
        recipe=RECIPE,
        store=Store(),
        augment=AUGMENT,
        sampler=InstanceSampler(LABELS.numpy(), 1),
        objective=objective("inverse-frequency"),
        seed=3,
        passes=path_sampler(space, "fair", 3, "weighted"),
    )
    yield training
    torch.manual_seed(1)
    yield replace(
        training,
        name="seesaw",
        model=space.build_supernet(3, 1),
        store=Store(decodes=True),
        objective=objective("seesaw"),
    )
    torch.manual_seed(1)
    # A loss that draws.
    yield replace(training, name="seql", model=space.build_supernet(3, 1), objective=objective("seql"))
    torch.manual_seed(1)
    yield replace(
        training,
        name="policy",
        model=space.build_supernet(3, 1),
        augment=Augment(Shape(8, 8, 1), "resized", 0, True, 2, [0.5], [0.25], Policy("randaugment")),
        store=Store(),
    )
    torch.manual_seed(1)
    yield replace(training, name="remix", model=space.build_supernet(3, 1), mix=Mixer("remix", COUNTS))
    torch.manual_seed(1)
    # One row in a batch: the second process has none.
    yield replace(
        training, name="single", model=space.build_supernet(3, 1), recipe=RECIPE.model_copy(update={"batch_size": 1})
    )
    cells = make_space(CELLS)
    torch.manual_seed(1)
    yield replace(training, name="mixture", model=cells.build_supernet(3, 1), passes=lambda step: [()])
    torch.manual_seed(1)
    subnet = space.build_subnet((0, 3), 3, 1)
    yield replace(
        training,
        name="twins",
        model=TwinNetwork(subnet, Projector(space.subnet_features, 8, 6)),
        augment=_two_views(AUGMENT),
        objective=lambda epoch: lambda outputs, labels: barlow_twins(*outputs.chunk(2), 0.1),
        passes=lambda step: [()],
        views_in=2,
        views_out=2,
    )
    torch.manual_seed(1)

    def first_half(epoch: int) -> Any:
        return lambda logits, labels: torch.nn.functional.cross_entropy(logits, labels[: len(logits)])

    yield replace(
        training,
        name="branches",
        model=space.build_bilateral((0, 3), 3, 1),
        recipe=RECIPE.model_copy(update={"batch_size": 10}),
        objective=first_half,
        passes=lambda step: [(0.7,)],
        views_in=2,
    )


def noted(training: Training, runtime: Runtime, folder: Path) -> dict[str, Any]:
    """Train, and return what there is to compare."""
    losses: list[float] = []
    paths: list[Any] = []

    def recording(epoch: int) -> Any:
        loss = training.objective(epoch)

        def recorded(outputs: Any, target: Any) -> Tensor:
            value: Tensor = loss(outputs, target)
            losses.append(value.item())
            return value

        return recorded

    def passes(step: int) -> Any:
        chosen = training.passes(step)
        paths.append([*map(tuple, chosen)])
        return chosen

    state = ResumeState(folder / "state", training.name, 1e9, ranks=runtime.ranks)
    log = Log(training.name, None, silent=True)
    Trainer(replace(training, objective=recording, passes=passes), runtime, state, log).fit()
    assert not any("forward" in vars(module) for module in training.model.modules()), "the model is as it was"
    decoded = training.store.rows if isinstance(training.store, Store) else 0
    return {"losses": losses, "paths": paths, "weights": training.model.state_dict(), "decoded": decoded}


def main(folder: Path) -> None:
    """Run all trainings."""
    torch.set_default_dtype(torch.float64)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    runtime = Runtime(TrainingNumerics(device="cpu", threads=1, processes=processes))
    # Rounding must not hide an error of the method, nor a chaotic training magnify it.
    runtime.forward = lambda model, inputs, *arguments: model(inputs.double(), *arguments)  # type: ignore[method-assign]
    found = {training.name: noted(training, runtime, folder) for training in trainings()}
    torch.save(found, folder / f"{os.environ.get('RANK', '0')}.pt")


def processes(folder: Path, count: int) -> None:
    """Run all trainings in so many processes, forks of this one once it has imported all that they need."""
    Policy("randaugment")
    os.environ.update({RENDEZVOUS: str(folder / "meet"), "WORLD_SIZE": f"{count}"})
    children = []
    for rank in range(count):
        if child := os.fork():
            children.append(child)
            continue
        try:
            os.environ.update({"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"})
            main(folder)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count


if __name__ == "__main__":
    processes(Path(sys.argv[1]), int(sys.argv[2]))
