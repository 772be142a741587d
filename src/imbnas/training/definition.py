"""Definition of a training: what is trained on what, and the types of its loss, its inputs and their mixing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.data.order import Sampler
from imbnas.params.recipe import OptimizerParams, RecipeParams
from imbnas.training.optimizer import Optimizer, make_optimizer

Loss = Callable[[Tensor, Any], Tensor]
Mix = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Any]]
"""From inputs (N, C, H, W), labels (N,) and a CPU generator to other inputs and the loss's target."""


class Taught(NamedTuple):
    """The target of a loss that follows a teacher: the one that it would have alone, and the teacher's logits."""

    labels: Any
    logits: Tensor
    """Without gradients."""


class Objective(Protocol):
    """A function from the epoch to its loss: the seam for deferred and progressive schedules."""

    def __call__(self, epoch: int) -> Loss:
        """Return the loss of the 0-based epoch, a mean over the batch."""
        ...


class Together(Protocol):
    """All passes of a step, taken in one; the work is a function of their number alone."""

    def routes(self, passes: Sequence[tuple[Any, ...]], device: torch.device) -> Any:
        """Return a named tuple of tensors, of the same shapes in all steps, that says which passes these are."""
        ...

    def outputs(self, model: Any, images: Tensor, found: Any) -> Tensor:
        """Return the outputs of all passes, one behind the other."""
        ...

    def unmoved(
        self, model: nn.Module, found: Any, momenta: Mapping[Tensor, Mapping[str, Tensor]]
    ) -> AbstractContextManager[None]:
        """Leave what no pass uses as it is while an optimiser moves."""
        ...


class Store(Protocol):
    """A source of a training's inputs: images, or features of them."""

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels, on the device, for each array of positions."""
        ...


@dataclass(frozen=True)
class Training:
    """One training: what is trained on what.

    `passes(step)` gives, for an optimiser step, the extra arguments of each forward pass: an empty tuple for a plain
    network, one architecture per path for a supernet. Their gradients add up, as in FairNAS. `mix` acts on augmented
    inputs; its target goes to the objective's loss as it is.
    """

    name: str
    model: nn.Module
    recipe: RecipeParams
    store: Store
    augment: Callable[[Tensor, torch.Generator], Tensor]
    sampler: Sampler
    objective: Objective
    seed: int
    passes: Callable[[int], Sequence[tuple[Any, ...]]] = lambda step: [()]
    mix: Mix | None = None
    teacher: nn.Module | None = None
    """A trained network, which sees each batch as the model does, augmented and mixed: the loss gets `Taught` with its
    logits. It is in evaluation mode and learns nothing."""
    first_pass_teaches: bool = False
    """Whether a step's first pass is the teacher of the others, whose loss gets `Taught` with its logits."""
    paths_per_batch: int = 1
    """Each batch concatenates the features of this many paths; the mean loss is multiplied by it, so that gradients add
    up over paths, as in FairNAS."""
    views_in: int = 1
    """Equal parts, one behind the other, of which a batch of inputs consists: two views of each image, or the batches
    of two samplers. Processes that share a batch take their rows of each part."""
    views_out: int = 1
    """Equal parts of which the model's outputs consist."""
    capturable: bool = False
    """Whether model and loss draw nothing on the processor and keep no state there, and a step's work on the device is
    a function of its loss, its passes and the shapes of its batch. A GPU may then replay captured steps."""
    together: Together | None = None
    """Takes a step's passes in one; None: one after the other. All steps have equally many passes then, and one process
    trains."""
    optimizer: Callable[[nn.Module, OptimizerParams], Optimizer] = make_optimizer
    """Makes the optimiser of the model's trainable parameters."""
