"""The workbench of a step that trains: files, device, space and rows, and the parts of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from imbnas.approximate.carried import placement_meta, table_tensor
from imbnas.approximate.placement import Placement
from imbnas.data.augment import Augment
from imbnas.data.images import ImageStore
from imbnas.longtail.mixing import Mixer
from imbnas.params.approximate import ApproximateParams
from imbnas.params.recipe import AugmentParams, RecipeParams
from imbnas.params.shared import Numerics
from imbnas.run.context import Context
from imbnas.spaces.constraints import largest, smallest
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Net
from imbnas.spaces.paths import path_sampler
from imbnas.spaces.space import SearchSpace
from imbnas.steps.rows import Rows, make_augment, make_store
from imbnas.training.definition import Mix, Training
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState


@dataclass(frozen=True)
class TrainingStep:
    """The things that every training of a step shares: files and log, device, search space, training rows, seed."""

    context: Context
    runtime: Runtime
    space: SearchSpace
    rows: Rows
    seed: int
    placement: Placement | None = None
    """The convolutions that are approximate, None for none."""

    @classmethod
    def start(
        cls,
        context: Context,
        numerics: Numerics,
        space: SearchSpace,
        rows: Rows,
        seed: int,
        approximate: ApproximateParams | None = None,
    ) -> Self:
        """Take the device that the parameters name, and tell the context which one it is."""
        placement = None if approximate is None else Placement.of(approximate, context.root)
        runtime = Runtime(numerics)
        context.device = runtime.device_name
        return cls(context, runtime, space, rows, seed, placement)

    def placed(self, network: Net) -> Net:
        """Return a network, its chosen convolutions made approximate in place if the parameters say so."""
        if self.placement is not None:
            self.placement.apply(network)
        return network

    @property
    def multiplier_meta(self) -> dict[str, Any]:
        """Return what metadata of networks say of their multiplier, nothing where there is none."""
        return placement_meta(self.placement)

    @property
    def multiplier_tensor(self) -> dict[str, Tensor]:
        """Return what files of networks hold of their multiplier."""
        return table_tensor(self.placement)

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self.rows.split.info.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return height, width and channels of the images."""
        height, width, channels = self.rows.split.info.shape
        return height, width, channels

    def store(self, rows: Rows | None = None) -> ImageStore:
        """Return the images of the rows, the training rows by default."""
        return make_store(self.rows if rows is None else rows, self.runtime, self.context)

    def augment(self, params: AugmentParams | None, rows: Rows | None = None) -> Augment:
        """Return the augmentation of the rows' images; None: evaluation only."""
        return make_augment((self.rows if rows is None else rows).split, params)

    def mix(self, recipe: RecipeParams) -> Mix | None:
        """Return the recipe's mixing of images and labels; None for none."""
        mixing = recipe.mixing
        if mixing.name == "none":
            return None
        return Mixer(mixing.name, self.rows.counts, mixing.alpha, mixing.kappa, mixing.tau)

    def passes(self, sampling: str, name: str) -> Callable[[int], Sequence[tuple[Any, ...]]]:
        """Return the arguments of each optimiser step's forward passes: paths, or nothing for a mixture.

        `sandwich` alone needs the space's largest and smallest net.
        """
        if sampling == "mixture":
            return lambda step: [()]
        if sampling != "sandwich":
            return path_sampler(self.space, sampling, self.seed, name)
        table = self.space.cost_table(self.shape, self.classes)
        return path_sampler(self.space, sampling, self.seed, name, (largest(table, Limits()), smallest(table)))

    def state(self, name: str) -> ResumeState:
        """Return where the state of the training called `name` lies."""
        context = self.context
        return ResumeState(context.state_path, name, context.state_interval, context.note_cost, self.runtime.ranks)

    def trainer(self, training: Training, state: ResumeState, tag: str = "") -> Trainer:
        """Return the trainer that goes on from `state`, which stays until the step's output is written.

        `tag` tells it from the step's other trainings in the log.
        """
        return Trainer(training, self.runtime, state, self.context.log, tag)
