"""Scoring many paths of a supernet together: paths that begin alike share their activations, exactly.

The BatchNorm statistics of a step and what leaves it depend on the steps before it alone. Sorted paths form a trie, and
a walk through it, depth first, calibrates and runs each of its nodes once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.spaces.networks import Architecture, Supernet, classify
from imbnas.training.batchnorm import averaged
from imbnas.training.folding import folded
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import Batches, Tally, tally


@dataclass(frozen=True)
class _Kept:
    """The output of the first `depth` steps of a path, batch by batch."""

    depth: int
    calibration: list[Tensor]
    validation: list[Tensor]


class TrieScorer:
    """Scores paths of a supernet on fixed rows, each as `training.scoring.Scorer` does it alone, bit for bit.

    A score depends on the path alone: neither on the company it is scored in, nor on the memory that there is.
    """

    def __init__(
        self,
        runtime: Runtime,
        supernet: Supernet,
        calibration: Batches,
        validation: Batches,
        augment: Augment,
        num_classes: int,
        memory: int,
        fold: bool = False,
    ) -> None:
        """Place the supernet; `augment` is used without a generator, which is plain normalisation.

        At most `memory` bytes of activations are kept besides those of the batch at work; where more would be shared,
        some are computed again. With `fold` convolutions do the work of settled BatchNorm layers: other bits.
        """
        self._runtime = runtime
        self._supernet = supernet
        runtime.place(supernet).requires_grad_(False)
        self._calibration = calibration
        self._validation = validation
        self._augment = augment
        self._num_classes = num_classes
        self._memory = memory
        self._folded = folded if fold else lambda part: nullcontext()
        self._sizes: list[int] = []

    def __call__(self, architectures: Iterable[Architecture]) -> Iterator[tuple[Architecture, Tally]]:
        """Yield each different architecture with its tally as soon as it is known, in ascending order."""
        order = sorted(set(architectures))
        shared = [0, *(self._supernet.shared_steps(*pair) for pair in pairwise(order))]
        kept: list[_Kept] = []
        for place, architecture in enumerate(order):
            while kept and kept[-1].depth > shared[place]:
                kept.pop()
            wanted = branches(shared, place, kept[-1].depth if kept else 0)
            # The contexts must not reach over a yield: they would act on the caller.
            with torch.no_grad(), self._runtime.autocast():
                tally = self._tally(architecture, kept, wanted)
            yield architecture, tally

    def _tally(self, architecture: Architecture, kept: list[_Kept], wanted: list[int]) -> Tally:
        """Score one path from where `kept` ends, adding to it what leaves the steps at the wanted depths."""
        steps = self._supernet.steps(architecture)
        for depth in self._affordable(steps, kept, wanted):
            calibration = list(self._calibrated(steps, kept, depth))
            kept.append(_Kept(depth, calibration, list(self._validated(steps, kept, depth))))
        for _ in self._calibrated(steps, kept, len(steps)):
            pass
        head = self._supernet.head
        answers = [classify(head, features).argmax(dim=1) for features in self._validated(steps, kept, len(steps))]
        return tally(answers, self._validation.labels(), self._num_classes)

    def _calibrated(self, steps: list[nn.Module], kept: list[_Kept], end: int) -> Iterator[Tensor]:
        """Yield what leaves step `end` for the calibration rows, measuring the statistics from what is kept to there.

        The walk must be finished before `_validated` takes the same steps.
        """
        part = _part(steps, kept, end).train()
        return _through(part, averaged(part, kept[-1].calibration if kept else self._images(self._calibration)))

    def _validated(self, steps: list[nn.Module], kept: list[_Kept], end: int) -> Iterator[Tensor]:
        """Yield what leaves step `end` for the validation rows; to be finished before the steps are used elsewhere."""
        part = _part(steps, kept, end).eval()
        with self._folded(part):
            yield from _through(part, kept[-1].validation if kept else self._images(self._validation))

    def _affordable(self, steps: Sequence[nn.Module], kept: list[_Kept], wanted: list[int]) -> list[int]:
        """Return the wanted depths whose activations fit into the memory, the deepest first to be taken."""
        if not self._sizes:
            self._sizes = self._measure(steps)
        left = self._memory - sum(self._sizes[entry.depth] for entry in kept)
        chosen = []
        for depth in reversed(wanted):
            if self._sizes[depth] <= left:
                left -= self._sizes[depth]
                chosen.append(depth)
        return chosen[::-1]

    def _measure(self, steps: Sequence[nn.Module]) -> list[int]:
        """Return how many bytes leave the first k steps for all rows, for each k; candidates of a block are alike."""
        rows = len(self._calibration) + len(self._validation)
        images, _ = next(iter(self._validation))
        x = self._prepare(images[:1])
        sizes = [0]
        for step in steps:
            x = step.eval()(x)
            sizes.append(x.numel() * x.element_size() * rows)
        return sizes

    def _images(self, batches: Batches) -> Iterator[Tensor]:
        return (self._prepare(images) for images, _ in batches)

    def _prepare(self, images: Tensor) -> Tensor:
        return self._runtime.lay_out(self._augment(images, None))


def branches(shared: Sequence[int], place: int, start: int) -> list[int]:
    """Return, ascending, the depths beyond `start` at which later paths leave the path at `place`.

    `shared[k]` is how many steps sorted path k shares with the one before it. A later path shares with this one the
    minimum over those between them.
    """
    found: list[int] = []
    for depth in shared[place + 1 :]:
        if depth <= start:
            break
        if not found or depth < found[-1]:
            found.append(depth)
    return found[::-1]


def _part(steps: list[nn.Module], kept: list[_Kept], end: int) -> nn.ModuleList:
    return nn.ModuleList(steps[kept[-1].depth if kept else 0 : end])


def _through(part: nn.ModuleList, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    for x in batches:
        for step in part:
            x = step(x)
        yield x
